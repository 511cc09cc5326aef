"""Settings of D and G beyond the paper, for sharper translations and for few pictures; off in the paper's setting."""

from dataclasses import dataclass

from tunit.config.fields import setting

# Stands for a weight of R1 or R2 that is computed from the image size and the batch size (methods/objectives.py).
AUTO_WEIGHT = -1.0
AUTO_WEIGHT_WORDS = {"auto": AUTO_WEIGHT}


@dataclass(frozen=True)
class AdversarialConfig:
    """What keeps D from memorising few pictures, and which loss D and G have (docs/recipes.md)."""

    adversarial_loss: str = setting(
        "hinge",
        "hinge, as in the paper, or relativistic: D compares a translation with its reference (R3GAN)",
        choices=("hinge", "relativistic"),
    )
    r2_weight: float = setting(
        0.0,
        "weight of R2: as r1_weight, but for translations instead of real pictures",
        low=0,
        words=AUTO_WEIGHT_WORDS,
    )
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
