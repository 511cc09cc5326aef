"""Move single pictures to other groups as long as modularity grows: the local step of the Louvain method.

References:
    [1] Blondel, Guillaume, Lambiotte, Lefebvre. Fast unfolding of communities in large networks, J. Stat. Mech. 2008.
    [2] Newman. Modularity and community structure in networks, PNAS 2006.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tunit.clustering.cues import Integers

MOST_SWEEPS = 50  # over all pictures
LEAST_GAIN = 1e-6  # of modularity: more than rounding errors

Graphs = Sequence[sparse.csr_matrix]  # (N, N) each, from tunit.clustering.graph.edges_of


def moved(edges: Graphs, groups: Integers) -> Integers:
    """The groups (N,) after single pictures have moved to other groups, again and again, until no move is left that
    makes the modularity [2], summed over the graphs, larger. The last picture of a group stays.
    """
    now = _Groups(edges, groups)
    everyone = np.arange(len(groups))
    for _ in range(MOST_SWEEPS):
        wanting = np.flatnonzero(now.gains(everyone).max(1) > LEAST_GAIN)
        # The gains change with every move, so each is computed once more.
        if not sum(now.move(int(picture)) for picture in wanting):
            break
    return now.groups


class _Groups:
    """Groups of the pictures of some graphs, and the numbers of edges by which modularity changes with a move."""

    def __init__(self, edges: Graphs, groups: Integers) -> None:
        self.groups = groups.copy()
        self._sizes = np.bincount(groups)
        number, rows = len(self._sizes), np.arange(len(groups))
        members = sparse.csr_matrix((np.ones(len(rows)), (rows, groups)), (len(rows), number))
        self._edges = edges
        # The ends of each picture's edges, the edges from each picture to each group, and the ends of each group's.
        self._ends = [np.asarray(each.sum(1)).ravel() for each in edges]
        self._leading = [(each @ members).toarray() for each in edges]
        self._totals = [np.bincount(groups, ends, number) for ends in self._ends]

    def gains(self, pictures: Integers) -> NDArray[np.float64]:
        """(pictures, groups): by how much modularity grows if only this picture moves to this group [1]."""
        places = self.groups[pictures]
        gained = np.zeros((len(pictures), len(self._sizes)))
        for leading, ends, totals in zip(self._leading, self._ends, self._totals, strict=True):
            own, all_ends = ends[pictures][:, None], ends.sum()
            edges = leading[pictures] - leading[pictures, places][:, None]
            expected = own * (totals - totals[places][:, None] + own) / all_ends
            gained += 2 * (edges - expected) / all_ends
        gained[np.arange(len(pictures)), places] = 0
        return gained

    def move(self, picture: int) -> bool:
        """Move a picture to the group with the largest gain; whether there is one with a gain."""
        gained, before = self.gains(np.array([picture]))[0], self.groups[picture]
        after = int(gained.argmax())
        if gained[after] <= LEAST_GAIN or self._sizes[before] == 1:
            return False
        for edges, leading, ends, totals in zip(
            self._edges, self._leading, self._ends, self._totals, strict=True
        ):
            begin, end = edges.indptr[picture : picture + 2]
            near, weights = edges.indices[begin:end], edges.data[begin:end]
            leading[near, before] -= weights
            leading[near, after] += weights
            totals[before] -= ends[picture]
            totals[after] += ends[picture]
        self._sizes[before] -= 1
        self._sizes[after] += 1
        self.groups[picture] = after
        return True
