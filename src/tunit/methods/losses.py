"""The losses as pure functions: from tensors to a scalar. Each names its equation, or the paper that it comes from.

Some functions are no losses, but help to compute them: `without_autocast`, `weighted_mean`, `joint_probability` and
`pooled_features`.

If a function takes `weight` (B,), this is the weight of each picture; 0 leaves a picture out, None means equal
weights.

References:
    [1] TUNIT (Baek et al., ICCV 2021). [2] Ji et al. Invariant information clustering, ICCV 2019.
    [3] He et al. Momentum contrast, CVPR 2020. [4] Lim, Ye. Geometric GAN, 2017 (hinge).
    [5] Mescheder et al. Which training methods for GANs do actually converge, ICML 2018 (R1).
    [6] Liu et al. Few-shot unsupervised image-to-image translation, ICCV 2019 (FUNIT).
    [7] Wang et al. Semi-supervised learning for few-shot image-to-image translation, CVPR 2020 (SEMIT).
    [8] Yi, Wu. Probabilistic end-to-end noise correction for learning with noisy labels, CVPR 2019 (PENCIL).
    [9] Tseng et al. Regularizing generative adversarial networks under limited data, CVPR 2021 (LeCam).
    [10] Lample et al. Unsupervised machine translation using monolingual corpora only, ICLR 2018.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.networks.gradients import gradients_of_inputs_only
from tunit.networks.precision import at_least_float32

SMALLEST_PROBABILITY = 1e-10

Terms = dict[str, Tensor]  # losses by name, on the device


def without_autocast(x: Tensor) -> torch.autocast:
    """A context without autocast: operations on x's device have the precision of their inputs."""
    return torch.autocast(x.device.type, enabled=False)


def weighted_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean of values (B,), weighted by `weight` (B,); 0 if every weight is 0."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


def joint_probability(p: Tensor, p_plus: Tensor, weight: Tensor | None = None) -> Tensor:
    """P of equation 1 [1], section 3.2: (K, K), symmetric, sums to 1 before its entries are floored at 1e-10.

    p, p_plus: (B, K) domain probabilities of the two views. Symmetrised and normalised as in [2].
    """
    weighted = p if weight is None else p * weight[:, None]
    with without_autocast(p):
        joint = weighted.T @ p_plus
    joint = (joint + joint.T) / 2
    joint = joint / joint.sum().clamp_min(SMALLEST_PROBABILITY)
    return joint.clamp_min(SMALLEST_PROBABILITY)


def mutual_information(
    p: Tensor, p_plus: Tensor, weight: Tensor | None = None, balance: float = 1.0
) -> Tensor:
    """I(P) of equation 1 [1], in nats, between 0 and ln K: how much one view's domain tells about the other's.

    p, p_plus: (B, K) probabilities. K = 1 gives 0. balance: factor on the entropies of the marginals, lambda in [2].
    1, the paper's value, gives the mutual information itself; a larger factor favours domains of equal size.
    """
    joint = joint_probability(p, p_plus, weight)
    rows, columns = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    return (joint * (joint.log() - balance * (rows.log() + columns.log()))).sum()


def style_contrastive(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, weight: Tensor | None = None
) -> Tensor:
    """Equations 2 and 4 [1]: cross-entropy of the positive among the queue's negatives, as in [3], in nats.

    query, key: (B, width), row i of one belongs to row i of the other; queue: (N, width). Every logit is divided by
    the temperature, although equation 4 as printed divides only those in the denominator.
    """
    positive = (query * key).sum(1, keepdim=True)
    with without_autocast(query):
        negative = query @ queue.T
    logits = torch.cat([positive, negative], dim=1) / temperature  # (B, 1 + N)
    return weighted_mean(logits.logsumexp(1) - logits[:, 0], weight)


def classification(logits: Tensor, logits_plus: Tensor, y: Tensor) -> Tensor:
    """CE(E_C(x), y) + CE(E_C(x+), y) over the labelled pictures (few-label training); 0 where there are none.

    logits, logits_plus: (B, K); y: (B,), -1 where unlabelled.
    """
    return labelled_cross_entropy(logits, y) + labelled_cross_entropy(logits_plus, y)


def hinge_real(logit: Tensor) -> Tensor:
    """D's side of equation 3 on real pictures, as a hinge [4]: mean relu(1 - D_y(x)). logit: (B,) or (B, h, w)."""
    return F.relu(1 - logit).mean()


def hinge_fake(logit: Tensor) -> Tensor:
    """D's side of equation 3 on translations, as a hinge [4]: mean relu(1 + D_y(G(x, s))). logit: as above."""
    return F.relu(1 + logit).mean()


def generator_adversarial(logit: Tensor) -> Tensor:
    """G's side of equation 3, hinge version [4]: -mean D_y(G(x, s)). logit: as above."""
    return -logit.mean()


def lecam(logit_real: Tensor, logit_fake: Tensor, average_real: Tensor, average_fake: Tensor) -> Tensor:
    """LeCam's regulariser [9]: mean (D(x) - average of D(fake))^2 + mean (D(fake) - average of D(x))^2.

    logit_real, logit_fake: (B,); the averages of earlier steps: ().
    """
    return (logit_real - average_fake).square().mean() + (logit_fake - average_real).square().mean()


def r1_penalty(logit: Tensor, x: Tensor, *, differentiable: bool = True) -> Tensor:
    """R1 [5] without its usual 1/2: the squared gradient of D_y(x), summed over pixels, averaged over the batch.

    logit: (B,), or (B, h, w) of the patches that FUNIT's D [6] judges; their mean is then D_y(x). It must be computed
    from x: (B, 3, S, S), which requires gradients. differentiable: whether the result has a graph, which makes it
    several times as slow; without it, the graph of `logit` is kept all the same.
    """
    logit = logit if logit.dim() == 1 else logit.flatten(1).mean(1)
    with gradients_of_inputs_only():
        (gradient,) = torch.autograd.grad(logit.sum(), x, create_graph=differentiable, retain_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def reconstruction(x_rec: Tensor, x: Tensor) -> Tensor:
    """Equation 5 [1]: mean absolute error of G(x, s) against x."""
    return F.l1_loss(x_rec, x)


def back_translation(x_back: Tensor, x: Tensor) -> Tensor:
    """Back-translation [10], not in [1]: mean absolute error of G(G(x, s~), s) against x; G(x, s~) is given input.

    Equation 5 lets G redraw a picture only in the style of its own domain. Here G redraws it from a picture in
    another domain's style, and the target is a real picture. A cycle loss would have a gradient through G(x, s~),
    too, and could therefore be lowered by hiding x in it.
    """
    return F.l1_loss(x_back, x)


def pooled_features(features: Tensor) -> Tensor:
    """Features of D (B, C, h, w) averaged over space, (B, C, 1, 1), in float32 at least."""
    return features.mean((2, 3), keepdim=True, dtype=at_least_float32(features))


def feature_matching(features: Tensor, target: Tensor) -> Tensor:
    """FUNIT's feature matching [6]: mean absolute error of spatially averaged features of D.

    features: (B, C, h, w) of G's output; target: of the real pictures that it is compared with. Both may be averaged
    already.
    """
    return F.l1_loss(pooled_features(features), pooled_features(target))


# SEMIT's noise-tolerant pseudo-labelling [7] has the three terms of PENCIL [8]. Each is a mean over pictures, in
# nats, and is not divided by the number of classes. logits: (B, K), of the classifier. label_logits: (B, K); their
# softmax is the soft labels.


def labelled_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """CE of the classifier over the labelled pictures; 0 where there are none. y: (B,), -1 where unlabelled."""
    each = F.cross_entropy(logits, y.clamp_min(0), reduction="none")
    return weighted_mean(each, (y >= 0).to(each.dtype))


def pseudo_label_divergence(logits: Tensor, label_logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """The classification loss of [8]: KL(p || y); p: the classifier's probabilities, y: the soft labels."""
    log_p = logits.log_softmax(1)
    return weighted_mean((log_p.exp() * (log_p - label_logits.log_softmax(1))).sum(1), weight)


def prediction_entropy(logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """The entropy loss of [8]: mean entropy of the predictions, from 0 to ln K."""
    log_p = logits.log_softmax(1)
    return weighted_mean(-(log_p.exp() * log_p).sum(1), weight)
