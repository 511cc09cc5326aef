"""One training step (method section 4), each forward pass once, for any mix of labelled and unlabelled pictures.

Within a step the reference batch x~ is a permutation of x, so E_S(x~) is E_S(x) permuted, D's real pictures are x
itself, and the content code and the translation that D learns from are those that G learns from: nothing is computed
twice.

Several processes may share a batch of B pictures, b each (tunit.distributed). What E says is then gathered, so that
all that is not a picture is of the whole batch in every process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunit.config import LossConfig
from tunit.data.batches import Batch
from tunit.distributed import all_gather, all_reduce, reduce_gradients, share_of, world_size
from tunit.networks.average import follow
from tunit.networks.build import AnyGenerator
from tunit.networks.guide import Guidance
from tunit.networks.queue import push
from tunit.training import losses
from tunit.training.losses import full_precision
from tunit.training.state import Networks, TrainingState

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """What one step does, as the schedule says."""

    joint: bool  # G and D train too
    generator_average_follows: bool  # else the average of G is G itself
    penalise: bool  # this step computes R1


def train_step(
    state: TrainingState,
    batch: Batch,
    permutation: Tensor,
    phase: Phase,
    weights: LossConfig,
    *,
    average_decay: float,
    precision: torch.dtype = torch.float32,
    micro_batch: int = 0,
) -> Terms:
    """Update `state` by one step on `batch`; returns the unweighted losses by name, on the device.

    permutation: (B,) int64; x[permutation] are the references. precision: bfloat16 runs convolutions and
    matrices under autocast, with mutual information, contrastive logits and R1 in float32 all the same.
    Where several processes train together, `batch` holds the pictures of this one, and `permutation` is of all.
    micro_batch: G and D take so many pictures at a time and add up their gradients, which is the same and needs less
    memory; 0 takes the whole batch at once. E sees the whole batch always, for mutual information and batch norm are
    not means over pictures.
    """
    low, device_type = precision == torch.bfloat16, batch.x.device.type
    # No cache: it would keep E's weights as they were before E's own update.
    with torch.autocast(device_type, dtype=torch.bfloat16, enabled=low, cache_enabled=False):
        terms, keys = guide_step(state, batch, weights, weights.joint_guide_factor if phase.joint else 1.0)
        if phase.joint:
            terms |= translation_step(state, batch, permutation, phase, weights, micro_batch)
    state.queue = push(state.queue, keys)
    networks = state.networks
    follow(networks.guide_average, networks.guide, average_decay)
    if phase.joint:
        decay = average_decay if phase.generator_average_follows else 0.0
        follow(networks.generator_average, networks.generator, decay)
    state.step += 1
    return terms


def guide_step(
    state: TrainingState, batch: Batch, weights: LossConfig, unlabelled_factor: float
) -> tuple[Terms, Tensor]:
    """Step 1: E learns domains and style from the two views; returns the losses and the keys of x+."""
    networks = state.networks
    with torch.no_grad():
        keys = all_gather(networks.guide_average(batch.x_plus).style)
    view, view_plus = of_all(networks.guide(batch.x)), of_all(networks.guide(batch.x_plus))
    loss, terms = guide_loss(view, view_plus, keys, state.queue, batch, weights, unlabelled_factor)
    update(state.optimisers.guide, loss)
    return terms, keys


def of_all(view: Guidance) -> Guidance:
    """What E says of the whole batch, from what it says of this process's pictures."""
    if world_size() == 1:
        return view
    logits, style, over, candidates = view
    return Guidance(
        all_gather(logits),
        all_gather(style),
        None if over is None else all_gather(over),
        None if candidates is None else all_gather(candidates.transpose(0, 1)).transpose(0, 1),
    )


def guide_loss(
    view: Guidance,
    view_plus: Guidance,
    keys: Tensor,
    queue: Tensor,
    batch: Batch,
    weights: LossConfig,
    unlabelled_factor: float,
) -> tuple[Tensor, Terms]:
    """E's own part of equation 6, labelled pictures (y >= 0) with cross-entropy in the place of the MI.

    unlabelled_factor * (style - 5 MI) + labelled_guide_factor * (style + 5 CE), each times its share of the batch.
    """
    unlabelled = (batch.y < 0).to(view.style.dtype)
    labelled = 1 - unlabelled
    factor = unlabelled_factor * unlabelled + weights.labelled_guide_factor * labelled  # (B,)
    style = losses.style_contrastive(view.style, keys, queue, weights.temperature, factor)
    terms = {"guide/style": style}
    loss = weights.guide_style_weight * factor.mean() * style
    if batch.any_unlabelled:
        objective, information = _clustering(view.logits, view_plus.logits, unlabelled, weights)
        terms["guide/mutual_information"] = information
        if view.candidate_logits is not None and view_plus.candidate_logits is not None:
            others = [
                _clustering(*pair, unlabelled, weights)[0]
                for pair in zip(view.candidate_logits, view_plus.candidate_logits, strict=True)
            ]
            objective = torch.stack([objective, *others]).mean()
        unsupervised = -weights.mutual_information_weight * objective
        if view.overcluster_logits is not None and view_plus.overcluster_logits is not None:
            objective, information = _clustering(
                view.overcluster_logits, view_plus.overcluster_logits, unlabelled, weights
            )
            terms["guide/overcluster_information"] = information
            unsupervised = unsupervised - weights.overcluster_weight * objective
        loss = loss + unlabelled.mean() * unlabelled_factor * unsupervised
    # Without a weight E_C stays out of the graph, so that weight decay does not touch it either.
    if batch.any_labelled and weights.classification_weight:
        supervised = losses.classification(view.logits, view_plus.logits, batch.y)
        terms["guide/classification"] = supervised
        loss = loss + labelled.mean() * (
            weights.labelled_guide_factor * weights.classification_weight * supervised
        )
    return loss, {name: term.detach() for name, term in terms.items()}


def _clustering(
    logits: Tensor, logits_plus: Tensor, weight: Tensor, weights: LossConfig
) -> tuple[Tensor, Tensor]:
    """What E maximises, and the mutual information itself: the same unless `marginal_balance` differs from 1."""
    p, p_plus = logits.softmax(1), logits_plus.softmax(1)
    objective = losses.mutual_information(p, p_plus, weight, weights.marginal_balance)
    if weights.marginal_balance == 1:
        return objective, objective
    with torch.no_grad():
        return objective, losses.mutual_information(p, p_plus, weight)


def translation_step(
    state: TrainingState,
    batch: Batch,
    permutation: Tensor,
    phase: Phase,
    weights: LossConfig,
    micro_batch: int = 0,
) -> Terms:
    """Steps 2 to 4: with the updated E, D learns to tell translations, then G and (again) E learn from D.

    micro_batch: as for `train_step`.
    """
    networks, optimisers = state.networks, state.optimisers
    guidance = of_all(networks.guide(batch.x))
    y = torch.where(batch.y >= 0, batch.y, guidance.logits.argmax(1))
    # G's gradient is gathered here, part by part, and goes on into E at the end.
    s = guidance.style.detach().requires_grad_()
    parts = parts_of(batch.x, y, s, permutation, micro_batch)
    # A whole batch keeps its graph for step 4. Parts are drawn again there, for only one graph fits at a time.
    with torch.set_grad_enabled(len(parts) == 1):
        drawn = [part.draw(networks.generator) for part in parts]
    terms = discriminator_step(state, parts, drawn, phase, weights)

    optimisers.guide.zero_grad(set_to_none=True)
    optimisers.generator.zero_grad(set_to_none=True)
    with frozen(networks.discriminator):
        x_fake = torch.cat([x_out[: len(x_out) // 2] for x_out in drawn]).detach().requires_grad_()
        with torch.no_grad():
            keys_ref = all_gather(networks.guide_average(batch.x).style)[permutation]
        styles = all_gather(networks.guide(x_fake).style)
        contrast = losses.style_contrastive(styles, keys_ref, state.queue, weights.temperature)
        backward(weights.generator_style_weight * contrast)
        assert x_fake.grad is not None
        slopes = torch.split(x_fake.grad, [len(part.x) for part in parts])
        for part, slope in zip(parts, slopes, strict=True):
            x_out = drawn[0] if len(parts) == 1 else part.draw(networks.generator)
            add_terms(terms, generator_part(networks, part, x_out, slope, weights), part.share)
    assert s.grad is not None
    with full_precision(s):
        s_grad = all_reduce(s.grad)  # for the references of one process are pictures of others
        guidance.style.backward(s_grad)  # type: ignore[no-untyped-call]
    descend(optimisers.generator)
    descend(optimisers.guide)
    return of_all_parts(terms) | {"generator/style": contrast.detach()}


@dataclass(frozen=True)
class Part:
    """Some pictures of a batch as sources, with the references that the permutation gives them."""

    x: Tensor  # (b, 3, S, S): the pictures of this part
    y: Tensor  # (B,): labels or pseudo labels of the whole batch
    s: Tensor  # (B, style width)
    permutation: Tensor  # (B,)
    rows: slice  # those of this part, b in number

    @property
    def references(self) -> Tensor:
        """(b,) indices of the references in the batch."""
        return self.permutation[self.rows]

    @property
    def share(self) -> float:
        """Of the batch."""
        return len(self.x) / len(self.y)

    def draw(self, generator: AnyGenerator) -> Tensor:
        """(2 b, 3, S, S): the translations with the references' styles, then the reconstructions, in one pass."""
        c = generator.encode(self.x)
        return generator.decode(torch.cat([c, c]), torch.cat([self.s[self.references], self.s[self.rows]]))


def parts_of(x: Tensor, y: Tensor, s: Tensor, permutation: Tensor, micro_batch: int) -> list[Part]:
    """This process's pictures x in parts of `micro_batch` (0: all), the last one perhaps smaller."""
    parts, first = [], share_of(len(y)).start
    for some in torch.split(x, micro_batch or len(x)):
        parts.append(Part(some, y, s, permutation, slice(first, first + len(some))))
        first += len(some)
    return parts


def discriminator_step(
    state: TrainingState, parts: list[Part], drawn: list[Tensor], phase: Phase, weights: LossConfig
) -> Terms:
    """Step 3: the losses are means over the batch, so that parts add up to it exactly."""
    optimiser = state.optimisers.discriminator
    terms: Terms = {}
    optimiser.zero_grad(set_to_none=True)
    for part, x_out in zip(parts, drawn, strict=True):
        # The references of the whole batch are the batch, in another order, which a mean does not see.
        real, fake = (part.x, part.y[part.rows]), (x_out[: len(part.x)].detach(), part.y[part.references])
        loss, of_part = discriminator_loss(state.networks, *real, *fake, phase, weights)
        backward(part.share * loss)
        add_terms(terms, of_part, part.share)
    descend(optimiser)
    return terms


def generator_part(
    networks: Networks, part: Part, x_out: Tensor, slope: Tensor, weights: LossConfig
) -> Terms:
    """Step 4 for a part: gradients of equations 3 and 5, and those that `slope` brings, into G and into part.s.

    x_out: (2 b, 3, S, S), what the part drew; slope: (b, 3, S, S), the gradient of equation 4 for its translations.
    """
    x, y, number = part.x, part.y, len(slope)
    logit = networks.discriminator.judge(x_out, torch.cat([y[part.references], y[part.rows]]))
    fake = losses.generator_adversarial(logit[:number])
    rec = losses.generator_adversarial(logit[number:])
    l1 = losses.reconstruction(x_out[number:].to(x.dtype), x)
    adversarial = part.share * weights.adversarial_weight * (fake + rec)
    others = part.share * weights.reconstruction_weight * l1
    with full_precision(x):
        if weights.adversarial_trains == "generator":
            own = list(networks.generator.parameters())
            adversarial.backward(inputs=own, retain_graph=True)  # type: ignore[no-untyped-call]
        else:
            others = adversarial + others
        torch.autograd.backward([others, x_out[:number]], [None, slope.to(x_out.dtype)])
    return {
        "generator/adversarial": fake.detach(),
        "generator/adversarial_reconstruction": rec.detach(),
        "generator/reconstruction": l1.detach(),
    }


def add_terms(terms: Terms, of_part: Terms, share: float) -> None:
    """Add a part's losses to those of the batch, by its share."""
    for name, value in of_part.items():
        terms[name] = terms[name] + share * value if name in terms else share * value


def of_all_parts(terms: Terms) -> Terms:
    """The losses of the whole batch, from those of this process's pictures."""
    if world_size() == 1:
        return terms
    return dict(zip(terms, all_reduce(torch.stack(list(terms.values()))).unbind(), strict=True))


def discriminator_loss(
    networks: Networks,
    x_real: Tensor,
    y_real: Tensor,
    x_fake: Tensor,
    y_fake: Tensor,
    phase: Phase,
    weights: LossConfig,
) -> tuple[Tensor, Terms]:
    """Step 3: hinge loss of the real references against the translations, plus R1 on the references.

    x_real, x_fake: (B, 3, S, S), x_fake without a graph; y_real, y_fake: (B,), their domains.
    """
    judge = networks.discriminator.judge
    if phase.penalise:
        x_real = x_real.detach().requires_grad_()
        with full_precision(x_real):
            logit_real = judge(x_real, y_real)
        logit_fake = judge(x_fake, y_fake)
    else:
        logit_real, logit_fake = judge(torch.cat([x_real, x_fake]), torch.cat([y_real, y_fake])).chunk(2)
    real, fake = losses.hinge_real(logit_real), losses.hinge_fake(logit_fake)
    loss = weights.adversarial_weight * (real + fake)
    terms = {"discriminator/real": real.detach(), "discriminator/fake": fake.detach()}
    if phase.penalise:
        with full_precision(x_real):
            penalty = losses.r1_penalty(logit_real, x_real)
        loss = loss + weights.r1_every * weights.r1_weight * penalty
        terms["discriminator/r1"] = penalty.detach()
    return loss, terms


def update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of `optimiser` along the gradient of `loss`."""
    optimiser.zero_grad(set_to_none=True)
    backward(loss)
    descend(optimiser)


def descend(optimiser: torch.optim.Optimizer) -> None:
    """One step of `optimiser` along the gradients of the whole batch."""
    reduce_gradients(parameter for group in optimiser.param_groups for parameter in group["params"])
    optimiser.step()


def backward(loss: Tensor) -> None:
    """Add the gradient of `loss` to the parameters'."""
    # Each operation goes back in the precision it came in; autocast would cast float32 ones again.
    with full_precision(loss):
        loss.backward()  # type: ignore[no-untyped-call]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Gradients pass through `network` but not into its parameters, which saves their computation."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
