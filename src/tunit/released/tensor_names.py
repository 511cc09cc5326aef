"""The names of the tensors of E, G and D in published checkpoints, for any image size and number of domains.

The networks are the same. But names and their order differ, and FRN's parameters have shape (1, C, 1, 1) there and
(C,) here. AdaIN layers also have running statistics there, which do not influence their output.
"""

import re

from torch import nn

from tunit.networks.discriminator import Discriminator
from tunit.networks.generator import RESIDUAL_BLOCKS, Generator
from tunit.networks.guide import Guide

# The published order of tensors inside a block of D, and inside an FRN.
BLOCK_ORDER = ("norm1", "norm2", "conv1", "conv2", "conv1x1")
FRN_ORDER = ("tau", "gamma", "beta")
# The buffers of each published AdaIN layer; they come before its convolution.
ADAIN_STATISTICS = ("norm.running_mean", "norm.running_var")


def published_names(network: nn.Module) -> dict[str, str]:
    """Our name of every tensor of E, G or D -> the published name, in our order."""
    if isinstance(network, Guide):
        prefixes = {"trunk": "features", "domain_head": "disc", "style_head": "cont"}
    elif isinstance(network, Discriminator):
        prefixes = _discriminator_prefixes(network)
    elif isinstance(network, Generator):
        prefixes = _generator_prefixes(network)
    else:
        raise TypeError(f"the published implementation has no {type(network).__name__}")
    return {name: _rename(name, prefixes) for name in network.state_dict()}


def published_order(network: nn.Module) -> list[str]:
    """Our names of the tensors of E, G or D, in the published order. It differs from ours only in D's blocks."""
    names = published_names(network)
    blocks = list(dict.fromkeys(_block_of(theirs) for theirs in names.values()))

    def place(ours: str) -> tuple[int, int, int]:
        """The place of a tensor in the published order: its block, its part of the block, its place in that part."""

        block = _block_of(names[ours])
        part, _, leaf = names[ours].removeprefix(block).lstrip(".").partition(".")
        return (
            blocks.index(block),
            BLOCK_ORDER.index(part) if part in BLOCK_ORDER else 0,
            FRN_ORDER.index(leaf) if leaf in FRN_ORDER else 0,
        )

    return sorted(names, key=place)  # stable: equal places stay in our order


def published_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """The published names and shapes of E, G or D, in the published order, with the running statistics of AdaIN."""
    names, ours = published_names(network), network.state_dict()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in published_order(network):
        theirs, shape = names[name], tuple(ours[name].shape)
        if theirs.rpartition(".")[2] in FRN_ORDER:
            shape = (1, *shape, 1, 1)
        if name.startswith(("decoder.residual.", "decoder.up.")) and theirs.endswith(".conv.weight"):
            for statistic in ADAIN_STATISTICS:
                shapes[theirs.removesuffix("conv.weight") + statistic] = shape[:1]
        shapes[theirs] = shape
    return shapes


def is_adain_statistic(theirs: str) -> bool:
    """Whether a published name is that of a running statistic of AdaIN, which does not influence the output."""
    return theirs.endswith(ADAIN_STATISTICS)


def _block_of(theirs: str) -> str:
    """The block of D to which a published name belongs; for other names, the name itself."""
    found = re.match(r"main\.\d+(?=\.(norm|conv))", theirs)
    return found.group() if found else theirs


def _rename(name: str, prefixes: dict[str, str]) -> str:
    """Replace the longest known prefix, and give the shortcut convolution its published name."""
    head = max((p for p in prefixes if name == p or name.startswith(p + ".")), key=len)
    return (prefixes[head] + name[len(head) :]).replace(".shortcut.", ".conv1x1.")


def _discriminator_prefixes(network: Discriminator) -> dict[str, str]:
    blocks = len(network.blocks)
    prefixes = {f"blocks.{i}": f"main.{i + 1}" for i in range(blocks)}
    # After the blocks, published names also count activations: LeakyReLU, conv, LeakyReLU, conv.
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
