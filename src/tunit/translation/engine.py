"""Run squares through the networks of a model: in batches, with limited memory, in the requested precision."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.errors import ConfigError
from tunit.given import whole_number
from tunit.machine import PRECISIONS, is_out_of_memory, without_tf32
from tunit.methods.inference import decoded, guidance_over
from tunit.methods.model_file import Model
from tunit.networks.guide import Guidance
from tunit.translation.inference_networks import networks_for
from tunit.translation.inputs import Picture, Square
from tunit.translation.output_cache import OutputCache

BATCH = 32  # how many pictures are in memory and go through the networks together

Squares: TypeAlias = list[tuple[Picture, Square]]
# A picture, its square, and the (S, S, 3) pixels of its results.
Drawn: TypeAlias = tuple[Picture, Square, list[NDArray[np.uint8]]]


def check_computing(precision: str, batch: int) -> None:
    """Raises ConfigError for an unknown precision or an empty batch."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}: take one of {', '.join(PRECISIONS)}")
    whole_number(batch, "batch is {}: take at least 1", low=1)


class Engine:
    """E and G of one model.

    Inference mode is on only while the networks compute. It is off while the caller's code runs between two batches.
    """

    def __init__(
        self, model: Model, *, precision: str, batch: int, compiled: bool, remember: int = 0
    ) -> None:
        check_computing(precision, batch)
        self.batch = batch
        self._low = precision == "bfloat16"
        self._device = model.domain_styles.device
        # Threads compute one after the other: one computation uses all cores or the whole GPU, and the memory may not
        # suffice for two.
        self._lock = threading.Lock()
        self._networks = networks_for(model, self._device, compiled=compiled)
        self._cache = OutputCache(remember)  # content codes and E's output

    @torch.inference_mode()
    def guided(self, batches: Iterable[Squares]) -> Iterator[tuple[list[Picture], Tensor, Guidance]]:
        """For each batch: the pictures, their squares x (B, 3, S, S), and E's output; on the CPU."""
        for batch in batches:
            x = torch.stack([square.x for _, square in batch])
            with self._computing():
                on_cpu = self._guidance(x)
            yield [picture for picture, _ in batch], x, on_cpu

    @torch.inference_mode()
    def redrawn(self, batches: Iterable[Squares], styles: Tensor, strength: float) -> Iterator[Drawn]:
        """Each picture with its translations into each of M styles (M, style width), at a strength."""
        styles = styles.to(self._device).float()
        for batch in batches:
            for part in self._networks.split(batch):
                with self._computing():
                    drawn = self._draw(torch.stack([square.x for _, square in part]), styles, strength)
                for row, (picture, square) in enumerate(part):
                    yield picture, square, [pixels[row] for pixels in drawn]

    def _draw(self, x: Tensor, styles: Tensor, strength: float) -> list[NDArray[np.uint8]]:
        """Translate x (B, 3, S, S) into each of the styles (M, style width): M arrays (B, S, S, 3)."""
        content = self._content(x)
        codes = styles[:, None].expand(-1, len(x), -1)  # (M, B, style width)
        if strength != 1:
            own = self._guidance(x).style.to(self._device)
            codes = own + strength * (codes - own)
        networks = self._networks
        return [pixels.cpu().numpy() for pixels in decoded(networks.decode, content, codes, networks.styles)]

    def _content(self, x: Tensor) -> Tensor:
        """The content codes of x (B, 3, S, S)."""
        return self._cache.get("content", x, lambda: self._networks.encode(x.to(self._device)))

    def _guidance(self, x: Tensor) -> Guidance:
        """E's output for x (B, 3, S, S), on the CPU."""
        parts = (part.to(self._device) for part in self._networks.split(x))
        return self._cache.get("guidance", x, lambda: guidance_over(self._networks.guide, parts))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        try:
            low = torch.autocast(self._device.type, torch.bfloat16, enabled=self._low)
            with self._lock, without_tf32(), low:
                yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ConfigError(
                f"{self._device} has too little memory for batches of {self.batch}: lower the batch"
            ) from None
