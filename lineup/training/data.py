"""Which images a network is trained on, and which are held out to validate it.

Both follow from ids, labels and seed alone, not from the order of files or from earlier runs. This file
imports no torch: the `train` stage refuses photos that a row can't be trained on before it loads torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lineup.settings import label_share, training_photos
from lineup.settings.trained_objectives import Needs
from lineup.settings.training import Train
from lineup.storage import parquet

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Manifest:
    """The training images.

    Args:
        ids: str [N], sorted.
        labels: int64 [N], positions in `names`; -1 where an image has no label.
        names: the labels' names, sorted.
    """

    ids: npt.NDArray[np.str_]
    labels: Rows
    names: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256, in hex, of all images and their labels."""
        digest = hashlib.sha256()
        for image_id, label in zip(self.ids.tolist(), self.labels.tolist(), strict=True):
            digest.update(json.dumps([image_id, self.names[label] if label >= 0 else None]).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Parts:
    """The images to train on and those held out, as sorted rows of the manifest.

    Args:
        train, validation: the rows of each part.
        labels: int64 [len(train)], positions in `names`; None where an objective may not know labels.
        names: the labels that are trained on, sorted; empty where an objective may not know labels.
    """

    train: Rows
    validation: Rows
    labels: Rows | None
    names: tuple[str, ...]


def read_manifest(path: Path) -> Manifest:
    """The images of the manifest that `preprocess` wrote."""
    table = parquet.read_table(path, columns=["image_id", "label"])
    labels = table.column("label").to_pylist()
    names = sorted({label for label in labels if label is not None})
    index = {name: number for number, name in enumerate(names)}
    ids = np.array(table.column("image_id").to_pylist(), dtype=np.str_)
    return Manifest(ids, np.array([index.get(label, -1) for label in labels], np.int64), tuple(names))


def visible(manifest: Manifest, share: float, seed: int) -> Manifest:
    """The manifest as a row with a `label_share` sees it: other labels count as unknown."""
    if share == 1:
        return manifest
    return Manifest(manifest.ids, *label_share.visible(manifest.labels, manifest.names, share, seed))


def counts(manifest: Manifest) -> Counter[str | None]:
    """How many images each label has; under None, how many have no label."""
    return Counter(manifest.names[label] if label >= 0 else None for label in manifest.labels.tolist())


def split(manifest: Manifest, settings: Train, needs: Needs, seed: int) -> Parts:
    """Holds labels out for validation, or images where an objective may not know labels.

    Raises:
        UserError: too few images or labels are left to train on.
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
    trained = np.setdiff1d(usable, held)
    train = np.flatnonzero(np.isin(manifest.labels, trained))
    labels = np.searchsorted(trained, manifest.labels[train])
    return Parts(
        train,
        np.flatnonzero(np.isin(manifest.labels, held)),
        labels,
        tuple(manifest.names[label] for label in trained),
    )
