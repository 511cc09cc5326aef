"""Functions that put a NaN into a training at step 8: into a picture, a loss or a gradient.

Each takes a MonkeyPatch. If several processes train, only those that call it get the NaN.
"""

import torch

from tunit.data.batching.batches import Batches
from tunit.methods import tunit as step_module

NAN = float("nan")


def in_a_picture(monkeypatch, times=1, picture=2):
    """One value of a picture at step 8 is NaN: of the batch's third picture, or of picture `picture` of this rank's
    part.
    """
    real, left = Batches.draw, iter(range(times))

    def drawn(self, step, *arguments, **how):
        batch = real(self, step, *arguments, **how)
        if step % 2**43 == 7 and next(left, None) is not None:
            batch.x_plus[picture, 0, 0, 0] = NAN
        return batch

    monkeypatch.setattr(Batches, "draw", drawn)


def in_a_loss(monkeypatch, times=1):
    """Equation 5 gives NaN at step 8. E trains alone for four steps, so this is the equation's fourth call."""
    real, count = step_module.losses.reconstruction, iter(range(100))
    bad = {3} if times == 1 else set(range(3, 100))

    def broken(x_rec, x):
        return real(x_rec, x) * (NAN if next(count) in bad else 1.0)

    monkeypatch.setattr(step_module.losses, "reconstruction", broken)


class NanBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * NAN


def in_a_gradient(monkeypatch, times=1):
    """The gradient of equation 5 is NaN at step 8; the loss itself is finite."""
    real, count = step_module.losses.reconstruction, iter(range(100))
    bad = {3} if times == 1 else set(range(3, 100))

    def broken(x_rec, x):
        loss = real(x_rec, x)
        return NanBackward.apply(loss) if next(count) in bad else loss

    monkeypatch.setattr(step_module.losses, "reconstruction", broken)


PLACES = {
    "picture": (in_a_picture, "a picture of the batch has a value that is not finite"),
    "loss": (in_a_loss, "the loss generator/reconstruction is nan"),
    "gradient": (in_a_gradient, "a gradient of (guide|generator) is not finite"),
}
