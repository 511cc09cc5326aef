"""What the losses of D and G need from earlier steps: the strength of D's augmentation, and averages of D's logits.

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

ADA_INTERVAL = 4  # the strength changes every fourth step, as in [1]
SIGN = "discriminator/real_sign"
REAL_ANSWER, FAKE_ANSWER = "discriminator/real_answer", "discriminator/fake_answer"


def _zero() -> Tensor:
    return torch.zeros(())


@dataclass
class AdversarialMemory:
    """What ADA and LeCam remember: scalars on the device, updated in each joint step and saved in checkpoints."""

    strength: Tensor  # the probability of D's augmentation
    # Since the strength last changed: the sum over steps of the mean sign of D's logits of real pictures, and the
    # number of these steps.
    signs: Tensor = field(default_factory=_zero)
    looks: Tensor = field(default_factory=_zero)
    real: Tensor = field(default_factory=_zero)  # average of D's logits of real pictures
    fake: Tensor = field(default_factory=_zero)  # average of D's logits of translations

    def named(self) -> dict[str, Tensor]:
        """The tensors by their names in checkpoints, which begin with "adversary", the older name of this class."""
        return {f"adversary.{name}": value for name, value in vars(self).items()}

    def augment(self, counter: int, batch: int, config: Config) -> DifferentiableAugment | None:
        """D's augmentation in a step; None if the config asks for none. Arguments are as for `augment_of`."""
        adversarial = config.adversarial
        if not (adversarial.discriminator_augment or adversarial.discriminator_augment_target):
            return None
        return augment_of(counter, batch, self.strength.clone(), config)

    @torch.no_grad()
    def learn(self, terms: Terms, batch: int, config: Config) -> None:
        """Update strength and averages after D's step. terms: D's losses of the whole batch, equal in all processes.

        The rule of ADA [1]: every four steps the strength changes by (pictures in these steps) / pace. It rises if
        the mean sign of D's logits of real pictures is above the target, and falls if it is below.
        """
        adversarial = config.adversarial
        if adversarial.discriminator_augment_target:
            self.signs.add_(terms[SIGN])
            self.looks.add_(1)
            full = self.looks >= ADA_INTERVAL
            towards = (self.signs / self.looks - adversarial.discriminator_augment_target).sign()
            change = towards * (ADA_INTERVAL * batch / adversarial.discriminator_augment_pace)
            self.strength.copy_(torch.where(full, (self.strength + change).clamp(0, 1), self.strength))
            self.signs.mul_(~full)
            self.looks.mul_(~full)
        if adversarial.lecam_weight:
            self.real.lerp_(terms[REAL_ANSWER].to(self.real.dtype), 1 - adversarial.lecam_decay)
            self.fake.lerp_(terms[FAKE_ANSWER].to(self.fake.dtype), 1 - adversarial.lecam_decay)


def new_adversarial_memory(config: Config, device: torch.device) -> AdversarialMemory | None:
    """The `AdversarialMemory` of a new run; None if no setting needs one."""
    adversarial = config.adversarial
    if not (
        adversarial.discriminator_augment
        or adversarial.discriminator_augment_target
        or adversarial.lecam_weight
    ):
        return None
    zeros = {name: torch.zeros((), device=device) for name in ("signs", "looks", "real", "fake")}
    return AdversarialMemory(torch.full((), adversarial.discriminator_augment, device=device), **zeros)
