"""A run that begins with the networks of another run."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch

from tiny_run import TINY, flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.config import AUTO_WEIGHT
from tunit.config.config import all_fields
from tunit.config.fields import FROM_PICTURES_WORDS
from tunit.config.run_file import write_run_config
from tunit.data.packing.packed import open_packed
from tunit.errors import ConfigError, DataError, RunError
from tunit.methods import registry
from tunit.methods.inference import evaluating, in_batches
from tunit.methods.model_file import load_model
from tunit.methods.tunit import TUNIT
from tunit.networks.tensor_file import read_tensors
from tunit.training import resources
from tunit.training.checkpoint import checkpoints, load_newest
from tunit.training.fine_tuning import config_like, write_beginning
from tunit.training.from_pictures import LEFT_TO_PICTURES, left_to_pictures
from tunit.training.initial_state import new_state
from tunit.training.launch import resume_run, start_run
from tunit.training.run_folder import RunFolder
from tunit.training.trainer import make_ready

STEPS = {"steps": 2, "guide_only_until": 1, "average_from": 1, "sample_every": 0}


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    start_run(write_pictures(folder / "pictures"), folder / "run", tiny_config(**STEPS), quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def theirs(origin):
    return read_tensors(origin / "checkpoints" / "step_00000002.safetensors")[0]


@pytest.fixture(scope="module")
def pictures(origin):
    return open_packed(RunFolder(origin).data)


def networks_of(tensors):
    return {k: v for k, v in tensors.items() if not k.startswith("optimiser.") and k != "queue"}


def test_all_networks_are_copied_and_nothing_else(tmp_path, origin, pictures, theirs):
    said = write_beginning(tiny_config(seed=5), origin, tmp_path, pictures)
    tensors, about = read_tensors(tmp_path / "step_00000000.safetensors")
    assert about["step"] == 0
    assert about["cursors"] == {}
    assert not [k for k in tensors if k.startswith("optimiser.")]
    assert tensors["queue"].eq(0).all()  # filled from the new pictures before the first step
    assert networks_of(tensors).keys() == networks_of(theirs).keys()
    assert all(torch.equal(v, theirs[k]) for k, v in networks_of(tensors).items())
    assert (said["step"], said["anew"]) == (2, [])


def test_a_damaged_checkpoint_of_the_first_run_is_skipped_with_a_warning(tmp_path, origin, pictures, capsys):
    hurt = shutil.copytree(origin, tmp_path / "hurt")
    (hurt / "checkpoints" / "step_00000003.safetensors").write_bytes(b"")
    assert write_beginning(tiny_config(), hurt, tmp_path / "new", pictures)["step"] == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "step_00000003.safetensors" in line
    assert line.endswith("going back to the checkpoint before")


def test_with_another_number_of_domains_only_the_heads_are_new(tmp_path, origin, pictures, theirs):
    said = write_beginning(tiny_config(domains=7), origin, tmp_path, pictures)
    tensors = networks_of(read_tensors(tmp_path / "step_00000000.safetensors")[0])
    heads = {f"{e}.domain_head.{k}" for e in ("guide", "guide_average") for k in ("weight", "bias")}
    heads |= {f"discriminator.head.{k}" for k in ("weight", "bias")}
    assert set(said["anew"]) == heads
    assert all(len(tensors[k]) == 7 for k in heads)
    assert all(torch.equal(v, theirs[k]) for k, v in tensors.items() if k not in heads)


def labelled(pictures, labels, domains):
    """Noise that E tells apart, and these labels."""
    noise = np.random.default_rng(0).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    names = [f"{i}.png" for i in range(len(labels))]
    return dataclasses.replace(
        pictures, images=noise, names=names, labels=np.array(labels), classes=[str(k) for k in range(domains)]
    )


@pytest.mark.parametrize("domains", [TINY["domains"], 5])
def test_the_domain_heads_are_fitted_to_the_labels(tmp_path, origin, pictures, domains):
    """Whatever the order of the labels, the copied E gives each labelled picture its label, and so does its EMA."""
    labels = [
        -1,
        *np.random.default_rng(1).permutation([k for k in range(domains) for _ in range(3)]).tolist(),
    ]
    config = tiny_config(domains=domains, candidate_heads=1)
    write_beginning(config, origin, tmp_path, labelled(pictures, labels, domains))
    state = new_state(config, torch.device("cpu"), len(labels))
    load_newest(tmp_path, state)
    noise = labelled(pictures, labels, domains).images
    for guide in (state.networks.guide, state.networks.guide_average):
        with torch.no_grad(), evaluating(guide):
            guidance = guide(next(in_batches(noise, torch.device("cpu"), len(labels))))
        for logits in (guidance.logits, *guidance.candidate_logits):
            assert logits[1:].argmax(1).tolist() == labels[1:]


def test_the_domain_heads_of_another_runs_e_are_fitted_to_the_labels(origin, pictures):
    """With --guide-from, too; without labels E is copied as it is."""
    labels = (
        np.random.default_rng(1).permutation([k for k in range(TINY["domains"]) for _ in range(4)]).tolist()
    )
    config = tiny_config(guide_from=str(origin)).resolved_schedule()
    given = labelled(pictures, labels, TINY["domains"])
    networks = make_ready(config, given, None).state.networks
    for guide in (networks.guide, networks.guide_average):
        with torch.no_grad(), evaluating(guide):
            logits = guide(next(in_batches(given.images, torch.device("cpu"), len(labels)))).logits
        assert logits.argmax(1).tolist() == labels
    theirs = load_model(origin).guide.state_dict()
    unlabelled = dataclasses.replace(given, labels=np.full(len(labels), -1))
    own = make_ready(config, unlabelled, None).state.networks.guide_average.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items())
    assert not torch.equal(networks.guide.domain_head.weight, theirs["domain_head.weight"])
    assert torch.equal(networks.guide.style_head.weight, theirs["style_head.weight"])


@pytest.mark.filterwarnings("ignore:.*meta parameter")
def test_the_domain_heads_are_fitted_on_the_device_of_the_run(tmp_path, origin, pictures, monkeypatch):
    """The device for tensors without values stands for a GPU, so the method is stopped when it has E."""
    seen = []

    def adopt(state, given):
        seen.extend(value.device.type for value in state.networks.guide_average.state_dict().values())
        raise InterruptedError

    monkeypatch.setitem(registry._methods, "tunit", dataclasses.replace(TUNIT, adopt=adopt))
    monkeypatch.setattr(resources, "choose_device", lambda name: torch.device("meta"))
    with pytest.raises(InterruptedError):
        write_beginning(tiny_config(), origin, tmp_path, labelled(pictures, [0, 1, 2, 0, 1, 2], 3))
    assert set(seen) == {"meta"}


def test_without_labels_nothing_is_built_on_the_device_of_the_run(tmp_path, origin, pictures, monkeypatch):
    """Only a method that looks at labelled pictures needs it; the device without values stands for a GPU."""
    monkeypatch.setattr(resources, "choose_device", lambda name: torch.device("meta"))
    write_beginning(tiny_config(), origin, tmp_path, pictures)
    tensors, _ = read_tensors(tmp_path / "step_00000000.safetensors")
    theirs = load_model(origin).guide.state_dict()
    assert all(torch.equal(tensors[f"guide_average.{name}"], value) for name, value in theirs.items())


@pytest.mark.parametrize("labels", [[-1] * 6, [0, 0, 1, 1, -1, -1]])
def test_without_a_label_for_every_domain_the_heads_are_copied(tmp_path, origin, pictures, theirs, labels):
    write_beginning(tiny_config(), origin, tmp_path, labelled(pictures, labels, TINY["domains"]))
    tensors, _ = read_tensors(tmp_path / "step_00000000.safetensors")
    for name in ("guide.domain_head.weight", "guide_average.domain_head.bias"):
        assert torch.equal(tensors[name], theirs[name])


def test_more_classes_than_domains_are_refused_and_the_remedy_is_named(tmp_path, origin):
    """The new run takes the three domains of the first one, but the pictures lie in four folders."""
    for kind in range(4):
        write_pictures(tmp_path / "pictures" / f"kind {kind}", 6, seed=kind)
    config = config_like(tiny_config(labels="folders", **STEPS), origin, set())
    with pytest.raises(DataError, match=r"have 4 classes, more than the 3 domains: raise --domains to 4$"):
        start_run(tmp_path / "pictures", tmp_path / "run", config, start_from=origin, quiet=True)
    assert not (tmp_path / "run" / "config.toml").exists()


def test_settings_come_from_the_first_run_and_those_that_must_not_differ_are_named(origin):
    config = config_like(tiny_config("default", guide_width=64, fit="pad", domains=9), origin, {"domains"})
    assert config.networks.guide_width == TINY["guide_width"]
    assert config.networks.domains == 9
    assert config.data.fit == "stretch"  # from the preset of the first run
    with pytest.raises(
        ConfigError, match=r"networks with image_size 32, guide_width 4, but this run asks for 64, 8: leave"
    ):
        config_like(tiny_config(guide_width=8, image_size=64), origin, {"guide_width", "image_size"})
    with pytest.raises(RunError, match="not the folder of a run"):
        config_like(tiny_config(), origin / "nowhere", set())


def test_without_a_preset_the_run_is_trained_like_the_first_one(tmp_path, origin):
    """Losses, rates, views and shares of phases are those of `origin`; labels and the machine are not."""
    own = {"reconstruction_weight": 3.0, "generator_rate": 2e-4, "brightness": 0.3, "average_decay": 0.7}
    of_origin = {"labels": "folders", "labelled_ratio": 0.25, "labelled_only_until": 1, "seed": 9}
    shutil.copytree(origin, tmp_path / "first")
    settings = STEPS | {"steps": 8, "guide_only_until": 2, "average_from": 3} | own | of_origin
    write_run_config(tmp_path / "first" / "config.toml", tiny_config(**settings))
    given = {"generator_rate", "steps"}
    config = tiny_config("default", generator_rate=1e-3, steps=400)
    like = config_like(config, tmp_path / "first", given, with_training=True).resolved_schedule()
    assert (like.losses.reconstruction_weight, like.optimisers.generator_rate) == (3.0, 1e-3)
    assert (like.augment.brightness, like.optimisers.average_decay) == (0.3, 0.7)
    assert (like.schedule.steps, like.schedule.guide_only_until, like.schedule.average_from) == (
        400,
        100,
        150,
    )
    assert (like.data.labels, like.data.labelled_ratio, like.schedule.labelled_only_until) == ("none", 0.0, 0)
    assert like.run == config.run
    with_preset = config_like(config, tmp_path / "first", given)
    assert with_preset.losses.reconstruction_weight == config.losses.reconstruction_weight
    kept = config_like(config, tmp_path / "first", set(), with_training=True).resolved_schedule()
    assert (kept.schedule.steps, kept.schedule.guide_only_until, kept.schedule.average_from) == (8, 2, 3)


def test_values_for_which_a_word_stands_are_taken_over(tmp_path, origin):
    shutil.copytree(origin, tmp_path / "first")
    settings = {"r1_weight": "auto", "domains": "auto"}
    write_run_config(tmp_path / "first" / "config.toml", tiny_config(**STEPS, **settings))
    for given in (set(), {"domains"}):
        like = config_like(tiny_config(r1_weight=3.0), tmp_path / "first", given, with_training=True)
        assert like.losses.r1_weight == AUTO_WEIGHT


def test_what_was_chosen_from_the_first_pictures_is_chosen_again_from_the_new_ones(tmp_path):
    """And so on if a third run begins with the second one."""
    pictures = write_pictures(tmp_path / "pictures")
    asked = tiny_config(**STEPS, crop_area=(0.0, 0.0), hue="auto", saturation=0.25)
    start_run(pictures, tmp_path / "first", asked, quiet=True)
    first = RunFolder(tmp_path / "first")
    assert left_to_pictures(first.read_config()) == []
    like = config_like(tiny_config(), first.path, set(), with_training=True)
    assert left_to_pictures(like) == ["crop_area", "hue"]
    assert like.augment.saturation == 0.25
    given = config_like(tiny_config(hue=0.1), first.path, {"hue"}, with_training=True)
    assert (left_to_pictures(given), given.augment.hue) == (["crop_area"], 0.1)
    start_run(pictures, tmp_path / "second", like, start_from=first.path, quiet=True)
    again = config_like(tiny_config(), tmp_path / "second", set(), with_training=True)
    assert left_to_pictures(again) == ["crop_area", "hue"]


def test_the_numbers_of_a_first_run_that_does_not_say_what_it_chose_are_taken(tmp_path, origin):
    """So it is with a run of a former version."""
    shutil.copytree(origin, tmp_path / "first")
    about = json.loads((origin / "run.json").read_text())
    assert about.pop("chosen_from_pictures") == []
    (tmp_path / "first" / "run.json").write_text(json.dumps(about))
    write_run_config(tmp_path / "first" / "config.toml", tiny_config(**STEPS, hue=0.3, crop_area=(0.2, 1.0)))
    like = config_like(tiny_config("default"), tmp_path / "first", set(), with_training=True)
    assert (like.augment.hue, like.augment.crop_area) == (0.3, (0.2, 1.0))


def test_all_settings_that_wait_for_the_pictures_are_known():
    wait = {name for name, (_, f) in all_fields().items() if f.metadata["words"] is FROM_PICTURES_WORDS}
    assert set(LEFT_TO_PICTURES) == wait | {"crop_area"}


@pytest.mark.parametrize("preset, weight", [([], 3.0), (["--preset", "small"], 30.0)])
def test_the_command_takes_the_first_runs_settings_unless_a_preset_is_named(tmp_path, origin, preset, weight):
    shutil.copytree(origin, tmp_path / "first")
    write_run_config(tmp_path / "first" / "config.toml", tiny_config(**STEPS, reconstruction_weight=3.0))
    shape = {"--batch-size": 4, "--guide-only-batch-size": 4, "--queue-length": 4, "--steps": 1}
    words = [str(word) for pair in shape.items() for word in pair]
    pictures = write_pictures(tmp_path / "pictures")
    words += ["--from", str(tmp_path / "first"), "--guide-only-until", "0", "--average-from", "0", "--quiet"]
    assert main(["train", str(pictures), "--out", str(tmp_path / "run"), *preset, *words]) == 0
    assert RunFolder(tmp_path / "run").read_config().losses.reconstruction_weight == weight


def test_pictures_and_style_codes_are_treated_as_in_the_first_run(origin):
    """`origin` was trained as in the paper; the preset `default` standardises pictures and normalises codes."""
    config = config_like(tiny_config("default"), origin, set())
    networks = config.networks
    assert (networks.standardise, networks.normalise_style, networks.style_size) == (False, False, 1.0)
    config = config_like(tiny_config("default"), origin, {"standardise", "style_size"})
    networks = config.networks
    assert (networks.standardise, networks.normalise_style, networks.style_size) == (True, False, 0.1)


@pytest.mark.parametrize(
    "changed, flag",
    [({"standardise": True}, "--standardise false"), ({"normalise_style": True}, "--normalise-style false")],
)
def test_an_e_that_learnt_from_other_input_is_refused(tmp_path, origin, changed, flag):
    config = tiny_config(guide_from=str(origin), **STEPS, **changed)
    with pytest.raises(RunError, match=f"was trained with {flag}, and this run is not: add {flag}"):
        start_run(write_pictures(tmp_path / "pictures"), tmp_path / "run", config, quiet=True)


@pytest.mark.parametrize(
    ("settings", "labels", "words"),
    [
        ({"domains": 5}, None, "has 3 domains, and this run has 5: add --domains 3"),
        ({"guide_width": 8}, None, "has other shapes: set --guide-width, --style-width and the heads as in"),
        (
            {"domains": 5},
            [0, 1, 2, 3, 4, 4],
            "has 3 domains, and the labels have 5 classes: give a run with at",
        ),
        ({"domains": 5}, [0, 1, 1, 2, 2, 2], "has 3 domains, and this run has 5: add --domains 3"),
        (
            {"method": "funit", "guide_only_until": 0, "labels": "folders"},
            [0, 1, 1, 2, 2, 2],
            "is of the method tunit, and this run is of funit: give a run of that method",
        ),
    ],
)
def test_why_the_e_of_another_run_does_not_fit_is_said(origin, pictures, settings, labels, words):
    config = tiny_config(**STEPS | {"guide_from": str(origin), "average_from": 0} | settings)
    given = labelled(pictures, labels or [-1] * 6, 5)
    with pytest.raises(RunError, match=words):
        make_ready(config.resolved_schedule(), given, None)


def test_the_command_continues_from_another_run(tmp_path, origin, capsys):
    new = write_pictures(tmp_path / "new", 18, seed=3)
    words = ["train", str(new), "--from", str(origin), "--out", str(tmp_path / "run"), "--quiet"]
    kept = {
        k: v for k, v in (TINY | STEPS | {"domains": 5}).items() if "width" not in k and k != "image_size"
    }
    given = [word for k, v in kept.items() for word in ("--" + k.replace("_", "-"), str(v))]
    assert main([*words, *given]) == 0
    run = RunFolder(tmp_path / "run")
    assert run.read_config().networks.generator_width == TINY["generator_width"]
    assert run.read_about()["start_from"]["run"] == str(origin)
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "guide/style" in row] == [2]
    words[5] = str(tmp_path / "other")
    assert main([*words, *flags(guide_width=8)]) == 2
    assert "networks with guide_width 4, but this run asks for 8" in capsys.readouterr().err
    assert main(["train", str(new), "--resume", str(run.path), "--from", str(origin)]) == 2
    assert "--from" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoints/step_00000002.safetensors"])
def test_a_file_of_a_run_in_its_place_is_one_sentence_that_names_the_run(tmp_path, origin, capsys, file):
    said = f"{origin / file} is a file: give the folder of the run, such as {origin}"
    for words in (
        ["--resume", str(origin / file)],
        ["pictures", "--from", str(origin / file), "--out", str(tmp_path / "x")],
    ):
        assert main(["train", *words]) == 2
        assert capsys.readouterr().err == f"tunit: {said}\n"
    for call in (
        lambda: resume_run(origin / file),
        lambda: start_run("pictures", tmp_path / "x", tiny_config(), start_from=origin / file),
    ):
        with pytest.raises(RunError, match=re.escape(said)):
            call()
    assert not list(tmp_path.iterdir())


BASELINES = {  # the layers with a row for each label
    "table1-a": ["discriminator.head"],
    "semit": [
        *("guide.classifier.2", "guide_average.classifier.2", "discriminator.head"),
        *("generator.content_head", "generator_average.content_head"),
    ],
}
BASELINE = {"style_width": 5, "guide_only_batch_size": 0, "steps": 2, "sample_every": 0, "average_from": 0}


@pytest.mark.parametrize("preset", BASELINES)
def test_last_layers_of_the_baselines_are_copied_by_the_names_of_the_labels(tmp_path, capsys, preset):
    for seed, name in enumerate(("cat", "dog", "fox")):
        write_pictures(tmp_path / "pictures" / name, 4, side=32, seed=seed)
    config = tiny_config(preset, **BASELINE, guide_only_until=0)
    if preset == "semit":
        config = config.with_overrides({"labelled_only_until": 0, "labels": "folders"})
    run = tmp_path / "run"
    start_run(tmp_path / "pictures", run, config, quiet=True)
    given, theirs = open_packed(RunFolder(run).data), read_tensors(checkpoints(run / "checkpoints")[-1])[0]

    def copied(labels):
        """The tensors of a run with these labels that begins with `run`."""
        write_beginning(config, run, tmp_path / "new", dataclasses.replace(given, classes=labels))
        return read_tensors(tmp_path / "new" / "step_00000000.safetensors")[0]

    same, other = copied(["cat", "dog", "fox"]), copied(["cow", "dog", "fish"])
    said = capsys.readouterr().err
    assert said == (
        f"warning: {run} has other labels: the last layers keep what they have learnt for 1 of the 3 labels "
        "(those of the same name), and start anew for 'cow', 'fish'\n"
    )
    moved = copied(["dog", "fox", "yak"])
    changed = {name for name in same if not torch.equal(other[name], same[name])}
    heads = BASELINES[preset]
    weights = {f"{head}.weight" for head in heads}
    assert weights <= changed <= weights | {f"{head}.bias" for head in heads}
    for weight in weights:
        before = theirs[weight]
        assert torch.equal(same[weight], before)
        assert torch.equal(other[weight][1], before[1])
        assert not any(torch.equal(other[weight][i], before[i]) for i in (0, 2))
        assert torch.equal(moved[weight][:2], before[1:])
