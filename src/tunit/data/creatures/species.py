"""The six species: the colours and proportions that distinguish them, in one table.

Base colours differ by at least 46 degrees of hue or, for the zebra, strongly in chroma and lightness. An individual's
hue differs from that of its species by at most 10 degrees, so it is never nearer to another species.
"""

from tunit.data.creatures import body_parts as parts
from tunit.data.creatures.drawing import Look

# fmt: off
LOOKS: tuple[Look, ...] = (
    Look(  # fox
        base=(0.71, 0.17,  50), second=(0.96, 0.03,  80), accent=(0.36, 0.07,  40), paw=(0.40, 0.08,  40),
        iris=(0.50, 0.11, 60), habitat=70, head=(0.60, 0.47), body=(0.40, 0.40), eyes=(0.26, -0.06),
        behind=parts.fox_behind, on_body=parts.fox_on_body, ears=parts.fox_ears,
        on_head=parts.fox_on_head, nose=parts.fox_nose,
    ),
    Look(  # frog
        base=(0.77, 0.19, 132), second=(0.93, 0.09, 115), accent=(0.50, 0.13, 145), paw=(0.80, 0.16, 125),
        iris=(0.68, 0.15, 75), habitat=150, head=(0.66, 0.43), body=(0.43, 0.39), eyes=(0.32, -0.23),
        behind=parts.nothing, on_body=parts.frog_on_body, ears=parts.frog_ears,
        on_head=parts.frog_on_head, nose=parts.frog_nose,
        mouth=(0.0, 0.22), mouth_half=0.26, arm=(0.10, 0.14),
    ),
    Look(  # owl
        base=(0.60, 0.21, 316), second=(0.92, 0.06, 325), accent=(0.42, 0.17, 310), paw=(0.78, 0.15,  70),
        iris=(0.76, 0.15, 85), habitat=290, head=(0.60, 0.48), body=(0.45, 0.42), eyes=(0.26, -0.06),
        behind=parts.nothing, on_body=parts.owl_on_body, ears=parts.owl_ears,
        on_head=parts.owl_on_head, nose=parts.owl_nose,
        mouth=(0.0, 0.335), arm=(0.16, 0.11), outline=0.5,
    ),
    Look(  # rabbit
        base=(0.86, 0.08,   2), second=(0.98, 0.012, 20), accent=(0.62, 0.17,   5), paw=(0.96, 0.02,  10),
        iris=(0.45, 0.13, 10), habitat=10, head=(0.57, 0.46), body=(0.37, 0.40), eyes=(0.26, -0.06),
        behind=parts.rabbit_behind, on_body=parts.rabbit_on_body, ears=parts.rabbit_ears,
        on_head=parts.rabbit_on_head, nose=parts.rabbit_nose,
        outline=0.6,
    ),
    Look(  # dragon
        base=(0.62, 0.16, 252), second=(0.91, 0.10,  98), accent=(0.72, 0.16,  40), paw=(0.48, 0.14, 258),
        iris=(0.66, 0.18, 45), habitat=245, head=(0.60, 0.46), body=(0.43, 0.42), eyes=(0.26, -0.06),
        behind=parts.dragon_behind, on_body=parts.dragon_on_body, ears=parts.dragon_ears,
        on_head=parts.dragon_on_head, nose=parts.dragon_nose,
        mouth=(0.0, 0.3),
    ),
    Look(  # zebra
        base=(1.03, 0.01,  85), second=(0.76, 0.03, 320), accent=(0.36, 0.03, 285), paw=(0.40, 0.03, 285),
        iris=(0.40, 0.06, 50), habitat=85, head=(0.55, 0.47), body=(0.41, 0.42), eyes=(0.26, -0.06),
        behind=parts.zebra_behind, on_body=parts.zebra_on_body, ears=parts.zebra_ears,
        on_head=parts.zebra_on_head, nose=parts.zebra_nose,
        mouth=(0.0, 0.32), outline=0.38,
    ),
)  # in the order of SPECIES
# fmt: on
