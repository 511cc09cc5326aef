"""Truly unsupervised image-to-image translation (TUNIT, ICCV 2021)."""

from tunit._version import __version__

__all__ = ["__version__"]
