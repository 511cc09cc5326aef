"""The pairs of sources and references in the paper's protocol, and their translations."""

import numpy as np
import pytest
import torch

from tiny_model import SIZE, noise, tiny_model, to_input
from tunit.data.batching.augment import to_uint8
from tunit.evaluation.protocol import (
    Pairing,
    class_pairings,
    probabilities_and_styles,
    random_pairing,
    translated,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = np.array([0] * 4 + [1] * 9 + [2] * 6 + [-1] * 3)


def test_every_picture_of_every_other_class_is_a_source_once():
    pairings = class_pairings(CLASSES)
    assert sorted(pairings) == [0, 1, 2]
    for k, pairing in pairings.items():
        assert sorted(pairing.sources) == np.flatnonzero((CLASSES >= 0) & (k != CLASSES)).tolist()
        assert set(CLASSES[pairing.references]) == {k}


def test_the_number_of_references_is_the_mean_of_smallest_and_largest_class():
    number = (4 + 9) // 2
    for k, pairing in class_pairings(CLASSES).items():
        size = int((k == CLASSES).sum())
        drawn = pairing.references[:number]
        assert len(set(drawn)) == min(number, size)  # no repetition until every picture of the class was used
        # the drawn references are repeated in the same order
        expected = [drawn[i % number] for i in range(len(pairing))]
        assert pairing.references.tolist() == expected


def test_pairings_depend_on_the_seed_and_fewer_sources_keep_their_references():
    whole, again, other = class_pairings(CLASSES, 1), class_pairings(CLASSES, 1), class_pairings(CLASSES, 2)
    part = class_pairings(CLASSES, 1, most_sources=5)
    assert all((whole[k].sources == again[k].sources).all() for k in whole)
    assert any((whole[k].sources != other[k].sources).any() for k in whole)
    for k in whole:
        assert part[k].sources.tolist() == whole[k].sources[:5].tolist()
        assert part[k].references.tolist() == whole[k].references[:5].tolist()


def test_a_single_class_has_no_sources():
    assert class_pairings(np.array([0, 0, -1])) == {}


@pytest.mark.parametrize(("number", "pairs"), [(7, 20), (50, 20), (2, 5)])
def test_random_pairs_have_two_different_pictures(number, pairs):
    pairing = random_pairing(number, pairs)
    assert len(pairing) == pairs
    assert (pairing.sources != pairing.references).all()
    assert len(set(pairing.sources[:number])) == min(number, pairs)
    assert max(pairing.references) < number


@torch.no_grad()
def test_translations_equal_those_made_one_by_one():
    model = tiny_model()
    images = np.stack([noise(seed) for seed in range(70)])
    pairing = random_pairing(70, 70)
    _, styles = probabilities_and_styles(model, images)
    parts = list(translated(model, images, pairing, styles, cycle=True))
    pictures = np.concatenate([part.pictures for part in parts])
    assert pictures.shape == (70, SIZE, SIZE, 3)
    for i in (0, 63, 64, 69):
        source, reference = to_input(images[pairing.sources[i]]), to_input(images[pairing.references[i]])
        expected = to_uint8(model.generator(source, model.guide(reference).style))[0].numpy()
        assert np.abs(pictures[i].astype(int) - expected).max() <= 1
        back = model.generator(to_input(pictures[i]), model.guide(source).style)
        error = float((back - source).abs().mean()) * 127.5
        assert np.concatenate([part.cycle_error for part in parts])[i] == pytest.approx(error, abs=1e-3)
        guidance = model.guide(to_input(pictures[i]))
        assert np.concatenate([part.domains for part in parts])[i] == int(guidance.logits.argmax())
        torch.testing.assert_close(torch.cat([part.styles for part in parts])[i], guidance.style[0])


def test_a_single_picture_pairs_with_itself_only_if_there_is_no_other():
    assert len(Pairing(np.array([0]), np.array([0]))) == 1
    assert random_pairing(1, 3).references.tolist() == [0, 0, 0]
