"""Was the training worth it? The domains found are compared with trivial baselines on the same pictures."""

from dataclasses import dataclass, field

import numpy as np

from tunit.clustering.cues import Integers, Pictures
from tunit.evaluation import trivial
from tunit.evaluation.clusters import clustering_accuracy, normalised_mutual_information, rightly_matched
from tunit.evaluation.intervals import NORMAL_WITHIN
from tunit.methods.inference import evenly_spread

# At most this many pictures are compared, evenly spread; if a verdict on many domains takes more, at most the latter.
MOST_PICTURES, MOST_FOR_MANY_DOMAINS = 2_000, 10_000
SAME = 0.5  # from this NMI on, the domains count as largely the same as those of a trivial baseline
# With fewer pictures per domain there is no verdict. The highest NMI of six random groupings of 2 to 10 domains was
# measured: on average 0.30 to 0.41 at 5 pictures per domain (for 2 domains, often above SAME), 0.13 to 0.24 at 10.
PER_DOMAIN = 10
# It grows with the number of domains (0.43 for 50). With a fifth of that number per domain it stays below SAME.
SHARE_OF_DOMAINS = 1 / 5
OURS = "the domains found"
# Figure -> title in tables.
COLUMNS = {
    "accuracy": "accuracy",
    "NMI": "NMI",
    "agreement": "NMI with the domains",
}


@dataclass
class TrivialComparison:
    """Accuracy and NMI of the domains found, and of each trivial baseline."""

    # OURS, or the name of a trivial baseline -> its figures: "accuracy" and "NMI" against the classes, if these are
    # known; for a trivial baseline also "agreement", its NMI with our domains.
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures: int = 0  # how many were compared
    verdict: str = ""  # one sentence, also if the pictures are too few to judge; "" if nothing was compared

    def cells(self) -> list[tuple[str, ...]]:
        """The rows of a table with the columns COLUMNS, as text; "-" where there is no figure."""
        return [
            (row, *(f"{values[name]:.3f}" if name in values else "-" for name in COLUMNS))
            for row, values in self.rows.items()
        ]


def compare_with_trivial(
    images: Pictures,
    domains: Integers,
    classes: Integers,
    number: int,
    seed: int = 0,
    most: int = MOST_PICTURES,
) -> TrivialComparison:
    """Compare the domain of each picture, `domains` (N,), with trivial baselines that have as many groups.

    images: (N, S, S, 3). number: how many domains there are, and how many groups a trivial baseline makes. classes:
    (N,) from 0, -1 if unknown; they are used if at least two classes are known.
    """
    known = np.flatnonzero(classes >= 0)
    labelled = len(np.unique(classes[known])) > 1
    rows = known if labelled else np.arange(len(images))
    most = max(most, min(needed(number), MOST_FOR_MANY_DOMAINS))
    rows = rows[evenly_spread(len(rows), most)]
    found = TrivialComparison(pictures=len(rows))
    if number < 2 or len(rows) < 2:
        return found
    pictures, ours, truth = np.array(images[rows]), domains[rows], classes[rows]
    if labelled:
        found.rows[OURS] = _scores(ours, truth)
    groups = {name: baseline(pictures, number, seed) for name, baseline in trivial.BASELINES.items()}
    for name, theirs in groups.items():
        row = _scores(theirs, truth) if labelled else {}
        found.rows[f"k-means on {name}"] = row | {"agreement": normalised_mutual_information(ours, theirs)}
    if len(rows) < needed(number):
        what = "pictures with a class" if labelled else "pictures"
        found.verdict = (
            f"No verdict: {len(rows):,} {what} are too few to judge {number:,} domains (it takes "
            f"{needed(number):,}), because groups of so few agree by chance."
        )
    elif labelled:
        best = max(groups, key=lambda name: clustering_accuracy(groups[name], truth))
        found.verdict = _verdict_with_classes(ours, groups[best], truth, best)
    else:
        found.verdict = _verdict_without_classes(ours, found)
    return found


def needed(domains: int) -> int:
    """How many pictures a verdict on so many domains takes."""
    return domains * max(PER_DOMAIN, round(SHARE_OF_DOMAINS * domains))


def _scores(groups: Integers, classes: Integers) -> dict[str, float]:
    return {
        "accuracy": clustering_accuracy(groups, classes),
        "NMI": normalised_mutual_information(groups, classes),
    }


def _verdict_with_classes(ours: Integers, theirs: Integers, classes: Integers, name: str) -> str:
    """The verdict if classes are known: a paired comparison over the pictures, with its standard error."""
    right, trivially = (rightly_matched(groups, classes).astype(np.float64) for groups in (ours, theirs))
    gain = right - trivially
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5
    figures = f"{right.mean():.2f} of the pictures fall into their class, {trivially.mean():.2f} by k-means on {name}"
    # A difference of fewer standard errors may be chance.
    if gain.mean() > NORMAL_WITHIN * error:
        return f"Training was worth it: {figures}, the best trivial baseline."
    if gain.mean() < -NORMAL_WITHIN * error:
        return f"Training was not worth it yet: {figures}, which takes seconds: train for longer."
    return f"Training was hardly worth it yet: {figures}, which is no clear difference."


def _verdict_without_classes(ours: Integers, found: TrivialComparison) -> str:
    """The verdict if no classes are known."""
    if len(np.unique(ours)) < 2:
        return "Training was not worth it yet: all pictures lie in one domain."
    name = max(found.rows, key=lambda row: found.rows[row]["agreement"])
    most = found.rows[name]["agreement"]
    if most >= SAME:
        return (
            f"Training may not have been worth it: {name}, which takes seconds, finds largely the same groups "
            f"(NMI {most:.2f})."
        )
    return (
        f"The domains differ from all trivial baselines (NMI at most {most:.2f}, with {name}). Look at the galleries "
        "to see whether they are better: without labels this cannot be measured."
    )
