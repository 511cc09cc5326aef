"""Checkpoints as the published implementation writes them, and its networks computed directly from their tensors.

Names, order and shapes are written here from their description; the package's own rules are not used.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F

NETWORKS = {
    "C_state_dict": "C",
    "C_EMA_state_dict": "C",
    "D_state_dict": "D",
    "G_state_dict": "G",
    "G_EMA_state_dict": "G",
}
OPTIMISERS = {"c_optimizer": "C", "d_optimizer": "D", "g_optimizer": "G"}
# position of the convolution, width
VGG = ((0, 1), (4, 2), (8, 4), (11, 4), (15, 8), (18, 8), (22, 8), (25, 8))
POOLS = (0, 4, 11, 18, 25)  # the convolutions that are followed by max-pooling
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def guide_shapes(domains, width=2, style=6):
    shapes, channels = {}, 3
    for place, multiple in VGG:
        out = multiple * width
        shapes |= {f"features.{place}.weight": (out, channels, 3, 3), f"features.{place}.bias": (out,)}
        norm = f"features.{place + 1}."
        shapes |= {norm + leaf: (out,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        shapes[norm + "num_batches_tracked"] = ()
        channels = out
    shapes |= {"disc.weight": (domains, channels), "disc.bias": (domains,)}
    return shapes | {"cont.weight": (style, channels), "cont.bias": (style,)}


def discriminator_shapes(size, domains, width=2):
    shapes, channels, place = {"main.0.weight": (width, 3, 3, 3), "main.0.bias": (width,)}, width, 1
    for _ in range(int(math.log2(size)) - 2):
        for out in (channels, min(2 * channels, 1024)):
            block = f"main.{place}."
            for norm in ("norm1", "norm2"):
                shapes |= {f"{block}{norm}.{leaf}": (1, channels, 1, 1) for leaf in ("tau", "gamma", "beta")}
            shapes |= {block + "conv1.weight": (channels, channels, 3, 3), block + "conv1.bias": (channels,)}
            shapes |= {block + "conv2.weight": (out, channels, 3, 3), block + "conv2.bias": (out,)}
            if out != channels:
                shapes[block + "conv1x1.weight"] = (out, channels, 1, 1)
            channels, place = out, place + 1
    shapes |= {f"main.{place + 1}.weight": (channels, channels, 4, 4), f"main.{place + 1}.bias": (channels,)}
    return shapes | {
        f"main.{place + 3}.weight": (domains, channels, 1, 1),
        f"main.{place + 3}.bias": (domains,),
    }


def generator_shapes(size, width=2, style=6):
    n = int(math.log2(size // 16))
    shapes, adain = {}, 0

    def convolution(name, out, channels, kernel, statistics):
        nonlocal adain
        if statistics:
            adain += out
            shapes.update({f"{name}.norm.running_mean": (out,), f"{name}.norm.running_var": (out,)})
        shapes.update({f"{name}.conv.weight": (out, channels, kernel, kernel), f"{name}.conv.bias": (out,)})

    def residual(name, channels, statistics):
        for block in range(2):
            for i in range(2):
                convolution(f"{name}.model.{block}.model.{i}", channels, channels, 3, statistics)

    encoder, decoder = "cnt_encoder.model", "decoder.model"
    convolution(f"{encoder}.0", width, 3, 7, False)
    for i in range(n):
        convolution(f"{encoder}.{i + 1}", width * 2 ** (i + 1), width * 2**i, 4, False)
    residual(f"{encoder}.{n + 1}", width * 2**n, False)
    residual(f"{decoder}.0", width * 2**n, True)
    for i in range(n):
        convolution(f"{decoder}.{2 * i + 2}", width * 2 ** (n - i - 1), width * 2 ** (n - i), 5, True)
    convolution(f"{decoder}.{2 * n + 1}", 3, width, 7, False)
    for i, (out, channels) in enumerate(((256, style), (256, 256), (2 * adain, 256))):
        shapes |= {f"mlp.model.{i}.fc.weight": (out, channels), f"mlp.model.{i}.fc.bias": (out,)}
    return shapes


def all_shapes(size=32, domains=3, *, guide=2, generator=2, discriminator=2, style=6):
    return {
        "C": guide_shapes(domains, guide, style),
        "D": discriminator_shapes(size, domains, discriminator),
        "G": generator_shapes(size, generator, style),
    }


def checkpoint(shapes, *, epoch=70, prefix="", seed=0):
    """A random checkpoint. A third of E's parameters have no optimiser state, as if they had no gradient yet."""
    rng = torch.Generator().manual_seed(seed)
    content = {"epoch": epoch}
    for key, letter in NETWORKS.items():
        content[key] = OrderedDict((prefix + k, _tensor(k, s, rng)) for k, s in shapes[letter].items())
    for key, letter in OPTIMISERS.items():
        names = [k for k in shapes[letter] if not k.endswith(BUFFERS)]
        group = {"lr": 2e-4, "weight_decay": 0.0}
        group |= {"betas": (0.5, 0.9), "eps": 1e-8, "amsgrad": False} if letter == "C" else {}
        group |= {"alpha": 0.9, "eps": 1e-7, "momentum": 0, "centered": False} if letter != "C" else {}
        content[key] = {"state": {}, "param_groups": [group | {"params": list(range(len(names)))}]}
        for i, name in enumerate(names):
            if letter == "C" and i % 3 == 2:
                continue
            moments = ("exp_avg", "exp_avg_sq") if letter == "C" else ("square_avg",)
            state = {m: torch.rand(shapes[letter][name], generator=rng) for m in moments}
            content[key]["state"][i] = {"step": torch.tensor(7.0 + i), **state}
    return content


def _tensor(name, shape, rng):
    if name.endswith("num_batches_tracked"):
        return torch.tensor(5)
    if name.endswith("norm.running_mean"):  # of AdaIN; they have no effect
        return torch.zeros(shape)
    if name.endswith("norm.running_var"):
        return torch.ones(shape)
    if name.endswith("running_var"):
        return 0.5 + torch.rand(shape, generator=rng)
    scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 and shape[0] > 1 else 0.1
    return scale * torch.randn(shape, generator=rng)


def tensors_of(content, path=""):
    """Every tensor of a nested dict, by its path of keys."""
    found = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= tensors_of(value, f"{path}/{key}")
        elif isinstance(value, torch.Tensor):
            found[f"{path}/{key}"] = value
    return found


def style_of(t, x):
    """E_S(x) in evaluation mode from published tensors."""
    for place, _ in VGG:
        norm = f"features.{place + 1}."
        x = F.conv2d(x, t[f"features.{place}.weight"], t[f"features.{place}.bias"], padding=1)
        x = F.batch_norm(
            x, t[norm + "running_mean"], t[norm + "running_var"], t[norm + "weight"], t[norm + "bias"]
        )
        x = F.relu(x)
        if place in POOLS:
            x = F.max_pool2d(x, 2)
    return F.linear(x.mean((2, 3)), t["cont.weight"], t["cont.bias"])


def translate(t, x, s):
    """G(x, s) from published tensors, layer by layer."""
    n = sum(k.startswith("cnt_encoder.model.") and k.count(".") == 4 and k.endswith("weight") for k in t) - 1
    for i in range(3):
        s = F.linear(F.relu(s) if i else s, t[f"mlp.model.{i}.fc.weight"], t[f"mlp.model.{i}.fc.bias"])
    position = 0

    def conv(x, name, stride=1):
        weight = t[f"{name}.conv.weight"]
        border = (weight.shape[-1] - stride + 1) // 2
        x = F.pad(x, (border,) * 4, mode="reflect")
        return F.conv2d(x, weight, t[f"{name}.conv.bias"], stride=stride)

    def norm(x):
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5)

    def adain(x):
        nonlocal position
        width = x.shape[1]
        shift, scale = s[:, position : position + width], s[:, position + width : position + 2 * width]
        position += 2 * width
        return scale[:, :, None, None] * norm(x) + shift[:, :, None, None]

    def residual(x, name, normalise):
        for block in range(2):
            h = F.relu(normalise(conv(x, f"{name}.model.{block}.model.0")))
            x = x + 0.1 * normalise(conv(h, f"{name}.model.{block}.model.1"))
        return x

    for i in range(n + 1):
        x = F.relu(norm(conv(x, f"cnt_encoder.model.{i}", stride=2 if i else 1)))
    x = residual(residual(x, f"cnt_encoder.model.{n + 1}", norm), "decoder.model.0", adain)
    for i in range(n):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = F.relu(adain(conv(x, f"decoder.model.{2 * i + 2}")))
    assert position == s.shape[1]
    return torch.tanh(conv(x, f"decoder.model.{2 * n + 1}"))
