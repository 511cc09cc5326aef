"""A trained model for inference alone: `model.safetensors`, with a small `model.json` beside it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tunit._version import __version__
from tunit.config import NetworkConfig
from tunit.errors import RunError
from tunit.files import write_text
from tunit.networks.build import AnyGenerator, AnyGuide, build_generator, build_guide
from tunit.networks.tensor_file import read_tensors, write_tensors

TENSORS, ABOUT = "model.safetensors", "model.json"
FORMAT = 1


@dataclass
class Model:
    """What inference needs: the averages of E and G, and how pictures become their input."""

    guide: AnyGuide
    generator: AnyGenerator
    settings: NetworkConfig
    image_size: int
    fit: str  # how pictures become squares
    background: tuple[int, int, int]
    domain_styles: Tensor  # (domains, style width): the average style code of each domain
    domain_sizes: Tensor  # (domains,) int64: of how many pictures each average was taken
    step: int  # training steps behind it


def save_model(folder: Path, model: Model) -> None:
    """Write the two files of `model` into `folder`, each atomically."""
    tensors = {f"guide.{k}": v for k, v in model.guide.state_dict().items()}
    tensors |= {f"generator.{k}": v for k, v in model.generator.state_dict().items()}
    tensors |= {"domain_styles": model.domain_styles, "domain_sizes": model.domain_sizes}
    about = {
        "format": FORMAT,
        "tunit": __version__,
        "step": model.step,
        "image_size": model.image_size,
        "fit": model.fit,
        "background": list(model.background),
        "networks": asdict(model.settings),
    }
    write_tensors(folder / TENSORS, tensors, about)
    write_text(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def load_model(folder: Path, device: torch.device | str = "cpu") -> Model:
    """The model in `folder`, in evaluation mode, without gradients, on `device`.

    Raises RunError where there is none, or where it is damaged or of a newer format.
    """
    if not (folder / TENSORS).is_file():
        raise RunError(f"{folder} holds no {TENSORS}: give the folder of a run that has trained")
    tensors, about = read_tensors(folder / TENSORS)
    if about.get("format") != FORMAT:
        raise RunError(
            f"{folder / TENSORS} is of format {about.get('format')}, this tunit reads {FORMAT}: update tunit"
        )
    settings = NetworkConfig(**about["networks"])
    guide, generator = build_guide(settings), build_generator(settings, about["image_size"])
    for prefix, network in (("guide.", guide), ("generator.", generator)):
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(own)
        network.to(device).eval().requires_grad_(False)
    return Model(
        guide,
        generator,
        settings,
        about["image_size"],
        about["fit"],
        tuple(about["background"]),
        tensors["domain_styles"].to(device),
        tensors["domain_sizes"],
        about["step"],
    )
