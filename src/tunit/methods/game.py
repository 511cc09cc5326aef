"""The adversarial losses of one step: what D sees, and what is kept for later steps.

In the paper's setting D sees the pictures themselves, and nothing is kept.
"""

from functools import partial

from torch import Tensor

from tunit.config import Config
from tunit.data.batching.randomness import counter_of_step
from tunit.methods.losses import Terms
from tunit.methods.method import Phase
from tunit.methods.objectives import Augmentation, discriminator_loss, generator_adversarial_loss, unchanged
from tunit.methods.parts import PartOfBatch
from tunit.methods.state import TrainingState


class Game:
    """D against G on one batch."""

    def __init__(self, state: TrainingState, batch: int, config: Config) -> None:
        """batch: the number of pictures, of all processes together."""
        self._discriminator, self._memory = state.networks.discriminator, state.adversarial_memory
        self._batch, self._config = batch, config
        memory, counter = self._memory, counter_of_step(state.step, state.rollbacks)
        self._augment = None if memory is None else memory.augment(counter, batch, config)

    def _augmentation_of(self, part: PartOfBatch) -> Augmentation:
        augment, rows = self._augment, part.rows
        return unchanged if augment is None else partial(augment, rows=rows)

    def of_discriminator(self, part: PartOfBatch, phase: Phase) -> tuple[Tensor, Terms]:
        """D's loss on a part of the batch, and its unweighted terms."""
        return discriminator_loss(
            self._discriminator,
            part.x,
            part.y,
            part.x_fake.detach(),
            part.y_ref,
            phase,
            self._config,
            self._augmentation_of(part),
            self._memory,
        )

    def learn(self, judged: Terms) -> None:
        """Update what is kept for later steps. judged: D's losses of the whole batch, by name.

        With an augmentation, its probability is added to `judged`, so that it is logged.
        """
        if self._memory is not None:
            self._memory.learn(judged, self._batch, self._config)
            if self._augment is not None:
                judged["discriminator/augment"] = self._memory.strength.clone()

    def of_generator(self, part: PartOfBatch) -> tuple[Tensor, Terms]:
        """G's adversarial loss on a part of the batch, unweighted, and its terms."""
        return generator_adversarial_loss(self._discriminator, part, self._augmentation_of(part))
