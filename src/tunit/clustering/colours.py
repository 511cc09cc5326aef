"""Whether colours may tell the kinds of pictures apart, and how E should learn if they do not.

Two views of one picture have the same colours, unless these are changed at random. So E learns colours first, also
where every kind has all of them, such as paints of materials, or light on traffic signs. If outlines or textures
separate the pictures clearly, and colours do not, the colours of views are changed, and E learns from neighbours from
its first step on.
"""

from collections.abc import Sequence

import numpy as np

from tunit.clustering.cues import CUES, Pictures
from tunit.clustering.measures import CLEAR_GROUPS, MOST_COMPARED, MeasureComparison, each_reduced
from tunit.data.finding.spread import stride

WITHOUT_COLOURS = ("outlines", "textures")  # the cues that see only grey pictures
# Settings by name, if colours may tell the kinds apart, and if other cues do so.
KEEP_COLOURS = {"hue": 0.0, "saturation": 0.0, "neighbours_from": 0.5}
IGNORE_COLOURS = {"hue": 0.1, "saturation": 0.4, "neighbours_from": 0.0}


def settings_by_colours(images: Pictures, groups: Sequence[int]) -> dict[str, float]:
    """How E should learn from N pictures (N, S, S, 3): KEEP_COLOURS or IGNORE_COLOURS.

    groups: into how many groups, at least 1, cues should separate the pictures; several numbers if it is not known.
    At most MOST_COMPARED pictures, evenly spread over the set, are looked at.
    """
    rows = np.arange(0, len(images), stride(len(images), MOST_COMPARED))
    cues = each_reduced({name: CUES[name] for name in ("colours", *WITHOUT_COLOURS)}, images, rows)
    compared = MeasureComparison(cues, groups)
    best = compared.best(WITHOUT_COLOURS)
    return (
        IGNORE_COLOURS if compared.ratio(best) <= CLEAR_GROUPS < compared.ratio(["colours"]) else KEEP_COLOURS
    )
