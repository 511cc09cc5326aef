"""What E maximises to learn domains: SwAV's objective against its formula, and objectives from outside of tunit."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.config import methods as config_methods
from tunit.config import read_config
from tunit.config.clustering import CLUSTERING_OBJECTIVES
from tunit.errors import ConfigError
from tunit.methods import losses
from tunit.methods.clustering_objectives import (
    MUTUAL_INFORMATION,
    SWAPPED_ASSIGNMENTS,
    ClusteringObjective,
    clustering_objectives,
    objective_of,
    register,
    unregister,
)
from tunit.methods.registry import modules_of_methods
from tunit.methods.swapped_assignments import EPSILON, balanced_assignments, swapped_assignments
from tunit.networks.tensor_file import read_tensors

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"
SWAPPED = ("--clustering-objective", "swapped-assignments")
pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ---- swapped prediction of balanced assignments ----


def literal_assignments(logits: Tensor, weight: Tensor) -> np.ndarray:
    """Three rounds of Sinkhorn and Knopp's algorithm in loops; weight[i] is the mass of picture i."""
    mass = (weight / weight.sum()).numpy()
    pictures, domains = logits.shape
    plan = np.array([[math.exp(logit / EPSILON) for logit in row] for row in logits.tolist()])
    plan = plan * mass[:, None]
    for _ in range(3):
        for k in range(domains):
            plan[:, k] *= 1 / domains / sum(plan[i, k] for i in range(pictures))
        for i in range(pictures):
            plan[i] *= mass[i] / sum(plan[i])
    return plan / mass[:, None]


def test_the_objective_equals_its_formula_in_loops() -> None:
    a, b = 3 * noise(7, 4), 3 * noise(7, 4, seed=1)
    weight = torch.tensor([1, 0.3, 2, 1, 0.5, 1, 0.1], dtype=torch.float64)
    targets = [literal_assignments(each, weight) for each in (a, b)]
    log_p = [each.numpy() - np.log(np.exp(each.numpy()).sum(1, keepdims=True)) for each in (a, b)]
    total = 0.0
    for i in range(7):
        for k in range(4):
            total += weight[i].item() * (
                targets[1][i, k] * log_p[0][i, k] + targets[0][i, k] * log_p[1][i, k]
            )
    assert swapped_assignments(a, b, weight).item() == pytest.approx(total / weight.sum().item(), rel=1e-12)


def test_the_weight_of_a_picture_is_how_often_it_counts() -> None:
    a, b, weight = 3 * noise(6, 3), 3 * noise(6, 3, seed=1), torch.tensor([1.0, 0, 3, 1, 0, 2]).double()
    repeated = (each.repeat_interleave(weight.long(), 0) for each in (a, b))
    expected = swapped_assignments(*repeated, torch.ones(7).double())
    assert swapped_assignments(a, b, weight).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("k", [2, 10])
def test_balanced_logits_are_their_own_assignments(k: int) -> None:
    """Each domain has as many certain pictures as any other, so the softmax is balanced already."""
    logits, height = torch.eye(k, dtype=torch.float64).repeat(3, 1) * 1.5, 1.5
    high = math.exp(height / EPSILON) / (math.exp(height / EPSILON) + k - 1)
    low_log_p = -math.log(math.exp(height) + k - 1)
    expected = 2 * (high * (height + low_log_p) + (1 - high) * low_log_p)
    found = swapped_assignments(logits, logits, torch.ones(3 * k).double())
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_after_many_iterations_all_domains_have_the_same_weight_of_pictures() -> None:
    weight = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    q = balanced_assignments(2 * noise(50, 5) + noise(5), weight, iterations=500)
    torch.testing.assert_close(q.sum(1), torch.ones(50).double())
    torch.testing.assert_close(weight @ q / weight.sum(), torch.full((5,), 0.2).double())


def test_the_gradient_goes_only_through_predictions() -> None:
    """That of a cross-entropy with constant targets: the target minus the prediction."""
    a, b, weight = noise(5, 3).requires_grad_(), noise(5, 3, seed=1), torch.tensor([1.0, 1, 0, 1, 1]).double()
    swapped_assignments(a, b, weight).backward()
    target, share = balanced_assignments(b, weight), (weight / weight.sum())[:, None]
    torch.testing.assert_close(a.grad, share * (target - a.detach().softmax(1)))
    assert a.grad[2].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_logits_and_weights_of_0_give_finite_values(dtype: torch.dtype) -> None:
    logits = (1e4 * noise(6, 3)).to(dtype).requires_grad_()
    for weight in (torch.ones(6), torch.zeros(6), torch.tensor([0.0, 0, 1, 0, 0, 0])):
        value = swapped_assignments(logits, logits.detach().flip(0), weight)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite() and value.dtype == torch.float32 and gradient.isfinite().all()
    assert swapped_assignments(logits, logits, torch.zeros(6)).item() == 0


@pytest.mark.parametrize("objective", [MUTUAL_INFORMATION, SWAPPED_ASSIGNMENTS], ids=lambda each: each.name)
def test_a_linear_layer_finds_three_groups_of_points(objective: ClusteringObjective) -> None:
    groups = torch.arange(60) % 3
    points = 4 * torch.eye(3, 5).double()[groups] + 0.3 * noise(60, 5)
    layer = (0.1 * noise(5, 3, seed=2)).requires_grad_()
    adam = torch.optim.Adam([layer], 0.05)
    for step in range(200):
        views = (points + 0.3 * noise(60, 5, seed=10 + 2 * step + i) for i in range(2))
        value = objective.value(*(view @ layer for view in views), torch.ones(60).double(), 1.0)
        adam.zero_grad()
        (-value).backward()
        adam.step()
    found = (points @ layer).argmax(1)
    pairs = set(zip(groups.tolist(), found.tolist(), strict=True))
    assert len(pairs) == len({domain for _, domain in pairs}) == 3


def test_the_default_is_the_mutual_information() -> None:
    a, b, weight = noise(6, 3), noise(6, 3, seed=1), torch.tensor([1.0, 0, 1, 1, 0, 1]).double()
    objective = objective_of(read_config("paper"))
    expected = losses.mutual_information(a.softmax(1), b.softmax(1), weight, 1.3)
    assert objective is MUTUAL_INFORMATION
    assert torch.equal(objective.value(a, b, weight, 1.3), expected)


# ---- objectives from outside of tunit ----


def example() -> str:
    """The file in the documentation."""
    section = DOCS.read_text("utf-8").split("## A clustering of your own")[1]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return block


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """The example of the documentation, in a module that TUNIT_PLUGINS names."""
    (tmp_path / "scan.py").write_text(example())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TUNIT_PLUGINS", "scan")
    monkeypatch.setattr(config_methods, "_loaded", False)
    yield
    sys.modules.pop("scan", None)
    unregister("scan")


def trained(pictures: Path, run: Path, *words: str) -> dict[str, Tensor]:
    """The tensors of the model of a short run."""
    more = flags(guide_only_until=3, average_from=3, steps=4)
    assert (
        main(["train", str(pictures), "--out", str(run), "--preset", "paper", "--quiet", *more, *words]) == 0
    )
    return read_tensors(run / "model.safetensors")[0]


def test_the_example_of_the_docs_trains_and_its_run_can_be_resumed(scan, tmp_path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    words = "--clustering-objective", "scan", "--marginal-balance", "5"
    ours = trained(pictures, tmp_path / "scan", *words)
    usual = trained(pictures, tmp_path / "usual", "--marginal-balance", "5")
    assert not torch.equal(ours["guide.domain_head.weight"], usual["guide.domain_head.weight"])
    assert main(["train", "--resume", str(tmp_path / "scan"), "--steps", "5", "--quiet"]) == 0
    config = read_config(str(tmp_path / "scan" / "config.toml"))
    assert objective_of(config).name == "scan"
    lines = (tmp_path / "scan" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines][-1] == 5
    assert all("guide/mutual_information" in json.loads(line) for line in lines)
    assert modules_of_methods() == ["scan"]  # so other processes import it, too


def test_the_example_of_the_docs_is_scans_formula(scan) -> None:
    a, b = noise(4, 3), noise(4, 3, seed=1)
    p, q = F.softmax(a[:3], 1).numpy(), F.softmax(b[:3], 1).numpy()
    agreement = np.mean([math.log(sum(p[i] * q[i])) for i in range(3)])
    mean = p.mean(0)
    objective = {each.name: each for each in clustering_objectives()}["scan"]
    found = objective.value(a, b, torch.tensor([1.0, 1, 1, 0]).double(), 5.0)
    assert found.item() == pytest.approx(agreement - 5 * (mean * np.log(mean)).sum(), rel=1e-12)


def test_names_must_be_unique() -> None:
    with pytest.raises(ConfigError, match="the name 'mutual-information' is taken already"):
        register(MUTUAL_INFORMATION)
    assert [each.name for each in clustering_objectives()] == list(CLUSTERING_OBJECTIVES)
    assert not modules_of_methods()
    for each in clustering_objectives():
        assert each.unused_settings == CLUSTERING_OBJECTIVES[each.name]


def test_a_mistyped_name_gives_a_sentence_with_all_names(tmp_path, capsys) -> None:
    pictures, run = write_pictures(tmp_path / "pictures"), str(tmp_path / "run")
    assert main(["train", str(pictures), "--out", run, "--clustering-objective", "swapped"]) == 2
    err = capsys.readouterr().err
    assert "clustering_objective is 'swapped': take one of mutual-information, swapped-assignments" in err
    assert len(err.splitlines()) == 1


def test_a_run_whose_objective_is_not_known_here_is_refused_with_a_sentence(tmp_path, capsys) -> None:
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    register(ClusteringObjective("mine", swapped_assignments))
    try:
        trained(pictures, run, "--clustering-objective", "mine")
    finally:
        unregister("mine")
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--steps", "5"]) == 2
    err = capsys.readouterr().err
    known = (
        "its clustering_objective is 'mine', which is not known here: take one of mutual-information, swapped"
    )
    assert known in err and "install that package or name its module in TUNIT_PLUGINS" in err
    assert len(err.splitlines()) == 1


def test_a_resumed_run_keeps_its_objective(tmp_path, capsys) -> None:
    run = tmp_path / "run"
    trained(write_pictures(tmp_path / "pictures"), run, *SWAPPED)
    other = "--clustering-objective", "mutual-information"
    assert main(["train", "--resume", str(run), "--steps", "5", *other]) == 2
    assert "--clustering-objective cannot change when a run resumes" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--steps", "5", "--quiet", *SWAPPED]) == 0
    assert objective_of(read_config(str(run / "config.toml"))) is SWAPPED_ASSIGNMENTS


def test_labels_for_all_pictures_leave_it_without_an_effect(tmp_path, capsys) -> None:
    pictures, said = tmp_path / "pictures", []
    for name in "ab":
        write_pictures(pictures / name)
    for labels in ("none", "folders"):
        words = *SWAPPED, "--labels", labels
        trained(pictures, tmp_path / labels, *words)
        said.append(
            "swapped-assignments' has no effect: every picture has a label" in capsys.readouterr().err
        )
    assert said == [False, True]


def test_a_file_without_the_setting_has_the_papers(tmp_path) -> None:
    lines = tiny_config().to_toml().splitlines()
    (tmp_path / "old.toml").write_text(
        "\n".join(line for line in lines if not line.startswith("clustering_objective"))
    )
    assert read_config(str(tmp_path / "old.toml")) == tiny_config()
