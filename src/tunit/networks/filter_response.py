"""Filter response normalisation (FRN), which D uses instead of other norms and activations.

Reading and writing memory limits its speed: on a CPU, FRN can take as long as a convolution. native/filter_response.c
reads the picture only twice in each of its three passes: forward, backward, and the gradient of the gradient (for
R1). PyTorch reads it six times or more.

References:
    [1] Singh, Krishnan. Filter response normalization layer, CVPR 2020.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.native import call, channels_last, empty_last, pictures_of, supports
from tunit.networks.gradients import differentiable_gradients, inputs_only
from tunit.networks.operators import cpu_operator, no_gradient
from tunit.networks.precision import at_least_float32

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
        # max(y, tau) is computed as max(y - tau, 0) + tau, because the backward pass of this form needs one
        # comparison instead of four.
        shift = self.beta - self.tau
        if supports(x) and self.gamma.dtype == x.dtype:
            y: Tensor = filter_response_norm(x, self.gamma, shift, self.tau)[0]
            return y
        return reference(x, self.gamma, shift, self.tau)


def reference(x: Tensor, gamma: Tensor, shift: Tensor, tau: Tensor) -> Tensor:
    """The specification of `filter_response_norm`: max(gamma nu x + shift, 0) + tau.

    nu = 1 / sqrt(mean of x^2 over H, W + EPS), for each picture and channel. shift is beta - tau.
    """
    gamma, shift, tau = (p.view(1, -1, 1, 1) for p in (gamma, shift, tau))
    high = at_least_float32(x)
    # The mean is taken over a view with the channels last. The gradient of a mean lies in memory in the order of the
    # axes, so it then has the layout of x, and so have all gradients that are computed from it.
    mean = x.permute(0, 2, 3, 1).square().mean(dim=(1, 2), dtype=high)
    nu = torch.rsqrt(mean + EPS)[:, :, None, None]
    # Convert the factors to x's dtype. With float32 factors, pictures in bfloat16 would be read and written as
    # float32, and a GPU is limited by memory traffic here.
    scale, shift, tau = (value.to(x.dtype) for value in (gamma * nu, shift, tau))
    return F.relu(torch.addcmul(shift, scale, x)) + tau


@cpu_operator("filter_response_norm")
def filter_response_norm(x: Tensor, gamma: Tensor, shift: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """The result of `reference`, with the channels last, and nu (B, C). Can be differentiated twice."""
    last, each = channels_last(x), (x.shape[1],)
    y, nu = empty_last(x, *x.shape), x.new_empty(x.shape[:2])
    call(
        "filter_response",
        (last, tuple(last.shape)),
        (channels_last(y), tuple(last.shape)),
        (nu, tuple(x.shape[:2])),
        *((value.contiguous(), each) for value in (gamma, shift, tau)),
        *pictures_of(x),
        EPS,
    )
    return y, nu


@cpu_operator("filter_response_gradients")
def filter_response_gradients(
    x: Tensor, dy: Tensor, gamma: Tensor, shift: Tensor, nu: Tensor
) -> tuple[Tensor, Tensor]:
    """dx, and sums (3, B, C): for each picture and channel, its contribution to the gradient of gamma, that to the
    gradient of shift, and the sum of dy where the threshold cuts off.
    """
    last = channels_last(x)
    dx, sums = empty_last(x, *x.shape), x.new_empty(3, *nu.shape)
    call(
        "filter_response_backward",
        *((value, tuple(last.shape)) for value in (last, channels_last(dy))),
        (nu.contiguous(), tuple(x.shape[:2])),
        *((value.contiguous(), (x.shape[1],)) for value in (gamma, shift)),
        (channels_last(dx), tuple(last.shape)),
        (sums, (3, *x.shape[:2])),
        *pictures_of(x),
    )
    return dx, sums


@cpu_operator("filter_response_picture_gradient")
def picture_gradient(x: Tensor, dy: Tensor, gamma: Tensor, shift: Tensor, nu: Tensor) -> Tensor:
    """dx alone. Can be differentiated once, with respect to x, dy and gamma, as R1 needs."""
    dx: Tensor = filter_response_gradients(x, dy, gamma, shift, nu)[0]
    return dx


@cpu_operator("filter_response_second_gradients")
def second_gradients(
    x: Tensor, dy: Tensor, ddx: Tensor, gamma: Tensor, shift: Tensor, nu: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of sum(dx * ddx) with respect to x, dy and gamma; the last one for each picture: (B, C)."""
    last, each = channels_last(x), tuple(x.shape[:2])
    of_x, of_dy, of_gamma = empty_last(x, *x.shape), empty_last(x, *x.shape), torch.empty_like(nu)
    call(
        "filter_response_backward_twice",
        *((value, tuple(last.shape)) for value in (last, channels_last(dy), channels_last(ddx))),
        (nu.contiguous(), each),
        *((value.contiguous(), (x.shape[1],)) for value in (gamma, shift)),
        *((value, tuple(last.shape)) for value in (channels_last(of_x), channels_last(of_dy))),
        (of_gamma, each),
        *pictures_of(x),
    )
    return of_x, of_dy, of_gamma


@filter_response_norm.register_fake
def _(x: Tensor, gamma: Tensor, shift: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    return empty_last(x, *x.shape), x.new_empty(x.shape[:2])


@filter_response_gradients.register_fake
def _(x: Tensor, dy: Tensor, gamma: Tensor, shift: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
    return empty_last(x, *x.shape), x.new_empty(3, *nu.shape)


@picture_gradient.register_fake
def _(x: Tensor, dy: Tensor, gamma: Tensor, shift: Tensor, nu: Tensor) -> Tensor:
    return empty_last(x, *x.shape)


@second_gradients.register_fake
def _(
    x: Tensor, dy: Tensor, ddx: Tensor, gamma: Tensor, shift: Tensor, nu: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return empty_last(x, *x.shape), empty_last(x, *x.shape), torch.empty_like(nu)


def _keep_norm(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])


def _norm_backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, gamma, shift, tau, nu = ctx.saved_tensors
    if not torch.is_grad_enabled():
        dx, sums = filter_response_gradients(x, dy, gamma, shift, nu)
        of_gamma, of_shift, of_floor = sums.sum(1)
        # of_shift is the sum of dy above the threshold, of_floor the sum below it. tau is added to y in both cases,
        # so its gradient is the sum of both.
        return dx, of_gamma, of_shift, of_floor + of_shift
    if inputs_only():
        return picture_gradient(x, dy, gamma, shift, nu), None, None, None
    return differentiable_gradients(reference, (x, gamma, shift, tau), ctx.needs_input_grad, dy)


def _keep_picture_gradient(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _picture_gradient_backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
    x, dy, gamma, shift, nu = ctx.saved_tensors
    of_x, of_dy, of_gamma = second_gradients(x, dy, ddx, gamma, shift, nu)
    return of_x, of_dy, of_gamma.sum(0), None, None


filter_response_norm.register_autograd(_norm_backward, setup_context=_keep_norm)
picture_gradient.register_autograd(_picture_gradient_backward, setup_context=_keep_picture_gradient)
filter_response_gradients.register_autograd(no_gradient)
second_gradients.register_autograd(no_gradient)
