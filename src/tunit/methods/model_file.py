"""A trained model for inference alone: `model.safetensors`, with a small `model.json` beside it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tunit._version import __version__
from tunit.config import Config, NetworkConfig
from tunit.config.methods import check_method
from tunit.errors import ConfigError, RunError
from tunit.files.atomic import write_text
from tunit.files.reading import Record, UnreadableError, is_file
from tunit.methods.registry import method_of
from tunit.networks.generator import StyledGenerator
from tunit.networks.guide import GuidingNetwork
from tunit.networks.only_shapes import only_shapes
from tunit.networks.tensor_file import Kinds, check_kinds, read_tensors, write_tensors
from tunit.printing import shown

TENSORS, ABOUT = "model.safetensors", "model.json"
DOMAIN_NAMES = "domains.json"  # the names of labels and domains; only in a model folder made for others
MODEL_FILES = TENSORS, ABOUT, DOMAIN_NAMES  # tunit reads no other file of a model folder
FORMAT = 1


@dataclass
class Model:
    """What inference needs: the EMAs of E and G, and how pictures become their input."""

    guide: GuidingNetwork
    generator: StyledGenerator
    config: Config  # a model file keeps the method, the networks, and how pictures become squares
    domain_styles: Tensor  # (domains, style width): the average style code of each domain
    # (domains,) int64: how many pictures each average was taken over. They may be a part of the training pictures, so
    # a domain may hold pictures even if this is 0.
    domain_sizes: Tensor
    step: int  # how many steps it was trained

    @property
    def settings(self) -> NetworkConfig:
        """Sizes of the networks."""
        return self.config.networks

    @property
    def image_size(self) -> int:
        """Side of the pictures."""
        return self.config.data.image_size

    @property
    def fit(self) -> str:
        """How pictures become squares."""
        return self.config.data.fit

    @property
    def background(self) -> tuple[int, int, int]:
        """The colour behind transparent and padded parts."""
        return self.config.data.background

    def style_of(self, k: int) -> Tensor:
        """The average style code (style width,) of domain k. Raises ConfigError if there is none."""
        domains = self.settings.domains
        filled = [str(i) for i, size in enumerate(self.domain_sizes.tolist()) if size]
        if not 0 <= k < domains:
            raise ConfigError(f"domain {k} does not exist: this model has domains 0 to {domains - 1}")
        if not filled:
            raise ConfigError("this model holds no average style of any domain: give a reference picture")
        if str(k) not in filled:
            raise ConfigError(
                f"none of the {int(self.domain_sizes.sum()):,} training pictures that gave the average styles is in "
                f"domain {k}, so this domain has none: take one of {', '.join(filled)}, or give a reference picture"
            )
        return self.domain_styles[k]


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
        "method": model.config.method.method,
        "networks": asdict(model.settings),
        "settings": {
            name: asdict(model.config.of(kind)) for name, kind in method_of(model.config).settings.items()
        },
    }
    write_tensors(folder / TENSORS, tensors, about)
    write_text(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def load_model(folder: Path, device: torch.device | str = "cpu") -> Model:
    """The model in `folder`, in evaluation mode, without gradients, on `device`.

    Raises RunError if there is none, or if it is damaged or of a newer format, ConfigError if its method is not
    known here.
    """
    path = folder / TENSORS
    if not is_file(path):
        raise RunError(f"{folder} holds no {TENSORS}: give the folder of a run that has trained")
    tensors, about = read_tensors(path, _check)
    config = _config_of(Record(about))
    guide, generator = _networks(config)
    for prefix, network in (("guide.", guide), ("generator.", generator)):
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(own)
        network.to(device).eval().requires_grad_(False)
    return Model(
        guide,
        generator,
        config,
        tensors["domain_styles"].to(device),
        tensors["domain_sizes"],
        about["step"],
    )


def _check(about: Record, found: Kinds) -> None:
    """Raises UnreadableError if the tensors are not those of the networks that `about` describes.

    These networks are built on the meta device (shapes without storage), so that a file cannot make tunit allocate
    more than it contains.
    """
    if about.values.get("format") != FORMAT:
        raise UnreadableError(
            f"it is of format {shown(about.values.get('format'))}, this tunit reads {FORMAT}: update tunit"
        )
    about.whole("step")
    check_method(about.values.get("method"), TENSORS)
    config = _config_of(about)
    networks = config.networks
    with only_shapes():
        guide, generator = _networks(config)
        styles = torch.zeros(networks.domains, networks.style_width, dtype=torch.float32)
        sizes = torch.zeros(networks.domains, dtype=torch.int64)
    expected = {f"guide.{k}": v for k, v in guide.state_dict().items()}
    expected |= {f"generator.{k}": v for k, v in generator.state_dict().items()}
    check_kinds(found, expected | {"domain_styles": styles, "domain_sizes": sizes})


def _networks(config: Config) -> tuple[GuidingNetwork, StyledGenerator]:
    """New networks E and G for a model: float32, also if a program has set another default dtype."""
    method = method_of(config)
    return method.guide(config).float(), method.generator(config).float()


def _config_of(about: Record) -> Config:
    """The settings that a model file holds. Files of development versions before 0.1.0 have the
    method's name in `networks`.

    Raises UnreadableError.
    """
    named = {name: about.values.get(name) for name in ("image_size", "fit", "background")}
    if "method" in about.values:
        named["method"] = about.values["method"]
    sections = {"networks": about.record("networks")}
    if "settings" in about.values:
        settings = about.record("settings")
        sections |= {name: settings.record(name) for name in settings.values}
    for section, record in sections.items():
        named |= {f"{section}.{name}": value for name, value in record.values.items()}
    try:
        config = Config().with_overrides(named)
    except ConfigError as error:
        raise UnreadableError(str(error)) from None
    if config.data.image_size == 0:
        raise UnreadableError("its image_size is 0")
    return config
