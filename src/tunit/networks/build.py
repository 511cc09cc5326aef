"""The networks of a config: the one place where settings become constructor arguments."""

from tunit.config import NetworkConfig
from tunit.networks.discriminator import Discriminator
from tunit.networks.generator import Generator
from tunit.networks.guide import Guide


def build_guide(settings: NetworkConfig) -> Guide:
    """E of the config."""
    return Guide(
        settings.domains,
        width=settings.guide_width,
        style_width=settings.style_width,
        overclusters=settings.overclusters,
        candidate_heads=settings.candidate_heads,
        head_std=settings.head_std,
    )


def build_generator(settings: NetworkConfig, image_size: int) -> Generator:
    """G of the config, for pictures of `image_size`."""
    return Generator(image_size, width=settings.generator_width or None, style_width=settings.style_width)


def build_discriminator(settings: NetworkConfig, image_size: int) -> Discriminator:
    """D of the config, for pictures of `image_size`."""
    return Discriminator(image_size, settings.domains, width=settings.discriminator_width or None)
