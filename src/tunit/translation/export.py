"""Export a trained model as files for other programs: ONNX or torch.export.

Each file is read again, and its outputs are compared with those of the model's networks, before it is kept.
The files contain none of tunit's own C code: networks do not use it while they are traced.
"""

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunit._version import __version__
from tunit.errors import ConfigError, RunError
from tunit.files import result_names
from tunit.files.atomic import writable, write_text
from tunit.methods.model_file import Model
from tunit.methods.registry import method_of

FORMAT = 1
PACKAGES = "onnx", "onnxscript", "onnxruntime"
# The largest allowed difference, relative to the largest value of an output or, if that is below 1, to 1.
TOLERANCE = 1e-3
MOST_BATCH = 1 << 16
RANDOM_BATCHES = (1, 3)  # sizes of the random batches; the networks are traced with a batch of 2
Run = Callable[[Sequence[Tensor]], Tensor]


class StyleEncoder(nn.Module):
    """E_S: pictures (B, 3, S, S) to style codes (B, style width)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.guide = model.guide

    def forward(self, picture: Tensor) -> Tensor:
        """The style codes."""
        style: Tensor = self.guide(picture).style
        return style


class DomainClassifier(nn.Module):
    """E_C: pictures (B, 3, S, S) to the probabilities of domains (B, domains)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.guide = model.guide

    def forward(self, picture: Tensor) -> Tensor:
        """The probabilities."""
        probabilities: Tensor = self.guide(picture).logits.softmax(1)
        return probabilities


class StyleTranslator(nn.Module):
    """G: pictures (B, 3, S, S) and style codes (B, style width) to pictures."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.generator = model.generator

    def forward(self, picture: Tensor, style: Tensor) -> Tensor:
        """The pictures in these styles."""
        drawn: Tensor = self.generator(picture, style)
        return drawn


class ReferenceTranslator(nn.Module):
    """G with E_S: pictures and references, both (B, 3, S, S), to pictures."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.generator, self.guide = model.generator, model.guide

    def forward(self, picture: Tensor, reference: Tensor) -> Tensor:
        """The pictures in the references' styles."""
        drawn: Tensor = self.generator(picture, self.guide(reference).style)
        return drawn


@dataclass(frozen=True)
class _Part:
    """One file: its network, its inputs and its output."""

    name: str
    network: Callable[[Model], nn.Module]
    inputs: tuple[str, ...]
    output: str


PARTS = (
    _Part(result_names.STYLE_ENCODER, StyleEncoder, ("picture",), "style"),
    _Part(result_names.DOMAIN_CLASSIFIER, DomainClassifier, ("picture",), "probabilities"),
    _Part(result_names.TRANSLATOR, StyleTranslator, ("picture", "style"), "translation"),
    _Part(result_names.REFERENCE_TRANSLATOR, ReferenceTranslator, ("picture", "reference"), "translation"),
)


def names_of_files(model: Model, kind: str, only: Sequence[str] = ()) -> list[str]:
    """The names of the files that `export_model` writes."""
    return [part.name + result_names.SUFFIXES[kind] for part in _parts(model, only)] + [result_names.ABOUT]


def _parts(model: Model, only: Sequence[str]) -> list[_Part]:
    """The files to write. A method that learns no domains has no domain classifier."""
    absent = None if method_of(model.config).learns_domains else DomainClassifier
    return [part for part in PARTS if part.network is not absent and (not only or part.name in only)]


def check_packages(kind: str) -> None:
    """Raises ConfigError if a package that an export needs is not installed."""
    if kind != "onnx":
        return
    try:
        for name in PACKAGES:
            importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'ONNX files need a package that is not installed ({error.name}): pip install "tunit[onnx]", or take '
            "--format torch"
        ) from None


def export_model(
    model: Model,
    folder: Path,
    kind: str,
    pictures: Tensor,
    names: Sequence[str] = (),
    only: Sequence[str] = (),
) -> dict[str, float]:
    """Write the files of `kind` ("onnx" or "torch") into `folder`, with export.json, which describes how to use them.

    model: on the CPU. pictures: (N, 3, S, S) in [-1, 1], N >= 0; outputs are compared on them and on random pictures.
    names: the names of domains; a domain without a name is called "domain K". only: the parts to write; () for all.
    Returns the largest difference from PyTorch for each file. Raises RunError if one differs by more than TOLERANCE,
    or cannot be written; then the caller should keep no file.
    """
    check_packages(kind)
    samples = _samples(model, pictures)
    differences = {}
    for part in _parts(model, only):
        path = folder / (part.name + result_names.SUFFIXES[kind])
        network = part.network(model).eval()
        example = tuple(samples[-1][name][[0, 0]] for name in part.inputs)
        with writable(path):
            run = (_as_onnx if kind == "onnx" else _as_torch)(network, example, part, path)
        differences[path.name] = _difference(path.name, network, run, part, samples)
    write_text(
        folder / result_names.ABOUT, json.dumps(_about(model, kind, names, differences), indent=2) + "\n"
    )
    return differences


@torch.no_grad()
def _samples(model: Model, pictures: Tensor) -> list[dict[str, Tensor]]:
    """Batches of inputs by name: random ones, and the pictures, each with the previous one as its reference."""
    draw = torch.Generator().manual_seed(0)
    side = model.image_size
    batches = [torch.rand(size, 3, side, side, generator=draw) * 2 - 1 for size in RANDOM_BATCHES]
    if len(pictures):
        batches.append(pictures)
    references = [x.roll(1, 0).flip(3) for x in batches]
    return [
        {"picture": x, "reference": y, "style": model.guide(y).style}
        for x, y in zip(batches, references, strict=True)
    ]


def _as_onnx(network: nn.Module, example: tuple[Tensor, ...], part: _Part, path: Path) -> Run:
    import onnxruntime

    with _quiet():
        torch.onnx.export(
            network,
            example,
            path,
            input_names=list(part.inputs),
            output_names=[part.output],
            dynamic_shapes=_dynamic(example),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> Tensor:
        """The output of the file for some inputs."""
        feed = {name: x.numpy() for name, x in zip(part.inputs, inputs, strict=True)}
        return torch.from_numpy(session.run([part.output], feed)[0])

    return run


def _as_torch(network: nn.Module, example: tuple[Tensor, ...], part: _Part, path: Path) -> Run:
    with _quiet():
        saved = io.BytesIO()
        traced = torch.export.export(network, example, dynamic_shapes=_dynamic(example))
        # E may have a head in an autocast block whose output is not used; torch.export.load refuses such a block.
        traced.graph.eliminate_dead_code()
        torch.export.save(traced, saved)
        path.write_bytes(saved.getvalue())
        # Read as another program will read it; but from memory, so that it is certainly the program that was saved.
        program = torch.export.load(saved).module()
    return lambda inputs: program(*inputs)


def _dynamic(example: tuple[Tensor, ...]) -> Any:
    """The dynamic shapes: any number of pictures, equal for all inputs."""
    batch = torch.export.Dim("batch", min=1, max=MOST_BATCH)
    return tuple({0: batch} for _ in example)


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without the exporter's own messages. (One says that torchvision is missing, which is not needed.)"""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


@torch.no_grad()
def _difference(
    name: str, network: nn.Module, run: Run, part: _Part, samples: list[dict[str, Tensor]]
) -> float:
    """The largest relative difference from PyTorch. Raises RunError if it is larger than TOLERANCE."""
    largest = 0.0
    for sample in samples:
        inputs = [sample[key] for key in part.inputs]
        ours, theirs = network(*inputs), run(inputs)
        if ours.shape != theirs.shape:
            raise RunError(
                f"{name} gives shape {tuple(theirs.shape)} instead of {tuple(ours.shape)}: nothing was written"
            )
        apart = float(((ours - theirs).abs().max() / ours.abs().max().clamp_min(1)).item())
        if not apart <= TOLERANCE:  # true for NaN, too
            raise RunError(
                f"{name} differs from PyTorch by {apart:.2g}, more than {TOLERANCE:g}: nothing was written; try the "
                "other --format, or another version of its package"
            )
        largest = max(largest, apart)
    return largest


def _about(model: Model, kind: str, names: Sequence[str], differences: dict[str, float]) -> dict[str, Any]:
    """Everything that a program must know to use the files."""
    side, width = model.image_size, model.settings.style_width
    square: dict[str, Any] = {"shape": ["batch", 3, side, side], "range": [-1, 1]}
    values: dict[str, dict[str, Any]] = {
        **dict.fromkeys(("picture", "reference", "translation"), square),
        "style": {"shape": ["batch", width]},
        "probabilities": {"shape": ["batch", model.settings.domains], "range": [0, 1]},
    }
    domains = []
    for number, (style, size) in enumerate(
        zip(model.domain_styles.tolist(), model.domain_sizes.tolist(), strict=True)
    ):
        name = names[number] if number < len(names) else f"domain {number}"
        domains.append(
            {"number": number, "name": name, "pictures": size, "average_style": style if size else None}
        )
    return {
        "format": FORMAT,
        "tunit": __version__,
        "torch": torch.__version__,
        "kind": kind,
        "method": model.config.method.method,
        "step": model.step,
        "image_size": side,
        "fit": model.fit,
        "background": list(model.background),
        "pictures_are": "float32, red, green and blue, rows from the top: 0..255 / 127.5 - 1",
        "files": [
            {
                "file": part.name + result_names.SUFFIXES[kind],
                "inputs": [{"name": name, **values[name]} for name in part.inputs],
                "output": {"name": part.output, **values[part.output]},
                "difference_from_pytorch": differences[part.name + result_names.SUFFIXES[kind]],
            }
            for part in PARTS
            if part.name + result_names.SUFFIXES[kind] in differences
        ],
        "domains": domains,
    }
