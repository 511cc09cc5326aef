"""A small random model whose guide distinguishes pictures, saved like a run's model; and pictures for it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tunit.config import Config
from tunit.methods.funit import FUNIT
from tunit.methods.method import Method
from tunit.methods.model_file import Model, save_model
from tunit.methods.semit import SEMIT
from tunit.methods.tunit import TUNIT
from tunit.networks.generator import StyledGenerator
from tunit.networks.guide import GuidingNetwork
from tunit.translation.translator import Translator

SIZE, DOMAINS, WIDTH = 32, 3, 8


def tiny_model(fit: str = "stretch", sizes: tuple[int, ...] = (5, 0, 2)) -> Model:
    torch.manual_seed(0)
    sizes_of = {
        "domains": DOMAINS,
        "style_width": WIDTH,
        "guide_width": 4,
        "generator_width": 4,
        "head_std": 1.0,
    }
    config = Config().with_overrides({"image_size": SIZE, "fit": fit} | sizes_of)
    guide, generator = TUNIT.guide(config).eval(), TUNIT.generator(config).eval()
    with torch.no_grad():
        guide.style_head.weight *= 300  # styles that differ clearly
        usual = guide(torch.cat([to_input(noise(seed)) for seed in range(100, 140)])).logits
        guide.domain_head.weight /= usual.std(0)[:, None]
        guide.domain_head.bias -= (usual / usual.std(0)).mean(0)  # every domain has some pictures
    styles = torch.randn(DOMAINS, WIDTH) * (torch.tensor(sizes)[:, None] > 0)
    counts = torch.tensor(sizes, dtype=torch.int64)
    return Model(guide, generator, config, styles, counts, step=7)


def save_tiny(folder: Path, fit: str = "stretch", sizes: tuple[int, ...] = (5, 0, 2)) -> Model:
    model = tiny_model(fit, sizes)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model)
    return model


def save_tiny_funit(folder: Path) -> Model:
    """As `save_tiny`, with a method that learns no domains."""
    return _save_tiny_of(FUNIT, folder)


def save_tiny_semit(folder: Path) -> Model:
    """As `save_tiny`, with the baseline whose E has a classifier on its style codes."""
    return _save_tiny_of(SEMIT, folder)


def _save_tiny_of(method: Method, folder: Path) -> Model:
    config = tiny_model().config.with_overrides({"method": method.name})
    guide, generator = method.guide(config).eval(), method.generator(config).eval()
    model = Model(guide, generator, config, torch.randn(DOMAINS, WIDTH), torch.tensor([5, 3, 2]), step=7)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model)
    return model


def noise(seed: int, height: int = SIZE, width: int = SIZE) -> NDArray[np.uint8]:
    """Smooth coloured noise, different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    tint = rng.uniform(0.2, 1, 3)
    smooth = Image.fromarray((coarse * tint).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.asarray(smooth)


def write(path: Path, seed: int = 0, height: int = SIZE, width: int = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, height, width)).save(path)
    return path


def to_input(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(1, 3, S, S) in [-1, 1] from one square picture, written out."""
    return torch.tensor(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def to_pixels(y: torch.Tensor) -> NDArray[np.uint8]:
    return np.clip(np.rint((y[0].permute(1, 2, 0).numpy() + 1) * 127.5), 0, 255).astype(np.uint8)


@torch.no_grad()
def redrawn(model: Model, source: NDArray[np.uint8], style: torch.Tensor) -> NDArray[np.uint8]:
    """G(x, s) for a square picture, as pixels."""
    return to_pixels(model.generator(to_input(source), style[None]))


@torch.no_grad()
def style_of(model: Model, pixels: NDArray[np.uint8]) -> torch.Tensor:
    return model.guide(to_input(pixels)).style[0]


def assert_translates(
    translator: Translator, networks: tuple[GuidingNetwork, StyledGenerator], x: torch.Tensor
) -> None:
    """Asserts that the translator, with x[1] as reference, draws x[0] as `networks` do. x: (N, 3, S, S)."""
    guide, generator = networks
    drawn = translator.translate(x[0], x[1])
    assert isinstance(drawn, Image.Image)
    expected = generator(x[:1], guide(x[1:2]).style)[0]
    shown = torch.tensor(list(drawn.tobytes()), dtype=torch.float32).view(*drawn.size, 3).permute(2, 0, 1)
    torch.testing.assert_close(shown / 127.5 - 1, expected.detach(), atol=1 / 127.5, rtol=0)
