"""Which pictures are translated into which styles: the paper's protocol of mFID and per-class D&C.

References:
    [1] TUNIT section 4.1 and appendix 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tunit.clustering.cues import Integers, Pictures
from tunit.data.batching.augment import to_float
from tunit.machine import without_tf32
from tunit.methods.inference import BATCH, guidance_over, in_batches, pictures_at_a_time, redraw
from tunit.methods.model_file import Model


@dataclass(frozen=True)
class Pairing:
    """Row numbers of pictures: source i is translated in the style of reference i."""

    sources: Integers
    references: Integers

    def __len__(self) -> int:
        return len(self.sources)


def class_pairings(classes: Integers, seed: int = 0, most_sources: int = 0) -> dict[int, Pairing]:
    """For each class, the translations into it [1]: sources are all pictures of other classes, references are of this
    class.

    (Smallest + largest class size) / 2 references are drawn from each class, without repetition if it is large
    enough. The sources, in random order, use them in turn, so the references do not depend on the number of sources.

    classes: (N,) integers from 0, of held-back pictures; those with -1 are not used. most_sources: use only this
    many random sources; 0 uses all, as the paper does.
    """
    members = {int(k): np.flatnonzero(classes == k) for k in np.unique(classes[classes >= 0])}
    if len(members) < 2:
        return {}
    sizes = [len(rows) for rows in members.values()]
    number = max(1, (min(sizes) + max(sizes)) // 2)
    pairings = {}
    for k, rows in members.items():
        rng = np.random.default_rng((seed, k))
        drawn = np.concatenate([rng.permutation(rows) for _ in range(-(-number // len(rows)))])[:number]
        sources = rng.permutation(np.flatnonzero((classes >= 0) & (classes != k)))
        sources = sources[: most_sources or None]
        pairings[k] = Pairing(sources, np.resize(drawn, len(sources)))
    return pairings


def random_pairing(number: int, pairs: int, seed: int = 0) -> Pairing:
    """`pairs` random pairs of different pictures among `number`.

    Every picture is a source once before any picture is a source for the second time, and so on.
    """
    rng = np.random.default_rng(seed)
    sources = np.concatenate([rng.permutation(number) for _ in range(-(-pairs // number))])[:pairs]
    return Pairing(sources, (sources + rng.integers(1, max(number, 2), len(sources))) % number)


@dataclass(frozen=True)
class Translated:
    """A batch of translations, and E's output for them."""

    rows: slice  # of the pairing
    pictures: Pictures  # (B, S, S, 3)
    domains: Integers  # (B,): E's domains of the translations
    styles: torch.Tensor  # (B, style width): E's style codes of the translations
    # (B,): the error, in grey levels, after translating back to the source's own style; empty without `cycle`.
    cycle_error: NDArray[np.float64]


def translated(
    model: Model, images: Pictures, pairing: Pairing, styles: torch.Tensor, *, cycle: bool = False
) -> Iterator[Translated]:
    """Translate the pairs in batches.

    images: (N, S, S, 3), the pictures that the pairing's rows refer to. styles: (N, style width), their style codes.
    cycle: also translate back into the sources' own style.
    """
    size = pictures_at_a_time(BATCH, images.shape[1])
    for i in range(0, len(pairing), size):
        sources, references = pairing.sources[i : i + size], pairing.references[i : i + size]
        with without_tf32(), torch.inference_mode():
            (x,) = in_batches(images[sources], model.domain_styles.device)
            (out,) = redraw(model.generator, x, [styles[references]])
            rounded = to_float(out)  # rounded to bytes, as a saved picture would be
            guidance = model.guide(rounded)
            errors = np.zeros(0)
            if cycle:
                back = model.generator(rounded, styles[sources].to(x.device))
                errors = ((back - x).abs().mean((1, 2, 3)) * 127.5).cpu().double().numpy()
        yield Translated(
            slice(i, i + len(sources)),
            out.cpu().numpy(),
            guidance.logits.argmax(1).cpu().numpy(),
            guidance.style.float().cpu(),
            errors,
        )


def probabilities_and_styles(model: Model, images: Pictures) -> tuple[torch.Tensor, torch.Tensor]:
    """Domain probabilities (N, domains) and style codes (N, style width) of pictures (N, S, S, 3), on the CPU."""
    guidance = guidance_over(model.guide, in_batches(images, model.domain_styles.device))
    return guidance.logits.softmax(1), guidance.style
