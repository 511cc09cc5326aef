"""The inference API: translate pictures into the style of others, and find their domains.

>>> translator = Translator.load("runs/mine")
>>> translator.translate("cat.jpg", reference="tiger.jpg").save("tiger-like.png")
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tunit.data.decoding.decode import MAX_PIXELS
from tunit.errors import ConfigError, DataError
from tunit.given import whole_number
from tunit.machine import choose_device
from tunit.methods.model_file import Model, load_model
from tunit.networks.guide import Guidance
from tunit.translation.classification import (
    Classified,
    DomainRow,
    check_learns_domains,
    classified,
    domain_rows,
    joined,
)
from tunit.translation.engine import BATCH, Engine
from tunit.translation.inputs import (
    Picture,
    PicturesGiven,
    Report,
    Resize,
    Square,
    check_fit,
    check_resize,
    open_pictures,
    resize_wanted,
    squares,
)
from tunit.translation.model_place import model_folder
from tunit.translation.ray_engine import RayEngine, engine_on
from tunit.translation.results import resized_results
from tunit.translation.values import Codes, given_strength, style_code, style_codes
from tunit.translation.walk import MOST_FRAMES, Walk, between


class Translator:
    """The inference API of one trained model.

    A picture is a path, a Pillow image of any mode, a uint8 array (H, W, 3), or a float tensor (3, S, S) in [-1, 1]
    with S = `image_size`. Where several pictures are accepted, they may be an iterable of these, or the path of a
    folder, an archive or a list; they are read `batch` at a time.

    Several threads may share a translator: they read and decode in parallel, and compute one after the other.

    A picture that cannot be read raises DataError. If `report` is given, it is called with a `LeftOut` instead, and
    the picture is skipped; but a single picture that was given alone still raises.
    """

    def __init__(
        self,
        model: Model,
        *,
        precision: str = "float32",
        batch: int = BATCH,
        compiled: bool = False,
        max_pixels: int = MAX_PIXELS,
        remember: int = 0,
        on_cluster: RayEngine | None = None,
    ) -> None:
        whole_number(max_pixels, "max_pixels is {}: take at least 1", low=1)
        self.model = model
        self.device, self.precision = model.domain_styles.device, precision
        self.batch, self.max_pixels = batch, max_pixels
        self._decode = "local" if on_cluster is None else "ray"
        self._engine = on_cluster or Engine(
            model, precision=precision, batch=batch, compiled=compiled, remember=remember
        )

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        device: str | torch.device = "auto",
        precision: str = "float32",
        batch: int = BATCH,
        compiled: bool = False,
        max_pixels: int = MAX_PIXELS,
        remember: int = 0,
        engine: str = "local",
    ) -> "Translator":
        """The model of a run folder, of any folder that holds a model.safetensors, or of a hub.

        run: a path, or the name of a model on the hub of huggingface_hub, "user/name". An existing path is never
        looked for on the hub, nor is a name in an existing folder, such as "runs/cats" if there is a folder runs.

        device: "auto" (cuda if there is such a GPU, otherwise cpu), "cpu", "cuda", "cuda:N", "mps" or "xpu", or a
        torch.device. precision: "float32" or "bfloat16", for convolutions and matrix products. batch: how many
        pictures are in memory and go through the networks together. compiled: use torch.compile, which takes about a
        minute before the first result. max_pixels: a file that declares more pixels is refused before decoding.
        remember: N keeps the content codes and E's output of the N pictures that were used last, so that another
        translation of one of them takes only G's decoder. Only pictures that are given alone, not in a list or
        folder, are kept. engine: "ray" decodes and computes on a Ray cluster, whose machines must have the model and
        the pictures under the same absolute paths; nothing is remembered there.

        Raises RunError if there is no model, ConfigError if the device or a compiler is missing.
        """
        folder = model_folder(run)
        ray = engine_on(engine, folder, device, precision, batch, compiled)
        model = load_model(folder, choose_device("cpu" if ray else device))
        given = partial(cls, model, precision=precision, compiled=compiled, on_cluster=ray)
        return given(batch=batch, max_pixels=max_pixels, remember=remember)

    @property
    def number_of_domains(self) -> int:
        """K, the number of domains."""
        return self.model.settings.domains

    @property
    def image_size(self) -> int:
        """S, the side of the squares that are the input of the networks."""
        return self.model.image_size

    @property
    def domain_sizes(self) -> list[int]:
        """How many training pictures each domain's average style was computed from; 0 if it has none.

        Together they are at most 4,096, evenly spread over the training pictures.
        """
        return [int(size) for size in self.model.domain_sizes]

    def guide(self, pictures: PicturesGiven, *, report: Report | None = None) -> Guidance:
        """Domain logits (N, domains) and style codes (N, style width) of one or several pictures, on the CPU."""
        return self._guided_whole(pictures, "picture", report)

    def _guided_whole(self, pictures: PicturesGiven, what: str, report: Report | None = None) -> Guidance:
        """As `guide`; what: how an error calls the pictures."""
        return joined([guidance for _, _, guidance in self.guided(pictures, report=report)], what)

    def guided(
        self, pictures: PicturesGiven, *, report: Report | None = None
    ) -> Iterator[tuple[list[Picture], Tensor, Guidance]]:
        """For each batch: the pictures, their squares (B, 3, S, S), and E's output for them; on the CPU."""
        opened, is_single = open_pictures(pictures, report)
        return self._engine.guided(self._batches(opened, self.model.fit, None if is_single else report))

    def style(self, reference: PicturesGiven, *, report: Report | None = None) -> Tensor:
        """The style code (style width,) of a picture; for several pictures, the mean of their codes."""
        return self._guided_whole(reference, "reference", report).style.double().mean(0).float()

    def domain_style(self, k: int) -> Tensor:
        """The average style code (style width,) of domain k in training. Raises ConfigError if there is none."""
        absent = f"domain {{}} does not exist: this model has domains 0 to {self.number_of_domains - 1}"
        return self.model.style_of(whole_number(k, absent)).float().cpu()

    def translate(
        self,
        source: PicturesGiven,
        reference: PicturesGiven | None = None,
        *,
        domain: int | None = None,
        style: Codes | None = None,
        strength: float = 1.0,
        fit: str | None = None,
        resize: Resize = None,
        restore_size: bool = False,
        restore_grey: bool = False,
        report: Report | None = None,
    ) -> Image.Image | list[Image.Image]:
        """`source` redrawn in one style: an image for one picture, a list for several (all in memory at once).

        reference, domain, style: give exactly one of them: one or several pictures (whose styles are averaged), the
            number of a domain, or a style code (style width,).
        strength, fit, resize, restore_grey: as in `redraw`, which takes any number of sources and styles.
        restore_size: results get the size and the proportions of their sources; the same as resize="original".
        """
        resize = resize_wanted(resize, restore_size)
        given = {"reference": reference, "domain": domain, "style": style}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            got = " and ".join(names) or "none of them"
            raise ConfigError(f"translate was given {got}: give exactly one of reference, domain and style")
        if reference is not None:
            style = self.style(reference, report=report)
        elif domain is not None:
            style = self.domain_style(domain)
        assert style is not None
        codes = style_code(style, self.model.settings.style_width)
        opened, is_single = open_pictures(source, report)
        pictures = (picture for _, picture in opened)
        report = None if is_single else report
        drawn = partial(self.redraw, pictures, codes, strength=strength, fit=fit, resize=resize)
        results = [images[0] for _, images in drawn(restore_grey=restore_grey, report=report)]
        return results[0] if is_single else results

    def redraw(
        self,
        sources: PicturesGiven,
        styles: Codes,
        *,
        strength: float = 1.0,
        fit: str | None = None,
        resize: Resize = None,
        restore_grey: bool = False,
        report: Report | None = None,
    ) -> Iterator[tuple[Picture, list[Image.Image]]]:
        """An iterator over each source with its results, one per style code. It needs a bounded amount of memory.

        styles: (M, style width); a tensor, an array or a list.
        strength: how far to move from the source's own style code to the given ones: 0 keeps the source's, 1 takes
            the given ones, more than 1 exaggerates the difference.
        fit: how a source becomes a square: "stretch", "crop" to the central square, or "pad" (the padding is cut off
            the result); None is the fit that the model was trained with, which references always get.
        resize: None gives results of the model's size (after "pad" that is the longer side); "original" gives the
            source's own size (of its central square after "crop"); a number is the length of the longer side, with
            the source's proportions.
        restore_grey: results of sources without colours are grey (mode L).

        If a source is transparent, its results are transparent, too (mode RGBA or LA).
        """
        styles = style_codes(styles, self.model.settings.style_width)
        strength = given_strength(strength)
        fit, resize = check_fit(fit or self.model.fit), check_resize(resize)
        opened, _ = open_pictures(sources, report)
        batches = self._batches(opened, fit, report, opacity=True)
        drawn = self._engine.redrawn(batches, styles, strength)
        return resized_results(drawn, resize, fit, restore_grey=restore_grey, ahead=self.batch - 1)

    def classify(self, pictures: PicturesGiven, *, report: Report | None = None) -> Classified:
        """The domain, its probability and the style code of each of N pictures; unpacks as a triple.

        Raises ConfigError for a model of FUNIT, which assigns no domains; so does `domains`.
        """
        check_learns_domains(self.model)
        return classified(self.guide(pictures, report=report))

    def domains(self, pictures: PicturesGiven, *, report: Report | None = None) -> list[DomainRow]:
        """The table of `tunit domains`: for each picture its domain, the confidence, and how far off-topic it is.

        Rows are in the order in which pictures are read. With fewer than 12 different ones all outlier scores are 0.
        """
        check_learns_domains(self.model)
        opened, is_single = open_pictures(pictures, report)
        batches = self._batches(opened, self.model.fit, None if is_single else report)
        return domain_rows(self._engine, batches)

    def interpolate(
        self,
        source: Picture,
        references: PicturesGiven,
        frames: int = 48,
        *,
        fit: str | None = None,
        resize: Resize = None,
        restore_size: bool = False,
        restore_grey: bool = False,
    ) -> Walk:
        """`source` redrawn in styles that move in equal steps from the first reference to the second, and so on.

        With a single reference, the walk starts from the source's own style. frames: how many, 2 to 2,000; the first
        and last frames have the first and last styles. fit, resize, restore_size, restore_grey: as in `translate`.
        """
        whole_number(frames, f"frames is {{}}: take from 2 to {MOST_FRAMES:,}", 2, MOST_FRAMES)
        opened, is_single = open_pictures(source, None)
        if not is_single:
            raise DataError("interpolate redraws one picture, but several were given: give one")
        picture = next(opened)[1]
        styles = self._guided_whole(references, "reference").style
        if len(styles) == 1:
            styles = torch.cat([self.guide(picture).style, styles])
        codes = between(styles, frames)
        resize = resize_wanted(resize, restore_size)
        drawn = self.redraw(picture, codes, fit=fit, resize=resize, restore_grey=restore_grey)
        return Walk(next(images for _, images in drawn))

    def _batches(
        self,
        opened: Iterator[tuple[str, Picture]],
        fit: str,
        report: Report | None,
        *,
        opacity: bool = False,
    ) -> Iterator[list[tuple[Picture, Square]]]:
        stream = squares(
            opened,
            self.image_size,
            fit,
            self.model.background,
            report,
            ahead=self.batch,
            max_pixels=self.max_pixels,
            opacity=opacity,
            engine=self._decode,
        )
        while batch := list(islice(stream, self.batch)):
            yield batch
