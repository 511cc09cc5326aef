"""Feature networks by name: they turn pictures into the vectors that FID, KID and D&C compare.

Figures of different feature networks cannot be compared, so the network's name is printed with every figure.

References:
    [1] Szegedy et al. Rethinking the inception architecture, CVPR 2016, in the form that defines FID.
    [2] Oquab et al. DINOv2, 2023. [3] Parmar et al. On aliased resizing and surprising subtleties in GAN
    evaluation, CVPR 2022 (`clean`). [4] Chen et al. Improved baselines with momentum contrastive learning, 2020.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.errors import ConfigError
from tunit.features.imagenet import imagenet_normalised
from tunit.features.random_vgg16 import RandomVGG16
from tunit.features.resnet import load_moco
from tunit.files.download import UnreachableError, fetched, sha256_of
from tunit.files.paths import expand_home
from tunit.machine import is_out_of_memory, without_tf32

INCEPTION_ADDRESS = (
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
)
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
INCEPTION_SIDE, INCEPTION_WIDTH = 299, 2048
# Its publisher gives no SHA-256 that `fetched` could check: the user downloads it, and gives the file's path.
MOCO_ADDRESS = (
    "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar"
)
MOCO_SUFFIXES = (".pth", ".tar")
MOCO_SIDE = 224
DINOV2 = "facebook/dinov2-small"
DINOV2_SIDE = 224
PREPROCESSINGS = ("clean", "legacy")
DEFAULT = "random-vgg16"
NAMES = (DEFAULT, "inception", "dinov2")  # the networks that need no path
HASH_SHOWN = 8  # characters of a file's SHA-256 in the network's name


class UntrustedNetworkError(ConfigError):
    """A file is a program, and the user has not said that it may be run."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A network with its preprocessing: pictures (B, 3, S, S) in [0, 1] to features (B, width)."""

    name: str  # with everything that changes the features, such as "inception (legacy)"
    extract: Callable[[Tensor], Tensor]
    device: torch.device

    @without_tf32()
    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Features (B, width), float32, on the network's device."""
        features = self.extract(pictures.to(self.device).float())
        return features.flatten(1).float()


def load_feature_network(
    name: str = DEFAULT,
    *,
    preprocessing: str = "clean",
    device: torch.device | str = "cpu",
    trust: bool = False,
    flag: str = "--features",
) -> FeatureNetwork:
    """The feature network `name`: "random-vgg16", "inception", "dinov2", or the path of a file: TorchScript, .pt2, or
    MoCo v2's checkpoint of ResNet-50 (.pth.tar) [4].

    A TorchScript or .pt2 file takes float pictures (B, 3, S, S) in [0, 1] at the size of the data and returns
    (B, width). NVIDIA's FID Inception network, also if it was saved again, is treated as `inception`: a TorchScript
    network with an attribute `layers` that gives 2,048 features of pictures of 299 px.
    preprocessing: for the Inception network, "clean" [3] (antialiased bicubic resize to 299), or "legacy" as for the
    paper's figures (ImageNet normalisation, nearest-neighbour resize), which another TorchScript file cannot have.
    trust: whether to load a TorchScript or .pt2 file. Loading a .pt2 file can run any code, a TorchScript file can
    write files. Only the published file of the FID Inception network is loaded without it, because its SHA-256 is
    known. flag: the option that names the network, for error messages.

    Raises ConfigError for what is missing or cannot be read (UntrustedNetworkError for a program that is not
    trusted), UnreachableError for what cannot be downloaded.
    """
    device = torch.device(device)
    if preprocessing not in PREPROCESSINGS:
        raise ConfigError(f"preprocessing is {preprocessing!r}: take one of {', '.join(PREPROCESSINGS)}")
    if name == "random-vgg16":
        network = RandomVGG16().to(device).eval()
        return FeatureNetwork(name, network, device)
    if name == "dinov2":
        return FeatureNetwork(name, _dinov2(device), device)
    if name == "moco-v2":
        raise ConfigError(
            f"moco-v2 is not downloaded, because no hash of it is known: download {MOCO_ADDRESS} and give {flag} FILE"
        )
    if name == "inception":
        path = fetched(INCEPTION_ADDRESS, INCEPTION_SHA256, f"{flag} FILE, or {flag} random-vgg16")
    else:
        path = Path() if name == "" else expand_home(name)
        if not path.is_file():
            raise ConfigError(
                f"feature network {name!r} is neither a file nor a known name: take random-vgg16, inception, dinov2, "
                "or the path of a TorchScript or .pt2 file, or of MoCo v2's checkpoint"
            )
    digest = sha256_of(path)
    label = f"{path.name} {digest[:HASH_SHOWN]}"  # so that two networks never have the same name
    if path.suffix in MOCO_SUFFIXES:
        return FeatureNetwork(f"moco-v2 ({label})", _moco(path, device), device)
    published = digest == INCEPTION_SHA256
    if not published and not trust:
        raise UntrustedNetworkError(
            f"{path} is a program that can do anything on this machine: give --trust-features, too, if you know who "
            "made it, or take random-vgg16, inception or dinov2"
        )
    return _of_program(path, label, published, preprocessing, device)


def _of_program(
    path: Path, label: str, published: bool, preprocessing: str, device: torch.device
) -> FeatureNetwork:
    """The network of a trusted TorchScript or .pt2 file. published: whether it is Inception's own file."""
    module = _load_file(path, device)
    if published or (path.suffix != ".pt2" and _is_inception(module, device)):
        kind = f"inception ({preprocessing})" + ("" if published else f" of {label}")
        layers = cast(nn.Module, module.layers)
        return FeatureNetwork(kind, InceptionFeatures(layers, preprocessing), device)
    if preprocessing != "clean" and path.suffix != ".pt2":
        raise ConfigError(
            f"preprocessing {preprocessing} has no effect with {path}, which is not the FID Inception network: leave "
            "it out, or take inception"
        )
    return FeatureNetwork(label, _guarded(path, module), device)


@torch.inference_mode()
def _is_inception(module: nn.Module, device: torch.device) -> bool:
    """Whether a TorchScript network has the parts of NVIDIA's FID Inception network."""
    if not hasattr(module, "layers"):
        return False
    try:
        features = cast(nn.Module, module.layers)(
            torch.zeros(2, 3, INCEPTION_SIDE, INCEPTION_SIDE, device=device)
        )
    except Exception as error:  # the network is a program, and can fail in any way
        if is_out_of_memory(error):  # this says nothing about the network
            raise
        return False
    return isinstance(features, Tensor) and features.shape == (2, INCEPTION_WIDTH)


class InceptionFeatures:
    """The 2,048 pooled features of the FID Inception network [1]."""

    def __init__(self, layers: Callable[[Tensor], Tensor], preprocessing: str) -> None:
        self.layers = layers
        self.legacy = preprocessing == "legacy"

    def __call__(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] to (B, 2048)."""
        return self.layers(inception_input(x, legacy=self.legacy))


def inception_input(x: Tensor, *, legacy: bool) -> Tensor:
    """The input of the Inception layers for pictures x (B, 3, S, S) in [0, 1]: (B, 3, 299, 299)."""
    side = (INCEPTION_SIDE, INCEPTION_SIDE)
    if legacy:
        return 2 * F.interpolate(imagenet_normalised(x), side, mode="nearest") - 1
    x = F.interpolate(x, side, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return (255 * x - 128) / 128


def _load_file(path: Path, device: torch.device) -> nn.Module:
    """Load a TorchScript or exported (.pt2) network. Such a file is a program: the caller must trust it."""
    try:
        if path.suffix == ".pt2":
            return torch.export.load(str(path)).module().to(device)
        with warnings.catch_warnings():
            # TorchScript is deprecated for new models, but the FID Inception network exists in no other form.
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.load(str(path), map_location=device)
        return cast(nn.Module, script.eval())
    except Exception as error:  # a damaged file can fail in any way
        if is_out_of_memory(error):  # this says nothing about the file
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{path} is not a TorchScript or .pt2 network ({reason}): save it with torch.jit.save or "
            "torch.export.save"
        ) from None


def _guarded(path: Path, module: nn.Module) -> Callable[[Tensor], Tensor]:
    """`module`; if it fails on pictures, the error is one clear sentence."""

    def extract(x: Tensor) -> Tensor:
        """Features (B, width) of x; raises ConfigError."""
        try:
            features = module(x)
        except Exception as error:  # the network is a program, and can fail in any way
            if is_out_of_memory(error):  # this says nothing about the network
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise ConfigError(
                f"{path} does not take pictures of shape {tuple(x.shape)} ({reason}): give a network that does"
            ) from None
        if not isinstance(features, Tensor) or features.dim() < 2 or len(features) != len(x):
            raise ConfigError(f"{path} gives no features (B, width) of pictures: give a network that does")
        return features

    return extract


def _moco(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The 2,048 features of ResNet-50 trained by MoCo v2 [4], which the paper's configuration D clusters."""
    network = load_moco(path).to(device)

    def extract(x: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [0, 1] to (B, 2048)."""
        side = (MOCO_SIDE, MOCO_SIDE)
        x = F.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
        features: Tensor = network(imagenet_normalised(x))
        return features

    return extract


def _dinov2(device: torch.device) -> Callable[[Tensor], Tensor]:
    """The class token of DINOv2 [2], small: 384 features."""
    try:
        from transformers import Dinov2Model
    except ImportError:
        raise ConfigError(
            'dinov2 needs the transformers package: pip install "tunit[dinov2]", or take random-vgg16'
        ) from None
    try:
        model = Dinov2Model.from_pretrained(DINOV2, use_safetensors=True).float().to(device).eval()
    # The hub's client raises many kinds of errors; all but one mean that there are no weights.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UnreachableError(
            f"the weights {DINOV2} cannot be downloaded ({type(error).__name__}): check the network, or take "
            "random-vgg16"
        ) from None

    def extract(x: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [0, 1] to (B, 384)."""

        side = (DINOV2_SIDE, DINOV2_SIDE)
        x = F.interpolate(x, side, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        features: Tensor = model(pixel_values=imagenet_normalised(x)).pooler_output
        return features

    return extract
