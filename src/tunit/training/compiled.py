"""torch.compile for the networks of a training: what it can take, and what must stay as it is.

D stays as it is: the gradient penalty differentiates its gradient, which compiled code cannot. Of E the trunk alone
is compiled: what compiled code does not use has a gradient of zero instead of none, and with that E's second
optimiser step would move E_C, which it must leave alone.
"""

import torch

from tunit.machine import check_compiler
from tunit.networks.guide import Guide
from tunit.training.state import Networks


def compile_networks(networks: Networks, device: torch.device, backend: str = "inductor") -> None:
    """Let the passes of E, of its average and of G be compiled when they are first taken.

    Names of weights, and so checkpoints, stay as they are. Raises ConfigError where there is no compiler that works.
    backend: of torch.compile.
    """
    if backend == "inductor":
        check_compiler(device)
    generator = networks.generator
    guides = networks.guide, networks.guide_average
    trunks = [guide.trunk for guide in guides if isinstance(guide, Guide)]  # class encoders are small
    for part in (*trunks, generator.content_encoder, generator.decoder):
        part.compile(backend=backend)
