"""Settings of D beyond the paper, for few pictures; off in the paper's setting."""

from dataclasses import dataclass

from tunit.config.fields import setting


@dataclass(frozen=True)
class AdversarialConfig:
    """What keeps D from memorising few pictures (docs/recipes.md)."""

    lecam_weight: float = setting(
        0.0,
        "weight of LeCam's regulariser, which pulls D's logits of real pictures towards the average of those of "
        "translations, and the reverse",
        low=0,
    )
    lecam_decay: float = setting(0.99, "decay per step of LeCam's averages of D's logits", low=0, high=1)
    discriminator_augment: float = setting(
        0.0,
        "probability that a picture (real or translated) is shifted before D sees it and, separately, that a "
        "square in it is made grey; if the probability is adaptive, its value at the start",
        low=0,
        high=1,
    )
    discriminator_augment_target: float = setting(
        0.0,
        "target of an adaptive discriminator_augment, as in ADA (which uses 0.6): the probability rises while the "
        "mean sign of D's logits of real pictures is above the target, and falls while it is below; 0: not adaptive",
        low=0,
        high=1,
    )
    discriminator_augment_pace: int = setting(
        500_000, "number of pictures over which an adaptive probability rises from 0 to 1", low=1, high=10**12
    )
