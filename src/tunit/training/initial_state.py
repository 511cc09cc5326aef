"""The initial training state: networks and optimisers of the config's method."""

import torch

from tunit.config import AUTO, Config
from tunit.methods.adversarial_memory import new_adversarial_memory
from tunit.methods.registry import method_of
from tunit.methods.state import Networks, TrainingState
from tunit.networks.ema import copy_and_freeze


def with_found_domains(config: Config, state: TrainingState) -> Config:
    """The config with the number of domains that was found; unchanged if none was found."""
    if config.networks.domains != AUTO or state.choice is None:
        return config
    return config.with_overrides({"domains": state.choice.domains})


def new_state(config: Config, device: torch.device, pictures: int = 0) -> TrainingState:
    """A new state, initialised from the config's seed.

    GPUs start from the same weights as CPUs; CPUs of different kinds may round them differently.
    pictures: the number of training pictures, for methods that keep a tensor with a row per picture.
    """
    method = method_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        guide, generator = method.guide(config), method.generator(config)
        discriminator = method.discriminator(config)
        guide_average = copy_and_freeze(guide, method.guide(config))
        generator_average = copy_and_freeze(generator, method.generator(config))
    networks = Networks(guide, guide_average, generator, generator_average, discriminator)
    for network in networks.named().values():
        # oneDNN and cuDNN convolve fastest in the channels-last memory format.
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.train()
    queue = torch.zeros(config.optimisers.queue_length, config.networks.style_width, device=device)
    own = method.own_state(pictures, config, device) if method.own_state else None
    memory = new_adversarial_memory(config, device) if method.takes_adversarial_settings else None
    return TrainingState(
        networks, method.optimisers(networks, config), queue, own=own, adversarial_memory=memory
    )
