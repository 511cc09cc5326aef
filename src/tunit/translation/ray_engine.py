"""The engine of translation on a Ray cluster: batches go to workers, which have the model, and come back in order.

A batch holds the same pictures as on one machine, and a worker computes it with the same code and as many threads, so
the results are the same bytes on machines of the same kind.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from tunit.data.packing.on_ray import ENGINES, ray_map
from tunit.errors import ConfigError
from tunit.machine import choose_device
from tunit.methods.model_file import load_model
from tunit.networks.guide import Guidance
from tunit.translation.engine import Drawn, Engine, Squares, check_computing
from tunit.translation.inputs import Picture

Guided = tuple[list[Picture], Tensor, Guidance]


@dataclass(frozen=True)
class ModelOnDisk:
    """What a worker needs to have the same engine as this process."""

    folder: Path  # absolute, and the same on all machines
    device: str
    precision: str
    batch: int
    compiled: bool
    threads: int


class RayEngine:
    """What `Engine` is, on a cluster."""

    def __init__(self, model: ModelOnDisk) -> None:
        self.batch = model.batch
        self._model = model

    def guided(self, batches: Iterable[Squares]) -> Iterator[Guided]:
        """As `Engine.guided`."""
        return ray_map(partial(_guided, self._model), batches)

    def redrawn(self, batches: Iterable[Squares], styles: Tensor, strength: float) -> Iterator[Drawn]:
        """As `Engine.redrawn`."""
        work = partial(_redrawn, self._model, styles.cpu(), strength)
        return _one_by_one(ray_map(work, batches))


def engine_on(
    engine: str, folder: Path, device: str, precision: str, batch: int, compiled: bool
) -> RayEngine | None:
    """The engine on a cluster of the model in `folder`; None for "local". Raises ConfigError for what is neither."""
    if engine not in ENGINES:
        raise ConfigError(f"engine is {engine!r}: take one of {', '.join(ENGINES)}")
    if engine == "local":
        return None
    check_computing(precision, batch)
    threads = torch.get_num_threads()
    return RayEngine(ModelOnDisk(folder.resolve(), device, precision, batch, compiled, threads))


def _one_by_one(results: Generator[list[Drawn], None, None]) -> Iterator[Drawn]:
    with closing(results):
        for drawn in results:
            yield from drawn


@lru_cache(1)
def _engine(model: ModelOnDisk) -> Engine:
    """The engine of a worker, which is kept from task to task."""
    torch.set_num_threads(model.threads)
    loaded = load_model(model.folder, choose_device(model.device))
    return Engine(loaded, precision=model.precision, batch=model.batch, compiled=model.compiled)


def _guided(model: ModelOnDisk, batch: Squares) -> Guided:
    return next(iter(_engine(model).guided([batch])))


def _redrawn(model: ModelOnDisk, styles: Tensor, strength: float, batch: Squares) -> list[Drawn]:
    return list(_engine(model).redrawn([batch], styles, strength))
