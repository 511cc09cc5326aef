"""The average style code of each domain: its one implementation lies with the networks, where training finds it."""

from tunit.networks.domain_styles import average_styles

__all__ = ["average_styles"]
