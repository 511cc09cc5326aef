"""What a step needs of memory: the largest batch that fits, and activations computed again instead of kept."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunit.config import Config
from tunit.data.batches import make_batch
from tunit.distributed import alone
from tunit.errors import TrainingError
from tunit.machine import available_bytes, is_out_of_memory
from tunit.methods.method import Labels, Phase
from tunit.methods.registry import method_of
from tunit.methods.state import TrainingState
from tunit.training.state import new_state

SMALLEST_BATCH = 2
ROOM = 0.8  # share of a processor's available memory that a step may fill
_TRIED = 2, 4  # pictures, from which a processor's need is extrapolated


def largest_batch(fits: Callable[[int], bool], wanted: int) -> int | None:
    """`wanted`, or its largest half, quarter, ... that fits, down to 2; None where none does."""
    size = wanted
    while size >= SMALLEST_BATCH:
        if fits(size):
            return size
        size //= 2
    return None


def fitting_batch(config: Config, device: torch.device) -> int:
    """The config's batch size, or the largest half of it with which a joint step fits the memory of `device`.

    Never more: results depend on the batch size. Raises TrainingError where not even 2 pictures fit.
    """
    wanted = config.optimisers.batch_size
    found = largest_batch(fits_in(config, device), wanted)
    if found is None:
        raise TrainingError(
            f"not even {SMALLEST_BATCH} pictures of {config.data.image_size} px fit the memory of {device}: lower "
            "--image-size, --generator-width or --discriminator-width"
        )
    return found


def out_of_memory(config: Config, device: torch.device, size: int) -> TrainingError:
    """The error for a step of `size` pictures that ran out of memory; it names a batch size that was tried to fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    found = largest_batch(fits_in(config, device), size // 2)
    own, common = config.optimisers.guide_only_batch_size, config.optimisers.batch_size
    alone = size == own != common  # E's own batch, which what saves memory in G and D does not help
    remedy = (
        "lower --image-size or the widths"
        if found is None
        else f"train anew with --{'guide-only-' if alone else ''}batch-size {found}, which fits"
    )
    # Neither changes what is learnt, so that a run may take them up midway.
    method, thrift = method_of(config), []
    if method.micro_batches and not config.run.micro_batch:
        thrift.append(f"--micro-batch {found or SMALLEST_BATCH}")
    if method.recomputed_parts and not config.run.checkpoint_activations:
        thrift.append("--checkpoint-activations true")
    if thrift and not alone:
        remedy += f", or go on with --resume and {' or '.join(thrift)}"
    return TrainingError(f"a step of {size} pictures does not fit the memory of {device}: {remedy}")


def fits_in(config: Config, device: torch.device) -> Callable[[int], bool]:
    """Whether a joint step on so many pictures fits: tried on a GPU, extrapolated from small ones elsewhere.

    Where several processes share a batch, whether the share fits: each has a GPU, or their part of one memory.
    """
    processes = config.run.processes
    if device.type != "cuda":
        first, second = (step_bytes(config, size) for size in _TRIED)
        each = (second - first) / (_TRIED[1] - _TRIED[0])
        room = ROOM * available_bytes() / processes
        return lambda size: first + each * (size / processes - _TRIED[0]) <= room

    def fits(size: int) -> bool:
        try:
            try_step(config, device, -(-size // processes))
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return True

    return fits


def check_memory(config: Config, device: torch.device) -> None:
    """Try the largest steps of a resolved config where one process takes them; raises TrainingError."""
    sizes = {True: config.optimisers.batch_size, False: config.optimisers.guide_only_batch_size}
    for joint, size in sizes.items():
        needed = joint or bool(size and config.schedule.guide_only_until)
        share = -(-size // config.run.processes) if device.type == "cuda" else size
        try:
            if needed:
                try_step(config, device, share, joint=joint)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            error.__traceback__ = None  # it holds on to the step's tensors
            raise out_of_memory(config, device, size) from None


def try_step(config: Config, device: torch.device, size: int, *, joint: bool = True) -> TrainingState:
    """A fresh state after one joint step with R1 on noise: as much as any step of the size needs."""
    state, method = new_state(config, device, size), method_of(config)
    if config.run.checkpoint_activations and method.recomputed_parts:
        checkpoint_activations(method.recomputed_parts(state.networks))
    side = config.data.image_size
    x = torch.rand(size, 3, side, side, device=device) * 2 - 1
    y = torch.arange(size) % config.networks.domains
    unlabelled = method.labels is Labels.OPTIONAL and config.data.labels == "none"
    with alone():
        method.step(
            state,
            make_batch(x, x.clone(), torch.full((size,), -1) if unlabelled else y, torch.arange(size)),
            torch.arange(size, device=device).flip(0),
            Phase(joint=joint, generator_average_follows=True, penalise=True),
            config,
        )
    return state


class KeptMemory:
    """The bytes that a graph holds for its backward passes, followed as tensors are saved and let go.

    Its `pack` and `unpack` are meant for `torch.autograd.graph.saved_tensors_hooks`. Each storage counts once
    however often it is saved, and for only as long as it is held: an address that is free may be given out again.
    """

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self._holders: dict[int, int] = {}  # of the storage at an address: how many saved tensors lie in it

    def pack(self, tensor: Tensor) -> "_Held":
        """Note a tensor that is saved."""
        # Detached: a result that held its own node would keep itself alive. Autograd attaches what it unpacks.
        return _Held(tensor.detach(), self)

    @staticmethod
    def unpack(held: "_Held") -> Tensor:
        """The tensor back."""
        return held.tensor

    def add(self, storage: torch.UntypedStorage) -> None:
        """Count one more holder of a storage."""
        holders = self._holders.get(storage.data_ptr(), 0)
        self._holders[storage.data_ptr()] = holders + 1
        if not holders:
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)

    def remove(self, storage: torch.UntypedStorage) -> None:
        """Count one holder less."""
        self._holders[storage.data_ptr()] -= 1
        if not self._holders[storage.data_ptr()]:
            del self._holders[storage.data_ptr()]
            self.now -= storage.nbytes()


class _Held:
    """A saved tensor, which says when the graph lets go of it."""

    def __init__(self, tensor: Tensor, memory: KeptMemory) -> None:
        self.tensor, self.memory = tensor, memory
        memory.add(tensor.untyped_storage())

    def __del__(self) -> None:
        self.memory.remove(self.tensor.untyped_storage())


def step_bytes(config: Config, size: int) -> int:
    """The bytes that training needs on the CPU: its state, gradients and the most a step keeps to differentiate."""
    kept = KeptMemory()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        state = try_step(config, torch.device("cpu"), size)
    return kept.most + _state_bytes(state)


def _state_bytes(state: TrainingState) -> int:
    """The bytes of all networks, their gradients, and what the optimisers keep of past gradients."""
    held: list[Tensor] = [state.queue]
    for network in state.networks.named().values():
        for weight in network.parameters():
            held += [weight] if weight.grad is None else [weight, weight.grad]
    for optimiser in state.optimisers.named().values():
        held += [
            value
            for of_one in optimiser.state.values()
            for value in of_one.values()
            if torch.is_tensor(value)
        ]
    return sum(tensor.nbytes for tensor in held)


def checkpoint_activations(parts: Iterable[nn.Module]) -> None:
    """Let each of `parts` keep no activations inside itself, but compute them again in the backward pass.

    The method says which parts of G and D these are. Results are the same; a step takes about a third longer and much
    less memory.
    """
    for part in parts:
        # On the object, so that names of weights, and so checkpoints, stay as they are.
        part.forward = partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False)
