"""SwAV's objective: each view of a picture predicts the domain to which a balanced clustering assigns the other view.

Source: Caron et al., Unsupervised learning of visual features by contrasting cluster assignments, NeurIPS 2020.
"""

import torch
from torch import Tensor

from tunit.methods.losses import weighted_mean
from tunit.networks.precision import at_least_float32

# SwAV divides its scores by 0.1 for predictions and by 0.05 for assignments. E's logits take the place of scores that
# are divided by 0.1 already, so the ratio of the two is left.
EPSILON = 0.05 / 0.1
ITERATIONS = 3  # as in SwAV


def swapped_assignments(logits: Tensor, logits_plus: Tensor, weight: Tensor, balance: float = 1.0) -> Tensor:
    """Minus SwAV's equation 1: the cross-entropies of both views with the assignments of the other view, in nats.

    logits, logits_plus: (B, K); weight: (B,), that of each picture, at least 0; 0 leaves a picture out. Assignments
    have no gradient. The value is at most 0, and E maximises it. balance: not read, because assignments are always
    balanced.
    """
    kind = at_least_float32(logits)  # exact also under autocast
    logits, logits_plus = logits.to(kind), logits_plus.to(kind)
    q, q_plus = (balanced_assignments(each, weight) for each in (logits, logits_plus))
    each = (q_plus * logits.log_softmax(1) + q * logits_plus.log_softmax(1)).sum(1)
    return weighted_mean(each, weight)


@torch.no_grad()
def balanced_assignments(logits: Tensor, weight: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """The soft assignments of pictures to domains by Sinkhorn and Knopp's algorithm, (B, K); each row sums to 1.

    logits: (B, K), weight: (B,). In each iteration, first every domain gets the same total weight of pictures, then
    every picture is assigned completely, so with few iterations the domains are only about equally large. Everything
    is in logarithms, because exp(logits / EPSILON) could overflow.
    """
    log_q, log_weight = logits / EPSILON, weight.to(logits.dtype).log()[:, None]
    for _ in range(iterations):
        total = (log_q + log_weight).logsumexp(0)
        log_q = log_q - total.clamp_min(torch.finfo(total.dtype).min)  # without pictures it is -inf
        log_q = log_q.log_softmax(1)
    return log_q.exp()
