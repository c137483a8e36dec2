"""Which labels a row with `label_share` may see in training: what fewer labelled photos would have brought.

The share is one of labels, each with all its photos. So every objective has the pairs that it needs, and the
curve says how many photos have to be labelled, whole labels at a time. Labels are ordered by a hash of the
seed and their name, so that a larger share contains a smaller one, and a new label reorders no other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lineup.settings.training_photos import Counts

IntArray = npt.NDArray[np.int64]


def chosen(labels: Collection[str], share: float, seed: int) -> frozenset[str]:
    """The labels of a share, rounded up to a whole label.

    Args:
        labels: all training labels, in any order.
        share: more than 0, at most 1.
        seed: the pipeline's.
    """
    count = math.ceil(Fraction(str(share)) * len(labels))  # 0.1 as it is written, not as the nearest binary
    return frozenset(sorted(labels, key=lambda label: (_digest(label, seed), label))[:count])


def _digest(label: str, seed: int) -> str:
    return hashlib.sha256(json.dumps([seed, label]).encode()).hexdigest()


def counts(images: Counts, share: float, seed: int) -> Counts:
    """How many images each label of the share has; under None, those of other labels and without one."""
    if share == 1:
        return images
    seen = chosen([label for label in images if label is not None], share, seed)
    shared: Counter[str | None] = Counter()
    for label, count in images.items():
        shared[label if label in seen else None] += count
    return shared


def visible(
    labels: IntArray, names: Sequence[str], share: float, seed: int
) -> tuple[IntArray, tuple[str, ...]]:
    """The labels of images as training sees them, and their names: other labels count as unknown.

    Args:
        labels: int64 [N], positions in `names`; -1 where an image has no label.
        names: the labels' names, sorted.
    Returns:
        int64 [N], positions in the names of the share, which are sorted, too.
    """
    seen = chosen(names, share, seed)
    kept = tuple(name for name in names if name in seen)
    position = {name: number for number, name in enumerate(kept)}
    table = np.array([*(position.get(name, -1) for name in names), -1], np.int64)  # -1 is the last
    return table[labels], kept
