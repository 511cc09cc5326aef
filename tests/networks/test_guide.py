"""E: its size, shapes and initialisation, and its forward pass written out layer by layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tunit.networks.guide import Guide, standardised

WIDTHS = [64, 128, 256, 256, 512, 512, 512, 512]


def test_number_of_parameters_equals_the_papers() -> None:
    with torch.device("meta"):
        guide = Guide(10)
    found = sum(p.numel() for p in guide.parameters())
    assert round(found / 1e6, 1) == 9.3
    convolutions = sum(9 * a * b + b + 2 * b for a, b in zip([3, *WIDTHS], WIDTHS, strict=False))
    assert found == convolutions + 512 * 10 + 10 + 512 * 128 + 128


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("overclusters", [0, 50])
def test_shapes(size: int, overclusters: int) -> None:
    guide = Guide(7, width=1, style_width=16, overclusters=overclusters)
    with torch.no_grad():
        guidance = guide(torch.zeros(2, 3, size, size))
    assert guidance.logits.shape == (2, 7)
    assert guidance.style.shape == (2, 16)
    if overclusters:
        assert guidance.overcluster_logits is not None
        assert guidance.overcluster_logits.shape == (2, overclusters)
    else:
        assert guidance.overcluster_logits is None


@pytest.mark.parametrize("train", [True, False])
def test_forward_pass_equals_vgg_11_with_batch_norm(train: bool) -> None:
    torch.manual_seed(0)
    guide = Guide(5, width=4, style_width=6, overclusters=9).double()
    for norm in (m for m in guide.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight, 1, 0.2)
        nn.init.normal_(norm.bias, 0, 0.2)
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    tensors = {k: v.clone() for k, v in guide.state_dict().items()}
    values = iter([v for k, v in tensors.items() if k.startswith("trunk") and not k.endswith("tracked")])
    h = x
    for widths in ([4], [8], [16, 16], [32, 32], [32, 32]):
        for width in widths:
            weight, bias, gamma, beta, mean, var = (next(values) for _ in range(6))
            h = F.conv2d(h, weight, bias, padding=1)
            assert h.shape[1] == width
            if train:
                mean, var = h.mean((0, 2, 3)), h.var((0, 2, 3), unbiased=False)
            h = (h - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
            h = (h * gamma[:, None, None] + beta[:, None, None]).clamp_min(0)
        h = h.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    features = h.mean((2, 3))
    guidance = guide.train(train)(x)
    for head, found in zip(("domain", "style", "overcluster"), guidance[:3], strict=True):
        expected = features @ tensors[f"{head}_head.weight"].T + tensors[f"{head}_head.bias"]
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_style_codes_are_not_normalised() -> None:
    torch.manual_seed(0)
    guide = Guide(2, width=4).eval()
    lengths = guide(torch.randn(4, 3, 32, 32)).style.norm(dim=1)
    assert (lengths - 1).abs().min() > 0.1


@pytest.mark.parametrize("head_std", [0.01, 0.3])
def test_initialisation(head_std: float) -> None:
    torch.manual_seed(0)
    guide = Guide(200, width=16, overclusters=300, head_std=head_std)
    convolutions = [m for m in guide.modules() if isinstance(m, nn.Conv2d)]
    for layer in convolutions:
        tolerance = 5 / (2 * layer.weight.numel()) ** 0.5
        expected = (2 / (9 * layer.out_channels)) ** 0.5  # fan-out
        assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
    for layer, std in (
        (guide.domain_head, head_std),
        (guide.style_head, 0.01),
        (guide.overcluster_head, head_std),
    ):
        assert layer is not None
        tolerance = 5 / (2 * layer.weight.numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx(std, rel=tolerance)
        convolutions.append(layer)
    assert not any(layer.bias.any() for layer in convolutions)
    for norm in (m for m in guide.modules() if isinstance(m, nn.BatchNorm2d)):
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert not norm.bias.any()


def test_the_papers_head_starts_with_equal_logits() -> None:
    torch.manual_seed(0)
    p = Guide(10, width=8)(torch.randn(4, 3, 32, 32)).logits.softmax(1)
    assert (p - 0.1).abs().max() < 0.05


def test_heads_stay_in_float32_under_autocast() -> None:
    guide = Guide(3, width=4, overclusters=5, candidate_heads=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        guidance = guide(torch.randn(2, 3, 32, 32))
        trunk = guide.trunk(torch.randn(2, 3, 32, 32))
    assert trunk.dtype == torch.bfloat16  # autocast was really active
    assert {t.dtype for t in guidance} == {torch.float32}


def test_candidate_heads_are_linear_heads_on_the_same_features() -> None:
    torch.manual_seed(0)
    guide = Guide(3, width=4, candidate_heads=2, head_std=0.3).eval()
    x = torch.randn(5, 3, 32, 32)
    features = guide.trunk(x).mean((2, 3))
    found = guide(x).candidate_logits
    assert found is not None
    assert found.shape == (2, 5, 3)
    for logits, head in zip(found, guide.candidate_heads, strict=True):
        torch.testing.assert_close(logits, features @ head.weight.T + head.bias)
    assert not torch.allclose(found[0], found[1])
    assert Guide(3, width=4)(x).candidate_logits is None


def test_exposure_hardly_changes_a_guide_that_standardises() -> None:
    """The contrast is not made exactly the same, because a small number is added to the divisor: a uniform grey must
    stay uniform. The remaining difference is a factor on the picture, which hardly changes the direction of its code.
    """
    torch.manual_seed(0)
    guide = Guide(3, width=2, style_width=4, standardise=True).eval()
    x = torch.rand(4, 3, 32, 32) - 0.5
    with torch.no_grad():
        assert F.cosine_similarity(guide(x).style, guide(0.6 * x - 0.2).style).min() > 0.9999
        guide.standardise = False
        assert F.cosine_similarity(guide(x).style, guide(0.6 * x - 0.2).style).max() < 0.999


def test_standardised_pictures_have_the_same_mean_and_contrast() -> None:
    x = (
        torch.rand(5, 3, 16, 16, dtype=torch.float64)
        * torch.tensor([0.2, 0.5, 1, 1.5, 2])[:, None, None, None]
        - 1
    )
    found = standardised(x)
    for before, after in zip(x.numpy(), found.numpy(), strict=True):
        assert abs(after.mean()) < 1e-12
        assert after.std() == pytest.approx(0.5 * before.std() / (before.std() + 0.05), rel=1e-12)
    assert standardised(torch.full((1, 3, 4, 4), 0.3)).abs().max() == 0  # a uniform grey has no contrast


def test_normalised_codes_have_the_given_length_and_their_original_direction() -> None:
    torch.manual_seed(0)
    guide = Guide(3, width=2, style_width=16)
    x = torch.rand(4, 3, 32, 32)
    free = guide(x).style
    guide.normalise_style = True
    for guide.style_size, length in ((1.0, 4.0), (0.3, 1.2)):
        bound = guide(x).style
        assert torch.allclose(bound.norm(dim=1), torch.full((4,), length), atol=1e-5)
        assert torch.allclose(F.cosine_similarity(free, bound), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize("size", [64, 128])
def test_larger_pictures_are_averaged_to_the_side_that_e_sees(size: int) -> None:
    guide = Guide(3, image_size=32, width=2).eval()
    x = torch.rand(2, 3, size, size) * 2 - 1
    step = size // 32
    blocks = x.double().numpy().reshape(2, 3, 32, step, 32, step)
    small = torch.from_numpy(blocks.mean((3, 5))).float()
    torch.testing.assert_close(guide(x).style, guide(small).style)


def test_pictures_that_are_not_larger_stay_as_they_are() -> None:
    guide, x = Guide(3, image_size=64, width=2).eval(), torch.rand(2, 3, 32, 32)
    seen = guide(x).style
    guide.image_size = 0
    assert torch.equal(guide(x).style, seen)
