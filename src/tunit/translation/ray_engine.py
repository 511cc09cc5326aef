"""The engine that translates on a Ray cluster. Workers load the model; results come back in the order of the batches.

A batch has the same pictures as on one machine, and a worker uses the same code and the same number of threads. So on
machines of the same kind the results are identical, byte by byte.
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
    """What a worker needs to create the same engine as this process."""

    folder: Path  # an absolute path that is the same on all machines
    device: str
    precision: str
    batch: int
    compiled: bool
    threads: int


class RayEngine:
    """The same interface as `Engine`, on a cluster."""

    def __init__(self, model: ModelOnDisk) -> None:
        self.batch = model.batch
        self._model = model

    def guided(self, batches: Iterable[Squares]) -> Iterator[Guided]:
        """See `Engine.guided`."""
        return ray_map(partial(_guided, self._model), batches)

    def redrawn(self, batches: Iterable[Squares], styles: Tensor, strength: float) -> Iterator[Drawn]:
        """See `Engine.redrawn`."""
        work = partial(_redrawn, self._model, styles.cpu(), strength)
        return _one_by_one(ray_map(work, batches))


def engine_on(
    engine: str, folder: Path, device: str | torch.device, precision: str, batch: int, compiled: bool
) -> RayEngine | None:
    """The engine on a cluster for the model in `folder`; None if `engine` is "local".

    Raises ConfigError for other names than "ray" and "local".
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine is {engine!r}: take one of {', '.join(ENGINES)}")
    if engine == "local":
        return None
    check_computing(precision, batch)
    threads = torch.get_num_threads()
    return RayEngine(ModelOnDisk(folder.resolve(), str(device), precision, batch, compiled, threads))


def _one_by_one(results: Generator[list[Drawn], None, None]) -> Iterator[Drawn]:
    with closing(results):
        for drawn in results:
            yield from drawn


@lru_cache(1)
def _engine(model: ModelOnDisk) -> Engine:
    """The engine of a worker, which keeps it between tasks."""
    torch.set_num_threads(model.threads)
    loaded = load_model(model.folder, choose_device(model.device))
    return Engine(loaded, precision=model.precision, batch=model.batch, compiled=model.compiled)


def _guided(model: ModelOnDisk, batch: Squares) -> Guided:
    return next(iter(_engine(model).guided([batch])))


def _redrawn(model: ModelOnDisk, styles: Tensor, strength: float, batch: Squares) -> list[Drawn]:
    return list(_engine(model).redrawn([batch], styles, strength))
