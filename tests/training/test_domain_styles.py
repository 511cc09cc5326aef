"""Average style codes, compared with a plain loop over pictures."""

import numpy as np
import pytest
import torch

from tiny_model import DOMAINS, WIDTH, noise, tiny_model, to_input
from tunit.training.domain_styles import average_styles

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_is_the_mean_style_of_the_pictures_in_each_domain():
    guide = tiny_model().guide
    pictures = [to_input(noise(seed)) for seed in range(24)]
    styles, sizes = average_styles(guide, (torch.cat(pictures[i : i + 7]) for i in range(0, 24, 7)))
    by_domain: dict[int, list] = {k: [] for k in range(DOMAINS)}
    with torch.no_grad():
        for x in pictures:
            by_domain[int(guide(x).logits[0].argmax())].append(guide(x).style[0].numpy().astype(np.float64))
    assert sizes.tolist() == [len(by_domain[k]) for k in range(DOMAINS)]
    assert sum(size > 0 for size in sizes.tolist()) >= 2  # otherwise the test would show little
    for k, codes in by_domain.items():
        expected = np.mean(codes, axis=0) if codes else np.zeros(WIDTH)
        np.testing.assert_allclose(styles[k].numpy(), expected, atol=1e-4)


def test_an_empty_domain_is_zero_with_count_0():
    guide = tiny_model().guide
    with torch.no_grad():
        guide.domain_head.bias[1] -= 1e6
    styles, sizes = average_styles(guide, [to_input(noise(seed)) for seed in range(4)])
    assert sizes[1] == 0
    assert sizes.sum() == 4
    assert not styles[1].any()


def test_without_pictures_everything_is_zero():
    styles, sizes = average_styles(tiny_model().guide, [])
    assert styles.shape == (DOMAINS, WIDTH)
    assert not styles.any()
    assert sizes.dtype == torch.int64
    assert not sizes.any()


def test_a_labelled_picture_belongs_to_the_domain_of_its_label():
    guide = tiny_model().guide
    pictures = torch.cat([to_input(noise(seed)) for seed in range(6)])
    labels = torch.tensor([2, 2, -1, 0, -1, 0])
    with torch.no_grad():
        guide.domain_head.bias[1] += 1e6  # E itself predicts 1
        codes = guide(pictures).style
    styles, sizes = average_styles(guide, [pictures[:4], pictures[4:]], labels)
    assert sizes.tolist() == [2, 2, 2]
    for k, rows in enumerate(([3, 5], [2, 4], [0, 1])):
        torch.testing.assert_close(styles[k], codes[rows].mean(0), atol=1e-4, rtol=1e-4)
