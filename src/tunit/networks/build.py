"""The networks of a config: the one place where settings become constructor arguments."""

from tunit.config import NetworkConfig
from tunit.networks.discriminator import Discriminator
from tunit.networks.funit import ClassEncoder, FunitGenerator, PatchDiscriminator
from tunit.networks.generator import Generator
from tunit.networks.guide import Guide
from tunit.networks.semit import OctaveGenerator, SemitEncoder

# What may stand in E's, G's and D's place.
AnyGuide = Guide | ClassEncoder
AnyGenerator = Generator | OctaveGenerator
AnyDiscriminator = Discriminator | PatchDiscriminator


def build_guide(settings: NetworkConfig) -> AnyGuide:
    """E of the config, or its class encoder."""
    if settings.architecture != "tunit":
        kind = SemitEncoder if settings.architecture == "semit" else ClassEncoder
        return kind(settings.domains, width=settings.guide_width, style_width=settings.style_width)
    return Guide(
        settings.domains,
        width=settings.guide_width,
        style_width=settings.style_width,
        overclusters=settings.overclusters,
        candidate_heads=settings.candidate_heads,
        head_std=settings.head_std,
    )


def build_generator(settings: NetworkConfig, image_size: int) -> AnyGenerator:
    """G of the config, for pictures of `image_size`."""
    width = settings.generator_width or None
    if settings.architecture == "semit":
        return OctaveGenerator(
            image_size,
            settings.domains,
            width=width,
            style_width=settings.style_width,
            share=settings.octave_share,
        )
    kind = FunitGenerator if settings.architecture == "funit" else Generator
    return kind(image_size, width=width, style_width=settings.style_width)


def build_discriminator(settings: NetworkConfig, image_size: int) -> AnyDiscriminator:
    """D of the config, for pictures of `image_size`."""
    kind = Discriminator if settings.architecture == "tunit" else PatchDiscriminator
    return kind(image_size, settings.domains, width=settings.discriminator_width or None)
