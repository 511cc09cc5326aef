"""Redraw sources for the part Translate: single results, all domains, walks, and all results in one archive."""

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from tunit.data.finding.found import PictureSource
from tunit.studio.library import Library, png
from tunit.studio.names import domain_names
from tunit.studio.uploads import Prepared, decoding, long_work, prepared
from tunit.studio.workspace import Run
from tunit.translation.inputs import Picture
from tunit.translation.translator import Translator
from tunit.translation.walk import Walk, between

MOST_DOMAINS = 64  # in a grid: the largest domains
AT_ONCE = 12  # styles that are drawn together; more are a long work
RATE = 24.0  # frames per second of a walk
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Source:
    """The picture to redraw: one of the run, or an uploaded one."""

    library: Library
    run: Run
    picture: int | PictureSource

    @property
    def translator(self) -> Translator:
        """The model."""
        return self.library.translator(self.run)

    def prepare(self, picture: PictureSource) -> Prepared:
        """An uploaded picture as the networks see it."""
        return prepared(picture, self.translator)

    def redrawn(self, styles: Tensor, strength: float, *, own_size: bool = False) -> list[Image.Image]:
        """The picture redrawn in each of the styles (M, style width)."""
        drawn: list[Image.Image] = []
        with long_work() if len(styles) > AT_ONCE else nullcontext(), decoding():
            for part in torch.split(styles, AT_ONCE):
                ((_, images),) = self.translator.redraw(
                    [self._given], part, strength=strength, resize="original" if own_size else None
                )
                drawn += images
        return drawn

    @property
    def _given(self) -> Picture:
        if isinstance(self.picture, int):
            return self.library.pixels(self.run, self.picture)
        return self.picture

    def own_style(self) -> Tensor:
        """The picture's own style code (style width,)."""
        with decoding():
            return self.translator.guide(self._given).style[0]

    def everywhere(self, strength: float) -> list[tuple[int, Image.Image]]:
        """The picture in the average style of every domain that has one: (domain, result), in order."""
        sizes = self.translator.domain_sizes
        largest = sorted((k for k, size in enumerate(sizes) if size), key=lambda k: -sizes[k])
        domains = sorted(largest[:MOST_DOMAINS])
        if not domains:
            return []
        styles = torch.stack([self.translator.domain_style(k) for k in domains])
        return list(zip(domains, self.redrawn(styles, strength), strict=True))

    def walk(self, stops: Tensor, frames: int, kind: str) -> bytes:
        """An animation from style to style (M, style width); if only one is given, from the picture's own style to
        it.
        kind: .gif, .webp or .mp4.
        """
        if len(stops) == 1:
            stops = torch.cat([self.own_style()[None], stops])
        return Walk(self.redrawn(between(stops, frames), 1.0)).encoded(kind, rate=RATE)

    def archive(self, mix: Tensor | None, strength: float) -> bytes:
        """A zip of the results: in the style of the mix, and in the style of every domain."""
        names = domain_names(self.run)
        found = io.BytesIO()
        with zipfile.ZipFile(found, "w", zipfile.ZIP_STORED) as archive:
            for name, image in self._all(mix, strength, names):
                archive.writestr(f"{name}.png", png(image))
        return found.getvalue()

    def _all(
        self, mix: Tensor | None, strength: float, names: dict[int, str]
    ) -> Iterator[tuple[str, Image.Image]]:
        if mix is not None:
            yield "mix", self.redrawn(mix[None], strength)[0]
        for k, image in self.everywhere(strength):
            word = _UNSAFE.sub("-", names.get(k, ""))[:40].strip("-.")
            yield f"domain-{k}" + (f"-{word}" if word else ""), image


def data_uri(image: Image.Image) -> str:
    """A picture as a data URI (PNG), for use in JSON."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")
