"""What a Python program may give to the functions of the package: anything else is refused with one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_model import save_tiny, tiny_model, write
from tiny_run import TINY, write_pictures
from tunit import Config, ConfigError, Translator, TunitError, evaluate, read_config, report, train
from tunit.cli import main
from tunit.training.launch import resume_run

pytestmark = pytest.mark.usefixtures("one_thread")
NO_PATHS = ["", None, 3, ["a.png", "b.png"], {"a.png"}, b"a.png"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, pictures, and a run."""
    folder = tmp_path_factory.mktemp("api")
    save_tiny(folder / "model")
    write_pictures(folder / "pictures", 14)
    write(folder / "a.png", 1)
    torch.set_num_threads(1)
    train(folder / "pictures", folder / "run", read_config("demo").with_overrides(TINY), quiet=True)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """The working folder holds pictures, which an empty path would name."""
    monkeypatch.chdir(place)
    before = files(place)
    yield place
    assert files(place) == before  # nothing was begun


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def refused(call, *words):
    """`call` raises a TunitError whose message has these words, and is one printable line."""
    with pytest.raises(TunitError) as raised:
        call()
    message = str(raised.value)
    assert message.isprintable()
    assert [word for word in words if word not in message] == []
    assert ": give " in message or ": take " in message  # the remedy


@pytest.mark.parametrize("given", NO_PATHS, ids=repr)
def test_what_is_no_path_is_refused_before_any_work(here, given):
    config = read_config("demo").with_overrides(TINY)
    words = ("empty",) if given == "" else ()
    for call in (
        lambda: train(given, "new", config),
        lambda: train("pictures", given, config),
        lambda: evaluate(given, "pictures"),
        lambda: evaluate("run", given),
        lambda: report(given),
        lambda: Translator(tiny_model()).interpolate("a.png", ["a.png"], frames=2).save(given),
    ):
        refused(call, *words)
    refused(lambda: Translator.load(given))
    refused(lambda: read_config(given))
    if given is not None:
        refused(lambda: train("pictures", "new", config, start_from=given), *words)
        refused(lambda: evaluate("run", "pictures", train=given), *words)
        refused(lambda: evaluate("run", "pictures", out=given), *words)
        refused(lambda: report("run", given), *words)
        refused(lambda: report("run", figures=given), *words)


def test_an_empty_path_is_not_the_working_folder(here):
    translator = Translator(tiny_model())
    for call in (
        lambda: translator.translate("", domain=0),
        lambda: translator.translate(["a.png", ""], domain=0),
        lambda: translator.translate("a.png", ""),
        lambda: translator.domains(""),
        lambda: list(translator.guided("")),
    ):
        refused(call, "empty")
    assert len(translator.translate(".", domain=0)) > 1


@pytest.mark.parametrize(
    "words",
    [
        ["translate", "model", "", "--domain", "0", "--out", "new"],
        ["translate", "model", "a.png", "--reference", "", "--out", "new"],
        ["translate", "model", "a.png", "--domain", "0", "--out", ""],
        ["translate", "", "a.png", "--domain", "0", "--out=new"],
        ["prepare", ""],
        ["prepare", "pictures", "--out="],
        ["domains", "model", ""],
        ["train", "", "--out", "new"],
        ["train", "pictures", "--out="],
        ["train", "--resume="],
        ["train", "pictures", "--out", "new", "--held-back", ""],
        ["train", "pictures", "--out", "new", "--from", ""],
        ["evaluate", "run", ""],
        ["evaluate", "run", "pictures", "--out", ""],
        ["report", "run", "--out", ""],
        ["export", ""],
        ["convert", "", "--out", "new"],
        ["creatures", ""],
        ["studio", ""],
        ["push", "model", "me/cats", "--dry-run", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_on_the_command_line_is_refused(here, words, capsys):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert "is '': take a path" in line


@pytest.mark.parametrize("config", ["demo", {"steps": 3}, None, Config], ids=repr)
def test_only_a_config_is_a_config(here, config):
    refused(lambda: train("pictures", "new", config), "config is", "read_config(")


def test_how_often_a_function_evaluates(here):
    config = read_config("demo").with_overrides(TINY)
    for every in ("a", -1, 1.5, None):
        refused(lambda every=every: train("pictures", "new", config, evaluate_every=every), repr(every))
    refused(lambda: train("pictures", "new", config, evaluate=3, evaluate_every=1), "evaluate is 3")
    refused(lambda: resume_run("run", evaluate_every=0.5), "0.5")
    refused(lambda: resume_run("run", evaluate=3), "evaluate is 3")


def test_settings_that_are_none(here):
    config = read_config("demo")
    refused(lambda: config.with_overrides({3: 4}), "3")
    refused(lambda: config.with_overrides(None), "None")
    refused(lambda: config.with_overrides(["steps"]))
    refused(lambda: Config(data=None), "data", "None", "DataConfig")
    refused(lambda: Config(run={"steps": 3}), "run", "RunConfig")
    with pytest.raises(ConfigError, match=r"'nowhere.toml' is neither a file nor a preset"):
        read_config(Path("nowhere.toml"))


@pytest.mark.parametrize("seed", [-1, 2**63, "a", 1.5, None, True], ids=repr)
def test_seeds(here, seed):
    refused(lambda: evaluate("run", "pictures", seed=seed), repr(seed), "seed")
    refused(lambda: report("run", seed=seed), repr(seed), "seed")


def test_other_arguments_of_an_evaluation(here):
    for name, values in {
        "most_sources": (-1, "a"),
        "max_pixels": (0, "a"),
        "label_column": (3, None),
        "picture_column": (3, None),
        "features": (3, None),
        "part": ("test",),
        "labels": (3, None),
    }.items():
        for value in values:
            refused(lambda name=name, value=value: evaluate("run", "pictures", **{name: value}), name)


def test_a_device_may_be_one_of_torch(place, tmp_path):
    cpu = torch.device("cpu")
    expected = np.asarray(Translator.load(place / "model", device="cpu").translate(place / "a.png", domain=0))
    translator = Translator.load(place / "model", device=cpu)
    assert translator.device == cpu
    assert np.array_equal(np.asarray(translator.translate(place / "a.png", domain=0)), expected)
    out = tmp_path / "figures.json"
    assert evaluate(place / "run", place / "pictures", translates=False, device=cpu, out=out).figures
    assert report(place / "run", tmp_path / "report.html", device="auto").is_file()
    for device in ("nonsense", "cuda:999", None, 3, "", torch.device("cuda", 99)):
        for call in (
            lambda device=device: Translator.load(place / "model", device=device),
            lambda device=device: evaluate(place / "run", place / "pictures", device=device),
            lambda device=device: report(place / "run", tmp_path / "new.html", device=device),
        ):
            refused(call, "device is")


def test_no_style_codes(place):
    translator = Translator(tiny_model())
    none = translator.guide(place / "a.png").style[:0]
    for styles in (none, none.numpy()):
        refused(lambda styles=styles: translator.redraw(place / "a.png", styles), "style code")


def test_no_pictures_and_no_references(place):
    translator = Translator(tiny_model())
    for call in (
        lambda: translator.interpolate(place / "a.png", []),
        lambda: translator.translate(place / "a.png", []),
        lambda: translator.style([]),
    ):
        refused(call, "no reference was given")
    refused(lambda: translator.classify([]), "no picture was given")
