"""What each table of the paper compares, as data. A new configuration is a preset and a line here.

The figures are those of the paper's tables (TUNIT, ICCV 2021), to print beside ours.
"""

from dataclasses import dataclass, field

# Where the labels of a training come from.
NONE = "none"
CLASSES = "classes"  # the true ones
IMAGES = "k-means on images"
FEATURES = "k-means on features"
FIRST = "domains of the first training"
LABEL_SOURCES = (NONE, CLASSES, IMAGES, FEATURES, FIRST)

Paper = dict[str, dict[str, float]]  # data set -> figure -> value
SWEEP = (1, 4, 7, 10, 13, 16, 20, 50, 500, 1000)
RATIOS = (1, 2, 4, 8, 20, 40, 60, 80)  # per cent


@dataclass(frozen=True)
class Experiment:
    """One row of a table: a training, and what comes before it."""

    name: str
    title: str
    preset: str
    labels: str = NONE
    first: str = ""  # preset of a training whose domains become the labels
    guide_kept: bool = False  # the training begins with the first one's E
    overrides: dict[str, str] = field(default_factory=dict)
    translates: bool = True  # else only the clustering is measured
    labelled_share: float = 0.0  # of the pictures' true labels that the training sees
    paper: Paper = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    figures: tuple[str, ...]  # names as in an evaluation
    rows: tuple[Experiment, ...]
    map_of: tuple[str, ...] = ()  # rows of which a map of styles is made


MFID, DENSITY, COVERAGE, ACCURACY, IOI = "mFID", "mean density", "mean coverage", "accuracy", "IOI"


def _paper(animals: tuple[float, ...], food: tuple[float, ...]) -> Paper:
    names = (MFID, DENSITY, COVERAGE, ACCURACY)
    return {
        "AnimalFaces-10": dict(zip(names, animals, strict=False)),
        "Food-10": dict(zip(names, food, strict=False)),
    }


CLUSTERING = Table(
    "clustering",
    "Section 3.2: clustering with and without the style contrastive loss",
    (ACCURACY, IOI),
    (
        Experiment(
            "IIC",
            "mutual information alone",
            "iic",
            translates=False,
            paper={
                "AnimalFaces-10": {ACCURACY: 0.680, IOI: 2.05},
                "Food-10": {ACCURACY: 0.542, IOI: 1.34},
            },
        ),
        Experiment(
            "IIC + eq. 2",
            "mutual information and style contrastive loss",
            "guide-alone",
            translates=False,
            paper={
                "AnimalFaces-10": {ACCURACY: 0.850, IOI: 3.04},
                "Food-10": {ACCURACY: 0.860, IOI: 2.50},
            },
        ),
    ),
)

TABLE1 = Table(
    "table1",
    "Table 1: configurations A to G",
    (MFID, DENSITY, COVERAGE, ACCURACY),
    (
        Experiment(
            "A",
            "FUNIT, supervised",
            "table1-a",
            labels=CLASSES,
            paper=_paper((74.0, 0.749, 0.671, 1.0), (68.4, 0.989, 0.782, 1.0)),
        ),
        Experiment(
            "B",
            "A with our G and D, supervised",
            "table1-b",
            labels=CLASSES,
            paper=_paper((46.2, 0.896, 0.732, 1.0), (57.6, 1.284, 0.857, 1.0)),
        ),
        Experiment(
            "C",
            "B with k-means on images",
            "table1-b",
            labels=IMAGES,
            paper=_paper((110.7, 0.822, 0.615, 0.215), (90.7, 0.849, 0.648, 0.201)),
        ),
        Experiment(
            "D",
            "B with k-means on features",
            "table1-b",
            labels=FEATURES,
            paper=_paper((76.2, 0.770, 0.597, 0.428), (64.6, 0.968, 0.808, 0.331)),
        ),
        Experiment(
            "E",
            "B with differentiable clustering",
            "table1-b",
            labels=FIRST,
            first="iic",
            paper=_paper((73.5, 0.940, 0.588, 0.680), (64.2, 1.038, 0.819, 0.542)),
        ),
        Experiment(
            "F",
            "TUNIT, sequential",
            "table1-b",
            labels=FIRST,
            first="guide-alone",
            guide_kept=True,
            paper=_paper((46.0, 1.060, 0.789, 0.850), (61.1, 0.908, 0.777, 0.860)),
        ),
        Experiment(
            "G",
            "TUNIT, joint",
            "paper",
            paper=_paper((47.7, 1.039, 0.805, 0.841), (52.2, 1.079, 0.875, 0.848)),
        ),
    ),
)

ABLATION = Table(
    "ablation",
    "G with one loss switched off in turn",
    (MFID, DENSITY, COVERAGE, ACCURACY),
    (
        Experiment("G", "TUNIT, joint", "paper", paper={"AnimalFaces-10": {MFID: 47.7}}),
        Experiment(
            "no adversarial loss for E",
            "D trains G alone",
            "paper",
            overrides={"adversarial_trains": "generator"},
            paper={"AnimalFaces-10": {MFID: 63.0}},
        ),
        Experiment(
            "no mutual information",
            "no clustering loss",
            "paper",
            overrides={"mutual_information_weight": "0", "overcluster_weight": "0"},
        ),
        Experiment("no eq. 2", "no style loss of E", "paper", overrides={"guide_style_weight": "0"}),
        Experiment("no eq. 4", "no style loss of G", "paper", overrides={"generator_style_weight": "0"}),
        Experiment("no eq. 5", "no reconstruction", "paper", overrides={"reconstruction_weight": "0"}),
        Experiment("no R1", "no gradient penalty", "paper", overrides={"r1_weight": "0"}),
    ),
)

_SWEEP_PAPER: dict[int, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    1: ((129.6, 0.561, 0.512), (95.1, 1.113, 0.771)),
    4: ((77.7, 0.879, 0.738), (67.4, 0.851, 0.785)),
    7: ((62.7, 1.016, 0.729), (52.7, 1.024, 0.846)),
    10: ((47.7, 1.039, 0.805), (52.2, 1.079, 0.875)),
    13: ((56.8, 0.993, 0.720), (54.8, 0.970, 0.845)),
    16: ((54.1, 1.093, 0.782), (54.8, 1.029, 0.857)),
}

TABLE2 = Table(
    "table2",
    "Table 2: the number of domains",
    (MFID, DENSITY, COVERAGE, "purity", "effective number of domains"),
    tuple(
        Experiment(
            f"K = {k}",
            f"{k} domains",
            "paper",
            overrides={"domains": str(k)},
            paper=_paper(*_SWEEP_PAPER[k]) if k in _SWEEP_PAPER else {},
        )
        for k in SWEEP
    ),
    map_of=("K = 10", "K = 20"),
)

TABLE3 = Table(
    "table3",
    "Table 3: few labels",
    (MFID, ACCURACY),
    tuple(
        Experiment(
            f"TUNIT {ratio} %",
            f"{ratio} % of the labels",
            "few-labels",
            labels=CLASSES,
            labelled_share=ratio / 100,
        )
        for ratio in RATIOS
    ),
)

TABLES = {table.name: table for table in (CLUSTERING, TABLE1, TABLE2, TABLE3, ABLATION)}
