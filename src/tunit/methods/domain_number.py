"""The number of domains, found when E has trained alone, and E's and D's last layers built anew for it.

Until then the domain head has `most_domains` outputs, too many on purpose, and G and D do not train. What E says of
the pictures is clustered (tunit.clustering.number); a new domain head is fitted to the clusters on the features that
all heads read, so that the domains are there at once, none of them empty and none twice.
"""

import json
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tunit.clustering.choice import Choice, read_choice
from tunit.clustering.cues import Integers, Vectors
from tunit.clustering.number import choose_number
from tunit.config import Config
from tunit.data.packed import PackedPictures
from tunit.data.randomness import seed_of
from tunit.distributed import broadcast_from_rank_zero, is_rank_zero, tensor_from_rank_zero
from tunit.methods.inference import in_batches
from tunit.methods.state import TrainingState
from tunit.networks.guide import Guide
from tunit.reading import Record, parse_json

MOST_PICTURES = 5_000  # looked at; of a larger set, evenly spread ones
ENCODED = 256  # at a time
PENALTY = 1.0  # of the fitted head's weights, as C of scikit-learn: keeps it from being surer than it should


@dataclass(frozen=True)
class Seen:
    """What E's EMA says of N pictures."""

    features: Vectors  # (N, features), which all heads read
    styles: Vectors  # (N, style width)


def find_number(state: TrainingState, pictures: PackedPictures, config: Config) -> None:
    """Choose K-hat, and give E, its EMA and D last layers for it; `state.choice` says why.

    With several processes rank 0 chooses, and all take what it chose.
    """
    seed = seed_of(config.run.seed, "domains", 0) % 2**32
    found = None
    if is_rank_zero():
        seen = look(state, pictures)
        choice, assignment = choose_number(seen.styles, config.networks.most_domains, seed)
        choice = replace(choice, step=state.step)
        found = choice, fitted_head(seen.features, assignment, choice.domains)
    choice, (weight, bias) = _shared(found, state)
    state.set_domains(choice.domains, seed)
    for guide in (state.networks.guide, state.networks.guide_average):
        own = cast(Guide, guide)
        for head in (own.domain_head, *own.candidate_heads):
            with torch.no_grad():
                cast(Tensor, head.weight).copy_(weight)
                cast(Tensor, head.bias).copy_(bias)
    state.choice = choice


@torch.inference_mode()
def look(state: TrainingState, pictures: PackedPictures) -> Seen:
    """An even spread of the pictures through E's EMA in evaluation mode."""
    there = len(pictures.names)
    rows = np.linspace(0, there - 1, min(there, MOST_PICTURES)).astype(np.int64)
    guide = cast(Guide, state.networks.guide_average)
    was_training = guide.training
    guide.eval()
    batches = in_batches(pictures.images, state.queue.device, ENCODED, rows)
    features = torch.cat([guide.see(x).float() for x in batches])
    styles = F.normalize(guide.style_head(features), dim=1)
    guide.train(was_training)
    return Seen(features.cpu().numpy(), styles.cpu().numpy())


def fitted_head(features: Vectors, assignment: Integers, domains: int) -> tuple[Tensor, Tensor]:
    """Weights (domains, features) and biases (domains,) of a linear head that tells the clusters apart.

    A logistic regression on features of mean 0 and spread 1, written in terms of the features as they are.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-6
    weight, bias = np.zeros((domains, features.shape[1])), np.zeros(domains)
    if domains > 1:
        fitted = LogisticRegression(C=PENALTY, max_iter=500).fit((features - mean) / spread, assignment)
        weight, bias = fitted.coef_, fitted.intercept_
        if domains == 2:  # scikit-learn keeps one row for both
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / spread
        bias = bias - weight @ mean
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def _shared(
    found: tuple[Choice, tuple[Tensor, Tensor]] | None, state: TrainingState
) -> tuple[Choice, tuple[Tensor, Tensor]]:
    """What rank 0 found, on every rank."""
    text = json.dumps(found[0].record()).encode() if found else b""
    length = broadcast_from_rank_zero(len(text))
    data = (
        torch.frombuffer(bytearray(text), dtype=torch.uint8)
        if found
        else torch.zeros(length, dtype=torch.uint8)
    )
    text = bytes(tensor_from_rank_zero(data).tolist())
    choice = read_choice(Record(parse_json(text.decode())))
    width = cast(Guide, state.networks.guide).features
    weight, bias = found[1] if found else (torch.zeros(choice.domains, width), torch.zeros(choice.domains))
    return choice, (tensor_from_rank_zero(weight), tensor_from_rank_zero(bias))
