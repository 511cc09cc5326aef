"""The paper's data sets as their publishers distribute them, by name: which pictures, which split, which classes."""

from tunit.data.layouts.all_layouts import LAYOUTS, find_layout
from tunit.data.layouts.layout import Layout, Part
from tunit.data.layouts.selection import layout_config, make_part, part_of

__all__ = ["LAYOUTS", "Layout", "Part", "find_layout", "layout_config", "make_part", "part_of"]
