"""Nothing is deleted before all checks have passed; one process writes a run; a killed start does not block
the next.
"""

import json
import os
import re
import shutil
import socket

import pytest

from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.errors import ConfigError, DataError, RunError, StopNow, TrainingError
from tunit.files.atomic import lock
from tunit.files.result_names import PAGE, RUNTIME_FILES
from tunit.methods.model_file import load_model
from tunit.training import all_ranks, new_run, preparation, trainer
from tunit.training.launch import resume_run, start_run
from tunit.training.new_run import check_free, locked_and_tidied, move_into_place, preparing
from tunit.training.run_folder import RunFolder
from tunit.training.trainer import one_step
from tunit.translation.export import names_of_files


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("new-run") / "pictures")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pictures):
    run = tmp_path_factory.mktemp("trained") / "run"
    start_run(
        pictures, run, tiny_config(steps=2, guide_only_until=1, average_from=1, sample_every=0), quiet=True
    )
    return run


@pytest.fixture
def run(tmp_path, trained):
    return shutil.copytree(trained, tmp_path / "run")


def broken(folder):
    (write_pictures(folder) / "broken.png").write_text("no picture")
    return folder


def none_good(folder):
    folder.mkdir()
    (folder / "broken.png").write_text("no picture")
    return folder


CANNOT_TRAIN = {
    "a batch larger than the pictures": (write_pictures, {"batch_size": 64}, {}, DataError),
    "a bad picture that must not be": (broken, {}, {"strict": True}, DataError),
    "no good picture": (none_good, {}, {}, DataError),
    "no folder": (lambda folder: folder, {}, {}, DataError),
    "no labels for a baseline": (
        write_pictures,
        {"architecture": "funit", "guide_only_until": 0},
        {},
        ConfigError,
    ),
    "no labelled pictures": (write_pictures, {"labelled_ratio": 0.5}, {}, DataError),
    "a batch that processes cannot share": (
        write_pictures,
        {"processes": 3, "batch_size": 4},
        {},
        ConfigError,
    ),
    "a feature network that is not there": (
        write_pictures,
        {"feature_cue": "/nowhere", "neighbours": 3},
        {},
        ConfigError,
    ),
    "an E that is not there": (write_pictures, {"guide_from": "/nowhere"}, {}, RunError),
}


def test_a_file_instead_of_the_run_of_an_e_is_refused_with_its_folder(tmp_path, run):
    config = tiny_config(guide_from=str(run / "model.safetensors"))
    sentence = f"{run / 'model.safetensors'} is a file: give the folder of the run, such as {run}"
    with pytest.raises(RunError, match=re.escape(sentence)):
        start_run(write_pictures(tmp_path / "source"), tmp_path / "new", config, quiet=True)


@pytest.mark.parametrize("case", CANNOT_TRAIN)
def test_a_training_that_cannot_start_keeps_the_run_it_would_replace(tmp_path, run, case):
    make, overrides, more, error = CANNOT_TRAIN[case]
    before, source = content(run), make(tmp_path / "source")
    with pytest.raises(error):
        start_run(source, run, tiny_config(**overrides), overwrite=True, quiet=True, **more)
    assert content(run) == before


def test_a_step_that_needs_too_much_memory_keeps_the_run_it_would_replace(run, pictures, monkeypatch):
    def no_memory(*arguments, **named):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    before = content(run)
    monkeypatch.setattr("tunit.training.memory.fitting.try_step", no_memory)
    monkeypatch.setattr("tunit.training.memory.fitting.largest_batch", lambda fits, wanted: None)
    monkeypatch.setattr("tunit.training.memory.fitting.fits_in", lambda config, device, *, joint: None)
    with pytest.raises(Exception, match="a step of 4 pictures does not fit the memory"):
        start_run(pictures, run, tiny_config(), overwrite=True, quiet=True)
    assert content(run) == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(5, "Input/output error"), StopNow(15)])
def test_a_start_that_is_stopped_while_packing_changes_nothing(tmp_path, run, pictures, stop):
    def stops(done, total):
        raise stop

    before = content(run)
    with pytest.raises((type(stop), RunError, DataError)):
        start_run(pictures, run, tiny_config(), overwrite=True, progress=stops, quiet=True)
    assert content(run) == before
    with pytest.raises((type(stop), RunError, DataError)):
        start_run(pictures, tmp_path / "new" / "run", tiny_config(), progress=stops, quiet=True)
    assert not (tmp_path / "new").exists()


def test_a_refused_resume_keeps_the_run_and_its_pictures(tmp_path, run):
    more = write_pictures(tmp_path / "more", 23)
    before = content(run)
    with pytest.raises(RunError, match=r"\(020.png and 2 more are new\): take them out, or"):
        resume_run(run, source=more, quiet=True)
    with pytest.raises(ConfigError):
        resume_run(run, overrides={"processes": "3"}, quiet=True)
    assert content(run) == before


def test_a_resume_accepts_the_same_pictures_from_another_folder(tmp_path, run, pictures):
    moved = shutil.copytree(pictures, tmp_path / "moved")
    (run / "data" / "index.json").unlink()
    assert resume_run(run, source=moved, quiet=True).step == 2
    assert RunFolder(run).read_about()["source"] == str(moved)
    assert (run / "data" / "index.json").is_file()
    assert not (run / ".new").exists()


def killed_while_packing(folder):
    (folder / ".new" / "data").mkdir(parents=True)
    (folder / ".new" / "data" / "pictures.npy.123.part").write_bytes(b"x" * 1000)
    (folder / ".lock").write_text('{"process": 123, "host": "gone"}')


def killed_while_packing_by_an_earlier_version(folder):
    (folder / "data").mkdir(parents=True)
    (folder / "data" / ".tunit-cache").touch()
    (folder / "data" / "pictures.npy.123.part").write_bytes(b"x" * 1000)


@pytest.mark.parametrize(
    ("kill", "overwrite"),
    [
        (killed_while_packing, False),
        (killed_while_packing, True),
        (killed_while_packing_by_an_earlier_version, True),
    ],
)
def test_files_of_a_killed_start_do_not_block_the_next(tmp_path, pictures, kill, overwrite, monkeypatch):
    run = tmp_path / "run"
    kill(run)
    monkeypatch.setattr(all_ranks, "train", lambda *arguments, **named: "trains")
    assert start_run(pictures, run, tiny_config(), overwrite=overwrite, quiet=True) == "trains"
    assert {p.name for p in run.iterdir()} == {"config.toml", "run.json", "pictures.csv", "data"}
    assert not list((run / "data").glob("*.part"))


def test_resuming_a_run_that_never_started_is_one_sentence(tmp_path):
    killed_while_packing(tmp_path / "run")
    for _ in range(2):
        with pytest.raises(
            RunError, match="stopped before its first step: run the command that started it again"
        ):
            resume_run(tmp_path / "run", quiet=True)
    with lock(tmp_path / "run" / ".lock"), pytest.raises(RunError, match="is being trained by process"):
        resume_run(tmp_path / "run", quiet=True)


@pytest.mark.parametrize("moves", range(4))
def test_the_next_command_finishes_an_interrupted_replacement(run, moves, monkeypatch):
    """Killed after this many renames: the next command sees the whole new run and nothing of the old one."""

    class KilledError(BaseException):
        pass

    folder, left = RunFolder(run), moves
    rename = type(run).rename

    def renames_some(self, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        return rename(self, target)

    with pytest.raises(KilledError), locked_and_tidied(folder), preparing(folder) as new:
        for name in ("config.toml", "run.json", "pictures.csv"):
            (new.path / name).write_text("new")
        new.data.mkdir()
        monkeypatch.setattr(type(run), "rename", renames_some)
        move_into_place(folder)
    monkeypatch.undo()
    with locked_and_tidied(folder):
        pass
    assert set(content(run)) == {"config.toml", "run.json", "pictures.csv", "data"}
    assert (run / "run.json").read_text() == "new"


def keep_things_in(run):
    """Things of the user in the folder of a run; returns their content."""
    shutil.copytree(run, run / "second" / "nested")
    for name in (
        "notes.txt",
        "translated/00001.png",
        "evaluation/thoughts.txt",
        "domains/data",
        "studio/x.csv",
    ):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    return content(run)


def written_by_commands(run):
    """Results of commands that are part of a run; returns their paths."""
    paths = [
        "report.html",
        "evaluation/evaluation.json",
        "evaluation/abc.safetensors",
        "non_finite/step_1.txt",
    ]
    paths += ["best/best.json", "number_of_domains.json"]
    for name in paths:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("old")
    return paths


def test_overwrite_removes_the_old_run_and_nothing_that_somebody_keeps_in_its_folder(
    run, pictures, monkeypatch
):
    of_run = set(content(run))
    kept = {name: data for name, data in keep_things_in(run).items() if name not in of_run}
    old = written_by_commands(run)
    (run / "checkpoints" / "step_00000001.safetensors").write_text("old")
    monkeypatch.setattr(all_ranks, "train", lambda *arguments, **named: "trains")
    assert start_run(pictures, run, tiny_config(), overwrite=True, quiet=True) == "trains"
    now = content(run)
    assert {name: now.get(name) for name in kept} == kept
    assert not {*old, "checkpoints", "best", "model.safetensors", "metrics.jsonl"} & set(now)
    assert set(now) - set(kept) == {
        name for name in of_run if name.split("/")[0] in ("config.toml", "run.json", "pictures.csv", "data")
    }


def results_about(run):
    """Results of `tunit domains` and `tunit export` in a run, beside files of the user; returns the user's."""
    table = "picture,domain,confidence,outlier\na.png,0,0.9,0.1\n"
    of_export = [
        *names_of_files(load_model(run), "torch"),
        *PAGE,
        *(f"runtime/{name}" for name in RUNTIME_FILES),
    ]
    mine = {"domains/domain_7.png", "domains/kept.txt", "export/notes.txt"}  # other runs may use kept.txt
    for name in (
        *(f"domains/{name}" for name in ("domain_0.png", "overview.png")),
        *(f"export/{name}" for name in (*of_export, "domains/domain_0.webp")),
        *mine,
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    (run / "domains" / "domains.csv").write_text(table)
    (run / "export" / "export.json").write_text('{"format": 1, "tunit": "0.1"}')
    return mine


@pytest.mark.parametrize("tables", [True, False])
def test_overwrite_removes_what_domains_and_export_wrote_about_the_old_model(
    run, pictures, monkeypatch, tables
):
    mine = results_about(run)
    if not tables:  # then nothing says that these are results
        (run / "domains" / "domains.csv").write_text("picture,kind\na.png,cat\n")
        (run / "export" / "export.json").write_text("{}")
        mine = {name for name in content(run) if name.startswith(("domains/", "export/"))}
    monkeypatch.setattr(all_ranks, "train", lambda *arguments, **named: "trains")
    assert start_run(pictures, run, tiny_config(), overwrite=True, quiet=True) == "trains"
    left = {name for name in content(run) if name.startswith(("domains/", "export/"))}
    assert left == mine


def test_folders_of_results_are_removed_if_nothing_else_is_in_them(run, pictures, monkeypatch):
    for name in results_about(run):
        (run / name).unlink()
    monkeypatch.setattr(all_ranks, "train", lambda *arguments, **named: "trains")
    start_run(pictures, run, tiny_config(), overwrite=True, quiet=True)
    assert not (run / "domains").exists()
    assert not (run / "export").exists()


@pytest.mark.parametrize("moves", range(4))
def test_an_interrupted_overwrite_keeps_the_users_files_and_may_be_given_again(
    run, pictures, moves, monkeypatch
):
    class KilledError(BaseException):
        pass

    of_run, left = set(content(run)), moves
    kept = {name: data for name, data in keep_things_in(run).items() if name not in of_run}
    rename = type(run).rename

    def renames_some(self, target):
        nonlocal left
        left -= self.is_relative_to(run / ".new")
        if left < 0:
            raise KilledError
        return rename(self, target)

    monkeypatch.setattr(all_ranks, "train", lambda *arguments, **named: "trains")
    monkeypatch.setattr(type(run), "rename", renames_some)
    with pytest.raises(KilledError):
        start_run(pictures, run, tiny_config(), overwrite=True, quiet=True)
    monkeypatch.setattr(type(run), "rename", rename)
    assert start_run(pictures, run, tiny_config(), overwrite=True, quiet=True) == "trains"
    now = content(run)
    assert {name: now.get(name) for name in kept} == kept


def test_a_run_has_only_one_writer(run, pictures, capsys):
    before = content(run)
    words = ["train", str(pictures), "--out", str(run), "--preset", "paper", "--quiet", *flags(steps=5)]
    with lock(run / ".lock"):
        for command in (words, [*words, "--overwrite"], ["train", "--resume", str(run), "--quiet"]):
            assert main(command) == 2
            said = capsys.readouterr().err
            assert f"{run} is being trained by process {os.getpid()} on {socket.gethostname()}: wait" in said
            assert len(said.splitlines()) == 1
        with pytest.raises(RunError, match="is being trained by process"):
            check_free(RunFolder(run), overwrite=True)  # `tunit convert --out` checks this
    assert content(run) == before


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, capsys):
    import fcntl

    def no_locks(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked_and_tidied(RunFolder(tmp_path / "run")):
        pass
    assert (
        "does not support locks (No locks available): make sure that no other process trains in it"
        in capsys.readouterr().err
    )


def test_places_without_write_permission_are_errors_before_any_work(tmp_path, pictures, monkeypatch, capsys):
    monkeypatch.setattr(
        preparation, "pack_pictures", lambda *arguments, **named: pytest.fail("work has begun")
    )
    (tmp_path / "file").write_text("precious")
    for out, said in (
        (tmp_path / "file", "is a file: give a folder"),
        (tmp_path / "file" / "run", "cannot be written (Not a directory)"),
        (tmp_path / ("a" * 300), "cannot be written (File name too long)"),
        ("/proc/run", "cannot be written ("),
    ):
        for more in ([], ["--overwrite"]):
            words = ["train", str(pictures), "--out", str(out), "--preset", "paper", *more, *flags()]
            assert main(words) == 2
            err = capsys.readouterr().err
            assert said in err
            assert len(err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_files_of_killed_writers_are_removed_at_resume(run):
    left = [run / "checkpoints" / ".tmpAbCdEf", run / "checkpoints" / "step_00000001.safetensors.partial"]
    left += [run / "report.html.partial", run / "model.safetensors.partial"]
    for path in left:
        path.write_bytes(b"x" * 100)
    with locked_and_tidied(RunFolder(run)):
        assert not any(path.exists() for path in left)
    assert new_run.HIDDEN.isdisjoint(p.name for p in run.iterdir())


@pytest.mark.parametrize("domains", [21, 20])
def test_more_domains_than_pictures_are_a_warning(tmp_path, pictures, domains, capsys):
    config = tiny_config(steps=1, domains=domains, sample_every=0)
    start_run(pictures, tmp_path / "run", config, quiet=True)
    said = " ".join(capsys.readouterr().err.split())
    assert ("there are more domains than pictures (21 and 20), so some domains must stay empty" in said) == (
        domains == 21
    )


@pytest.mark.parametrize("alone", [3, 2])
def test_a_training_in_which_g_and_d_never_train_says_so(tmp_path, alone, capsys):
    config = tiny_config(steps=2, guide_only_until=alone, average_from=alone, sample_every=0)
    start_run(write_pictures(tmp_path / "pictures"), tmp_path / "run", config, quiet=True)
    said = " ".join(capsys.readouterr().err.split())
    warned = "E trains alone until step 3 (guide_only_until), but the training ends after step 2"
    assert (warned in said) == (alone == 3)


def test_a_new_run_that_begins_with_another_one_is_told_to_change_its_own_flags(tmp_path, capsys):
    pictures, config = (
        write_pictures(tmp_path / "pictures"),
        tiny_config(steps=1, guide_only_until=0, sample_every=0),
    )
    start_run(pictures, tmp_path / "first", config.with_overrides({"average_from": 0}), quiet=True)
    late = config.with_overrides({"guide_only_until": 3})
    start_run(pictures, tmp_path / "second", late, start_from=tmp_path / "first", quiet=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "G and D do not train" in said
    assert "give smaller --guide-only-until and --average-from" in said
    assert "--steps" not in said


def moved(run):
    run.rename(run.with_name("elsewhere"))


def removed(run):
    shutil.rmtree(run)


def replaced(run):
    moved(run)
    shutil.copytree(run.with_name("elsewhere"), run)
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"began": "2020-01-01T00:00:00+00:00"}))


@pytest.mark.parametrize("due", ["checkpoint_every", "sample_every", "log_every"])
@pytest.mark.parametrize("happens", [moved, removed, replaced])
def test_the_folder_of_a_run_that_is_moved_while_it_is_trained_is_not_made_again(
    tmp_path, pictures, happens, due, monkeypatch
):
    run = tmp_path / "run"
    later = dict.fromkeys(("checkpoint_every", "sample_every", "log_every"), 1000)
    left = {}

    def step(training):
        one_step(training)
        if training.state.step == 2:
            happens(run)
            left.update(content(tmp_path))

    monkeypatch.setattr(trainer, "one_step", step)
    with pytest.raises(
        TrainingError,
        match=r"run was moved or removed while it was trained, so the .* at step 3 \(it has no",
    ) as error:
        start_run(pictures, run, tiny_config(steps=9, **later | {due: 3}), quiet=True)
    assert "give its new place to `tunit train --resume`" in str(error.value)
    now = content(tmp_path)
    assert {name for name in now if "tfevents" not in name} <= set(left)


def test_a_moved_run_goes_on_from_its_last_checkpoint(tmp_path, pictures, monkeypatch):
    run = tmp_path / "run"

    def step(training):
        one_step(training)
        if training.state.step == 3:
            moved(run)

    monkeypatch.setattr(trainer, "one_step", step)
    with pytest.raises(TrainingError, match=r"its last checkpoint is of step 2\)"):
        start_run(pictures, run, tiny_config(steps=5, checkpoint_every=2), quiet=True)
    assert not run.exists()
    monkeypatch.undo()
    assert resume_run(tmp_path / "elsewhere", quiet=True).step == 5


@pytest.mark.parametrize("place", [".", "samples", "table.csv", "studio/pictures"])
def test_pictures_and_tables_in_a_run_are_not_trained_on_in_its_place(run, pictures, place):
    """Only files in its folder `studio` would be kept."""
    source = run / place
    if source.suffix:
        source.write_text("picture\n" + "".join(f"{path}\n" for path in pictures.glob("*.png")))
    elif not source.is_dir():
        shutil.copytree(pictures, source)
    what = f"contains {source}, which is to be trained on" if source.suffix else "is or contains the folder"
    with pytest.raises(RunError, match=what):
        start_run(source, run, tiny_config(), overwrite=True, quiet=True)
    assert source.exists()
