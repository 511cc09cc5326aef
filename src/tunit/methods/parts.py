"""Splitting a batch into parts, for several processes or for micro-batches, and passing gradients between the parts.

A training step is defined on the whole batch of B pictures. It can be split in two ways:

- Several processes share the batch, b pictures each (`distributed/`). E's outputs are gathered, so every process has
  the domains and styles of the whole batch, but only the pictures of its own part.
- G and D may take `micro_batch` pictures at a time and add up the gradients. The result is the same, and less memory
  is needed. E always sees the whole batch, because mutual information and batch norm are not means over pictures.

With one process and no micro-batches, the whole batch is the only part, and nothing is computed twice.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tunit.config import LossConfig
from tunit.distributed.collectives import all_gather, all_reduce, rows_of_rank, world_size
from tunit.methods.losses import Terms, without_autocast
from tunit.networks.generator import StyledGenerator
from tunit.networks.guide import Guidance, GuidingNetwork


def guidance_of(guide: GuidingNetwork, x: Tensor) -> Guidance:
    """E's output for the whole batch, gathered from all ranks. x: this rank's pictures (b, 3, S, S)."""
    logits, style, over, candidates = guide(x)
    return Guidance(
        all_gather(logits),
        all_gather(style),
        None if over is None else all_gather(over),
        None if candidates is None else all_gather(candidates.transpose(0, 1)).transpose(0, 1),
    )


def styles_of(guide: GuidingNetwork, x: Tensor) -> Tensor:
    """The style codes of the whole batch (B, style width), from this process's pictures x (b, 3, S, S)."""
    styles: Tensor = all_gather(guide(x).style)
    return styles


def guidance_with_summed_style_gradients(guide: GuidingNetwork, x: Tensor) -> Guidance:
    """E's logits and styles for the whole batch; the gradients of the styles are summed over processes.

    Use it in steps in which the losses on the styles differ between processes, while those on the logits are the same
    in every process.
    """
    guidance = guide(x)
    return Guidance(all_gather(guidance.logits), all_gather(guidance.style, same_loss=False))


@torch.no_grad()
def keys_of(guide_average: GuidingNetwork, x: Tensor) -> Tensor:
    """The keys of the whole batch (B, style width): styles by E's EMA, without gradients."""
    return styles_of(guide_average, x)


class PartOfBatch:
    """Some pictures x of a batch, the domains and styles of them and of their references x~, and what G makes of
    them.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        s: Tensor,
        permutation: Tensor,
        first: int | None = None,
    ) -> None:
        """x: (b, 3, S, S). first: the batch's row of x[0]; None: this process's first row. y: (B,), s: (B, width) and
        permutation: (B,) are of the whole batch.
        """
        first = rows_of_rank(len(y)).start if first is None else first
        self.rows = rows = slice(first, first + len(x))
        self.references = permutation[rows]  # (b,): the rows of the references
        self.share = len(x) / len(y)  # the share of the batch that is in this part
        self.x, self.y, self.s = x, y[rows], s[rows]
        self.y_ref, self.s_ref = y[self.references], s[self.references]
        self.x_out = x  # a placeholder until `redraw`

    def redraw(self, generator: StyledGenerator) -> Tensor:
        """Let G redraw x in the styles of the references and in its own, in one pass. Returns the content codes."""
        c = generator.encode(self.x)
        self.x_out = generator.decode(torch.cat([c, c]), torch.cat([self.s_ref, self.s]))  # (2 b, 3, S, S)
        return c

    def redraw_back(self, generator: StyledGenerator, x_fake: Tensor) -> Tensor:
        """G(x_fake, s): translations of x, redrawn in the style of their sources (b, 3, S, S)."""
        x_back: Tensor = generator(x_fake, self.s)
        return x_back.to(self.x.dtype)

    @property
    def x_fake(self) -> Tensor:
        """G(x, s~): (b, 3, S, S)."""
        return self.x_out[: len(self.x)]

    @property
    def x_rec(self) -> Tensor:
        """G(x, s): (b, 3, S, S)."""
        return self.x_out[len(self.x) :].to(self.x.dtype)


class Translations:
    """The pictures of a batch, redrawn by G part by part, and their backward passes through G and into E.

    G works on parts, but E works on the whole batch. G reads E's styles, and E reads G's translations. Both tensors
    are detached, and their gradients are passed on by hand:

    - Styles, from E to G: `backward_part` adds up their gradient over the parts, and at the end
      `backward_into_guide` backpropagates this sum into E.
    - Translations, from G to E, which encodes them all at once: the backward pass of equation 4 leaves a gradient at
      them, and `backward_part` backpropagates it into G, for each part.
    """

    def __init__(
        self,
        generator: StyledGenerator,
        x: Tensor,
        y: Tensor,
        style: Tensor,
        permutation: Tensor,
        micro_batch: int = 0,
    ) -> None:
        """x: (b, 3, S, S), this process's pictures. y: (B,), style: (B, width), permutation: (B,), of the whole
        batch.

        micro_batch: the size of a part (the last one may be smaller); 0 makes a single part.
        """
        self._generator, self._style = generator, style
        self._s = style.detach().requires_grad_()
        size, first = micro_batch or len(x), rows_of_rank(len(y)).start
        self.parts = [
            PartOfBatch(some, y, self._s, permutation, first + i * size)
            for i, some in enumerate(torch.split(x, size))
        ]
        # A single part keeps its graph for G's losses. Several parts would need too much memory; G draws them again,
        # one by one, in `differentiable_parts`.
        with torch.set_grad_enabled(len(self.parts) == 1):
            for part in self.parts:
                part.redraw(generator)
        self._x_fake: Tensor | None = None

    def detached(self) -> Tensor:
        """All translations of this process (b, 3, S, S), for E to encode in one pass."""
        x_fake = torch.cat([part.x_fake for part in self.parts]).detach().requires_grad_()
        self._x_fake = x_fake
        return x_fake

    def differentiable_parts(self) -> Iterator[PartOfBatch]:
        """Each part, drawn with a graph, so that gradients reach G and the styles."""
        for part in self.parts:
            if len(self.parts) > 1:
                part.redraw(self._generator)
            yield part

    def backward_part(
        self, part: PartOfBatch, adversarial: Tensor, reconstruction: Tensor, weights: LossConfig
    ) -> None:
        """Backpropagate a part's losses, and the gradient that E left at its translations, into G and the styles.

        adversarial: the mean over the part, not yet weighted; with `adversarial_trains` = "generator" its gradient
        reaches only G. reconstruction: the mean over the part, weighted, with the back-translation's.
        """
        assert self._x_fake is not None and self._x_fake.grad is not None
        sizes = [len(other.x) for other in self.parts]
        left_by_guide = torch.split(self._x_fake.grad, sizes)[self.parts.index(part)]
        adversarial = part.share * weights.adversarial_weight * adversarial
        others = part.share * reconstruction
        with without_autocast(part.x):
            if weights.adversarial_trains == "generator":
                own = list(self._generator.parameters())
                adversarial.backward(inputs=own, retain_graph=True)
            else:
                others = adversarial + others
            (others + _surrogate_loss(part.x_fake, left_by_guide)).backward()

    def backward_into_guide(self) -> None:
        """Backpropagate the gradient of the style codes into E."""
        assert self._s.grad is not None
        with without_autocast(self._s):
            # The references of one process are pictures of the others, too.
            gradient = all_reduce(self._s.grad)
            _surrogate_loss(self._style, gradient).backward()


def _surrogate_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose gradient with respect to x is `gradient`.

    `x.backward(gradient)` would import SymPy in every process, which takes a second.
    """
    return (x * gradient.to(x.dtype)).sum()


class Means:
    """Computes the mean losses of a batch, by name, from those of its parts."""

    def __init__(self) -> None:
        self._terms: Terms = {}

    def add(self, terms: Terms, share: float) -> None:
        """Add the mean losses of a part. share: the share of the batch that is in the part."""
        for name, value in terms.items():
            before = self._terms.get(name)
            self._terms[name] = share * value if before is None else before + share * value

    def of_batch(self) -> Terms:
        """The losses of the whole batch, over all processes."""
        if world_size() == 1 or not self._terms:
            return self._terms
        total = all_reduce(torch.stack(list(self._terms.values())))
        return dict(zip(self._terms, total.unbind(), strict=True))
