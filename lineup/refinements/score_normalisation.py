"""Score normalisation: from each score is taken what the query's neighbourhood scores on average.

s'(q, x) = s(q, x) - share * mean of s(q, x_i) over the ranks first..last of the query's own ranking. No
ranking changes: what changes is how scores of different queries compare, and so what a threshold can tell.

Source: Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022, section 3.5. They take
the neighbourhood from a background set; ranks behind the likely right images stand for it here.
"""

from __future__ import annotations

import numpy as np

from lineup.refinements import ordering
from lineup.refinements.ordering import Values
from lineup.refinements.refinement import Refinement, RefinementInput
from lineup.search.hits import Hits
from lineup.search.vectors import Vectors
from lineup.settings.refinement import ScoreNormalisation


class Method(Refinement[ScoreNormalisation]):
    """See `ScoreNormalisation`."""

    SCORE_MEANING = "similarity beyond that of the query's neighbourhood"

    def rank(self, given: RefinementInput) -> Hits:
        """A score is the ranking's own minus the share of its neighbourhood's mean."""
        scores = given.first.scores.astype(np.float64)
        bias = neighbourhood(given.first.scores, self.settings.first_rank, self.settings.last_rank)
        return ordering.best(given.first.positions, scores - self.settings.share * bias[:, None], given.depth)


def neighbourhood(scores: Vectors, first_rank: int, last_rank: int) -> Values:
    """The mean score over some ranks of each query, or the last score of a shorter ranking: float64 [Q].

    Args:
        scores: float32 [Q, K], falling, NaN behind a ranking's end.
        first_rank, last_rank: from 1, both included.
    """
    ranked = ~np.isnan(scores)
    length = ranked.sum(axis=1)
    rank = np.arange(1, scores.shape[1] + 1)
    first = np.minimum(first_rank, length)[:, None]
    counted = ranked & (rank >= first) & (rank <= last_rank)
    total = np.where(counted, scores.astype(np.float64), 0).sum(axis=1)
    return total / np.maximum(counted.sum(axis=1), 1)
