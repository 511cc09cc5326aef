"""NaN in a picture, a loss or a gradient: training stops or goes back; no average and no file gets a NaN."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch

from spoilt import NAN, PLACES, in_a_loss, in_a_picture
from tiny_run import STEPS, tiny_config, write_pictures
from tunit.cli import main
from tunit.data.batching.batches import Batches
from tunit.errors import TrainingError
from tunit.methods import descent as descent_module
from tunit.methods import tunit as step_module
from tunit.methods.descent import backward, descent, watching_gradients
from tunit.methods.tunit import TUNIT
from tunit.networks.tensor_file import read_tensors, write_tensors
from tunit.training import in_progress, non_finite, replay, trainer
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import start_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "pictures")


def finite(run):
    for path in (*checkpoints(run / "checkpoints"), run / "model.safetensors"):
        tensors = read_tensors(path)[0]
        assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point()), path


@pytest.mark.parametrize("place", PLACES)
def test_it_stops_and_keeps_the_batch_without_changing_averages_and_files(
    place, pictures, tmp_path, monkeypatch, capsys
):
    spoil, sentence = PLACES[place]
    run, seen = tmp_path / "run", []
    monkeypatch.setattr(
        trainer, "recover", lambda training, error: seen.append(training) or real(training, error)
    )
    from tunit.training.non_finite import recover as real

    with monkeypatch.context() as spoiled:
        spoil(spoiled)
        with pytest.raises(TrainingError, match=rf"{sentence} at step 8; .*step_00000005") as stopped:
            start_run(pictures, run, tiny_config(log_every=20), quiet=True)
    for average in (seen[0].state.networks.guide_average, seen[0].state.networks.generator_average):
        assert all(value.isfinite().all() for value in average.state_dict().values())
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["step_00000005.safetensors"]
    finite(run)
    (kept,) = (run / "non_finite").glob("*.safetensors")
    assert str(kept) in str(stopped.value)
    tensors, about = read_tensors(kept)
    assert json.loads(kept.with_suffix(".json").read_text()) == about
    assert (about["step"], about["seed"], about["checkpoint"]) == (8, 0, "step_00000005.safetensors")
    assert about["pictures"] == [f"{i:03d}.png" for i in tensors["index"].tolist()]
    assert tensors["x"].shape == tensors["x_plus"].shape == (4, 3, 32, 32)
    assert tensors["x_plus"].isfinite().all() == (place != "picture")
    elsewhere = run / "non_finite" / "other.safetensors"
    for changed in (
        {"x": tensors["x"][..., 1:]},
        {"y": tensors["y"][1:]},
        {"permutation": tensors["y"] * 0},
        {"x_plus": None},
    ):
        # A file that belongs to another run, or was changed.
        other = {name: value for name, value in (tensors | changed).items() if value is not None}
        write_tensors(elsewhere, other, about)
        assert main(["train", "--replay", str(elsewhere)]) == 2
        assert "is not a batch that training has kept (its " in capsys.readouterr().err
    elsewhere.unlink()
    # In the replay nothing adds a NaN, so it is fine, unless the NaN is in the stored picture.
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["train", "--replay", str(kept)]) == (0 if place == "picture" else 1)
    out = capsys.readouterr().out
    assert re.search(f"step 8 of .*, reached from step 5: {sentence}", out)
    assert ("every loss and gradient is finite" in out) == (place != "picture")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("place", PLACES)
def test_it_goes_back_to_the_last_checkpoint_and_continues_with_other_random_numbers(
    place, pictures, tmp_path, monkeypatch
):
    drawn, real = [], Batches.draw
    monkeypatch.setattr(
        Batches, "draw", lambda self, step, *a, **k: drawn.append(step) or real(self, step, *a, **k)
    )
    PLACES[place][0](monkeypatch)
    run = tmp_path / "run"
    state = start_run(pictures, run, tiny_config(on_nan="rollback"), quiet=True)
    assert (state.step, state.rollbacks) == (STEPS, 1)
    finite(run)
    steps = [step for step in drawn if step < 2**40 or step >= 2**43]
    assert steps == [*range(8), *(2**43 + i for i in range(5, STEPS))]
    lines = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines == [3, 6, 9, 12]
    assert read_tensors(checkpoints(run / "checkpoints")[-1])[1]["rollbacks"] == 1
    # Six pictures per step for four steps, then four per step. The pictures of steps 6 to 8 are not drawn again.
    assert state.cursors == {"all": 4 * 6 + (4 + 7) * 4}


def test_a_step_that_comes_again_after_a_rollback_is_announced_once(pictures, tmp_path, monkeypatch):
    said = []
    method = replace(TUNIT, announce=lambda state, pictures, config: f"step {state.step}")
    monkeypatch.setattr(in_progress, "method_of", lambda config: method)
    monkeypatch.setattr(in_progress.ProgressDisplay, "say", lambda self, text, **how: said.append(text))
    in_a_loss(monkeypatch)
    assert start_run(pictures, tmp_path / "run", tiny_config(on_nan="rollback")).rollbacks == 1
    assert [text for text in said if text.startswith("step ")] == [f"step {i}" for i in range(STEPS)]


@pytest.mark.parametrize("older", [False, True])
def test_a_step_after_a_rollback_is_repeated_with_the_pictures_of_then(
    older, pictures, tmp_path, monkeypatch
):
    drawn, real = [], Batches.draw

    def noted(self, step, *arguments, **how):
        batch = real(self, step, *arguments, **how)
        drawn.append((step, batch.index.tolist()))
        return batch

    monkeypatch.setattr(Batches, "draw", noted)
    in_a_picture(monkeypatch, times=2)
    run = tmp_path / "run"
    start_run(pictures, run, tiny_config(on_nan="rollback"), quiet=True)
    expected = [(step, index) for step, index in drawn if step in (2**43 + 5, 2**43 + 6)]
    kept = run / "non_finite" / "step_00000008_1.safetensors"
    if older:  # older versions noted no cursors
        tensors, about = read_tensors(kept)
        del about["cursors"]
        write_tensors(kept, tensors, about)
        expected = [step for step, _ in expected]
    drawn.clear()
    assert main(["train", "--replay", str(kept)]) == 0
    assert len(expected) == 2
    repeated = [(step, index) for step, index in drawn if step < 2**40 or step >= 2**43]
    assert ([step for step, _ in repeated] if older else repeated) == expected


def with_a_bad_style_loss(monkeypatch, step):
    """E's style loss is NaN at this step, in which E trains alone."""
    real, count = step_module.losses.style_contrastive, iter(range(1, 100))
    monkeypatch.setattr(
        step_module.losses,
        "style_contrastive",
        lambda *given: real(*given) * (NAN if next(count) == step else 1.0),
    )


def test_the_replay_of_the_step_that_decides_the_domains_leaves_the_run_as_it_is(
    pictures, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    with monkeypatch.context() as spoiled:
        with_a_bad_style_loss(spoiled, 8)
        with pytest.raises(TrainingError, match="the loss guide/style is nan at step 8"):
            start_run(
                pictures, run, tiny_config(guide_only_until=8, domains="auto", most_domains=6), quiet=True
            )
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["train", "--replay", str(run / "non_finite" / "step_00000008_0.safetensors")]) == 1
    assert "every loss and gradient is finite" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_step_with_views_that_are_smaller_than_the_pictures_is_repeated(
    pictures, tmp_path, monkeypatch, capsys
):
    run, settings = tmp_path / "run", {"image_size": 64, "guide_image_size": 32, "both_views": True}
    with monkeypatch.context() as spoiled:
        with_a_bad_style_loss(spoiled, 3)
        with pytest.raises(TrainingError, match="the loss guide/style is nan at step 3"):
            start_run(pictures, run, tiny_config(**settings), quiet=True)
    kept = run / "non_finite" / "step_00000003_0.safetensors"
    tensors, about = read_tensors(kept)
    assert tensors["x"].shape[-1] == tensors["x_plus"].shape[-1] == 32
    assert main(["train", "--replay", str(kept)]) == 1
    assert "every loss and gradient is finite" in capsys.readouterr().out
    for side in (48, 0):
        write_tensors(kept, tensors | {"x": torch.zeros(6, 3, side, side)}, about)
        assert main(["train", "--replay", str(kept)]) == 2
        assert f"its x is (6, 3, {side}, {side})" in capsys.readouterr().err


@pytest.mark.parametrize("guide_side", [0, 64])
def test_a_kept_batch_has_no_other_sizes_where_e_sees_the_pictures_as_they_are(
    guide_side, pictures, tmp_path, monkeypatch, capsys
):
    """Where nothing is shrunk, guide_image_size is no size of a view."""
    run = tmp_path / "run"
    with monkeypatch.context() as spoiled:
        with_a_bad_style_loss(spoiled, 3)
        with pytest.raises(TrainingError, match="the loss guide/style is nan at step 3"):
            start_run(pictures, run, tiny_config(guide_image_size=guide_side), quiet=True)
    kept = run / "non_finite" / "step_00000003_0.safetensors"
    tensors, about = read_tensors(kept)
    write_tensors(kept, tensors | {"x": torch.zeros(6, 3, guide_side, guide_side)}, about)
    assert main(["train", "--replay", str(kept)]) == 2
    assert f"its x is (6, 3, {guide_side}, {guide_side})" in capsys.readouterr().err


def test_before_the_first_checkpoint_it_goes_back_to_the_start(pictures, tmp_path, monkeypatch):
    in_a_loss(monkeypatch)
    config = tiny_config(on_nan="rollback", checkpoint_every=100)
    state = start_run(pictures, tmp_path / "run", config, quiet=True)
    assert (state.step, state.rollbacks) == (STEPS, 1)


@pytest.fixture
def delayed(monkeypatch):
    """Values are read as late as on a GPU: the step with a NaN is taken, and a later check finds it."""
    for module in (trainer, descent_module, non_finite):
        monkeypatch.setattr(module, "reads_at_once", lambda device: False)


LATE = {"log_every": 100, "checkpoint_every": 100, "sample_every": 0, "steps": 10}


@pytest.mark.usefixtures("delayed")
@pytest.mark.parametrize(
    ("spoil", "settings"),
    [
        (in_a_loss, LATE),  # the evaluation after step 9
        (in_a_loss, LATE | {"sample_every": 9}),
        (in_a_picture, LATE | {"guide_only_until": 8, "domains": "auto", "most_domains": 6}),
    ],
    ids=["evaluation", "samples", "final domains"],
)
def test_a_value_that_a_gpu_shows_late_never_reaches_what_is_made_of_the_state(
    spoil, settings, pictures, tmp_path, monkeypatch
):
    spoil(monkeypatch)
    run, evaluated = tmp_path / "run", []
    samples = settings["sample_every"] == 9
    with pytest.raises(TrainingError, match="is nan at step 8; there is no checkpoint yet: start a new run"):
        start_run(
            pictures,
            run,
            tiny_config(**settings),
            evaluate=lambda state: evaluated.append(state.step) or {},
            evaluate_every=0 if samples else 9,
            quiet=True,
        )
    assert evaluated == []
    assert not list((run / "samples").glob("*"))
    assert not (run / "model.safetensors").exists()


@pytest.mark.usefixtures("delayed")
def test_after_a_late_discovery_only_finite_states_are_evaluated(pictures, tmp_path, monkeypatch):
    in_a_loss(monkeypatch)
    evaluated = []

    def evaluate(state):
        average = state.networks.generator_average.state_dict().values()
        evaluated.append((state.step, all(bool(value.isfinite().all()) for value in average)))
        return {}

    state = start_run(
        pictures,
        tmp_path / "run",
        tiny_config(on_nan="rollback", **LATE),
        evaluate=evaluate,
        evaluate_every=9,
        quiet=True,
    )
    assert (state.step, state.rollbacks) == (10, 1)
    assert evaluated == [(9, True), (10, True)]
    finite(tmp_path / "run")


@pytest.mark.usefixtures("delayed")
@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (6, {}),  # the check when E has trained alone: the next step has no neighbours
        (3, {"log_every": 6}),  # neighbours are searched between this step and the check
        (5, {"log_every": 7, "neighbours_every": 2}),  # they are searched again
    ],
)
def test_the_batch_of_a_step_that_a_gpu_shows_late_is_kept_with_its_neighbours(
    step, settings, pictures, tmp_path, monkeypatch
):
    drawn, real = {}, Batches.draw

    def noted(self, counter, *arguments, **how):
        batch = real(self, counter, *arguments, **how)
        drawn.setdefault(counter, batch)
        return batch

    monkeypatch.setattr(Batches, "draw", noted)
    with_a_bad_style_loss(monkeypatch, step)
    of_e = {"guide_only_until": 8, "neighbours": 3, "neighbours_from": 0.5}
    with pytest.raises(TrainingError, match=f"the loss guide/style is nan at step {step}"):
        start_run(pictures, tmp_path / "run", tiny_config(**LATE | of_e | settings), quiet=True)
    (kept,) = (tmp_path / "run" / "non_finite").glob("*.safetensors")
    tensors, _ = read_tensors(kept)
    for name in ("x", "x_plus", "index"):
        assert torch.equal(tensors[name], getattr(drawn[step - 1], name)), name


def test_it_gives_up_after_three_attempts(pictures, tmp_path, monkeypatch):
    in_a_loss(monkeypatch, times=100)
    with pytest.raises(
        TrainingError, match="3 times, with other random numbers, and the problem came back each time"
    ):
        start_run(pictures, tmp_path / "run", tiny_config(on_nan="rollback"), quiet=True)
    finite(tmp_path / "run")
    assert len(list((tmp_path / "run" / "non_finite").glob("*.safetensors"))) == 4


def test_a_run_that_went_back_resumes_exactly(pictures, tmp_path, monkeypatch):
    from tunit.training.launch import resume_run

    for name, stops in (("whole", [STEPS]), ("parts", [10, STEPS])):
        with monkeypatch.context() as spoiled:
            in_a_loss(spoiled)
            start_run(pictures, tmp_path / name, tiny_config(on_nan="rollback", steps=stops[0]), quiet=True)
        for stop in stops[1:]:
            resume_run(tmp_path / name, overrides={"steps": str(stop)}, quiet=True)
    ours, theirs = (read_tensors(checkpoints(tmp_path / n / "checkpoints")[-1]) for n in ("whole", "parts"))
    assert ours[1] == theirs[1]
    assert [name for name, value in ours[0].items() if not torch.equal(value, theirs[0][name])] == []


def test_an_optimiser_makes_no_step_with_a_non_finite_gradient():
    good, bad = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimisers = [torch.optim.SGD([parameter], 0.1) for parameter in (good, bad)]
    with watching_gradients() as seen, descent(*optimisers):
        backward(good.sum() + (bad * torch.tensor([1.0, NAN, 1e30])).sum())
    assert torch.equal(bad.detach(), torch.ones(3))
    assert torch.allclose(good.detach(), torch.full((3,), 0.9))
    assert [bool(flag) for _, flag in seen] == [True, False]
    assert not descent_module.are_finite([torch.ones(2), torch.tensor([float("inf")])])
    assert descent_module.are_finite([torch.tensor([1e38, -1e38])])  # finite, although their squares are not


def test_all_ranks_decide_the_same_if_one_has_the_bad_picture(monkeypatch):
    """Ranks as threads would share the process group's state, so the exchange between ranks is replaced here."""
    told = []
    monkeypatch.setattr(non_finite, "largest_of_ranks", lambda mine: told.append(mine) or 1)
    batch = type("B", (), {"x": torch.zeros(2), "x_plus": torch.zeros(2)})
    training = type(
        "T", (), {"newest": (batch, None), "state": type("S", (), {"step": 4}), "last_checkpoint": None}
    )
    with pytest.raises(
        TrainingError, match="a picture of the batch has a value that is not finite at step 5"
    ):
        non_finite.check_pictures(training)
    assert told == [0]  # this rank's own pictures were fine


def test_a_file_that_is_not_a_stored_batch_is_one_sentence(tmp_path, capsys):
    assert main(["train", "--replay", str(tmp_path / "none.safetensors")]) == 2
    assert main(["train", "--replay", str(tmp_path / "none.safetensors"), "--steps", "3"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert "leave out all other options" in err[1]


def test_going_back_to_the_start_of_a_fine_tuned_run_fills_the_queue(pictures, tmp_path, monkeypatch):
    """Its checkpoint of step 0 has an empty queue, which is filled with keys of its own pictures."""
    start_run(pictures, tmp_path / "first", tiny_config(), quiet=True)
    in_a_loss(monkeypatch)
    filled, real = [], non_finite.begin_if_new

    def noted(state, batches, config):
        real(state, batches, config)
        filled.append(state.queue.norm(dim=1).min().item())

    monkeypatch.setattr(non_finite, "begin_if_new", noted)
    config = tiny_config(on_nan="rollback", checkpoint_every=100)
    start_run(pictures, tmp_path / "run", config, quiet=True, start_from=tmp_path / "first")
    assert len(filled) == 1 and filled[0] > 0
    (kept,) = (tmp_path / "run" / "non_finite").glob("*.safetensors")
    queues = []

    def one_step(training, given=None):
        queues.append(training.state.queue.norm(dim=1).min().item())
        raise KeyboardInterrupt

    monkeypatch.setattr(replay, "one_step", one_step)
    with pytest.raises(KeyboardInterrupt):
        replay.replay(kept)
    assert queues[0] > 0


def test_a_weight_whose_name_contains_picture_is_not_a_bad_picture(pictures, tmp_path, monkeypatch):
    """G's last layer is called to_picture. A moment of it is found to be infinite after step 6, at a checkpoint."""
    real = trainer.one_step

    def step(training, given=None):
        real(training, given)
        if training.state.step == 6 and training.state.rollbacks == 0:
            weight = training.state.networks.generator.decoder.to_picture.weight
            training.state.optimisers.generator.state[weight]["square_avg"][0] = torch.inf

    monkeypatch.setattr(trainer, "one_step", step)
    config = tiny_config(on_nan="rollback", log_every=6, checkpoint_every=6, sample_every=0)
    state = start_run(pictures, tmp_path / "run", config, quiet=True)
    assert (state.step, state.rollbacks) == (STEPS, 1)
    (kept,) = (tmp_path / "run" / "non_finite").glob("*.json")
    assert "to_picture.weight" in json.loads(kept.read_text())["what"]


def test_going_back_before_the_number_of_domains_was_found_finds_it_again(pictures, tmp_path, monkeypatch):
    """The newest checkpoint, with the number, is damaged. The one before is that of step 0, with more domains."""
    found = []
    real_save = trainer.tell_and_save_number_of_domains

    def damaged(training, choice):
        found.append(choice.domains)
        real_save(training, choice)
        if len(found) == 1:
            newest = checkpoints(training.run.checkpoints)[-1]
            newest.write_bytes(newest.read_bytes()[:-100])

    monkeypatch.setattr(trainer, "tell_and_save_number_of_domains", damaged)
    in_a_loss(monkeypatch)  # at step 8
    settings = {
        "domains": "auto",
        "most_domains": 6,
        "checkpoint_every": 100,
        "log_every": 100,
        "sample_every": 0,
    }
    config = tiny_config(on_nan="rollback", **settings)
    state = start_run(pictures, tmp_path / "run", config, quiet=True)
    assert (state.step, state.rollbacks) == (STEPS, 1)
    assert len(found) == 2 and state.choice.domains == state.networks.guide.domains == found[1]


def test_a_step_is_repeated_without_the_run_whose_e_was_taken(pictures, tmp_path, monkeypatch, capsys):
    first = tmp_path / "first"
    start_run(pictures, first, tiny_config(), quiet=True)
    in_a_loss(monkeypatch)
    config = tiny_config(on_nan="rollback", guide_from=str(first))
    start_run(pictures, tmp_path / "run", config, quiet=True)
    shutil.rmtree(first)
    (kept,) = (tmp_path / "run" / "non_finite").glob("*.safetensors")
    assert main(["train", "--replay", str(kept)]) == 1
    assert "every loss and gradient is finite" in capsys.readouterr().out
