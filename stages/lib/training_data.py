"""What a training sees: which images, which of them validate, and the batches of an epoch.

Everything follows from ids, labels and the seed: neither order of files nor an earlier run has a say.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from stages.lib import tables
from stages.lib.augmentation import Augment
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


class Batches(Dataset):
    """The batches of one epoch, each made from (seed, epoch, step) alone, in whichever process."""

    def __init__(
        self, pixels: npt.NDArray[np.uint8], plan: list[tuple[Rows, Rows]], augment: Augment, views: int, seed: tuple[int, int]
    ) -> None:
        self.pixels, self.plan, self.augment, self.views, self.seed = pixels, plan, augment, views, seed

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """images uint8 [V*B, 3, size, size], all first views, then all second ones; labels int64 [V*B]."""
        rows, labels = self.plan[step]
        seed = np.random.SeedSequence([*self.seed, step]).generate_state(1, np.uint32)[0]
        images_of_step = self.augment.batch(np.concatenate([self.pixels[rows]] * self.views), int(seed))
        return images_of_step, torch.from_numpy(np.tile(labels, self.views))


@dataclass(frozen=True)
class Training:
    """pixels: uint8 [N, 3, S, S]; labels: int64 [N], None where they may not be used; views: augmented copies of an image."""

    pixels: npt.NDArray[np.uint8]
    labels: Rows | None
    views: int

    def plan(self, settings: Train, seed: tuple[int, int]) -> list[tuple[Rows, Rows]]:
        return plan(self.labels, len(self.pixels), settings, seed)

    def batches(self, settings: Train, augment: Augment, seed: tuple[int, int]) -> Batches:
        return Batches(self.pixels, self.plan(settings, seed), augment, self.views, seed)


def plan(labels: Rows | None, count: int, settings: Train, seed: tuple[int, int]) -> list[tuple[Rows, Rows]]:
    """The batches of one epoch: positions among the `count` training images, and the labels that the loss gets.

    labels: int64 [count], of every training image; None where they may not be used.
    """
    rng = np.random.default_rng(seed)
    target = settings.images_per_epoch or count
    if labels is None:
        steps = max(1, target // settings.batch_size)
        order = _cycle(rng, np.arange(count), settings.batch_size)
        numbers = np.arange(settings.batch_size)
        return [(next(order), numbers) for _ in range(steps)]
    chosen, per_label = settings.labels_per_batch, settings.images_per_label
    by_label = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    order = _cycle(rng, np.arange(len(by_label)), chosen)
    steps = max(1, target // (chosen * per_label))
    batches = []
    for _ in range(steps):
        of_step = next(order)
        rows = np.concatenate([np.resize(rng.permutation(by_label[label])[:per_label], per_label) for label in of_step])
        batches.append((rows, np.repeat(of_step, per_label)))
    return batches


def _cycle(rng: np.random.Generator, items: Rows, size: int) -> Iterator[Rows]:
    """`size` different items at a time, from one permutation after another; what is left of each is dropped."""
    while True:
        order = rng.permutation(items)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]
