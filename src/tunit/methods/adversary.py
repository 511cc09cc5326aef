"""What the game of D and G keeps from step to step: the strength of D's augmentation, and averages of D's answers.

References:
    [1] Karras et al. Training generative adversarial networks with limited data, NeurIPS 2020 (ADA).
    [2] Tseng et al. Regularizing generative adversarial networks under limited data, CVPR 2021 (LeCam).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunit.config import Config
from tunit.methods.differentiable_augment import DifferentiableAugment, augment_of
from tunit.methods.losses import Terms

LOOKS = 4  # steps over which signs are averaged before the strength changes, as in [1]
SIGN = "discriminator/real_sign"
REAL_ANSWER, FAKE_ANSWER = "discriminator/real_answer", "discriminator/fake_answer"


def _zero() -> Tensor:
    return torch.zeros(())


@dataclass
class Adversary:
    """Scalars on the device, which a checkpoint holds; they change once for each joint step."""

    strength: Tensor  # the probability of D's augmentation
    signs: Tensor = field(default_factory=_zero)  # the sum of mean signs since the strength last changed
    looks: Tensor = field(default_factory=_zero)  # steps since then
    real: Tensor = field(default_factory=_zero)  # average of D's answers to real pictures
    fake: Tensor = field(default_factory=_zero)  # and to translations

    def named(self) -> dict[str, Tensor]:
        """Its tensors by the names that they have in checkpoints."""
        return {f"adversary.{name}": value for name, value in vars(self).items()}

    def augment(self, step: int, batch: int, config: Config) -> DifferentiableAugment | None:
        """D's augmentation at a step on a batch of so many pictures; None where there is none."""
        own = config.adversarial
        if not (own.discriminator_augment or own.discriminator_augment_target):
            return None
        return augment_of(step, batch, self.strength.clone(), config)

    @torch.no_grad()
    def learn(self, terms: Terms, batch: int, config: Config) -> None:
        """Follow D's answers in a step. terms: D's, of the whole batch, the same in every process.

        The rule of ADA [1]: every four steps the strength rises, or falls, by the pictures of these steps over the
        pace, as the mean sign of D's answers to real pictures is above or below the target.
        """
        own = config.adversarial
        if own.discriminator_augment_target:
            self.signs.add_(terms[SIGN])
            self.looks.add_(1)
            full = self.looks >= LOOKS
            towards = (self.signs / self.looks - own.discriminator_augment_target).sign()
            change = towards * (LOOKS * batch / own.discriminator_augment_pace)
            self.strength.copy_(torch.where(full, (self.strength + change).clamp(0, 1), self.strength))
            self.signs.mul_(~full)
            self.looks.mul_(~full)
        if own.lecam_weight:
            self.real.lerp_(terms[REAL_ANSWER].to(self.real.dtype), 1 - own.lecam_decay)
            self.fake.lerp_(terms[FAKE_ANSWER].to(self.fake.dtype), 1 - own.lecam_decay)


def new_adversary(config: Config, device: torch.device) -> Adversary | None:
    """That of a new run; None where the config asks for nothing that must be kept."""
    own = config.adversarial
    if not (own.discriminator_augment or own.discriminator_augment_target or own.lecam_weight):
        return None
    zeros = {name: torch.zeros((), device=device) for name in ("signs", "looks", "real", "fake")}
    return Adversary(torch.full((), own.discriminator_augment, device=device), **zeros)
