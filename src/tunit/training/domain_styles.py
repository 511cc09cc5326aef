"""The average style code of each domain, as in the paper's figure 4."""

from collections.abc import Iterable

import torch
from torch import Tensor

from tunit.machine import without_tf32
from tunit.networks.guide import GuidingNetwork


@without_tf32()
@torch.inference_mode()
def average_styles(
    guide: GuidingNetwork, batches: Iterable[Tensor], labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean style code of the pictures of each domain, and the number of these pictures.

    A labelled picture belongs to the domain of its label, any other to the domain that E assigns. (So it is in
    training, too, except that SEMIT takes the likeliest class of an unlabelled picture's soft label.)
    guide: in evaluation mode. batches: pictures (B, 3, S, S) in [-1, 1]. labels: (all pictures,) int64, -1 for
    unlabelled ones; None if no picture has a label. Returns styles (domains, style width), which are zero for an
    empty domain, and sizes (domains,) int64.
    """
    domains, width = guide.domains, guide.style_width
    device = next(guide.parameters()).device
    # Summed on the CPU, because not every device has float64.
    totals = torch.zeros(domains, width, dtype=torch.float64)
    sizes = torch.zeros(domains, dtype=torch.int64)
    done = 0
    for x in batches:
        guidance = guide(x)
        y = guidance.logits.argmax(1).cpu()
        if labels is not None:
            known = labels[done : done + len(x)]
            y = torch.where(known >= 0, known, y)
        done += len(x)
        totals.index_add_(0, y, guidance.style.cpu().double())
        sizes += torch.bincount(y, minlength=domains)
    return (totals / sizes.clamp_min(1)[:, None]).float().to(device), sizes
