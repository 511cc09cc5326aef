"""The loops over many pictures, compared with one picture at a time."""

import copy

import numpy as np
import pytest
import torch

from tiny_model import tiny_model
from tunit.data.batching.augment import to_float, to_uint8
from tunit.methods import inference
from tunit.methods.inference import (
    contents_over,
    for_whole_pictures,
    guidance_over,
    in_batches,
    pictures_at_a_time,
    redraw,
    some_whole_pictures,
    use_statistics_of_whole_pictures,
)
from tunit.networks.guide import Guidance, Guide

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def images(model):
    size = model.image_size
    return np.random.default_rng(0).integers(0, 256, (5, size, size, 3), dtype=np.uint8)


def test_batches_contain_all_pictures_in_order(images):
    batches = list(in_batches(images, CPU, 2))
    assert [len(x) for x in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), to_float(torch.from_numpy(images)))
    rows = np.array([4, 0, 3])
    assert torch.equal(
        torch.cat(list(in_batches(images, CPU, 2, rows))), to_float(torch.from_numpy(images[rows]))
    )


@pytest.mark.parametrize(("large", "sizes"), [(32, [2, 2, 1]), (16, [1] * 5)])
def test_fitting_batches_have_fewer_pictures_if_these_are_large(images, monkeypatch, large, sizes):
    monkeypatch.setattr(inference, "LARGE", large)
    batches = list(inference.in_fitting_batches(images, CPU, 2))
    assert [len(x) for x in batches] == sizes
    assert torch.equal(torch.cat(batches), to_float(torch.from_numpy(images)))


def test_guidance_in_batches_equals_that_of_each_picture(model, images):
    found = guidance_over(model.guide, in_batches(images, CPU, 2))
    with torch.inference_mode():
        alone = [model.guide(x[None]) for x in to_float(torch.from_numpy(images))]
    torch.testing.assert_close(found.logits, torch.cat([g.logits for g in alone]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.style, torch.cat([g.style for g in alone]), rtol=1e-4, atol=1e-5)


def test_every_picture_is_encoded_once_and_drawn_in_every_style(model, images):
    (x,) = in_batches(images, CPU)
    codes = torch.randn(3, model.settings.style_width, generator=torch.Generator().manual_seed(1))
    calls = []

    class Counted:
        def encode(self, x):
            calls.append(len(x))
            return model.generator.encode(x)

        decode = staticmethod(model.generator.decode)

    drawn = redraw(Counted(), x, codes)
    assert calls == [5]
    with torch.inference_mode():
        for code, column in zip(codes, drawn, strict=True):
            for row, picture in zip(x, column, strict=True):
                expected = to_uint8(model.generator(row[None], code[None]))[0]
                assert (picture.int() - expected.int()).abs().max() <= 1


def test_each_picture_may_have_its_own_style(model, images):
    (x,) = in_batches(images, CPU)
    codes = torch.randn(5, model.settings.style_width, generator=torch.Generator().manual_seed(1))
    (drawn,) = redraw(model.generator, x, [codes])
    (of_fourth,) = redraw(model.generator, x[3:4], [codes[3]])
    assert (drawn[3].int() - of_fourth[0].int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("side", "expected"), [(32, 256), (128, 256), (256, 64), (512, 16), (1024, 4), (4096, 1)]
)
def test_fewer_pictures_go_through_a_network_at_a_time_if_they_are_large(side, expected):
    assert pictures_at_a_time(256, side) == expected


@pytest.mark.parametrize(("side", "parts"), [(128, [9]), (512, [4, 4, 1])])
def test_a_batch_of_large_pictures_goes_through_the_networks_in_parts(side, parts):
    """Nine pictures of 512 px are as large as 144 of 128 px, and more than 64 of those is too much."""
    x = torch.randn(9, 3, side, side, generator=torch.Generator().manual_seed(0))
    codes, seen = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(1)), []

    class Noted:
        """Networks so simple that the result is known."""

        def encode(self, x):
            seen.append(len(x))
            return x[:, :, :2, :2]

        def decode(self, c, s):
            seen.append(len(c))
            return c * s[:, :, None, None]

    def guide(x):
        seen.append(len(x))
        return Guidance(x[:, 0, 0, :2], x[:, :, 0, 0])

    said = guidance_over(guide, [x])
    assert torch.equal(said.style, x[:, :, 0, 0])
    assert torch.equal(said.logits, x[:, 0, 0, :2])
    assert torch.equal(contents_over(Noted().encode, [x]), x[:, :, :2, :2])
    drawn = redraw(Noted(), x, [codes[0], codes[1, 0]])
    assert torch.equal(drawn[0], to_uint8(x[:, :, :2, :2] * codes[0, :, :, None, None]))
    assert torch.equal(drawn[1], to_uint8(x[:, :, :2, :2] * codes[1, 0, :, None, None]))
    assert seen == parts * 5


def guide_after_training_on(pictures, **given):
    """E whose running statistics are those of other pictures: very dark ones."""
    torch.manual_seed(0)
    guide = Guide(4, width=4, **given).train()
    guide(pictures * 0.1 - 0.9)
    return guide


def test_e_suits_whole_pictures_only_within_the_context():
    pictures = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    guide = guide_after_training_on(pictures, whole_statistics=True)
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    as_in_training = copy.deepcopy(guide)(pictures)
    with torch.no_grad():
        with for_whole_pictures(guide, [pictures]):
            assert not guide.training
            inside = guide(pictures)
        outside = guide.eval()(pictures)
    for name in ("logits", "style"):
        found, expected = getattr(inside, name), getattr(as_in_training, name)
        # The variance of evaluation mode is the unbiased one: 64 / 63 in the last layers.
        assert (found - expected).norm() < 0.03 * expected.norm()
        assert (getattr(outside, name) - expected).norm() > 0.3 * expected.norm()
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())


def test_e_suits_pictures_so_large_that_each_is_a_batch(monkeypatch):
    monkeypatch.setattr(inference, "LARGE", 2)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    pictures = to_float(torch.from_numpy(images))
    guide = guide_after_training_on(pictures, whole_statistics=True)
    assert [len(x) for x in some_whole_pictures(images, CPU)] == [1] * 6
    expected = copy.deepcopy(guide)
    use_statistics_of_whole_pictures(expected, torch.split(pictures, 2))
    use_statistics_of_whole_pictures(guide, some_whole_pictures(images, CPU))
    assert all(torch.equal(a, b) for a, b in zip(guide.buffers(), expected.buffers(), strict=True))


def test_e_is_as_before_if_memory_runs_out_while_statistics_are_taken():
    """An evaluation that fails for lack of memory is reported, and training goes on."""
    guide = guide_after_training_on(torch.zeros(4, 3, 32, 32), whole_statistics=True)
    before = {name: value.clone() for name, value in guide.state_dict().items()}

    def batches():
        yield torch.ones(4, 3, 32, 32)
        raise MemoryError

    with pytest.raises(MemoryError), for_whole_pictures(guide, batches()):
        pass
    assert guide.training
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())


def test_by_default_e_keeps_its_running_statistics():
    """As in the paper; the pictures are not even read."""
    guide = guide_after_training_on(torch.zeros(4, 3, 32, 32))
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    unread = iter([torch.ones(4, 3, 32, 32)])
    with for_whole_pictures(guide, unread):
        assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    use_statistics_of_whole_pictures(guide, unread)
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    assert len(list(unread)) == 1


@pytest.mark.parametrize(
    "number, sizes", [(1, [1]), (256, [256]), (257, [129, 128]), (5000, [256] * 8), (514, [172, 172, 170])]
)
def test_statistics_come_from_batches_of_nearly_equal_size(number, sizes):
    images = np.zeros((number, 32, 32, 3), np.uint8)
    assert [len(x) for x in some_whole_pictures(images, torch.device("cpu"))] == sizes
