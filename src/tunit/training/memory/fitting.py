"""The memory that a step needs: the largest batch that fits, and activation checkpointing."""

from collections.abc import Callable, Iterable
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunit.config import Config
from tunit.data.batching.batches import make_batch
from tunit.distributed.collectives import without_process_group
from tunit.distributed.launcher import processes_here
from tunit.errors import TrainingError
from tunit.machine import available_bytes, is_out_of_memory, room_for_pictures
from tunit.methods.method import Labels, Phase
from tunit.methods.registry import method_of
from tunit.methods.state import TrainingState
from tunit.training.initial_state import new_state
from tunit.training.memory.footprint import bytes_of_own_state
from tunit.training.memory.saved_tensors import SavedTensorBytes

SMALLEST_BATCH = 2
ROOM = 0.8  # share of the CPU's available memory that a step may use
# Compare two steps: the batch of the first is exactly one micro-batch, so it is not split; that of the second has a
# few pictures more, so it is split. The second step needs at least this share of the memory of the first (measured:
# 0.76 to 0.99, because G's and D's activations of a part are freed before the next).
LEAST_OF_SPLIT = 0.7
_TRIED = 2, 4  # numbers of pictures whose measured memory is extrapolated to larger batches on a CPU


def largest_batch(fits: Callable[[int], bool], wanted: int) -> int | None:
    """The first of `wanted`, wanted / 2, wanted / 4, ... that fits, at least SMALLEST_BATCH; None if none fits."""
    size = wanted
    while size >= SMALLEST_BATCH:
        if fits(size):
            return size
        size //= 2
    return None


def fitting_batches(config: Config, device: torch.device, picture_bytes: int = 0) -> dict[str, int]:
    """Settings with batch sizes that fit the memory of `device`: that of joint steps and, if E trains alone with a
    batch size of its own, `guide_only_batch_size`, too, halved until a step of E alone fits.

    picture_bytes: as for `fits_in`.
    """
    sizes = {"batch_size": fitting_batch(config, device, picture_bytes)}
    wanted = config.optimisers.guide_only_batch_size
    if not wanted or not config.schedule.guide_only_until:
        return sizes
    found = largest_batch(fits_in(config, device, joint=False, picture_bytes=picture_bytes), wanted)
    if found is None:
        raise TrainingError(
            f"while E trains alone, not even {SMALLEST_BATCH} pictures of {config.data.image_size} px fit the memory "
            f"of {device}: lower --image-size or --guide-width"
        )
    return sizes | {"guide_only_batch_size": found}


def fitting_batch(config: Config, device: torch.device, picture_bytes: int = 0) -> int:
    """The config's batch size, halved until a joint step fits the memory of `device`.

    picture_bytes: as for `fits_in`. The batch size is never raised, because results depend on it. Raises
    TrainingError if not even 2 pictures fit.
    """
    wanted = config.optimisers.batch_size
    found = largest_batch(fits_in(config, device, picture_bytes=picture_bytes), wanted)
    if found is None:
        raise TrainingError(
            f"not even {SMALLEST_BATCH} pictures of {config.data.image_size} px fit the memory of {device}: lower "
            "--image-size, --generator-width or --discriminator-width"
        )
    return found


def out_of_memory(config: Config, device: torch.device, size: int, *, joint: bool) -> TrainingError:
    """The error for a step of `size` pictures that ran out of memory. The message names batch sizes that fit.

    joint: a joint step; if False, a step of E alone.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    sizes = {
        flag: largest_batch(fits_in(config, device, joint=kind), size // 2)
        for flag, kind in _too_large(config, size, joint=joint).items()
    }
    found = [number for number in sizes.values() if number]
    if len(found) < len(sizes):
        remedy = f"lower --image-size or {'the widths' if '--batch-size' in sizes else '--guide-width'}"
    else:
        words = " ".join(f"{flag} {number}" for flag, number in sizes.items())
        remedy = f"start a new run with {words}, which {'fits' if len(sizes) == 1 else 'fit'}"
    # These save memory without changing the results, so a run can resume with them.
    method, options = method_of(config), []
    if method.micro_batches and not config.run.micro_batch:
        options.append(f"--micro-batch {min(found, default=SMALLEST_BATCH)}")
    if method.recomputed_parts and not config.run.checkpoint_activations:
        options.append("--checkpoint-activations true")
    # They act on G and D, so they do not help a step of E alone.
    if options and joint:
        remedy += f", or resume the run with --resume and {' or '.join(options)}"
    return TrainingError(f"a step of {size} pictures does not fit the memory of {device}: {remedy}")


def _too_large(config: Config, size: int, *, joint: bool) -> dict[str, bool]:
    """The flags whose batch sizes must be lowered if a step of `size` pictures does not fit, and whether each is that
    of joint steps. joint: the step was a joint one.
    """
    own, common = config.optimisers.guide_only_batch_size, config.optimisers.batch_size
    if joint:
        return {"--batch-size": True}
    # In a joint step E sees as many pictures, and G and D need memory, too; so a batch as large fits even less.
    flags = {"--batch-size": True} if common >= size else {}
    return flags | ({"--guide-only-batch-size": False} if own else {})


def fits_in(
    config: Config, device: torch.device, *, joint: bool = True, picture_bytes: int = 0
) -> Callable[[int], bool]:
    """A function that tells whether a step on a batch of a given size fits into memory.

    joint: a joint step; if False, a step of E alone. picture_bytes: the bytes of the training pictures, if they are
    not in memory yet but will be during training, if there is room for them (`Batches`).
    On a GPU the step is tried; on a CPU its memory is extrapolated (`predicted_bytes`). If several processes share
    a batch, each rank's part must fit its own GPU, or its share of the CPU's memory.
    """
    processes = config.run.processes
    here = processes_here(processes)
    kept = picture_bytes if picture_bytes and picture_bytes <= room_for_pictures(device, here) else 0
    number = picture_bytes // (3 * config.data.image_size**2)
    kept += bytes_of_own_state(config, number, on_gpu=device.type == "cuda")
    if device.type != "cuda":
        needed = predicted_bytes(config, joint=joint)
        room = ROOM * available_bytes() / here - kept
        micro = config.run.micro_batch if joint else 0

        def fits_beside(size: int) -> bool:
            """Whether this rank's part fits the CPU's memory."""
            own = size / processes
            # For more pictures than a micro-batch, `needed` takes real steps on slightly more than a micro-batch. If
            # even these cannot fit, the answer is no, without such a step.
            if 0 < micro < own and LEAST_OF_SPLIT * needed(micro) > room:
                return False
            return needed(own) <= room

        return fits_beside

    def fits(size: int) -> bool:
        """Whether this rank's part of a batch of `size` fits its GPU, beside the pictures that will be there."""

        try:
            held = torch.empty(kept, dtype=torch.uint8, device=device) if kept else None
            try_step(config, device, -(-size // processes), joint=joint)
            del held
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            torch.cuda.empty_cache()
        return True

    return fits


def check_memory(config: Config, device: torch.device) -> None:
    """Try the largest steps of a config in this process. Raises TrainingError where memory runs out.

    config: from `resolved` in left_open.py.
    """
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
            error.__traceback__ = None  # the traceback keeps the step's tensors alive
            raise out_of_memory(config, device, size, joint=joint) from None


def try_step(config: Config, device: torch.device, size: int, *, joint: bool = True) -> TrainingState:
    """Take one step on noise with R1, which needs more memory than any other step of this batch size. Returns the
    state after it.
    """
    state, method = new_state(config, device, size), method_of(config)
    if config.run.checkpoint_activations and method.recomputed_parts:
        checkpoint_activations(method.recomputed_parts(state.networks))
    side = config.data.image_size
    x = torch.rand(size, 3, side, side, device=device) * 2 - 1
    y = torch.arange(size) % config.networks.initial_domains
    unlabelled = method.labels is Labels.OPTIONAL and config.data.labels == "none"
    with without_process_group():
        method.step(
            state,
            make_batch(x, x.clone(), torch.full((size,), -1) if unlabelled else y, torch.arange(size)),
            torch.arange(size, device=device).flip(0),
            Phase(joint=joint, average_generator=True, penalise=True),
            config,
        )
    return state


def predicted_bytes(config: Config, *, joint: bool) -> Callable[[float], float]:
    """A function that predicts the bytes that training needs on the CPU for any number of pictures: state,
    gradients, and the peak of kept activations. It measures them in steps on few pictures.

    The memory is a linear function of the number of pictures, and another linear function from the number on at which
    micro-batches split them. While G and D get parts, E gets all pictures at once, so from some number on E needs the
    most.
    """
    micro = config.run.micro_batch if joint else 0
    whole = config.with_overrides({"micro_batch": 0})

    @cache  # lines are measured when they are needed: a micro-batch may be larger than all batches in question
    def line(split: bool, joint: bool) -> tuple[float, float, int]:
        """The activations for no picture, those for one more, and the bytes of the state."""
        first, second = (micro + size for size in _TRIED) if split else _TRIED
        (low, _), (high, state) = (
            activations_and_state(config if split else whole, size, joint=joint) for size in (first, second)
        )
        each = max(0.0, (high - low) / (second - first))
        return low - each * first, each, state

    def predicted(size: float) -> float:
        """The bytes for this many pictures: the state, and the most activations that are kept at one time."""
        split = bool(micro) and size > micro
        none, each, state = line(split, joint)
        activations = none + each * size
        if split:
            none, each, _ = line(False, False)  # E alone
            activations = max(activations, none + each * size)
        return activations + state

    return predicted


def activations_and_state(config: Config, size: int, *, joint: bool) -> tuple[int, int]:
    """The peak of kept activations, and the bytes of state and gradients, of a step on the CPU."""
    kept = SavedTensorBytes()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        state = try_step(config, torch.device("cpu"), size, joint=joint)
    return kept.most, _bytes_after_step(state)


def _bytes_after_step(state: TrainingState) -> int:
    """The bytes of the queue, of all networks, of their gradients, and of the moments of the optimisers."""
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
    """Activation checkpointing: each of `parts` computes its activations again in the backward pass.

    The method names the parts of G and D to pass. Results stay the same; a step takes about a third longer and needs
    much less memory.
    """
    for part in parts:
        # Set on the instance, so that the names of weights in checkpoints stay the same.
        part.forward = partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False)
