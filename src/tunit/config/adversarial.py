"""What D and G may do beyond the paper, to translate sharply or from few pictures; the paper has none of it."""

from dataclasses import dataclass

from tunit.config.fields import setting

# A weight of R1 or R2 that follows from the size of the pictures and the batch (methods/objectives.py).
AUTO_WEIGHT = -1.0
AUTO_WEIGHT_WORDS = {"auto": AUTO_WEIGHT}


@dataclass(frozen=True)
class AdversarialConfig:
    """How D is kept from learning few pictures by heart, and which game it plays with G (docs/recipes.md)."""

    adversarial_loss: str = setting(
        "hinge",
        "hinge, as in the paper, or relativistic: D compares a translation with its reference (R3GAN)",
        of=("hinge", "relativistic"),
    )
    r2_weight: float = setting(
        0.0, "as r1_weight, for D's gradient at translations", low=0, words=AUTO_WEIGHT_WORDS
    )
    lecam_weight: float = setting(
        0.0, "weight of LeCam's regulariser, which keeps D's answers near their averages", low=0
    )
    lecam_decay: float = setting(0.99, "decay of these averages, per step", low=0, high=1)
    discriminator_augment: float = setting(
        0.0,
        "probability that D sees a picture shifted, and that it sees it with a part cut out, real ones and "
        "translations alike; where it is adaptive, the probability at the start",
        low=0,
        high=1,
    )
    discriminator_augment_target: float = setting(
        0.0,
        "makes that probability adaptive, as in ADA, which takes 0.6: it rises while the mean sign of D's answers to "
        "real pictures is above this, and falls below it; 0 keeps it",
        low=0,
        high=1,
    )
    discriminator_augment_pace: int = setting(
        500_000, "pictures in which an adaptive probability rises from 0 to 1", low=1, high=10**12
    )
    discriminator_augment_colours: bool = setting(
        False, "with the same probability D sees a picture with other brightness, saturation and contrast"
    )
