"""Checkpoints that do not fit: each tensor's name, shape and dtype is checked, and the previous checkpoint is
used.
"""

import re

import pytest
import torch

from tiny_run import tiny_config
from tunit.data.batching.randomness import CounterStart
from tunit.errors import RunError
from tunit.networks.tensor_file import read_tensors, write_tensors
from tunit.training import checkpoint
from tunit.training.checkpoint import (
    checkpoint_path,
    checkpoint_step,
    checkpoints,
    drop_older,
    load_newest,
    save_checkpoint,
    state_tensors,
)
from tunit.training.initial_state import new_state

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = tiny_config()


def state_of(step, seed=0):
    """A state whose optimisers have moments."""
    state = new_state(CONFIG.with_overrides({"seed": seed}), torch.device("cpu"))
    for name, network in state.networks.named().items():
        if name in state.optimisers.named():
            for parameter in network.parameters():
                parameter.grad = torch.full_like(parameter, 0.1)
            state.optimisers.named()[name].step()
    state.step, state.cursors = step, {"all": 4 * step}
    return state


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints, of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for step in (3, 6):
        save_checkpoint(folder, state_of(step, seed=step), keep=3)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_complete_checkpoint_is_loaded(folder):
    state = new_state(CONFIG, torch.device("cpu"))
    path, warnings = load_newest(folder, state)
    assert (path.stem, warnings, state.step, state.cursors) == ("step_00000006", [], 6, {"all": 24})
    ours, theirs = state_tensors(state), read_tensors(path)[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_moments_have_the_memory_layout_of_their_weights(folder):
    def layouts(state):
        return {
            (name, i, moment): (value.stride(), weight.stride(), value.device)
            for name, optimiser in state.optimisers.named().items()
            for i, weight in enumerate(optimiser.param_groups[0]["params"])
            for moment, value in optimiser.state[weight].items()
            if value.shape == weight.shape
        }

    before, state = layouts(state_of(6, seed=6)), new_state(CONFIG, torch.device("cpu"))
    load_newest(folder, state)
    assert layouts(state) == before
    assert all(own == of_weight for own, of_weight, _ in before.values())
    assert any(sorted(own, reverse=True) != list(own) for own, _, _ in before.values())  # channels last


MOMENT = "optimiser.guide.domain_head.weight.exp_avg"
TENSORS = {
    "a moment that is shorter": lambda t: t.update({MOMENT: t[MOMENT][:1].clone()}),
    "a moment of as many numbers in another shape": lambda t: t.update({MOMENT: t[MOMENT].reshape(-1)}),
    "a moment of another type": lambda t: t.update({MOMENT: t[MOMENT].double()}),
    "a step of many": lambda t: t.update({MOMENT.replace("exp_avg", "step"): torch.zeros(7)}),
    "a moment missing": lambda t: t.pop(MOMENT),
    "all moments of a parameter missing": lambda t: [
        t.pop(MOMENT.replace("exp_avg", m)) for m in ("step", "exp_avg", "exp_avg_sq")
    ],
    "a moment of a parameter that is not there": lambda t: t.update({"optimiser.guide.no.step": torch.ones(())}),
    "an optimiser that is not there": lambda t: t.update({"optimiser.no.no.step": torch.ones(())}),
    "a weight of another shape": lambda t: t.update({"generator.decoder.up.0.weight": torch.zeros(3)}),
    "an average of another type": lambda t: t.update(
        {k: v.half() for k, v in t.items() if k.startswith("guide_average.") and v.dim() == 4}
    ),
    "a longer queue": lambda t: t.update(queue=torch.zeros(17, 8)),
    "a queue of whole numbers": lambda t: t.update(queue=torch.zeros(16, 8, dtype=torch.int64)),
    "no queue": lambda t: t.pop("queue"),
    "one tensor too many": lambda t: t.update(more=torch.zeros(1)),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_a_checkpoint_whose_tensors_do_not_fit_is_skipped(folder, case):
    path = folder / "step_00000006.safetensors"
    tensors, about = read_tensors(path)
    TENSORS[case](tensors)
    write_tensors(path, tensors, about)
    state = new_state(CONFIG, torch.device("cpu"))
    found, warnings = load_newest(folder, state)
    assert (found.stem, state.step) == ("step_00000003", 3)
    assert len(warnings) == 1
    assert re.search(
        "step_00000006.safetensors is damaged .*going back to the checkpoint before", warnings[0]
    )


ABOUT = {
    "a list": [1], "null": None, "a number": 5, "text": "x", "nothing": {},
    "no step": {"format": 1, "cursors": {}}, "no cursors": {"format": 1, "step": 6},
    "a negative step": {"format": 1, "step": -1, "cursors": {}},
    "a step beyond all": {"format": 1, "step": 2**60, "cursors": {}},
    "the first counter of other draws": {"format": 1, "step": CounterStart.FIRST_KEYS.value, "cursors": {}},
    "a step as text": {"format": 1, "step": "6", "cursors": {}},
    "a step that is a truth": {"format": 1, "step": True, "cursors": {}},
    "cursors as a list": {"format": 1, "step": 6, "cursors": [1]},
    "cursors as text": {"format": 1, "step": 6, "cursors": {"all": "24"}},
    "negative cursors": {"format": 1, "step": 6, "cursors": {"all": -24}},
    "cursors of cursors": {"format": 1, "step": 6, "cursors": {"all": {"all": 1}}},
    "a newer format": {"format": 2, "step": 6, "cursors": {}},
    "too deep": None, "a number of many digits": None,
}  # fmt: skip
RAW = {"too deep": "[" * 100_000, "a number of many digits": '{"step": 1' + "0" * 5000 + "}"}


@pytest.mark.parametrize("case", ABOUT)
def test_a_checkpoint_with_an_invalid_header_is_skipped(folder, case, monkeypatch):
    path = folder / "step_00000006.safetensors"
    tensors = read_tensors(path)[0]
    if case in RAW:
        monkeypatch.setattr("tunit.networks.tensor_file.json.dumps", lambda about, **options: RAW[case])
    write_tensors(path, tensors, ABOUT[case])
    state = new_state(CONFIG, torch.device("cpu"))
    found, warnings = load_newest(folder, state)
    assert (found.stem, state.step) == ("step_00000003", 3)
    assert "step_00000006.safetensors is damaged" in warnings[0]


def test_the_last_step_before_the_counters_of_other_draws_is_accepted(tmp_path):
    last = CounterStart.FIRST_KEYS - 1
    save_checkpoint(tmp_path, state_of(last), keep=1)
    state = new_state(CONFIG, torch.device("cpu"))
    assert load_newest(tmp_path, state)[1] == []
    assert state.step == last


@pytest.mark.parametrize("kind", ["folder", "empty", "header beyond the file", "link to nothing"])
def test_a_file_that_is_not_a_checkpoint_is_skipped(folder, kind):
    path = folder / "step_00000006.safetensors"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "link to nothing":
        path.symlink_to("nothing")
    else:
        path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    assert load_newest(folder, new_state(CONFIG, torch.device("cpu")))[0].stem == "step_00000003"


def test_if_none_fits_the_state_does_not_change(folder):
    state = new_state(tiny_config(domains=5), torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in state_tensors(state).items()}
    with pytest.raises(
        RunError, match=r"domain_head.* is \(3, \d+\) of float32 where \(5, \d+\) of float32 is"
    ):
        load_newest(folder, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state_tensors(state).items())


def test_the_newest_checkpoint_is_the_one_with_the_most_steps(tmp_path):
    for name in ("step_99999999", "step_100000000", "step_5", "step_00000005x", "other"):
        (tmp_path / f"{name}.safetensors").touch()
    assert [p.stem for p in checkpoints(tmp_path)] == ["step_99999999", "step_100000000"]


def test_a_checkpoint_of_the_previous_version_still_fits(folder):
    """It does not contain the number of its tensors."""
    path = folder / "step_00000006.safetensors"
    tensors, about = read_tensors(path)
    del about["tensors"]
    write_tensors(path, tensors, about)
    assert load_newest(folder, new_state(CONFIG, torch.device("cpu"))) == (path, [])
    assert checkpoint.FORMAT == 1


def test_older_checkpoints_are_dropped_and_later_damaged_ones_do_not_count(tmp_path):
    for step in (3, 6, 9, 12):
        checkpoint_path(tmp_path, step).write_bytes(b"")
    drop_older(
        checkpoint_path(tmp_path, 6), keep=1
    )  # 9 and 12 are damaged: without 6 nothing could be resumed
    assert [checkpoint_step(path) for path in checkpoints(tmp_path)] == [6, 9, 12]
