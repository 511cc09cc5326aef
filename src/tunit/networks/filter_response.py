"""Filter response normalisation, which D has in the place of norms and activations.

On a processor its passes over the picture cost as much as some convolutions, for each reads and writes memory. There
filter_response.c takes two passes forward, two back, and two for the gradient of the gradient (R1 needs it), where
PyTorch takes six and more of each.

References:
    [1] Singh, Krishnan. Filter response normalization layer, CVPR 2020.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from tunit.native import apply, call, channels_last, sizes, takes
from tunit.networks.gradients import differentiable_gradients, inputs_only

EPS = 1e-6


class FilterResponseNorm(nn.Module):
    """Filter response normalisation with its thresholded linear unit [1]; no other activation is needed.

    max(gamma * x / sqrt(mean over H, W of x^2 + 1e-6) + beta, tau), per channel. x: (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.tau = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and threshold; same shape as x."""
        # max(y, tau), written so that its backward is one threshold instead of four comparisons.
        shift = self.beta - self.tau
        if takes(x) and self.gamma.dtype == x.dtype:
            y: Tensor = apply(_Norm, x, self.gamma, shift, self.tau)
            return y
        return _norm(x, self.gamma, shift, self.tau)


def _norm(x: Tensor, gamma: Tensor, shift: Tensor, tau: Tensor) -> Tensor:
    """max(gamma nu x + shift, 0) + tau."""
    gamma, shift, tau = (p.view(1, -1, 1, 1) for p in (gamma, shift, tau))
    nu = torch.rsqrt(x.square().mean(dim=(2, 3), keepdim=True) + EPS)
    return F.relu(gamma * nu * x + shift) + tau


class _Norm(Function):
    """(x, gamma, shift, tau) to y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, shift: Tensor, tau: Tensor) -> Tensor:
        last = channels_last(x)
        y, nu = torch.empty_like(last), x.new_empty(x.shape[:2])
        call("frn", last, y, nu, gamma, shift, tau, *sizes(last), EPS)
        ctx.save_for_backward(x, gamma, shift, tau, nu)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, shift, tau, nu = ctx.saved_tensors
        if not torch.is_grad_enabled():
            dx, *of_parameters = _gradients(x, dy, nu, gamma, shift)
            return dx, *of_parameters
        if inputs_only():
            return apply(_PictureGradient, x, dy, gamma, shift, nu), None, None, None
        return differentiable_gradients(_norm, (x, gamma, shift, tau), ctx.needs_input_grad, dy)


class _PictureGradient(Function):
    """(x, dy, gamma, shift, nu) to dx."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor, gamma: Tensor, shift: Tensor, nu: Tensor) -> Tensor:
        ctx.save_for_backward(x, dy, gamma, shift, nu)
        return _gradients(x, dy, nu, gamma, shift)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        x, dy, gamma, shift, nu = ctx.saved_tensors
        x, dy, ddx = (channels_last(value) for value in (x, dy, ddx))
        of_x, of_dy, of_gamma = torch.empty_like(x), torch.empty_like(x), torch.empty_like(nu)
        call("frn_backward_twice", x, dy, ddx, nu, gamma, shift, of_x, of_dy, of_gamma, *sizes(x))
        return of_x.permute(0, 3, 1, 2), of_dy.permute(0, 3, 1, 2), of_gamma.sum(0), None, None


def _gradients(
    x: Tensor, dy: Tensor, nu: Tensor, gamma: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Those of x, gamma, shift and tau."""
    x, dy = channels_last(x), channels_last(dy)
    dx, sums = torch.empty_like(x), x.new_empty(3, *nu.shape)
    call("frn_backward", x, dy, nu, gamma, shift, dx, sums, *sizes(x))
    of_gamma, of_shift, of_floor = sums.sum(1)
    # tau is added to what passes as to what does not.
    return dx.permute(0, 3, 1, 2), of_gamma, of_shift, of_floor + of_shift
