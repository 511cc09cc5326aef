"""A trained model for inference alone: `model.safetensors`, with a small `model.json` beside it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tunit._version import __version__
from tunit.config import Config, NetworkConfig
from tunit.errors import ConfigError, RunError
from tunit.files import write_text
from tunit.networks.build import AnyGenerator, AnyGuide, build_generator, build_guide
from tunit.networks.tensor_file import Kinds, check_kinds, read_tensors, write_tensors
from tunit.printing import shown
from tunit.reading import Record, UnreadableError, is_file

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
    path = folder / TENSORS
    if not is_file(path):
        raise RunError(f"{folder} holds no {TENSORS}: give the folder of a run that has trained")
    tensors, about = read_tensors(path, _check)
    config = _config_of(Record(about))
    settings = config.networks
    guide, generator = build_guide(settings), build_generator(settings, config.data.image_size)
    for prefix, network in (("guide.", guide), ("generator.", generator)):
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(own)
        network.to(device).eval().requires_grad_(False)
    return Model(
        guide,
        generator,
        settings,
        config.data.image_size,
        config.data.fit,
        config.data.background,
        tensors["domain_styles"].to(device),
        tensors["domain_sizes"],
        about["step"],
    )


def _check(about: Record, found: Kinds) -> None:
    """Raises UnreadableError where the tensors are not those of the networks that `about` asks for.

    These are built without memory: what a file asks for is allocated only where the file has it.
    """
    if about.values.get("format") != FORMAT:
        raise UnreadableError(
            f"it is of format {shown(about.values.get('format'))}, this tunit reads {FORMAT}: update tunit"
        )
    about.whole("step")
    config = _config_of(about)
    networks = config.networks
    with torch.device("meta"):
        guide, generator = build_guide(networks), build_generator(networks, config.data.image_size)
        styles = torch.zeros(networks.domains, networks.style_width)
        sizes = torch.zeros(networks.domains, dtype=torch.int64)
    expected = {f"guide.{k}": v for k, v in guide.state_dict().items()}
    expected |= {f"generator.{k}": v for k, v in generator.state_dict().items()}
    check_kinds(found, expected | {"domain_styles": styles, "domain_sizes": sizes})


def _config_of(about: Record) -> Config:
    """The config as far as a model's file says it. Raises UnreadableError."""
    named = {name: about.values.get(name) for name in ("image_size", "fit", "background")}
    networks = about.record("networks").values
    try:
        config = Config().with_overrides(named | {f"networks.{name}": v for name, v in networks.items()})
    except ConfigError as error:
        raise UnreadableError(str(error)) from None
    if config.data.image_size == 0:
        raise UnreadableError("its image_size is 0")
    return config
