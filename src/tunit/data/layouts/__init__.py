"""The paper's data sets as their publishers distribute them, by name: which pictures, which split, which classes."""

from tunit.data.layouts.choose import layout_config, make_part, part_of
from tunit.data.layouts.layout import Layout, Part
from tunit.data.layouts.registry import LAYOUTS, find_layout

__all__ = ["LAYOUTS", "Layout", "Part", "find_layout", "layout_config", "make_part", "part_of"]
