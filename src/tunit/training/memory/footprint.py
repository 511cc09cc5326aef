"""The least memory that a config can need, computed from its numbers without allocating anything.

The estimate is a lower bound. A config within it may still need too much memory; therefore `fitting.py` also tries a
step. A config that exceeds it must not be tried, because the system would kill the process without a message.
"""

import torch

from tunit.config import Config
from tunit.distributed.launcher import processes_here
from tunit.errors import ConfigError
from tunit.machine import available_bytes
from tunit.methods.registry import method_of
from tunit.networks.only_shapes import only_shapes
from tunit.training.initial_state import new_state

_FLOAT = 4  # bytes
# The memory of a step, per picture, is at least this many times the output of the first convolution. A step of E
# alone needs more than this bound; a joint step needs about ten times this bound.
_MAPS = 4
# Copies of each weight: three in a network that learns (weight, gradient, moment), one in an EMA.
_LEARNING, _AVERAGE = 3, 1
# The settings that can need much memory. Up to these values, networks and queue need less than 2 GB together.
_MODEST = {
    "domains": 1000,
    "style_width": 512,
    "overclusters": 1000,
    "candidate_heads": 10,
    "guide_width": 64,
    "generator_width": 64,
    "discriminator_width": 64,
    "queue_length": 100_000,
    "batch_size": 32,
    "guide_only_batch_size": 32,
    "image_size": 128,
    "processes": 1,
}
_OF_A_STEP = ("batch_size", "guide_only_batch_size", "image_size")


def check_footprint(config: Config, device: torch.device, pictures: int = 0) -> None:
    """Raises ConfigError if networks, queue and a batch cannot fit the memory. It names the flag that helps most.

    config: after `resolved_schedule`, and with a chosen image size. pictures: the number of training pictures, if it
    is known.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    needed = least_bytes(config, pictures)
    if needed <= free:
        return
    if least_bytes(config) <= free:
        raise ConfigError(
            f"method '{config.method.method}' keeps data for each of the {pictures:,} pictures, and with this data "
            f"the training needs at least {needed / 1e9:,.1f} GB of memory, more than the {free / 1e9:,.1f} GB that "
            "are free: train on fewer pictures"
        )
    large = {name: config.value(name) for name in _MODEST if config.value(name) > _MODEST[name]}
    eased = {n: least_bytes(config.with_overrides({n: _MODEST[n]}), pictures, all_of_it=True) for n in large}
    best = min(eased, key=lambda name: eased[name], default="batch_size")
    raise ConfigError(
        f"these settings need at least {needed / 1e9:,.1f} GB of memory, more than the {free / 1e9:,.1f} GB that are "
        f"free: lower --{best.replace('_', '-')}, which is {config.value(best)}"
    )


def least_bytes(config: Config, pictures: int = 0, *, all_of_it: bool = False) -> int:
    """Bytes of all networks with gradients and moments, of the queue, and of the first feature maps of the largest
    batch.

    With several processes, on GPUs: what one GPU needs, which is networks and queue, and its process's share of the
    batch. On CPUs: what this machine needs, which is networks and queue once for each process on it, and the shares
    of the batch of these processes. all_of_it: count networks and queue even if they are small, which takes a second.
    """
    count = max(1, config.run.processes)
    modest = all(config.value(name) <= most for name, most in _MODEST.items() if name not in _OF_A_STEP)
    small = modest and config.data.image_size <= 512 and not all_of_it
    on_gpu = config.run.device.startswith("cuda")
    state = bytes_of_own_state(config, pictures, on_gpu=on_gpu)
    if not small:
        state += _state_bytes(config)
    if on_gpu:
        return state + _batch_bytes(config) // count
    here = processes_here(count)
    return here * state + _batch_bytes(config) * here // count


def bytes_of_own_state(config: Config, pictures: int, *, on_gpu: bool = False) -> int:
    """Bytes of the method's own state, which has a row for each picture: SEMIT's soft labels, E's neighbours.

    on_gpu: count only what is in a GPU's memory if training uses one; E's neighbours are not.
    """
    own_state, meta = method_of(config).own_state, torch.device("meta")
    if own_state is None:
        return 0
    with only_shapes():
        own = own_state(pictures, config, meta)
    tensors = own.named() if own else {}
    if on_gpu and tensors:
        # Only what the method makes on the given device is on the meta device here; the rest, such as E's neighbours,
        # is on the CPU.
        few = own_state(2, config, meta)
        there = {name for name, tensor in few.named().items() if tensor.is_meta} if few else set()
        tensors = {name: tensor for name, tensor in tensors.items() if name in there}
    return sum(tensor.nbytes for tensor in tensors.values())


def _state_bytes(config: Config) -> int:
    """Bytes that networks and queue will need; they are built on the meta device to count them."""
    with only_shapes():
        state = new_state(config, torch.device("meta"))
    state.own = None  # counted by `bytes_of_own_state`
    total = state.queue.nbytes + sum(t.nbytes for t in state.own_tensors().values())
    learning = state.optimisers.named().keys()
    for name, network in state.networks.named().items():
        copies = _LEARNING if name in learning else _AVERAGE
        total += copies * sum(weight.nbytes for weight in network.parameters())
    return total


def _batch_bytes(config: Config) -> int:
    """Bytes of a batch's first feature maps. E sees the whole batch at once; G and D may see a micro-batch."""
    batch, networks = config.optimisers.batch_size, config.networks
    alone = config.optimisers.guide_only_batch_size if config.schedule.guide_only_until else 0
    together = min(batch, config.run.micro_batch or batch)
    side = config.data.image_size
    of_guide = max(alone, batch) * networks.guide_width * config.guide_side**2
    of_generator = together * (networks.generator_width or 32) * side**2
    return max(of_guide, of_generator) * _FLOAT * _MAPS
