"""Whether colours may tell the kinds of pictures apart, and how E should learn if they do not.

Two views of one picture have the same colours, unless these are changed at random. So E learns colours first, also
where every kind has all of them, such as paints of materials, or light on traffic signs. If outlines or textures
separate the pictures clearly, and colours do not, the colours of views are changed, and E learns from neighbours from
its first step on.

If no cue separates the pictures clearly, not even colours, these are probably those of backgrounds or of the light.
Then colours are changed, too, or E would learn them instead of the things in front.
"""

from collections.abc import Sequence

import numpy as np

from tunit.clustering.cues import Pictures
from tunit.clustering.measures import CLEAR_GROUPS, MOST_COMPARED, MeasureComparison, reduced_cues
from tunit.clustering.neighbours import NUMBERS
from tunit.data.finding.spread import stride

WITHOUT_COLOURS = ("outlines", "textures")  # the cues that see only grey pictures
# Settings by name, if colours may tell the kinds apart, if other cues do so, and if no cue does.
KEEP_COLOURS = {"hue": 0.0, "saturation": 0.0, "neighbours_from": 0.5}
IGNORE_COLOURS = {"hue": 0.1, "saturation": 0.4, "neighbours_from": 0.0}
JITTER_COLOURS = IGNORE_COLOURS | {"neighbours_from": 0.5}
# Above this ratio, for several numbers of groups (NUMBERS), colours do not tell kinds apart. Those of fruit have
# 0.19, those of things in front of any background 0.29 to 0.40, those of dogs 0.49.
MISLEADING = 0.24
FEWEST = 100  # of fewer pictures the ratio says little


def settings_by_colours(images: Pictures, groups: Sequence[int]) -> dict[str, float]:
    """How E should learn from N pictures (N, S, S, 3): KEEP_COLOURS, IGNORE_COLOURS or JITTER_COLOURS.

    groups: into how many groups, at least 1, cues should separate the pictures; several numbers if it is not known.
    At most MOST_COMPARED pictures, evenly spread over the set, are looked at.
    """
    rows = np.arange(0, len(images), stride(len(images), MOST_COMPARED))
    cues = reduced_cues(images, rows)
    compared = MeasureComparison(cues, groups)
    best = compared.best(WITHOUT_COLOURS)
    if compared.ratio(best) <= CLEAR_GROUPS < compared.ratio(["colours"]):
        return IGNORE_COLOURS
    if max(groups) == 1 or len(rows) < FEWEST or compared.ratio(["shapes"]) <= CLEAR_GROUPS:
        return KEEP_COLOURS
    if tuple(groups) != NUMBERS:
        compared = MeasureComparison(cues, NUMBERS)
    return JITTER_COLOURS if compared.ratio(["colours"]) > MISLEADING else KEEP_COLOURS
