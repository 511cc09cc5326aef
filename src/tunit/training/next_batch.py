"""The batch of the next step: all ranks can read their parts of it, or all end together, with everything saved."""

from functools import partial

from torch import Tensor

from tunit.data.batching.batches import Batch
from tunit.distributed.collectives import largest_of_ranks, rank, texts_from_rank, world_size
from tunit.distributed.process_group import on_rank_zero
from tunit.errors import StoreError
from tunit.training.in_progress import Training, draw, save_if_possible, what_and_remedy


def next_batch(training: Training) -> tuple[Batch, Tensor]:
    """The batch and the permutation of the next step. The cursors advance.

    If several processes train and one of them cannot read its pictures, every rank raises the same StoreError, after
    rank 0 has saved a checkpoint. Otherwise the others would wait in vain in the step, and the steps since the last
    checkpoint would be lost. A single process raises StoreError or OSError itself.
    """
    state, before = training.state, dict(training.state.cursors)
    found, failure = None, ("", "")
    try:
        found = draw(training, state.step, state.cursors)
    except (StoreError, OSError) as error:
        if world_size() == 1:
            raise
        failure = what_and_remedy(error)
    # Each rank that failed gives world_size - rank, the others 0. So the largest value is that of the first one that
    # failed; if it is 0, `failed` is world_size: none.
    failed = world_size() - largest_of_ranks(0 if found else world_size() - rank())
    if failed < world_size():
        state.cursors.clear()
        state.cursors.update(before)  # a training that resumes draws this batch again
        what, remedy = texts_from_rank(failure, failed)
        on_rank_zero(partial(save_if_possible, training))
        named = f"process {failed + 1} of {world_size()}: " if failed else ""
        raise StoreError(f"{named}{what}", remedy)
    assert found is not None
    return found
