"""How the authors' release names the tensors of E, G and D, for any image size and number of domains.

The networks are the same; only names differ, and FRN's parameters have shape (1, C, 1, 1) there and (C,) here.
"""

from torch import nn

from tunit.networks.discriminator import Discriminator
from tunit.networks.generator import RESIDUAL_BLOCKS, Generator
from tunit.networks.guide import Guide


def published_names(network: nn.Module) -> dict[str, str]:
    """Our name of every tensor of E, G or D -> the release's name, in our order."""
    if isinstance(network, Guide):
        prefixes = {"trunk": "features", "domain_head": "disc", "style_head": "cont"}
    elif isinstance(network, Discriminator):
        prefixes = _discriminator_prefixes(network)
    elif isinstance(network, Generator):
        prefixes = _generator_prefixes(network)
    else:
        raise TypeError(f"the release has no {type(network).__name__}")
    return {name: _rename(name, prefixes) for name in network.state_dict()}


def _rename(name: str, prefixes: dict[str, str]) -> str:
    """The longest known prefix replaced, and the shortcut convolution by its name there."""
    head = max((p for p in prefixes if name == p or name.startswith(p + ".")), key=len)
    return (prefixes[head] + name[len(head) :]).replace(".shortcut.", ".conv1x1.")


def _discriminator_prefixes(network: Discriminator) -> dict[str, str]:
    blocks = len(network.blocks)
    prefixes = {f"blocks.{i}": f"main.{i + 1}" for i in range(blocks)}
    # Behind the blocks the release counts its activations: LeakyReLU, conv, LeakyReLU, conv.
    return prefixes | {"stem": "main.0", "gather": f"main.{blocks + 2}", "head": f"main.{blocks + 4}"}


def _generator_prefixes(network: Generator) -> dict[str, str]:
    n = len(network.decoder.up)
    encoder, decoder = "cnt_encoder.model", "decoder.model"
    prefixes = {"content_encoder.stem": f"{encoder}.0.conv"}
    for i in range(n):
        prefixes[f"content_encoder.down.{i}"] = f"{encoder}.{i + 1}.conv"
        prefixes[f"decoder.up.{i}"] = f"{decoder}.{2 * i + 2}.conv"  # odd places are up-samplings
    for i in range(2 * RESIDUAL_BLOCKS):
        place = f"model.{i // 2}.model.{i % 2}.conv"
        prefixes[f"content_encoder.residual.{i}"] = f"{encoder}.{n + 1}.{place}"
        prefixes[f"decoder.residual.{i}"] = f"{decoder}.0.{place}"
    prefixes["decoder.to_picture"] = f"{decoder}.{2 * n + 1}.conv"
    return prefixes | {f"style_mlp.{2 * i}": f"mlp.model.{i}.fc" for i in range(3)}
