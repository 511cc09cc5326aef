"""One training step (method section 4), each forward pass once, for any mix of labelled and unlabelled pictures.

Within a step the reference batch x~ is a permutation of x, so E_S(x~) is E_S(x) permuted, D's real pictures are x
itself, and the content code and the translation that D learns from are those that G learns from: nothing is computed
twice.

Several processes may share a batch of B pictures, b each (tunit.distributed). What E says is then gathered, so that
all that is not a picture is of the whole batch in every process.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunit.config import LossConfig
from tunit.data.batches import Batch
from tunit.distributed import all_gather, all_reduce, share_of, world_size
from tunit.networks.average import follow
from tunit.networks.build import AnyGenerator
from tunit.networks.queue import push
from tunit.training import losses
from tunit.training.descent import backward, descend, frozen
from tunit.training.guide_step import guide_step, of_all
from tunit.training.losses import Terms, full_precision
from tunit.training.state import Networks, TrainingState


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
