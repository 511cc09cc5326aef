"""Every loss, compared with its closed form, another library, or its formula in plain loops."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import mutual_info_score
from torch import Tensor

from tunit.methods import losses
from tunit.networks.discriminator import Discriminator


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def probabilities(batch: int, domains: int, seed: int = 0) -> Tensor:
    return (2 * noise(batch, domains, seed=seed)).softmax(1)


def one_hot(labels: np.ndarray, domains: int) -> Tensor:
    return torch.eye(domains, dtype=torch.float64)[torch.from_numpy(labels)]


# ---- mutual information ----


def literal_information(p: Tensor, q: Tensor, balance: float = 1.0) -> float:
    """Section 3.2 in loops. `balance` is IIC's lambda, in the form with entropies of the marginals."""
    batch, k = p.shape
    joint = np.zeros((k, k))
    for n in range(batch):
        for i in range(k):
            for j in range(k):
                joint[i, j] += (p[n, i] * q[n, j] + p[n, j] * q[n, i]).item() / 2 / batch
    joint = np.maximum(joint / joint.sum(), 1e-10)
    marginal = [sum(joint[i, j] for j in range(k)) for i in range(k)]
    total = 0.0
    for i in range(k):
        for j in range(k):
            parts = math.log(joint[i, j]) - balance * (math.log(marginal[i]) + math.log(marginal[j]))
            total += joint[i, j] * parts
    return total


@pytest.mark.parametrize("k", [2, 10, 149])
def test_certain_balanced_agreement_gives_log_k(k: int) -> None:
    p = torch.eye(k, dtype=torch.float64).repeat(3, 1)
    # The lower limit of 1e-10 on K^2 entries costs at most K^2 1e-10 (ln 1e10 + 2 ln K).
    floor = k**2 * 1e-10 * (math.log(1e10) + 2 * math.log(k))
    assert losses.mutual_information(p, p).item() == pytest.approx(math.log(k), abs=2 * floor)


def test_certain_unbalanced_agreement_gives_the_entropy() -> None:
    p = one_hot(np.array([0] * 5 + [1] * 3 + [2] * 2), 3)
    entropy = -sum(w * math.log(w) for w in (0.5, 0.3, 0.2))
    assert losses.mutual_information(p, p).item() == pytest.approx(entropy, abs=1e-7)


def test_independent_views_have_no_information() -> None:
    marginal = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert abs(losses.mutual_information(marginal.expand(6, 3), marginal.expand(6, 3)).item()) < 1e-14
    # Every pair of certain labels, once: independent, although each label is certain.
    i, j = np.divmod(np.arange(9), 3)
    assert abs(losses.mutual_information(one_hot(i, 3), one_hot(j, 3)).item()) < 1e-12


def test_one_domain_has_no_information_and_no_gradient() -> None:
    p, q = (torch.ones(4, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    information = losses.mutual_information(p, q)
    information.backward()
    assert information.item() == 0
    for x in (p, q):
        assert x.grad is not None
        assert not x.grad.any()


@pytest.mark.parametrize("balance", [1.0, 1.3, 0.5])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_information_equals_the_double_sum(k: int, balance: float) -> None:
    p, q = probabilities(7, k), probabilities(7, k, seed=1)
    found = losses.mutual_information(p, q, balance=balance).item()
    assert found == pytest.approx(literal_information(p, q, balance), abs=1e-12)


def test_balance_adds_the_entropies_of_the_marginals() -> None:
    p, q = probabilities(7, 4), probabilities(7, 4, seed=1)
    m = losses.joint_probability(p, q).sum(1)
    entropy = -(m * m.log()).sum().item()
    plain, balanced = (losses.mutual_information(p, q, balance=b).item() for b in (1.0, 1.3))
    assert balanced - plain == pytest.approx(2 * 0.3 * entropy, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_information_of_certain_labels_equals_scikit_learn(seed: int) -> None:
    """To make P symmetric is to count every pair in both orders."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 4, 60)
    b = np.where(rng.random(60) < 0.6, a, rng.integers(0, 4, 60))
    expected = mutual_info_score(np.concatenate([a, b]), np.concatenate([b, a]))
    found = losses.mutual_information(one_hot(a, 4), one_hot(b, 4)).item()
    assert found == pytest.approx(expected, abs=1e-7)


def test_information_is_symmetric_and_ignores_the_numbering_of_domains() -> None:
    p, q = probabilities(7, 4), probabilities(7, 4, seed=1)
    found = losses.mutual_information(p, q).item()
    assert losses.mutual_information(q, p).item() == pytest.approx(found, abs=1e-14)
    renamed = [2, 0, 3, 1]
    assert losses.mutual_information(p[:, renamed], q[:, renamed]).item() == pytest.approx(found, abs=1e-14)


@pytest.mark.parametrize("weights", [[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0], [1] * 7])
def test_a_mask_equals_computing_on_the_subset(weights: list[int]) -> None:
    p, q = probabilities(7, 4), probabilities(7, 4, seed=1)
    weight = torch.tensor(weights, dtype=torch.float64)
    kept = weight > 0
    found = losses.mutual_information(p, q, weight, 1.3).item()
    assert found == pytest.approx(literal_information(p[kept], q[kept], 1.3), abs=1e-12)


def test_left_out_pictures_get_no_gradient() -> None:
    p = probabilities(4, 3).requires_grad_()
    q = probabilities(4, 3, seed=1).requires_grad_()
    weight = torch.tensor([1.0, 0, 1, 0], dtype=torch.float64)
    losses.mutual_information(p, q, weight).backward()
    for x in (p, q):
        assert x.grad is not None
        assert not x.grad[1::2].any()
        assert x.grad[::2].all()


def test_information_of_nothing_is_finite_with_finite_gradients() -> None:
    p = probabilities(4, 3).requires_grad_()
    information = losses.mutual_information(p, p, torch.zeros(4, dtype=torch.float64))
    information.backward()
    assert information.isfinite()
    assert p.grad is not None
    assert p.grad.isfinite().all()


def test_certain_float32_probabilities_have_finite_gradients() -> None:
    logits = (1000 * torch.eye(3)).requires_grad_()
    p = logits.softmax(1)
    losses.mutual_information(p, p).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("balance", [1.0, 1.3])
def test_information_gradient_equals_finite_differences(balance: float) -> None:
    logits = [noise(4, 3).requires_grad_(), noise(4, 3, seed=1).requires_grad_()]
    weight = torch.tensor([1.0, 1, 0, 1], dtype=torch.float64)

    def of_logits(a: Tensor, b: Tensor) -> Tensor:
        return losses.mutual_information(a.softmax(1), b.softmax(1), weight, balance)

    assert torch.autograd.gradcheck(of_logits, logits)


def test_joint_probability() -> None:
    joint = losses.joint_probability(probabilities(7, 4), probabilities(7, 4, seed=1))
    assert torch.equal(joint, joint.T)
    assert joint.sum().item() == pytest.approx(1, abs=1e-14)
    certain = losses.joint_probability(one_hot(np.array([0]), 2), one_hot(np.array([0]), 2))
    assert certain.tolist() == [[1, 1e-10], [1e-10, 1e-10]]


# ---- contrastive ----


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_contrastive_equals_cross_entropy_with_the_positive_first(temperature: float) -> None:
    query, key, queue = noise(5, 8), noise(5, 8, seed=1), noise(11, 8, seed=2)
    logits = torch.empty(5, 12, dtype=torch.float64)
    for i in range(5):
        logits[i, 0] = torch.dot(query[i], key[i]) / temperature
        for j in range(11):
            logits[i, 1 + j] = torch.dot(query[i], queue[j]) / temperature
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.int64)).item()
    assert losses.style_contrastive(query, key, queue, temperature).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_contrastive_temperature_divides_numerator_and_denominator() -> None:
    query, key, queue = noise(1, 3), noise(1, 3, seed=1), noise(2, 3, seed=2)
    positive = (query[0] @ key[0]).item() / 0.5
    negatives = [(query[0] @ n).item() / 0.5 for n in queue]
    expected = -math.log(math.exp(positive) / (math.exp(positive) + sum(math.exp(n) for n in negatives)))
    assert losses.style_contrastive(query, key, queue, 0.5).item() == pytest.approx(expected, rel=1e-12)


def test_contrastive_with_a_queue_of_zeros_is_the_log_of_the_number_of_choices() -> None:
    """As at the start of training: every logit is 0."""
    zero = torch.zeros(4, 8)
    found = losses.style_contrastive(zero, zero, torch.zeros(1024, 8), 0.07).item()
    assert found == pytest.approx(math.log(1025), rel=1e-6)


def test_contrastive_stays_finite_for_codes_of_any_length() -> None:
    query = torch.full((2, 4), 100.0, requires_grad=True)
    loss = losses.style_contrastive(query, -query.detach(), torch.full((3, 4), 100.0), 0.07)
    loss.backward()
    assert loss.item() == pytest.approx(80_000 / 0.07 + math.log(3), rel=1e-6)
    assert query.grad is not None
    assert query.grad.isfinite().all()


def test_contrastive_weights_give_a_weighted_mean() -> None:
    query, key, queue = noise(4, 8), noise(4, 8, seed=1), noise(6, 8, seed=2)
    each = [losses.style_contrastive(query[i : i + 1], key[i : i + 1], queue, 0.5).item() for i in range(4)]
    weight = torch.tensor([0.1, 1.0, 0.0, 2.5], dtype=torch.float64)
    expected = np.average(each, weights=weight.numpy())
    assert losses.style_contrastive(query, key, queue, 0.5, weight).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_weighted_mean() -> None:
    values = torch.tensor([1.0, 2.0, 4.0])
    assert losses.weighted_mean(values).item() == pytest.approx(7 / 3)
    assert losses.weighted_mean(values, torch.tensor([1.0, 0.0, 3.0])).item() == pytest.approx(13 / 4)
    assert losses.weighted_mean(values, torch.zeros(3)).item() == 0


# ---- adversarial ----


def test_hinge_losses() -> None:
    logit = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    assert losses.hinge_real(logit).item() == pytest.approx((4 + 2 + 1.5 + 1 + 0.5) / 7)
    assert losses.hinge_fake(logit).item() == pytest.approx((0.5 + 1 + 1.5 + 2 + 3) / 7)


def test_hinge_gradients_are_zero_beyond_the_margin() -> None:
    logit = torch.tensor([-2.0, 0.0, 2.0], requires_grad=True)
    losses.hinge_real(logit).backward()
    assert logit.grad is not None
    assert logit.grad.tolist() == pytest.approx([-1 / 3, -1 / 3, 0])
    logit.grad = None
    losses.hinge_fake(logit).backward()
    assert logit.grad is not None
    assert logit.grad.tolist() == pytest.approx([0, 1 / 3, 1 / 3])


def test_generator_adversarial_is_the_negative_mean() -> None:
    assert losses.generator_adversarial(torch.tensor([-3.0, 1.0, 0.5])).item() == pytest.approx(0.5)


# ---- R1 ----


def test_r1_of_a_linear_logit_is_the_squared_slope() -> None:
    a, x = noise(3, 4, 4), noise(5, 3, 4, 4, seed=1).requires_grad_()
    penalty = losses.r1_penalty((a * x).sum((1, 2, 3)), x).item()
    assert penalty == pytest.approx(sum(v * v for v in a.flatten().tolist()), rel=1e-12)


def test_r1_of_a_quadratic_logit() -> None:
    """D(x) = |x|^2 / 2 has the gradient x: the penalty is the mean of |x|^2, and its own gradient 2 x / B."""
    x = noise(4, 3, 2, 2).requires_grad_()
    penalty = losses.r1_penalty(x.square().sum((1, 2, 3)) / 2, x)
    assert penalty.item() == pytest.approx(np.mean([np.sum(v**2) for v in x.detach().numpy()]), rel=1e-12)
    penalty.backward()
    torch.testing.assert_close(x.grad, 2 * x.detach() / 4)


def test_r1_gradient_for_the_discriminator_equals_finite_differences() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(32, 3, width=2).double()
    for parameter in discriminator.parameters():  # away from 0, where the activations are not differentiable
        parameter.data += 0.05 * torch.randn_like(parameter)
    x, y = noise(2, 3, 32, 32).requires_grad_(), torch.tensor([2, 0])

    def penalty() -> Tensor:
        return losses.r1_penalty(discriminator.judge(x, y), x)

    parameters = [discriminator.stem.weight, discriminator.blocks[1].conv1.weight, discriminator.head.weight]
    gradients = torch.autograd.grad(penalty(), parameters)
    for seed, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        direction, h = noise(*parameter.shape, seed=seed), 1e-6
        sides = []
        for sign in (1, -1):
            parameter.data += sign * h * direction
            sides.append(penalty().item())
            parameter.data -= sign * h * direction
        slope = (sides[0] - sides[1]) / (2 * h)
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_r1_uses_only_the_logit_of_the_label() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(32, 2, width=2).double()
    x = noise(1, 3, 32, 32).requires_grad_()
    label = torch.tensor([1])
    expected = losses.r1_penalty(discriminator.judge(x, label), x).item()
    assert expected > 0
    discriminator.head.weight.data[0] = 0
    assert losses.r1_penalty(discriminator.judge(x, label), x).item() == pytest.approx(expected, rel=1e-12)
    assert losses.r1_penalty(discriminator.judge(x, 1 - label), x).item() == 0


# ---- reconstruction, classification ----


def test_reconstruction_is_the_mean_absolute_error() -> None:
    a, b = noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=1)
    assert losses.reconstruction(a, b).item() == pytest.approx(
        np.abs(a.numpy() - b.numpy()).mean(), rel=1e-12
    )
    assert losses.reconstruction(a, a + 0.25).item() == pytest.approx(0.25)


def test_classification_is_cross_entropy_of_both_views_for_labelled_pictures() -> None:
    logits, logits_plus = noise(5, 3), noise(5, 3, seed=1)
    y = torch.tensor([2, -1, 0, 1, -1])
    total = 0.0
    for i in (0, 2, 3):
        for view in (logits, logits_plus):
            row = view[i].tolist()
            total -= row[int(y[i])] - math.log(sum(math.exp(v) for v in row))
    assert losses.classification(logits, logits_plus, y).item() == pytest.approx(total / 3, rel=1e-12)


def test_classification_without_labels_is_0_with_zero_gradients() -> None:
    logits = noise(3, 4).requires_grad_()
    loss = losses.classification(logits, 2 * logits, torch.full((3,), -1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


# ---- under autocast ----


def test_information_and_contrast_do_not_lose_precision_under_autocast() -> None:
    p, q = probabilities(32, 10).float(), probabilities(32, 10, seed=1).float()
    query, key, queue = noise(8, 16).float(), noise(8, 16, seed=1).float(), noise(64, 16, seed=2).float()
    information, contrast = losses.mutual_information(p, q), losses.style_contrastive(query, key, queue, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses.mutual_information(p, q).item() == information.item()
        assert losses.style_contrastive(query, key, queue, 0.07).item() == contrast.item()
