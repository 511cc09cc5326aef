"""Which number each domain has.

After `--from`, D's last layer has learnt the domains of the other run by number, so new domains take over the numbers
of those that they resemble.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from tunit.clustering.cues import Integers
from tunit.networks.discriminator import Discriminator, DomainDiscriminator


def numbers_by_agreement(groups: Integers, before: Integers, domains: int) -> Integers:
    """(domains,): a number for each group, so that as many pictures as possible keep their domain.

    groups, before: (N,), the group and the former domain of each of N pictures, both from 0 to domains - 1.
    """
    together = np.zeros((domains, domains), np.int64)
    np.add.at(together, (groups, before), 1)
    numbers: Integers = linear_sum_assignment(together, maximize=True)[1]
    return numbers


@torch.no_grad()
def reorder_last_layer(discriminator: DomainDiscriminator, numbers: Integers) -> None:
    """Reorder the last layer of TUNIT's D: row d becomes the former row numbers[d]."""
    assert isinstance(discriminator, Discriminator)
    order = torch.from_numpy(numbers)
    for values in discriminator.head.parameters():
        values.copy_(values[order.to(values.device)].clone())
