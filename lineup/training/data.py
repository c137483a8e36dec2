"""Which images a training sees, and which of them validate.

Everything follows from ids, labels and the seed: neither order of files nor an earlier run has a say. Imports
no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lineup.settings import training_photos
from lineup.settings.training import Needs, Train
from lineup.storage import parquet

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Manifest:
    """The images to train on.

    ids: str [N], sorted; labels: int64 [N] into names, -1 where there is none; names: sorted.
    """

    ids: npt.NDArray[np.str_]
    labels: Rows
    names: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of all images and their labels."""
        told = hashlib.sha256()
        for image_id, label in zip(self.ids.tolist(), self.labels.tolist(), strict=True):
            told.update(json.dumps([image_id, self.names[label] if label >= 0 else None]).encode())
        return told.hexdigest()


@dataclass(frozen=True)
class Parts:
    """Rows of the manifest, sorted: what is trained on and what validates.

    labels: int64 [len(train)] into names, which are sorted; None and () where an objective may not know
        labels.
    """

    train: Rows
    validation: Rows
    labels: Rows | None
    names: tuple[str, ...]


def read_manifest(path: Path) -> Manifest:
    table = parquet.read_table(path, columns=["image_id", "label"])
    labels = table.column("label").to_pylist()
    names = sorted({label for label in labels if label is not None})
    index = {name: number for number, name in enumerate(names)}
    ids = np.array(table.column("image_id").to_pylist(), dtype=np.str_)
    return Manifest(ids, np.array([index.get(label, -1) for label in labels], np.int64), tuple(names))


def counts(manifest: Manifest) -> Counter[str | None]:
    """Images of each label; of None those without one."""
    return Counter(manifest.names[label] if label >= 0 else None for label in manifest.labels.tolist())


def split(manifest: Manifest, settings: Train, needs: Needs, seed: int) -> Parts:
    """Holds labels out for validation (images, where an objective may not know labels).

    UserError if too little is left.
    """
    training_photos.check(needs, settings, counts(manifest))
    rng = np.random.default_rng([seed, 1])
    if not needs.labels:
        rows = np.arange(len(manifest.ids))
        held = rng.permutation(rows)[: training_photos.held_out_images(len(rows), settings)]
        return Parts(np.setdiff1d(rows, held), np.sort(held), None, ())
    images = np.bincount(manifest.labels[manifest.labels >= 0], minlength=len(manifest.names))
    several = np.flatnonzero(images > 1)
    usable = several if needs.pairs else np.arange(len(images))
    held = rng.permutation(several)[: training_photos.held_out_labels(len(several), len(usable), settings)]
    kept = np.setdiff1d(usable, held)
    train = np.flatnonzero(np.isin(manifest.labels, kept))
    labels = np.searchsorted(kept, manifest.labels[train])
    return Parts(
        train,
        np.flatnonzero(np.isin(manifest.labels, held)),
        labels,
        tuple(manifest.names[label] for label in kept),
    )
