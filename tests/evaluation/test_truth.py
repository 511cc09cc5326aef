import numpy as np
import pytest
import torch

from tiny_model import tiny_model
from tunit.data.batching.augment import to_float
from tunit.data.creatures.picture_set import draw, exact_translation, read_creatures, write_creatures
from tunit.evaluation.truth import make_truth_test, masked_error, translation_error, truth_test_beside


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
    for i, (source, reference) in enumerate(test.pairs):
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


def used(source):
    """The creatures of the exact truth beside a source."""
    return {creature for pair in truth_test_beside(source, 32).pairs for creature in pair}


def test_only_creatures_of_the_evaluated_pictures_are_compared(tmp_path):
    creatures = read_creatures(write_creatures(tmp_path / "all", 12, 32, seed=3))
    pictures, held = tmp_path / "all" / "pictures", tmp_path / "all" / "held"
    assert len(used(tmp_path / "all")) > 6 and len(used(tmp_path / "all" / "factors.csv")) > 6
    (held / "deep").mkdir(parents=True)
    table = tmp_path / "all" / "factors.csv"
    text = table.read_text()
    for number in (2, 5, 11):
        name = f"{number:05d}.png"
        (pictures / name).rename(held / "deep" / name)
        text = text.replace(f"pictures/{name}", f"held/deep/{name}")
    table.write_text(text)
    assert used(held) <= {creatures[i - 1] for i in (2, 5, 11)}
    assert used(pictures).isdisjoint(used(held))
    (tmp_path / "all" / "list.txt").write_text("held/deep/00002.png\npictures/00001.png\n")
    assert used(tmp_path / "all" / "list.txt") == {creatures[0], creatures[1]}


@pytest.mark.parametrize("text", ["factor,weight\nage,2\n", "", "\0\xff", '"'])
def test_a_table_of_other_factors_is_ignored(tmp_path, text):
    write_creatures(tmp_path / "all", 4, 32, seed=3)
    (tmp_path / "all" / "pictures" / "factors.csv").write_text(text)
    assert used(tmp_path / "all" / "pictures")  # the table in the parent is used
    (tmp_path / "all" / "factors.csv").write_text(text)
    assert truth_test_beside(tmp_path / "all" / "pictures", 32) is None


def test_creatures_without_a_table_of_their_pictures_are_not_compared(tmp_path):
    write_creatures(tmp_path / "all", 4, 32, seed=3)
    (tmp_path / "all" / "other").mkdir()
    (tmp_path / "all" / "pictures" / "00001.png").rename(tmp_path / "all" / "other" / "renamed.png")
    assert truth_test_beside(tmp_path / "all" / "other", 32) is None
