"""The literal training step: the paper's equations as written, each forward pass separate, in eager float32.

`tunit.methods.tunit` is compared with it. Networks are built layer by layer as in the paper's appendix, on
contiguous pictures, with PyTorch's own modules, up-sampling before the convolution and pooling after it.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.config import Config


class Reflect(nn.Conv2d):
    def __init__(self, a: int, b: int, k: int, stride: int = 1) -> None:
        super().__init__(a, b, k, stride)
        self.reach = (k - stride + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.reach,) * 4, mode="reflect"))


class AdaIN(nn.Module):
    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return scale[:, :, None, None] * F.instance_norm(x) + shift[:, :, None, None]


class Generator(nn.Module):
    def __init__(self, size: int, f: int, style: int) -> None:
        super().__init__()
        n = int(math.log2(size // 16))
        widths = [f * 2**i for i in range(n + 1)]
        top = widths[-1]
        self.stem, self.last = Reflect(3, f, 7), Reflect(f, 3, 7)
        self.down = nn.ModuleList(Reflect(a, 2 * a, 4, 2) for a in widths[:-1])
        self.up = nn.ModuleList(Reflect(2 * a, a, 5) for a in reversed(widths[:-1]))
        self.coded = nn.ModuleList(Reflect(top, top, 3) for _ in range(4))
        self.decoded = nn.ModuleList(Reflect(top, top, 3) for _ in range(4))
        self.widths = [top] * 4 + widths[-2::-1]
        self.mlp = nn.Sequential(
            nn.Linear(style, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 2 * sum(self.widths)),
        )
        self.adain = AdaIN()

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        for conv in (self.stem, *self.down):
            x = F.relu(F.instance_norm(conv(x)))
        for i in (0, 2):
            h = F.relu(F.instance_norm(self.coded[i](x)))
            x = x + 0.1 * F.instance_norm(self.coded[i + 1](h))
        parts = iter(self.mlp(s).split([w for w in self.widths for _ in range(2)], dim=1))
        for i in (0, 2):
            h = F.relu(self.adain(self.decoded[i](x), next(parts), next(parts)))
            x = x + 0.1 * self.adain(self.decoded[i + 1](h), next(parts), next(parts))
        for conv in self.up:
            x = F.relu(self.adain(conv(F.interpolate(x, scale_factor=2)), next(parts), next(parts)))
        return torch.tanh(self.last(x))


class FRN(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.tau = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(torch.mean(x**2, dim=(2, 3), keepdim=True) + 1e-6)
        return torch.max(self.gamma * x + self.beta, self.tau)


class Block(nn.Module):
    def __init__(self, a: int, b: int, halve: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(a, a, 3, padding=1), nn.Conv2d(a, b, 3, padding=1)
        self.norms = nn.ModuleList((FRN(a), FRN(a)))
        self.short = nn.Conv2d(a, b, 1, bias=False) if a != b else nn.Identity()
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.first(self.norms[0](x)))
        h = self.second(self.norms[1](h))
        total: Tensor = self.pool(self.short(x)) + h
        return total / math.sqrt(2)


def discriminator(size: int, w: int, domains: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, w, 3, padding=1)]
    for _ in range(int(math.log2(size)) - 2):
        layers += [Block(w, w, False), Block(w, min(2 * w, 1024), True)]
        w = min(2 * w, 1024)
    layers += [
        nn.LeakyReLU(0.2),
        nn.Conv2d(w, w, 4),
        nn.LeakyReLU(0.2),
        nn.Conv2d(w, domains, 1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers)


class Guide(nn.Module):
    def __init__(self, f: int, domains: int, style: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        a = 3
        for item in (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0):
            if item:
                layers += [nn.Conv2d(a, item * f, 3, padding=1), nn.BatchNorm2d(item * f), nn.ReLU()]
                a = item * f
            else:
                layers.append(nn.MaxPool2d(2))
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.domain, self.style = nn.Linear(a, domains), nn.Linear(a, style)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.domain(h), self.style(h)


class LiteralStep:
    """The updates of E, D and G in the paper's order, each with its own passes; optimisers without foreach."""

    def __init__(self, config: Config, device: torch.device) -> None:
        n, o = config.networks, config.optimisers
        size = config.data.image_size
        f, d = n.generator_width or 64, n.discriminator_width or 64
        make: dict[str, Any] = {
            "E": lambda: Guide(n.guide_width, n.domains, n.style_width),
            "G": lambda: Generator(size, f, n.style_width),
            "D": lambda: discriminator(size, d, n.domains),
        }
        torch.manual_seed(0)
        self.E, self.G, self.D, self.E_bar, self.G_bar = (
            make[name]().to(device).train() for name in ("E", "G", "D", "E", "G")
        )
        self.adam = torch.optim.Adam(
            self.E.parameters(), o.guide_rate, weight_decay=o.guide_weight_decay, foreach=False
        )
        self.rms_g, self.rms_d = (
            torch.optim.RMSprop(
                net.parameters(), rate, alpha=0.99, eps=1e-8, weight_decay=o.weight_decay, foreach=False
            )
            for net, rate in ((self.G, o.generator_rate), (self.D, o.discriminator_rate))
        )
        self.queue = torch.randn(o.queue_length, n.style_width, device=device)
        self.w, self.decay = config.losses, o.average_decay

    def contrast(self, query: Tensor, key: Tensor) -> Tensor:
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ self.queue.T], 1) / self.w.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))

    @staticmethod
    def information(logits: Tensor, logits_plus: Tensor) -> Tensor:
        p, q = logits.softmax(1), logits_plus.softmax(1)
        joint = (p[:, :, None] * q[:, None, :]).sum(0)
        joint = (joint + joint.T) / 2
        joint = (joint / joint.sum()).clamp(min=1e-10)
        outer = joint.sum(1)[:, None] * joint.sum(0)[None]
        return (joint * (joint.log() - outer.log())).sum()

    def guide(self, x: Tensor, x_plus: Tensor, factor: float) -> Tensor:
        """Step 1; returns the keys."""
        self.adam.zero_grad()
        (logits, query), (logits_plus, _) = self.E(x), self.E(x_plus)
        with torch.no_grad():
            keys: Tensor = self.E_bar(x_plus)[1]
        information = self.information(logits, logits_plus)
        (factor * (self.contrast(query, keys) - self.w.mutual_information_weight * information)).backward()
        self.adam.step()
        return keys

    def __call__(self, x: Tensor, x_plus: Tensor, perm: Tensor, *, joint: bool, penalise: bool) -> None:
        keys = self.guide(x, x_plus, 0.1 if joint else 1.0)
        if joint:
            self.translate(x, x[perm], perm, penalise)
        self.queue = torch.cat([self.queue, keys])[-len(self.queue) :]
        with torch.no_grad():
            for bar, live in ((self.E_bar, self.E), (self.G_bar, self.G))[: 1 + joint]:
                for mine, theirs in zip(bar.parameters(), live.parameters(), strict=True):
                    mine.mul_(self.decay).add_(theirs, alpha=1 - self.decay)

    def translate(self, x: Tensor, x_ref: Tensor, perm: Tensor, penalise: bool) -> None:
        """Steps 2 to 4."""
        rows = torch.arange(len(x), device=x.device)
        with torch.no_grad():
            y = self.E(x)[0].argmax(1)
            logits_ref, s_ref = self.E(x_ref)
            y_ref = logits_ref.argmax(1)
            x_fake = self.G(x, s_ref)
        self.rms_d.zero_grad()
        x_ref.requires_grad_()
        real = self.D(x_ref)[rows, y_ref]
        fake = self.D(x_fake)[rows, y_ref]
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        if penalise:
            (slope,) = torch.autograd.grad(real.sum(), x_ref, create_graph=True)
            loss = loss + self.w.r1_weight * (slope**2).sum((1, 2, 3)).mean()
        loss.backward()
        self.rms_d.step()
        x_ref = x_ref.detach()

        self.rms_g.zero_grad()
        self.adam.zero_grad()
        x_fake, x_rec = self.G(x, self.E(x_ref)[1]), self.G(x, self.E(x)[1])
        fake, rec = self.D(x_fake)[rows, y_ref].mean(), self.D(x_rec)[rows, y].mean()
        with torch.no_grad():
            key = self.E_bar(x_ref)[1]
        contrast = self.contrast(self.E(x_fake)[1], key)
        loss = -fake - rec + self.w.reconstruction_weight * F.l1_loss(x_rec, x)
        (loss + self.w.generator_style_weight * contrast).backward()
        self.rms_g.step()
        self.adam.step()
