"""Gaussian groups of vectors for tests."""

import torch


def blobs(groups, each=30, width=8, apart=6.0, seed=0):
    """Gaussian groups at this distance, and the group of each vector."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(groups).repeat_interleave(each)
    centres = apart * torch.randn(groups, width, generator=generator)
    return centres[kinds] + torch.randn(len(kinds), width, generator=generator), kinds
