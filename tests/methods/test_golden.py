"""Our networks and training step, compared with values from the published implementation, in float64."""

import ctypes
import json
import sys

import numpy as np
import pytest
import torch

from golden import GOLDEN, golden_weights, images, rng_of, shapes
from tunit.config import Config
from tunit.data.batching.batches import make_batch
from tunit.methods.method import Phase
from tunit.methods.tunit import tunit_step
from tunit.networks.discriminator import Discriminator
from tunit.networks.generator import Generator
from tunit.networks.guide import Guide
from tunit.released.tensor_names import published_names
from tunit.training.initial_state import new_state

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden values at {GOLDEN}")


@pytest.fixture(scope="module", autouse=True)
def memory_given_back():
    """Afterwards the process is as small as before. Otherwise glibc keeps gigabytes that it has freed, and the cache
    the formula's weights, for as long as the tests of other files run.
    """
    yield
    golden_weights.cache_clear()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def load_golden(network, letter, dtype=torch.float64):
    network.to(dtype)
    ours = network.state_dict()
    network.load_state_dict(
        {n: value.view_as(ours[n]).to(ours[n].dtype) for n, value in golden_of(network, letter).items()}
    )
    return network


def golden_of(network, letter):
    """The formula's weights of a network, with our names, in float64."""
    tensors = golden_weights(letter)
    return {ours: tensors[theirs] for ours, theirs in published_names(network).items()}


def relative(ours, theirs):
    """Largest error relative to the largest value, minus the rounding of `theirs`, which is stored in float32."""
    rounding = np.spacing(np.abs(theirs)).astype(np.float64) / 2 if theirs.dtype == np.float32 else 0
    error = np.abs(ours.detach().double().numpy() - theirs.astype(np.float64))
    return np.maximum(error - rounding, 0).max() / np.abs(theirs).max()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_forward_values(dtype, tolerance):
    golden = np.load(GOLDEN / "forward_64_k10.npz")
    x = images("x64", 4, 64).to(dtype)
    s = torch.from_numpy(0.3 * rng_of("s64").standard_normal((4, 128))).to(dtype)
    guide, generator = load_golden(Guide(10), "C", dtype), load_golden(Generator(64), "G", dtype)
    discriminator = load_golden(Discriminator(64, 10), "D", dtype)
    with torch.no_grad():
        for mode in ("eval", "train"):
            guidance = guide.train(mode == "train")(x)
            assert relative(guidance.logits, golden[f"guide_{mode}_logits"]) < tolerance
            assert relative(guidance.style, golden[f"guide_{mode}_style"]) < tolerance
        c = generator.encode(x)
        assert relative(c.mean((2, 3)), golden["content_code_channel_mean"]) < tolerance
        assert relative(c.std(), golden["content_code_std"]) < tolerance
        assert relative(generator.decode(c, s), golden["translated"]) < tolerance
        assert relative(discriminator(x), golden["discriminator_logits"]) < tolerance


NAMES = {
    "iic": ["guide/mutual_information"],
    "contrastive": ["guide/style", "generator/style"],
    "adv_d_real": ["discriminator/real"],
    "adv_d_fake": ["discriminator/fake"],
    "gp": ["discriminator/r1"],
    "adv_g": ["generator/adversarial", "generator/adversarial_reconstruction"],
    "recon": ["generator/reconstruction"],
}
SUPERVISED = {"labelled_guide_factor": 0.1, "classification_weight": 0.0}


@pytest.mark.parametrize("mode", ["guide_only", "joint", "supervised"])
def test_two_training_steps(mode):
    golden = json.loads((GOLDEN / "steps_64_k10.json").read_text())[mode]
    config = Config().with_overrides(
        {"image_size": 64, "precision": "float32", **(SUPERVISED if mode == "supervised" else {})}
    )
    state = new_state(config, torch.device("cpu"))
    networks = state.networks
    letters = {
        "guide": "C",
        "guide_average": "C",
        "generator": "G",
        "generator_average": "G",
        "discriminator": "D",
    }
    for name, network in networks.named().items():
        load_golden(network, letters[name])
    state.queue = torch.from_numpy(0.5 * rng_of("queue64").standard_normal((1024, 128)))
    joint = mode != "guide_only"
    for i, expected in enumerate(golden["losses_in_call_order"]):
        y = torch.from_numpy(rng_of(f"y{i}").integers(0, 10, 8))
        batch = make_batch(
            images(f"x64.{i}", 8, 64),
            images(f"xplus64.{i}", 8, 64),
            y if mode == "supervised" else torch.full_like(y, -1),
        )
        permutation = torch.from_numpy(rng_of(f"perm{i}").permutation(8))
        phase = Phase(joint=joint, average_generator=joint, penalise=True)
        terms = tunit_step(state, batch, permutation, phase, config)
        queues = {k: list(v) for k, v in NAMES.items()}
        for name, theirs in expected:
            ours = terms[queues[name].pop(0)].item() * (-1 if name == "iic" else 1)
            assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9), (i, name)
    ema = {
        "guide": "C",
        "guide_average": "C_EMA",
        "generator": "G",
        "generator_average": "G_EMA",
        "discriminator": "D",
    }
    for name, network in networks.named().items():
        changes = golden["change"][ema[name]]
        theirs_of, before = published_names(network), golden_of(network, letters[name])
        for ours, now in network.named_parameters():
            key = theirs_of[ours]
            d = (now.detach() - before[ours].view_as(now)).flatten().numpy()
            norm, inner = changes[key]
            assert np.linalg.norm(d) == pytest.approx(norm, rel=1e-3, abs=1e-12), (name, key)
            probe = rng_of(f"probe.{key}").standard_normal(d.size)
            # The inner product with the probe is about as large as the norm, so its tolerance is a share of the norm.
            assert probe @ d == pytest.approx(inner, abs=1e-3 * norm + 1e-12), (name, key)
    newest = state.queue[-16:].abs().mean().item()
    assert newest == pytest.approx(golden["queue_last_rows_mean_abs"], rel=1e-6)


def test_every_tensor_has_a_name_in_the_release():
    theirs = shapes()
    for letter, network in {"C": Guide(10), "D": Discriminator(64, 10), "G": Generator(64)}.items():
        mapped = set(published_names(network).values())
        unused = set(theirs[letter]) - mapped
        assert mapped <= set(theirs[letter])
        # AdaIN's running statistics do not influence its output.
        assert all(".norm.running_" in name for name in unused)
