"""Methods from outside tunit: one file adds a method, and all of tunit uses its record."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tiny_run import flags, tiny_config, write_pictures
from tiny_step import step_bytes
from tunit.cli import main
from tunit.config import Config, all_fields, read_config
from tunit.config import methods as config_methods
from tunit.errors import ConfigError
from tunit.methods.funit import FUNIT
from tunit.methods.method import Method
from tunit.methods.model_file import load_model
from tunit.methods.registry import method_of, methods, modules_of_methods, register, unregister
from tunit.methods.semit import SEMIT
from tunit.methods.tunit import TUNIT
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints
from tunit.training.initial_state import new_state
from tunit.training.memory.fitting import checkpoint_activations

TOY = Path(__file__).parents[1] / "toy_method.py"
DOCS = Path(__file__).parents[2] / "docs" / "methods.md"
ALONE = {"guide_only_until": 0, "average_from": 0, "guide_only_batch_size": 0}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def toy(monkeypatch):
    """The method in the file, registered during the test."""
    spec = importlib.util.spec_from_file_location("toy_method", TOY)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy_method", module)  # dataclasses look the module up here
    spec.loader.exec_module(module)
    yield module
    unregister("autoencoder")


def words_of(pictures, run, *more, **overrides):
    words = [
        "train",
        str(pictures),
        "--out",
        str(run),
        "--preset",
        "paper",
        "--quiet",
        "--method",
        "autoencoder",
    ]
    return [*words, *flags(**ALONE | overrides), *more]


def test_one_file_adds_a_method_that_can_be_trained_and_used_to_translate(toy, tmp_path):
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    assert main(words_of(pictures, run, "--autoencoder-rate", "0.05", steps=6)) == 0
    assert main(["train", "--resume", str(run), "--steps", "12", "--quiet"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["generator/reconstruction"] < lines[0]["generator/reconstruction"]
    config = read_config(str(run / "config.toml"))
    assert method_of(config) is toy.AUTOENCODER
    assert config.of(toy.AutoencoderConfig).autoencoder_rate == 0.05
    assert load_model(run).config.method.method == "autoencoder"
    picture = str(pictures / "000.png")
    assert main(["translate", str(run), picture, "--reference", picture, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "000.png").is_file()
    # A run that was stopped and resumed ends the same.
    assert main(words_of(pictures, tmp_path / "whole", "--autoencoder-rate", "0.05", steps=12)) == 0
    ours, theirs = (read_tensors(checkpoints(r / "checkpoints")[-1])[0] for r in (run, tmp_path / "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(name.endswith("momentum_buffer") for name in ours)


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--micro-batch", "2", "micro_batch is 2, but method 'autoencoder' takes a batch at once"),
        ("--processes", "2", "processes is 2, but method 'autoencoder' supports only one"),
        ("--compile", "true", "compile is true, but method 'autoencoder' has nothing to compile"),
        ("--checkpoint-activations", "1", "but method 'autoencoder' cannot compute its activations again"),
        ("--guide-only-until", "3", "nothing trains alone in method 'autoencoder'"),
    ],
)
def test_settings_that_its_record_does_not_list_are_refused(toy, tmp_path, capsys, flag, value, sentence):
    run = tmp_path / "run"
    assert main(words_of(write_pictures(tmp_path / "p"), run, flag, value)) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not run.exists()


@pytest.mark.parametrize("words", [["train", "--resume"], ["translate"]])
def test_without_the_file_its_runs_are_refused_with_a_sentence(toy, tmp_path, monkeypatch, capsys, words):
    """Neither the sections of the method in the run's config nor its weights are damaged."""
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    assert main(words_of(pictures, run, steps=1)) == 0
    if words == ["translate"]:
        more = [str(pictures / "000.png"), "--domain", "0", "--out", str(tmp_path / "out")]
    else:
        more = []
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.delitem(config_methods.METHODS, "autoencoder")
        assert main([*words, str(run), *more]) == 2
    err = capsys.readouterr().err
    assert (
        "its method is 'autoencoder', which is not known here: take one of tunit, funit, semit, or, if" in err
    )
    assert "install that package or name its module in TUNIT_PLUGINS" in err
    assert len(err.splitlines()) == 1


def test_the_docs_show_the_file_unchanged():
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert blocks[0] == TOY.read_text()


# Makes the run of the example short and small; domains and phases stay as they are in the example and its preset.
SMALL = {"steps": 2, "image_size": 32, "guide_width": 4, "generator_width": 4, "discriminator_width": 4}
SMALL |= {
    "batch_size": 4,
    "queue_length": 16,
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "workers": 1,
}


def test_the_example_of_the_docs_trains(tmp_path, monkeypatch):
    changed = Config.with_overrides
    monkeypatch.setattr(Config, "with_overrides", lambda self, given: changed(self, given | SMALL))
    (tmp_path / "autoencoder.py").write_text(TOY.read_text())
    write_pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    codes = []
    (example,) = re.findall(r"```python\n(import autoencoder.*?)```", DOCS.read_text(), re.DOTALL)
    run_command = re.sub(r"^main\((.*)\)$", r"codes.append(main(\1))", example, flags=re.MULTILINE)
    try:
        exec(compile(run_command, "docs/methods.md", "exec"), {"codes": codes})
        assert codes == [0]
        config = read_config("runs/auto/config.toml")
        assert (config.method.method, config.schedule.steps) == ("autoencoder", 2)
    finally:
        sys.modules.pop("autoencoder", None)
        unregister("autoencoder")
    assert (tmp_path / "runs" / "auto" / "model.safetensors").is_file()


def test_names_must_be_unique(toy):
    with pytest.raises(ConfigError, match="the name 'autoencoder' is taken already"):
        register(toy.AUTOENCODER)
    with pytest.raises(ConfigError, match="the name 'tunit' is taken already"):
        register(TUNIT)
    # another section, but one of its settings has a name that exists already
    own = {"mine": toy.AutoencoderConfig}
    with pytest.raises(ConfigError, match="the name 'autoencoder_rate' is taken already"):
        register(
            Method("mine", TUNIT.guide, TUNIT.generator, TUNIT.discriminator, toy.optimisers, toy.step, own)
        )
    assert {method.name for method in methods()} == {"tunit", "funit", "semit", "autoencoder"}


class EntryPoint:
    """An entry point of an installed package, as importlib.metadata returns it."""

    name, value, dist = "mine", "package.of_mine", None

    def __init__(self, load):
        self.load = load


def installed(monkeypatch, load):
    monkeypatch.setattr(config_methods, "_loaded", False)
    points = {"tunit.methods": [EntryPoint(load)]}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points.get(group, []))


def test_installed_packages_can_add_methods(monkeypatch):
    made = {**vars(TUNIT), "name": "mine", "settings": {}}
    installed(monkeypatch, lambda: register(Method(**made)))
    try:
        assert method_of(Config().with_overrides({"method": "mine"})).name == "mine"
    finally:
        unregister("mine")


def test_an_installed_method_that_fails_to_import_is_named(monkeypatch):
    def broken():
        raise ImportError("No module named 'nothing'")

    installed(monkeypatch, broken)
    with pytest.raises(
        ConfigError, match=r"objective 'mine' of the package package\.of_mine cannot be loaded"
    ):
        all_fields()


# ---- promises of the records of tunit's own methods ----


@pytest.mark.parametrize(
    ("method", "preset"), [(TUNIT, "paper"), (FUNIT, "table1-a"), (SEMIT, "semit")], ids=lambda v: str(v)[:8]
)
def test_recomputed_activations_need_less_memory_and_change_nothing(method, preset):
    config = tiny_config(
        preset, style_width=5, image_size=64, labels="folders", r1_weight=10.0, generator_width=8
    )
    again = config.with_overrides({"checkpoint_activations": True})
    grows, grows_again = (step_bytes(each, 4) - step_bytes(each, 2) for each in (config, again))
    assert grows_again < 0.6 * grows
    found = []
    for computed_again in (False, True):
        state = new_state(config, torch.device("cpu"), 4)
        if computed_again:
            checkpoint_activations(method.recomputed_parts(state.networks))
        found.append(one_step(method, state, config))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("method", "preset"), [(TUNIT, "paper"), (FUNIT, "table1-a"), (SEMIT, "semit")], ids=lambda v: str(v)[:8]
)
def test_a_profile_shows_each_network(method, preset):
    config = tiny_config(preset, image_size=64, labels="folders", r1_weight=10.0)
    state = new_state(config, torch.device("cpu"), 4)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        one_step(method, state, config)
    time_of = {event.key: event.cpu_time_total for event in seen.key_averages()}
    assert all(time_of.get(label, 0) > 0 for label in "EDG")
    convolutions = time_of["aten::convolution"] + time_of.get("tunit::convolve", 0)
    assert sum(time_of[label] for label in "EDG") > convolutions


def test_only_methods_name_themselves():
    """No other file of tunit compares a method with a name, or takes a decision by one."""
    source = Path(config_methods.__file__).parents[1]
    rooms = {source / "methods", source / "config"}
    compares = re.compile(r"""method(\.method|\.name)?\)? *(==|!=|in) *[("'\[{]""")
    found = [
        f"{path.relative_to(source)}: {line.strip()}"
        for path in source.rglob("*.py")
        if not rooms & set(path.parents)
        for line in path.read_text("utf-8").splitlines()
        if compares.search(line) and "zipfile" not in line
    ]
    assert found == []


def test_the_message_about_a_module_says_what_to_do(tmp_path, monkeypatch):
    """A module that is not found, one that fails, and one whose method cannot be registered."""

    def sentence(module):
        monkeypatch.setattr(config_methods, "_loaded", False)
        monkeypatch.setenv("TUNIT_PLUGINS", module)
        with pytest.raises(ConfigError) as error:
            config_methods.load_installed_methods()
        return str(error.value)

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_another.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "clashes.py").write_text(TOY.read_text().replace('"autoencoder":', '"contrast":'))
    assert "add the folder that holds it to PYTHONPATH" in sentence("not_here.at_all")
    assert "repair the module" in sentence("needs_another")
    assert sentence("clashes") == (
        "TUNIT_PLUGINS names the module 'clashes': the name 'contrast' is taken already: give the section of the "
        "method 'autoencoder' another"
    )


def test_a_module_that_failed_is_tried_again_and_spaces_do_not_belong_to_names(tmp_path, monkeypatch):
    """As in a notebook, where the file is repaired and the cell run again."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(config_methods, "_loaded", False)
    (tmp_path / "first_plugin.py").write_text("")
    (tmp_path / "mended_plugin.py").write_text("import no_such_module_at_all\n")
    monkeypatch.setenv("TUNIT_PLUGINS", "first_plugin, mended_plugin")
    for _ in range(2):
        with pytest.raises(ConfigError, match="the module 'mended_plugin', which cannot be imported"):
            config_methods.load_installed_methods()
    (tmp_path / "mended_plugin.py").write_text("# without the missing module\n")
    importlib.invalidate_caches()
    config_methods.load_installed_methods()
    assert {"first_plugin", "mended_plugin"} <= sys.modules.keys()
    for name in ("first_plugin", "mended_plugin"):
        del sys.modules[name]


def test_the_command_of_the_docs_finds_the_file(tmp_path):
    """As printed, in the folder of the file. Like the command tunit, -P does not look into the current folder."""
    (command,) = re.findall(r"^PYTHONPATH=.*$", DOCS.read_text(), re.MULTILINE)
    (tmp_path / "autoencoder.py").write_text(TOY.read_text())
    assert " tunit train pictures " in command
    words = shlex.split(command.replace(" tunit ", f" {shlex.quote(sys.executable)} -P -m tunit "))
    given, words = [word for word in words if re.match(r"[A-Z_]+=", word)], words[2:]
    environment = os.environ | dict(word.split("=", 1) for word in given)
    environment["PYTHONPATH"] += os.pathsep + str(Path(config_methods.__file__).parents[2])
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    # The method is known, so the only thing that is missing are the pictures.
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pictures does not exist" in done.stderr


def one_step(method, state, config):
    """The weights after a joint step with R1."""
    from tunit.data.batching.batches import make_batch
    from tunit.methods.method import Phase

    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = make_batch(x, x.flip(3), torch.tensor([0, 1, 2, 0]), torch.arange(4))
    method.step(state, batch, torch.tensor([2, 3, 1, 0]), Phase(True, True, True), config)
    return [p for network in state.networks.named().values() for p in network.parameters()]


@pytest.mark.parametrize("part", ["guide", "before_step"])
def test_the_module_of_a_method_with_another_methods_step_is_known(part):
    """Other processes must import it, although its step is TUNIT's."""
    assert not modules_of_methods()

    def own(*given):
        return getattr(TUNIT, part)(*given)

    register(replace(TUNIT, name="mine", settings={}, **{part: partial(own)}))
    try:
        assert modules_of_methods() == [__name__]
    finally:
        unregister("mine")
