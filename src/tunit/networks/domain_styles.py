"""The average style code of each domain, as in the paper's figure 4."""

from collections.abc import Iterable

import torch
from torch import Tensor

from tunit.networks.guide import Guide


@torch.inference_mode()
def average_styles(guide: Guide, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean style code of the pictures that E assigns to each domain, and how many those are.

    guide: in evaluation mode. batches: pictures (B, 3, S, S) in [-1, 1]. Returns styles (domains, style width),
    zeros where a domain is empty, and sizes (domains,) int64.
    """
    domains, width = guide.domain_head.out_features, guide.style_head.out_features
    device = guide.style_head.weight.device
    totals = torch.zeros(domains, width, dtype=torch.float64, device=device)
    sizes = torch.zeros(domains, dtype=torch.int64, device=device)
    for x in batches:
        guidance = guide(x)
        y = guidance.logits.argmax(1)
        totals.index_add_(0, y, guidance.style.double())
        sizes += torch.bincount(y, minlength=domains)
    return (totals / sizes.clamp_min(1)[:, None]).float(), sizes.cpu()
