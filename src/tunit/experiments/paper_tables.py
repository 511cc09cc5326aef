"""What each table of the paper compares, as data. A new configuration is a preset and a line here.

The figures are those of the paper's tables (TUNIT, ICCV 2021), to print beside ours.
"""

from tunit.experiments.experiment import CLASSES, FEATURES, FIRST, IMAGES, Experiment, Ordering, Paper, Table
from tunit.experiments.paper_figures import FEW_LABELS, RATIOS, SWEEP

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
    orderings=(
        Ordering("the style contrastive loss finds the classes better", ACCURACY, ("IIC",), ("IIC + eq. 2",)),
        Ordering("it sets the styles of domains further apart", IOI, ("IIC",), ("IIC + eq. 2",)),
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
            "A with TUNIT's G and D, supervised",
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
    orderings=(
        Ordering(
            "without labels as good as with all of them (G at most a tenth above B)",
            MFID,
            ("G",),
            ("B",),
            1.1,
        ),
        Ordering("TUNIT beats clustering beforehand", MFID, ("F", "G"), ("C", "D", "E")),
        Ordering("TUNIT's G and D beat FUNIT's", MFID, ("B",), ("A",)),
        Ordering("TUNIT finds the classes better", ACCURACY, ("C", "D", "E"), ("F", "G")),
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
            overrides={
                "mutual_information_weight": "0",
                "overcluster_weight": "0",
                "found_domains_weight": "0",
            },
        ),
        Experiment("no eq. 2", "no style loss of E", "paper", overrides={"guide_style_weight": "0"}),
        Experiment("no eq. 4", "no style loss of G", "paper", overrides={"generator_style_weight": "0"}),
        Experiment("no eq. 5", "no reconstruction", "paper", overrides={"reconstruction_weight": "0"}),
        Experiment("no R1", "no gradient penalty", "paper", overrides={"r1_weight": "0"}),
    ),
    orderings=(Ordering("E should learn from D, too", MFID, ("G",), ("no adversarial loss for E",)),),
)

_ENOUGH = tuple(f"K = {k}" for k in SWEEP if k >= 10)

TABLE2 = Table(
    "table2",
    "Table 2: the number of domains",
    (MFID, DENSITY, COVERAGE, "purity", "effective number of domains"),
    tuple(
        Experiment(
            f"K = {k}",
            "1 domain" if k == 1 else f"{k} domains",
            "paper",
            overrides={"domains": str(k)},
            paper=_paper(*figures),
        )
        for k, figures in SWEEP.items()
    ),
    map_of=("K = 10", "K = 20"),
    orderings=(
        Ordering("one domain is not enough", MFID, _ENOUGH, ("K = 1",)),
        Ordering(
            "from ten domains on, their number matters little (the largest mFID at most 1.5 times the smallest)",
            MFID,
            _ENOUGH,
            _ENOUGH,
            1.5,
        ),
    ),
)

# The preset of each model of table 3.
_FEW = {"FUNIT": "table1-a", "SEMIT": "semit", "TUNIT": "few-labels"}

TABLE3 = Table(
    "table3",
    "Table 3: few labels",
    (MFID, ACCURACY),
    tuple(
        Experiment(
            f"{model} {ratio} %",
            f"{model}, {ratio} % of the labels",
            preset,
            labels=CLASSES,
            labelled_share=ratio / 100,
            paper={name: {MFID: values[i]} for name, values in FEW_LABELS[model].items()},
        )
        for model, preset in _FEW.items()
        for i, ratio in enumerate(RATIOS)
    ),
    orderings=tuple(
        Ordering(f"TUNIT beats {other} at {ratio} %", MFID, (f"TUNIT {ratio} %",), (f"{other} {ratio} %",))
        for other in ("FUNIT", "SEMIT")
        for ratio in RATIOS
    ),
)

STRENGTHS = (0.0, 0.5, 1.0, 1.5)
TARGET, CONTENT = "share taken for the target class at strength {:g}", "content error at strength {:g}"

FIGURE4 = Table(
    "figure4",
    "Figure 4: an attribute from 35 labelled pictures with it and 35 without",
    (*(TARGET.format(s) for s in STRENGTHS), *(CONTENT.format(s) for s in STRENGTHS), ACCURACY),
    (
        Experiment(
            "attribute",
            "the first class, translated into the second by average styles",
            "few-labels",
            labels=CLASSES,
            labelled_of_class=35,
            strengths=STRENGTHS,
        ),
    ),
    classes=2,
)

TABLES = {table.name: table for table in (CLUSTERING, TABLE1, TABLE2, TABLE3, FIGURE4, ABLATION)}
