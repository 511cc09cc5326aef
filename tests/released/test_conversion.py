"""Published checkpoints, converted to our tensors and back without a changed bit; and invalid files."""

import os
import pickle
from collections import OrderedDict

import pytest
import torch

from release_checkpoint import NETWORKS, all_shapes, checkpoint, tensors_of
from tunit.errors import RunError
from tunit.networks.tensor_file import write_tensors
from tunit.released.checkpoint_file import find_checkpoint, read_published, write_published
from tunit.released.conversion import from_published, to_published
from tunit.training.checkpoint import fill_state, state_tensors
from tunit.training.initial_state import new_state


@pytest.fixture
def content():
    return checkpoint(all_shapes())


def same(a, b):
    assert a.keys() == b.keys()
    different = [k for k in a if a[k].dtype != b[k].dtype or not torch.equal(a[k], b[k])]
    assert not different


def there_and_back(content):
    """A published checkpoint -> our tensors -> a training state -> a published checkpoint."""
    imported = from_published(content, "it")
    state = new_state(imported.config, torch.device("cpu"))
    about = {"step": 70_000, "cursors": {}}
    fill_state(state, state_tensors(state) | imported.tensors, about, "it")
    return to_published(state_tensors(state), imported.config, state.step)


def test_release_to_ours_to_release_is_bit_identical(content):
    again, notes = there_and_back(content)
    same(tensors_of(again), tensors_of(content))
    assert again.keys() == content.keys()
    assert again["epoch"] == 70
    assert all(list(again[key]) == list(content[key]) for key in NETWORKS)
    assert notes == []
    for key in ("c_optimizer", "d_optimizer", "g_optimizer"):
        assert again[key]["param_groups"] == content[key]["param_groups"]
        assert again[key]["state"].keys() == content[key]["state"].keys()


def test_ours_to_release_to_ours_is_bit_identical(content):
    first = from_published(content, "it")
    random = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in first.tensors.items()}
    released, _ = to_published(random, first.config, 70_000)
    second = from_published(released, "it")
    same(second.tensors, random)
    assert second.config == first.config
    assert second.warnings == []


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("domains", [1, 7, 10])
def test_sizes_are_read_from_the_shapes(size, domains):
    shapes = all_shapes(size, domains, guide=1, generator=2, discriminator=1, style=5)
    config = from_published(checkpoint(shapes), "it").config
    assert (config.data.image_size, config.networks.domains, config.networks.style_width) == (
        size,
        domains,
        5,
    )
    widths = config.networks.guide_width, config.networks.generator_width, config.networks.discriminator_width
    assert widths == (1, 2, 1)
    assert (config.data.fit, config.schedule.steps) == ("stretch", 200_000)


def test_rates_are_read_from_the_optimisers(content):
    settings = from_published(content, "it").config.optimisers
    assert (settings.guide_rate, settings.generator_rate, settings.discriminator_rate) == (2e-4, 2e-4, 2e-4)
    assert (settings.guide_betas, settings.guide_weight_decay, settings.weight_decay) == ((0.5, 0.9), 0, 0)
    assert (settings.rmsprop_alpha, settings.rmsprop_eps) == (0.9, 1e-7)


def test_a_prefix_from_several_gpus_is_removed(content):
    plain, parallel = (from_published(checkpoint(all_shapes(), prefix=p), "it") for p in ("", "module."))
    same(parallel.tensors, plain.tensors)


def test_adain_statistics_and_inception_are_ignored(content):
    expected = from_published(content, "it").tensors
    for key in ("G_state_dict", "G_EMA_state_dict"):
        for name in [k for k in content[key] if ".norm." in k]:
            del content[key][name]
    content["inceptionNet_state_dict"] = OrderedDict(a=torch.zeros(2))
    imported = from_published(content, "it")
    same(imported.tensors, expected)
    assert imported.warnings == []


@pytest.mark.parametrize("state", [None, {}])
def test_optimisers_may_be_absent(content, state):
    for key in ("c_optimizer", "d_optimizer"):
        content[key] = state
    imported = from_published(content, "it")
    assert {k.split(".")[1] for k in imported.tensors if k.startswith("optimiser.")} == {"generator"}
    assert [w.split(":")[0] for w in imported.warnings] == [
        "it holds no c_optimizer",
        "it holds no d_optimizer",
    ]


def test_optimisers_without_a_step_equal_new_ones(content):
    content["g_optimizer"]["state"] = {}
    imported = from_published(content, "it")
    assert imported.warnings == []
    assert not any(k.startswith("optimiser.generator.") for k in imported.tensors)


def test_parameters_may_be_numbered_by_identity_and_steps_be_ints(content):
    expected = from_published(content, "it").tensors
    saved = content["d_optimizer"]
    numbers = {i: 10**12 - 7 * i for i in saved["param_groups"][0]["params"]}  # as in PyTorch before 1.6
    saved["param_groups"][0]["params"] = list(numbers.values())
    saved["state"] = {numbers[i]: v | {"step": int(v["step"])} for i, v in saved["state"].items()}
    same(from_published(content, "it").tensors, expected)


def test_torchs_own_optimisers_load_the_states(content):
    again, _ = there_and_back(content)
    for key, kind, letter in (
        ("c_optimizer", torch.optim.Adam, "C"),
        ("d_optimizer", torch.optim.RMSprop, "D"),
    ):
        network = {k: v for k, v in again[f"{letter}_state_dict"].items() if v.is_floating_point()}
        parameters = [torch.nn.Parameter(v) for k, v in network.items() if "running" not in k]
        optimiser = kind(parameters)
        optimiser.load_state_dict(again[key])
        for p in parameters:
            p.grad = torch.ones_like(p)
            assert all(v.shape == p.shape for m, v in optimiser.state[p].items() if m != "step")
        optimiser.step()


def test_for_inference_the_averaged_networks_are_enough(content):
    content = {k: content[k] for k in ("C_EMA_state_dict", "G_EMA_state_dict")}
    imported = from_published(content, "it")
    same(
        {k: v for k, v in imported.tensors.items() if k.startswith("guide.")},
        {k.replace("_average", ""): v for k, v in imported.tensors.items() if k.startswith("guide_average.")},
    )
    assert imported.epoch is None
    assert any("further training starts with a new discriminator" in w for w in imported.warnings)


def test_a_head_that_the_release_does_not_have_is_left_out(content):
    config = from_published(content, "it").config.with_overrides({"overclusters": 9})
    state = new_state(config, torch.device("cpu"))
    released, notes = to_published(state_tensors(state), config, 1234)
    assert [n.split(":")[0] for n in notes] == [
        "the overclustering head of 9 clusters is left out",
        "step 1234 is written as epoch 1",
    ]
    assert from_published(released, "it").config.networks.overclusters == 0


def test_missing_and_unexpected_tensors_are_named(content):
    del content["D_state_dict"]["main.2.norm1.tau"]
    content["C_state_dict"]["extra.weight"] = torch.zeros(1)
    content["G_EMA_state_dict"]["mlp.model.0.fc.bias"] = torch.zeros(3)
    for i in (0, 4):
        del content["C_EMA_state_dict"][f"features.{i}.bias"]
    with pytest.raises(RunError) as error:
        from_published(content, "it")
    assert str(error.value) == (
        "it does not fit the networks of the published implementation: C_state_dict extra.weight is unexpected; "
        "C_EMA_state_dict features.0.bias is missing; C_EMA_state_dict features.4.bias is missing and 2 more"
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c["D_state_dict"].pop("main.2.norm1.tau"), "D_state_dict main.2.norm1.tau is missing$"),
        (
            lambda c: c["D_state_dict"].update({"main.0.bias": torch.zeros(5)}),
            r"main.0.bias is \(5,\) of float32 where \(2,\) is expected",
        ),
        (
            lambda c: c["G_state_dict"].update({"mlp.model.0.fc.bias": [1]}),
            "mlp.model.0.fc.bias is a list where",
        ),
        (lambda c: c["C_state_dict"].update({"disc.bias": torch.zeros(3).int()}), "of int32 where"),
        (lambda c: c["C_state_dict"].update({"disc.bias": torch.zeros(1).expand(3)}), "disc.bias is"),
        (lambda c: c["C_state_dict"].pop("disc.weight"), "C_state_dict disc.weight is missing"),
        (lambda c: c["C_state_dict"].update({"disc.weight": 3}), "disc.weight is a int"),
        (lambda c: c.update(G_state_dict=7), "G_state_dict is not the state of a network"),
        (lambda c: c.update(G_state_dict=torch.ones(3)), "G_state_dict is not the state of a network"),
        (lambda c: c.update(g_optimizer=torch.ones(3)), "g_optimizer is not the state of an optimiser"),
        (lambda c: c.update(c_optimizer=[1]), "c_optimizer is not the state of an optimiser"),
        (
            lambda c: c["C_state_dict"].update({"disc.weight": torch.zeros(1).expand(10**12, 4)}),
            "does not fit the networks of the published implementation: domains is 1000000000000",
        ),
        (
            lambda c: c["G_state_dict"].clear() or c["G_EMA_state_dict"].clear(),
            "G_state_dict missing, it holds epoch, C_",
        ),
        (
            lambda c: [c["G_state_dict"].pop(k) for k in list(c["G_state_dict"]) if k[0] == "c"],
            "0 down-samplings",
        ),
        (lambda c: c.update(c_optimizer={"state": {}}), "c_optimizer is not the state of an optimiser"),
        (
            lambda c: c["d_optimizer"]["param_groups"][0]["params"].pop(),
            r"d_optimizer is of \d+ parameters where",
        ),
        (
            lambda c: c["g_optimizer"]["state"][3].pop("step"),
            "g_optimizer of cnt_encoder.model.1.conv.bias holds square",
        ),
        (
            lambda c: c["g_optimizer"]["state"][3].update(square_avg=torch.zeros(2)),
            "g_optimizer square_avg of cnt_encoder.model.1.conv.bias is",
        ),
        (lambda c: c["c_optimizer"]["state"].update({999: {}}), "c_optimizer state 999 is unexpected"),
        (
            lambda c: c["g_optimizer"]["state"][3].update(step=10**400),
            r"g_optimizer step of cnt_encoder.model.1.conv.bias is a int where \(\) is expected",
        ),
        (
            lambda c: c["d_optimizer"]["param_groups"][0].update(lr=float("nan")),
            "^it does not fit the networks of the published implementation: discriminator_rate is nan",
        ),
    ],
)
def test_invalid_content_is_reported_in_one_sentence(content, spoil, message):
    spoil(content)
    with pytest.raises(RunError, match=message):
        from_published(content, "it")


def test_generator_and_discriminator_must_have_the_same_size(content):
    content["D_state_dict"] = checkpoint(all_shapes(64))["D_state_dict"]
    with pytest.raises(RunError, match="D_state_dict"):
        from_published(content, "it")


# Files.


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_new_and_old_pytorch_versions_are_read(tmp_path, content, zipped):
    path = tmp_path / "model_70.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    same(tensors_of(read_published(path)), tensors_of(content))


def test_a_written_file_is_read_back(tmp_path, content):
    path = tmp_path / "model_70.ckpt"
    write_published(path, content)
    same(tensors_of(read_published(path)), tensors_of(content))
    assert [p.name for p in tmp_path.iterdir()] == ["model_70.ckpt"]


def test_a_file_that_cannot_be_written(tmp_path, content):
    with pytest.raises(RunError, match="cannot be written"):
        write_published(tmp_path / "nowhere" / "model_70.ckpt", content)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_file_with_code_is_refused_and_the_code_does_not_run(tmp_path, content, how):
    path, victim = tmp_path / "model_70.ckpt", tmp_path / "it_ran"
    content["epoch"] = Harmful(victim)
    if how == "pickle":
        path.write_bytes(pickle.dumps(content["epoch"], protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(RunError, match="refused"):
        read_published(path)
    assert not victim.exists()
    if how != "pickle":
        with pytest.raises(RunError, match=r"would run code \(\w+\.mkdir\)"):
            read_published(path)
        torch.load(path, weights_only=False)  # the attack really works
        assert victim.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_file(tmp_path, content, zipped, share):
    path = tmp_path / "model_70.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(RunError, match=r"model_70\.ckpt is (truncated|damaged|refused)"):
        read_published(path)


def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "model_70.ckpt"
    torch.save(content, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"is damaged or not a checkpoint \(the checksum of its part"):
        read_published(path)


@pytest.mark.parametrize("kind", ["png", "text", "empty", "safetensors", "zip", "list", "pickle"])
def test_files_of_other_kinds(tmp_path, kind):
    import zipfile

    from PIL import Image

    path = tmp_path / "model_70.ckpt"
    if kind == "png":
        Image.new("RGB", (8, 8)).save(path, format="png")
    elif kind == "text":
        path.write_text("model_70.ckpt\n")
    elif kind == "empty":
        path.touch()
    elif kind == "safetensors":
        write_tensors(path, {"a": torch.zeros(3)}, {})
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "x")
    elif kind == "list":
        torch.save([torch.zeros(3)], path)
    else:
        path.write_bytes(pickle.dumps({"epoch": {1, 2}}))
    with pytest.raises(
        RunError, match=r"model_70\.ckpt (is not a file of|holds a list|is refused|is damaged)"
    ):
        read_published(path)


def test_the_newest_of_a_folder(tmp_path):
    for name in ("model_8.ckpt", "model_9.ckpt"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoint.txt").write_text("model_8.ckpt\n/home/them/logs/model_9.ckpt\n\n")
    assert find_checkpoint(tmp_path).name == "model_9.ckpt"
    assert find_checkpoint(tmp_path / "model_8.ckpt").name == "model_8.ckpt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no checkpoint.txt"),
        ("\n", "names no file"),
        ("../model_1.ckpt", "model_1.ckpt, which checkpoint.txt"),
    ],
)
def test_a_folder_without_a_checkpoint(tmp_path, text, message):
    folder = tmp_path / "logs"
    folder.mkdir()
    (tmp_path / "model_1.ckpt").touch()
    if text is not None:
        (folder / "checkpoint.txt").write_text(text)
    with pytest.raises(RunError, match=message):
        find_checkpoint(folder)


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        find_checkpoint(tmp_path / "model_1.ckpt")
