"""Which images a training sees, and which of them validate.

Everything follows from ids, labels and the seed: neither order of files nor an earlier run has a say. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.lib import tables
from stages.lib.errors import UserError
from stages.lib.objectives import Needs
from stages.lib.training_params import Train

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Manifest:
    """The images to train on. ids: str [N], sorted; labels: int64 [N] into names, -1 where there is none; names: sorted."""

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

    labels: int64 [len(train)] into names, which are sorted; None and () where an objective may not know labels.
    """

    train: Rows
    validation: Rows
    labels: Rows | None
    names: tuple[str, ...]


def read_manifest(path: Path) -> Manifest:
    table = tables.read_table(path, columns=["image_id", "label"])
    labels = table.column("label").to_pylist()
    names = sorted({label for label in labels if label is not None})
    index = {name: number for number, name in enumerate(names)}
    ids = np.array(table.column("image_id").to_pylist(), dtype=np.str_)
    return Manifest(ids, np.array([index.get(label, -1) for label in labels], np.int64), tuple(names))


def split(manifest: Manifest, settings: Train, needs: Needs, seed: int) -> Parts:
    """Holds labels out for validation (images, where an objective may not know labels). UserError if too little is left."""
    if len(manifest.ids) == 0:
        raise UserError("there is no image to train on; put some into data/raw/train/<label>/, or set the row's objective to none")
    if needs.labels:
        return _split_labels(manifest, settings, needs, seed)
    rows = np.arange(len(manifest.ids))
    held = np.random.default_rng([seed, 1]).permutation(rows)[: math.ceil(settings.validation_share * len(rows))]
    train = np.setdiff1d(rows, held)
    if settings.batch_size > len(train):
        raise UserError(
            f"batch_size is {settings.batch_size}, but there are {len(train)} images to train on; set it to {len(train)} or less"
        )
    return Parts(train, np.sort(held), None, ())


def _split_labels(manifest: Manifest, settings: Train, needs: Needs, seed: int) -> Parts:
    if not manifest.names:
        raise UserError("this objective needs labels, and no training image has one; use data/raw/train/<label>/ folders, or simclr")
    counts = np.bincount(manifest.labels[manifest.labels >= 0], minlength=len(manifest.names))
    several = np.flatnonzero(counts > 1)
    if needs.pairs and len(several) < len(counts) and settings.on_single_image == "fail":
        single = np.flatnonzero(counts == 1)
        raise UserError(
            f"{len(single)} of {len(counts)} labels have one image (such as {manifest.names[single[0]]!r}), which makes no pair; "
            "add images, or say on_single_image: skip"
        )
    usable = several if needs.pairs else np.arange(len(counts))
    held = np.random.default_rng([seed, 1]).permutation(several)[: math.ceil(settings.validation_share * len(several))]
    kept = np.setdiff1d(usable, held)
    if len(kept) < settings.labels_per_batch:
        raise UserError(
            f"labels_per_batch is {settings.labels_per_batch}, but there are {len(kept)} labels to train on "
            f"({len(held)} more validate); set it to {max(len(kept), 2)} or less, or add labels"
        )
    train = np.flatnonzero(np.isin(manifest.labels, kept))
    labels = np.searchsorted(kept, manifest.labels[train])
    return Parts(train, np.flatnonzero(np.isin(manifest.labels, held)), labels, tuple(manifest.names[label] for label in kept))
