"""The command line: help, errors in one sentence, no heavy imports at start-up."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tunit.__main__ as program
from tiny_model import save_tiny, write
from tunit import RunError, Translator, __version__
from tunit.cli import COMMANDS, build_parser, main
from tunit.commands.setting_arguments import settings_of
from tunit.config import all_fields
from tunit.data.finding.find import find_pictures


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_useful_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert f"tunit {command}" in text.split("options:")[0]
    assert len(text.splitlines()) > 10


@pytest.mark.parametrize("command", ["train", "prepare", "reproduce"])
def test_usage_is_short_and_settings_of_single_methods_are_listed_apart(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    assert len(usage.splitlines()) <= 2 and "[settings]" in usage and "--octave-share" not in usage
    shared, _, of_one = rest.partition("settings of semit alone:")
    assert "--cycle-weight" in of_one and "--cycle-weight" not in shared
    shared, _, of_two = shared.partition("settings of funit and semit alone:")
    assert "--feature-matching-weight" in of_two and "--batch-size" in shared
    assert (
        shared.index("settings: data") < shared.index("\n  --image-size") < shared.index("settings: losses")
    )


def test_help_of_reproduce_leaves_out_the_settings_that_it_refuses(capsys):
    def flags(command):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        return set(re.findall(r"^  (--[a-z0-9-]+) VALUE", capsys.readouterr().out, re.M))

    refused = {"--seed", "--layout", "--split", "--classes", "--held-out", "--labels"}
    assert flags("train") - flags("reproduce") == refused


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["translate", "--help"], ["--version"]])
def test_help_does_not_import_torch(words):
    """Torch takes seconds to import; so do scikit-learn and SciPy."""
    code = (
        "import sys\n"
        "from tunit.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(sorted({'torch', 'sklearn', 'scipy', 'tensorboardX'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert run.stdout.strip().splitlines()[-1] == "[]"
    assert len(run.stdout.splitlines()) > 1  # the command printed something


def test_translating_does_not_import_what_finds_domains_or_compiles(tmp_path):
    """scikit-learn and scipy would double the time until a translation starts, and so would PyTorch's compiler."""
    save_tiny(tmp_path / "run")
    write(tmp_path / "a.png", 0, 40, 50)
    code = (
        "import sys\n"
        "from tunit import Translator\n"
        "print(Translator.load('run').translate('a.png', domain=0).size)\n"
        "print({'sklearn', 'scipy', 'torch._dynamo', 'sympy'} & set(sys.modules))"
    )
    words = [sys.executable, "-c", code]
    job = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert job.stdout == "(32, 32)\nset()\n"


def test_importing_the_package_does_not_import_torch():
    code = "import sys, tunit; print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_train_has_a_flag_for_every_setting():
    flags = build_parser().parse_args(
        ["train", "x"]
        + [
            word
            for name, (_, field) in all_fields().items()
            for word in (
                "--" + name.replace("_", "-"),
                *map(str, field.default if isinstance(field.default, tuple) else (field.default,)),
            )
        ]
    )
    assert {k for k in vars(flags) if k.startswith("set_")} == {"set_" + name for name in all_fields()}


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["--crop-area", "auto", "FOLDER"], "auto"),
        (["--crop-area=auto", "FOLDER"], "auto"),
        (["--crop-ar", "auto", "FOLDER"], "auto"),  # the beginning of a flag
        (["--crop-ar=auto", "FOLDER"], "auto"),
        (["FOLDER", "--crop-area", "auto"], "auto"),
        (["--crop-area", "0.3", "0.9", "FOLDER"], "0.3 0.9"),
        (["--crop-area", "0", "0", "FOLDER"], "0 0"),
    ],
)
def test_a_setting_of_two_numbers_may_be_auto(words, given):
    args = build_parser().parse_args(["train", *words, "--hue", "auto"])
    assert args.source == Path("FOLDER")
    assert settings_of(args) == {"crop_area": given, "hue": "auto"}


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], "give the folder of pictures and --out RUN"),
        (["train", "/nowhere", "--out", "OUT"], "/nowhere"),
        (["train", "x", "--out", "OUT", "--preset", "papr"], "did you mean 'paper'"),
        (["train", "x", "--out", "OUT", "--image-size", "48"], "image_size is 48"),
        (["train", "x", "--out", "OUT", "--fit", "crp"], "did you mean 'crop'"),
        (["train", "--resume", "/nowhere"], "not the folder of a run"),
        (
            ["train", "x", "--resume", "OUT", "--overwrite"],
            "continues a run as it is: leave out --overwrite\n",
        ),
        (["train", "--resume", "OUT", "--batch", "8", "--from", "x"], "leave out --batch, --from\n"),
        (["train", "--replay", "OUT", "--from", "x"], "leave out all other options"),
        (["train", "--replay", "OUT", "--preset", "small"], "leave out all other options"),
        (["train", "--replay", "OUT", "--overwrite"], "leave out all other options"),
        (["train", "--replay", "OUT", "--strict"], "leave out all other options"),
        (["train", "--replay", "OUT", "--batch", "auto"], "leave out all other options"),
        (["train", "--replay", "OUT", "--max-restarts", "2"], "leave out all other options"),
        (["train", "--replay", "OUT", "--evaluate-every", "2"], "leave out all other options"),
        (["train", "--replay", "OUT", "--held-back", "x"], "leave out all other options"),
        (["train", "--replay", "OUT", "--log-to", "wandb"], "leave out all other options"),
        (["prepare", "/nowhere"], "/nowhere"),
        (["domains", "/nowhere", "x"], "x does not exist"),
        (["creatures", "OUT", "--size", "8"], "8"),
        (["creatures", "OUT", "--seed", "-1"], "--seed is -1: take at least 0"),
        (["creatures", "OUT", "--seed", str(2**64)], f"--seed is {2**64}: take at most {2**63 - 1}"),
        (["creatures", "OUT", "--number", "9" * 5000], "--number is '9999"),
        (["creatures", "OUT", "--number", str(10**12)], "take at most 1000000"),
        (["evaluate", "/nowhere", "x", "--seed", "\x1b[2J"], "--seed is '\\x1b[2J': take a whole number"),
        (
            ["evaluate", "/nowhere", "x", "--sources", "1,000"],
            "--sources is '1,000': take a whole number, without commas",
        ),
        (
            ["domains", "/nowhere", "x", "--leave-out-outliers", "0,5"],
            "take a number above 0, up to 1, without commas",
        ),
        (["demo", "--minutes", "0,5"], "--minutes is '0,5': take a number, without commas"),
        (["demo", "--minutes", "ten"], "--minutes is 'ten': take a number"),
        (["evaluate", "--real", "x", "--fake", "x", "--size", str(10**9)], "take at most 4096"),
        (["evaluate", "/nowhere", "x", "--sources", str(2**70)], "--sources is"),
        (["evaluate", "/nowhere", "x", "--held-out", "-3"], "--held-out is -3: take at least 0"),
        (["report", "/nowhere", "--seed", "-1"], "--seed is -1"),
        (["demo", "--seed", str(2**64), "--out", "OUT"], "--seed is"),
        (
            ["domains", "/nowhere", "x", "--per-domain", str(10**9)],
            "--per-domain is 1000000000: take at most",
        ),
        (["domains", "/nowhere", "x", "--max-pixels", "0"], "--max-pixels is 0: take at least 1"),
        (
            ["translate", "/nowhere", "x", "--domain", "0", "--out", "OUT", "--batch", str(10**10)],
            "--batch is",
        ),
        (["reproduce", "table1", "--data", "x", "--out", "OUT", "--jobs", str(10**6)], "--jobs is 1000000"),
        (["reproduce", "table1", "--data", "x", "--out", "OUT", "--seeds", "1.5"], "--seeds is '1.5'"),
        (["train", "x", "--out", "OUT", "--evaluate-every", str(2**80)], "--evaluate-every is"),
        (["train", "x", "--out", "OUT", "--batch", "many"], "--batch is 'many': take auto or a number"),
        (["train", "x", "--out", "OUT", "--batch", "1"], "batch_size is 1: take a value from 2"),
        (["train", "x", "--out", "OUT", "--batch", "8", "--batch-size", "4"], "give one of them"),
        (["demo", "--minutes", "0", "--out", "OUT"], "--minutes is 0"),
        (["config", "nothing"], "neither a file nor a preset"),
        (["config", "--changes"], "--changes has no effect without a preset: name one, as in `tunit config"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, sentence, tmp_path, capsys):
    code = main([str(tmp_path / "out") if word == "OUT" else word for word in words])
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith("tunit: ")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_prepare_reports_what_it_left_out(tmp_path, capsys):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "broken.jpg").write_text("no picture")
    assert main(["creatures", str(tmp_path / "p" / "c"), "--number", "5", "--size", "32"]) == 0
    words = ["prepare", str(tmp_path / "p"), "--out", str(tmp_path / "pack"), "--workers", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "5 pictures at 32 x 32" in out
    assert "1 unreadable (broken.jpg" in out
    assert main(words) == 0
    assert "unchanged, reused" in capsys.readouterr().out
    assert main([*words, "--strict", "--image-size", "64"]) == 2
    assert "broken.jpg" in capsys.readouterr().err


def test_config_shows_what_a_preset_changes(capsys):
    assert main(["config", "paper", "--changes"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["config", "demo", "--changes"]) == 0
    assert "losses.r1_weight: 0.2 (paper: 10.0)" in capsys.readouterr().out
    assert main(["config", "default", "--changes"]) == 0
    assert "networks.domains: auto (paper: 10)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "size", "halved"), [("auto", 32, True), ("8", 8, False), (None, 32, False)]
)
def test_batch_is_auto_or_a_number(given, size, halved, monkeypatch, tmp_path):
    calls = []

    def start_run(source, out, config, *, fit_batch, **_):
        calls.append((config.optimisers.batch_size, fit_batch))
        raise RunError("far enough")

    monkeypatch.setattr("tunit.training.launch.start_run", start_run)
    words = ["train", "x", "--out", str(tmp_path / "run"), "--preset", "paper"]
    assert main([*words, *(["--batch", given] if given else [])]) == 2
    assert calls == [(size, halved)]


@pytest.mark.parametrize(
    ("words", "average"),
    [
        (["small", "--steps", "90", "--guide-only-until", "60"], 61),
        (["paper", "--guide-only-until", "100000"], 101_000),
        (["paper", "--guide-only-until", "199500"], 199_999),
        (["paper", "--steps", "70000", "--guide-only-until", "70000"], 70_000),  # G never trains
        (["paper", "--guide-only-until", "100000", "--average-from", "5"], 5),
        (["paper", "--guide-only-until", "50000"], 66_000),
        (["table1-a", "--steps", "500"], 0),
    ],
)
def test_the_ema_of_a_preset_begins_after_g_does(words, average, monkeypatch, tmp_path):
    starts = []

    def start_run(source, out, config, **_):
        starts.append(config.resolved_schedule().schedule.average_from)
        raise RunError("far enough")

    monkeypatch.setattr("tunit.training.launch.start_run", start_run)
    assert main(["train", "x", "--out", str(tmp_path / "run"), "--preset", *words]) == 2
    assert starts == [average]


def test_help_says_what_the_values_in_brackets_are(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    before, _, flags = capsys.readouterr().out.partition("settings: method")
    assert "In brackets: its value in the\n  preset `paper`" in before and "[paper: 128]" in flags
    assert "with a decimal point is a share of all steps" in flags.partition("settings: schedule")[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "p", "--out", "r", "--bach-size", "8"], "unknown flag --bach-size: did you mean '--batch-size'?"),
        (["train", "p", "--ot=r"], "unknown flag --ot: did you mean '--out'?"),
        (["translate", "r", "--refrence", "x.png"], "unknown flag --refrence: did you mean '--reference'?"),
        (["prepare", "p", "-out", "x"], "unknown flag -out: did you mean '--out'?"),
        (["prepare", "p", "--image_size", "64"], "did you mean '--image-size'?"),
        (["reproduce", "table1", "--dry-run"], "unknown flag --dry-run: tunit reproduce --help shows all"),
        (["prepare", "p", "--zzzzqqq"], "unknown flag --zzzzqqq: tunit prepare --help shows all"),
        (["trian", "p"], "COMMAND is 'trian': take one of demo, creatures,"),
        (["--verison"], "tunit: unknown flag --verison: did you mean '--version'?"),
        (["--quiet", "train", "p"], "tunit: unknown flag --quiet: tunit --help shows all"),
        (["train", "my", "own photos", "--out", "r"], "too many words (own photos): leave them out, or put a path"),
        (["translate", "r", "a", "--domain", "1", "--out", "o", "--fit", "stretched"], "did you mean 'stretch'?"),
    ],
)  # fmt: skip
def test_for_a_mistyped_word_the_nearest_is_suggested(words, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_abbreviated_flags_and_unusual_values_still_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)  # the default place of a pack
    assert main(["prepare", "empty", "--image-si", "64", "--label-column", "a b --c"]) == 2
    assert "holds no picture" in capsys.readouterr().err  # all arguments were understood
    assert main(["demo", "--minutes", "-1"]) == 2
    assert "--minutes is -1" in capsys.readouterr().err


def test_a_tilde_means_the_home_folder_in_every_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(["creatures", "~/c", "--number", "5", "--size", "32"]) == 0
    (tmp_path / "home/list.txt").write_text("~/c/pictures/00001.png\n")
    (tmp_path / "home/mine.toml").write_text("base = '~/other.toml'\n[data]\nimage_size = 64\n")
    (tmp_path / "home/other.toml").write_text("[data]\nfit = 'crop'\n")
    words = ["prepare", "~/list.txt", "--out=~/pack", "--preset=~/mine.toml", "--workers", "1"]
    assert main(words) == 0
    assert "1 picture at 64 x 64" in capsys.readouterr().out
    assert (tmp_path / "home/pack/pictures.npy").is_file()
    assert not (tmp_path / "~").exists()
    assert len(find_pictures(Path("~/c")).pictures) == 5
    with pytest.raises(RunError, match="home/nothing"):
        Translator.load("~/nothing")


def test_a_signal_during_the_start_gives_one_word_and_its_exit_code(monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tunit.cli.build_parser", stop)
    assert main(["config"]) == 130
    assert capsys.readouterr().err == "tunit: interrupted\n"
    monkeypatch.setattr("tunit.cli.main", stop)
    assert program.main() == 130
    assert capsys.readouterr().err == "tunit: interrupted\n"


def test_a_signal_during_an_import_ends_the_program_at_once():
    """During imports, other code may swallow exceptions or take them for a missing module."""
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
class Finder:
    def find_spec(self, name, *_):
        if name == "tunit.cli":
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException as error:
                raise ImportError from error
sys.meta_path.insert(0, Finder())
from tunit.__main__ import main
print(main())
"""
    job = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (job.returncode, job.stdout, job.stderr) == (130, "", "tunit: interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_stops_at_once_with_its_exit_code(number, code, monkeypatch, capsys):
    from tunit.training.interrupt import StopSignals

    def twice(args):
        with StopSignals():
            signal.raise_signal(number)
            signal.raise_signal(number)
        pytest.fail("went on")

    monkeypatch.setattr("tunit.commands.config.run", twice)
    assert main(["config"]) == code
    assert capsys.readouterr().err == "tunit: interrupted\n"


def test_prepare_does_not_change_the_pack_of_a_run(tmp_path, capsys):
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    for name in ("run.json", "config.toml", "data/index.json"):
        (run / name).write_text("kept")
    assert main(["prepare", str(tmp_path), "--out", str(run / "data"), "--image-size", "32"]) == 2
    assert "is a part of the run" in capsys.readouterr().err
    assert [path.name for path in (run / "data").iterdir()] == ["index.json"]


@pytest.mark.parametrize(
    ("chosen", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_that_wait_sleep_soon_unless_the_user_has_chosen(chosen, spins):
    """As seen by PyTorch when a command loads it; a started process has the same environment."""
    code = (
        "import os, sys; from tunit import cli; from tunit.commands import config; "
        "assert 'torch' not in sys.modules; config.run = lambda args: print(os.environ.get('GOMP_SPINCOUNT')) or 0; "
        "sys.exit(cli.main(['config']))"
    )
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | chosen
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{spins}\n"), done.stderr
