"""Whether colours tell the kinds of pictures apart, and how E should learn if other cues do so instead.

Two views of one picture have the same colours, unless these are changed at random. So E learns colours first, also
where every kind has all of them, such as paints of materials, or light on traffic signs. If other cues separate the
pictures clearly, and colours do not, the colours of views are changed, and E learns from
neighbours by these cues from its first step on.
"""

import numpy as np

from tunit.clustering.cues import CUES, Pictures
from tunit.clustering.measures import CLEAR_GROUPS, MOST_COMPARED, Comparison, reduced_cues

# Settings by name, if colours may tell the kinds apart, and if other cues do so.
IF_COLOURS = {"hue": 0.0, "saturation": 0.0, "neighbours_from": 0.5}
IF_OTHERS = {"hue": 0.1, "saturation": 0.4, "neighbours_from": 0.0}


def settings_by_colours(images: Pictures, groups: int) -> dict[str, float]:
    """How E should learn from N pictures (N, S, S, 3): IF_COLOURS or IF_OTHERS.

    groups: into how many groups, at least 1, cues should separate the pictures. At most MOST_COMPARED pictures,
    evenly spread over the set, are looked at.
    """
    rows = np.arange(0, len(images), -(-len(images) // MOST_COMPARED))
    compared = Comparison(reduced_cues(images, rows), groups)
    best = compared.best(CUES)
    others = "colours" not in best and compared.ratio(best) <= CLEAR_GROUPS < compared.ratio(["colours"])
    return IF_OTHERS if others else IF_COLOURS
