import numpy as np
import pytest
import torch

from tiny_model import tiny_model
from tunit.data.batching.augment import to_float
from tunit.data.creatures.picture_set import draw, exact_translation
from tunit.evaluation.truth import make_truth_test, masked_error, translation_error


def test_masked_error_against_a_loop():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 4, 4, 3), dtype=np.uint8)
    masks = rng.random((3, 4, 4)) < 0.5
    means = [
        np.mean([abs(int(p) - int(q)) for p, q in zip(x[m].ravel(), y[m].ravel(), strict=True)])
        for x, y, m in zip(a, b, masks, strict=True)
    ]
    assert masked_error(a, b, masks) == pytest.approx(np.mean(means))


def test_the_true_translation_has_error_0_and_simple_answers_ratio_1(monkeypatch):
    test = make_truth_test(4, 32, 7)
    for i, (source, reference) in enumerate(test.creatures):
        picture, mask = draw(exact_translation(source, reference), 32)
        assert (test.truths[i] == picture).all()
        assert (test.masks[i] == mask).all()

    model = tiny_model()
    for answers, ratio in ((test.truths, 0.0), (None, 1.0)):

        def answer(x, s, answers=answers):
            return x if answers is None else to_float(torch.from_numpy(answers))

        monkeypatch.setattr(model.generator, "encode", lambda x: x)
        monkeypatch.setattr(model.generator, "decode", answer)
        result = translation_error(model, test)
        if answers is None:  # returns the source unchanged
            assert result.translation == result.source
            assert result.source / min(result.source, result.reference) == pytest.approx(result.ratio)
        else:
            assert result.ratio == ratio
