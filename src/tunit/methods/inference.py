"""E and G on many pictures: the loops that inference, evaluation, samples and reports share."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tunit.config import AugmentConfig
from tunit.data.batching.augment import random_view, to_float, to_uint8
from tunit.machine import uncompiled, without_tf32
from tunit.networks.batch_norm import take_statistics
from tunit.networks.guide import Guidance, Guide, GuidingNetwork

BATCH = 64  # pictures of up to LARGE px through a network at a time
# Side in pixels. Of larger pictures, fewer go through at a time: together they have no more pixels than a full batch
# of pictures of this side.
LARGE = 128
STATISTICS_OF = 2_048  # statistics of whole pictures are taken over at most this many
STATISTICS_BATCH = 256
# To find domains, E's output is averaged over this many random views of each picture. E has learnt from such views,
# which may show much less than the whole picture, and a mean varies less than a single output.
VIEWS = 16


class Redrawing(Protocol):
    """What translating needs of G."""

    def encode(self, x: Tensor, /) -> Tensor:
        """Content codes of x (B, 3, S, S)."""

    def decode(self, c: Tensor, s: Tensor, /) -> Tensor:
        """The pictures (B, 3, S, S) of content codes and style codes (B, style width)."""


def pictures_at_a_time(most: int, side: int) -> int:
    """How many pictures of `side` px go through a network at a time: `most`, or fewer of more than LARGE px.

    What a network keeps in memory grows with their pixels, and this should not need more than a training step.
    """
    return max(1, most * LARGE**2 // max(side, LARGE) ** 2)


def in_parts(x: Tensor) -> tuple[Tensor, ...]:
    """A batch (B, 3, S, S) in the parts that go through a network one after the other; one part if S <= LARGE."""
    return torch.split(x, pictures_at_a_time(max(len(x), BATCH), x.shape[-1]))


def in_batches(
    images: NDArray[np.uint8], device: torch.device, size: int = BATCH, rows: NDArray[np.int64] | None = None
) -> Iterator[Tensor]:
    """Pictures (N, S, S, 3) as input of the networks: batches (B, 3, S, S) in [-1, 1] on the device, in order.

    rows: indices of the pictures to use. If `images` is a memory-mapped file, only these pictures are read.
    """
    for i in range(0, len(images) if rows is None else len(rows), size):
        some = images[i : i + size] if rows is None else images[rows[i : i + size]]
        yield to_float(torch.from_numpy(np.array(some)).to(device))


def in_fitting_batches(
    images: NDArray[np.uint8], device: torch.device, most: int, rows: NDArray[np.int64] | None = None
) -> Iterator[Tensor]:
    """As `in_batches`, `most` pictures at a time, or fewer of more than LARGE px (`pictures_at_a_time`)."""
    return in_batches(images, device, pictures_at_a_time(most, images.shape[1]), rows)


def evenly_spread(number: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the rows 0 to number - 1, evenly spread from the first to the last."""
    return np.linspace(0, number - 1, min(number, most)).astype(np.int64)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A context in which a network is in evaluation mode; afterwards, the network is in its former mode again."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


@contextmanager
def for_whole_pictures(guide: GuidingNetwork, batches: Iterable[Tensor]) -> Iterator[None]:
    """A context in which E is in evaluation mode, with statistics of whole pictures, and nothing is rounded to TF32;
    afterwards, it is as before.

    In training, running statistics of batch norms also come from random views and translations. If these differ much
    from whole pictures, E gives other domains and styles in evaluation mode than in training. So with
    `whole_statistics` the batch norms get the statistics of whole pictures.
    batches: whole pictures, as `some_whole_pictures` gives them; they are used only with `whole_statistics`.
    """
    kept = [buffer.clone() for buffer in guide.buffers()]
    try:
        use_statistics_of_whole_pictures(guide, batches)
        with evaluating(guide), uncompiled(), without_tf32():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(guide.buffers(), kept, strict=True):
                buffer.copy_(before)


@without_tf32()
def use_statistics_of_whole_pictures(guide: GuidingNetwork, batches: Iterable[Tensor]) -> None:
    """With `whole_statistics`, give E's batch norms the statistics of these whole pictures, for good: for a copy of E
    that will not be trained. E's mode stays as it is.
    """
    if isinstance(guide, Guide) and guide.whole_statistics:
        take_statistics(guide, batches)


def some_whole_pictures(images: NDArray[np.uint8], device: torch.device) -> Iterator[Tensor]:
    """At most STATISTICS_OF of the pictures (N, S, S, 3), evenly spread, in batches whose sizes differ little."""
    rows = evenly_spread(len(images), STATISTICS_OF)
    most = pictures_at_a_time(STATISTICS_BATCH, images.shape[1])
    parts = -(-len(rows) // most)
    return in_batches(images, device, max(1, -(-len(rows) // max(parts, 1))), rows)


@without_tf32()
@torch.inference_mode()
def guidance_over(guide: Callable[[Tensor], Guidance], batches: Iterable[Tensor]) -> Guidance:
    """E's logits (N, domains) and styles (N, style width) for all pictures, on the CPU.

    The caller must have put E into evaluation mode; otherwise a picture's output depends on the rest of its batch.
    """
    parts = [guide(part) for x in batches for part in in_parts(x)]
    return Guidance(
        torch.cat([part.logits for part in parts]).float().cpu(),
        torch.cat([part.style for part in parts]).float().cpu(),
    )


@without_tf32()
@torch.inference_mode()
def averaged_over_views(
    guide: Guide, batches: Iterable[Tensor], settings: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """E's output for N pictures, averaged over VIEWS random views of each, in evaluation mode, float32 on the CPU.

    batches: of pictures (B, 3, S, S) in [-1, 1]. settings, generator: for the views, as in training. Returns features
    (N, features); style codes (N, style width), each normalised before and after averaging; and the probabilities
    (1 + candidates, N, domains) of all domain heads.
    """
    heads = (guide.domain_head, *guide.candidate_heads)
    found: list[tuple[Tensor, ...]] = []
    with evaluating(guide), uncompiled():
        for x in batches:
            features = [
                guide.trunk_features(random_view(x, settings, generator, side=guide.image_size)).float()
                for _ in range(VIEWS)
            ]
            codes = [F.normalize(guide.style_head(some), dim=1) for some in features]
            probabilities = [torch.stack([head(some).softmax(1) for head in heads]) for some in features]
            found.append(tuple(torch.stack(each).mean(0).cpu() for each in (features, codes, probabilities)))
    features_of_all, codes_of_all, probabilities_of_all = (
        torch.cat(parts, dim=-2) for parts in zip(*found, strict=True)
    )
    return features_of_all, F.normalize(codes_of_all, dim=1), probabilities_of_all


@without_tf32()
@torch.inference_mode()
def contents_over(encode: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
    """The content codes of all pictures by G's encoder: (N, channels, h, h) float32, on the CPU."""
    return torch.cat([encode(part).float().cpu() for x in batches for part in in_parts(x)])


@without_tf32()
@torch.inference_mode()
def redraw(generator: Redrawing, x: Tensor, styles: Iterable[Tensor]) -> list[Tensor]:
    """x redrawn in each of M styles: M tensors (B, S, S, 3), uint8 on the device. The content is encoded once.

    x: (B, 3, S, S) in [-1, 1]. styles: each either one code (style width,) for all of x, or a code for each picture,
    (B, style width).
    """
    return [to_uint8(drawn) for drawn in restyled(generator, x, styles)]


def restyled(generator: Redrawing, x: Tensor, styles: Iterable[Tensor]) -> Iterator[Tensor]:
    """An iterator over the M results of `redraw`, before they are rounded to bytes: each (B, 3, S, S) in [-1, 1]."""
    contents = [generator.encode(part) for part in in_parts(x)]
    for style in styles:
        codes = torch.split(style.to(x.device).expand(len(x), -1), len(contents[0]))
        yield torch.cat([generator.decode(c, s) for c, s in zip(contents, codes, strict=True)])


def decoded(
    decode: Callable[[Tensor, Tensor], Tensor], content: Tensor, codes: Tensor, together: int
) -> Iterator[Tensor]:
    """Content codes (B, C, h, h) decoded with each of M sets of style codes (M, B, style width): tensors
    (B, S, S, 3), uint8.

    together: about how many pictures go through the decoder at a time.
    """
    for some in torch.split(codes, max(1, together // len(content))):
        drawn = to_uint8(decode(torch.cat([content] * len(some)), some.flatten(0, 1)))
        yield from torch.split(drawn, len(content))
