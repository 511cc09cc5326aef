"""Grids, galleries and matrices, for which every pixel is known."""

import numpy as np
import pytest
from PIL import Image

from tunit.data.galleries import (
    CAPTION,
    captioned,
    enlarged,
    enlargement,
    gallery,
    grid,
    matrix,
    stack,
)
from tunit.errors import ConfigError, DataError

WHITE = (255, 255, 255)


def flat(colour, width=4, height=4):
    return Image.new("RGB", (width, height), colour)


def coloured(number):
    return [flat((10 * i + 10, i, 0)) for i in range(number)]


def test_a_grid_runs_row_by_row_with_gaps():
    result = np.asarray(grid(coloured(5), 3, gap=1))
    assert result.shape == (2 * 5 - 1, 3 * 5 - 1, 3)
    for index in range(5):
        row, column = divmod(index, 3)
        cell = result[5 * row : 5 * row + 4, 5 * column : 5 * column + 4]
        assert (cell == (10 * index + 10, index, 0)).all()
    assert (result[4] == WHITE).all()
    assert (result[:, 4] == WHITE).all()
    assert (result[5:, 10:] == WHITE).all()  # the sixth cell


def test_a_grid_is_as_wide_as_its_pictures_and_centres_smaller_ones():
    assert grid(coloured(2), 9, gap=0).size == (8, 4)
    result = np.asarray(grid([flat("red", 6, 2), flat("blue", 2, 6)], 2, gap=0))
    assert result.shape == (6, 12, 3)
    assert (result[2:4, :6] == (255, 0, 0)).all()
    assert (result[:, 8:10] == (0, 0, 255)).all()
    assert (result[:2, :6] == WHITE).all()


def test_small_pictures_are_enlarged_pixel_by_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = pixels.repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(np.asarray(enlarged(Image.fromarray(pixels), 3)), expected)
    assert np.array_equal(np.asarray(grid([Image.fromarray(pixels)], 1, enlarge=3)), expected)
    assert [enlargement(side) for side in (32, 64, 65, 128, 512)] == [4, 2, 1, 1, 1]


def test_large_pictures_are_enlarged_smoothly():
    board = np.zeros((70, 70, 3), np.uint8)
    board[:, 35:] = 200
    assert len(np.unique(np.asarray(enlarged(Image.fromarray(board), 2)))) > 2


def test_a_matrix_has_references_on_top_and_sources_at_the_left():
    sources, references = [flat((i, 0, 0)) for i in (1, 2)], [flat((0, j, 0)) for j in (1, 2, 3)]
    results = [[flat((i, j, 7)) for j in (1, 2, 3)] for i in (1, 2)]
    table = np.asarray(matrix(sources, references, results, gap=0)).reshape(3, 4, 4, 4, 3)
    assert (table == table[:, :1, :, :1]).all()  # every cell has one colour
    colours = table[:, 0, :, 0].tolist()
    assert colours[0] == [list(WHITE), [0, 1, 0], [0, 2, 0], [0, 3, 0]]
    assert colours[1] == [[1, 0, 0], [1, 1, 7], [1, 2, 7], [1, 3, 7]]
    assert colours[2] == [[2, 0, 0], [2, 1, 7], [2, 2, 7], [2, 3, 7]]


def test_a_gallery_says_its_domain_above_the_pictures():
    images = [flat((0, 200, 0), 30, 30) for _ in range(8)]
    result = gallery(images, 3, 1204, columns=4)
    body = grid(images, 4)
    assert result.size == (max(result.width, body.width), body.height + CAPTION)
    strip = np.asarray(result)[:CAPTION]
    assert (strip < 128).any()  # text pixels
    shown = np.asarray(result)[CAPTION:, : body.width]
    assert np.array_equal(shown, np.asarray(body))
    others = [gallery(images, 4, 1204, columns=4), gallery(images, 3, 1205, columns=4)]
    assert all(np.asarray(other)[:CAPTION].tobytes() != strip.tobytes() for other in others)


def test_a_caption_widens_a_narrow_picture():
    result = captioned(flat("red"), "a long line of text")
    assert result.width > 60
    assert (np.asarray(result)[CAPTION:, 4:] == WHITE).all()


def test_a_stack_is_left_aligned():
    result = np.asarray(stack([flat("red", 2, 2), flat("blue", 4, 1)], gap=1))
    assert result.shape == (4, 4, 3)
    assert (result[:2, :2] == (255, 0, 0)).all()
    assert (result[:2, 2:] == WHITE).all()
    assert (result[3] == (0, 0, 255)).all()


def test_pictures_that_cannot_be_drawn_are_refused():
    with pytest.raises(DataError, match="a grid needs pictures"):
        grid([], 3)
    with pytest.raises(ConfigError, match="0 columns"):
        grid(coloured(1), 0)
    with pytest.raises(ConfigError, match="enlarge is 0"):
        grid(coloured(1), 1, enlarge=0)
    with pytest.raises(DataError, match="2 sources and 1 references"):
        matrix(coloured(2), coloured(1), [coloured(1)])
    with pytest.raises(DataError, match="a stack needs pictures"):
        stack([])
