"""The batches of a training: which images an epoch draws, and how they are varied.

Over the epochs, every label is drawn before one is drawn again, and so is every image of a label. What an
epoch draws follows from images, seed and epoch alone: in whichever process, resumed or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from lineup.settings.training import Train
from lineup.training.augmentation import Augment
from lineup.training.data import Rows
from lineup.training.draws import draws_per_period, in_turn

# For each batch, positions among the training images, and the labels that the loss gets.
Plan = list[tuple[Rows, Rows]]

# Each kind of draw has its own random numbers, which depend on the seed and on the kind's number.
_DRAW_LABELS, _DRAW_IMAGES, _DRAW_IMAGES_OF_LABEL = 2, 3, 4


@dataclass(frozen=True)
class Sampling:
    """Which images the batches of a training draw.

    Args:
        labels: int64 [count], of every training image, each of 0..max at least once; None where an objective
            may not know labels.
        count: the number of training images.
        settings: the training loop's, for this row.
        seed: the pipeline's.
    """

    labels: Rows | None
    count: int
    settings: Train
    seed: int

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        batch = (
            self.settings.batch_size
            if self.labels is None
            else self.settings.labels_per_batch * self.settings.images_per_label
        )
        return max(1, (self.settings.images_per_epoch or self.count) // batch)

    def epoch(self, number: int) -> Plan:
        """The batches of an epoch; the first is number 1."""
        first, last = (number - 1) * self.steps, number * self.steps
        if self.labels is None:
            size = self.settings.batch_size
            return [
                (rows, np.arange(size))
                for rows in in_turn(self.count, size, first, last, (self.seed, _DRAW_IMAGES))
            ]
        drawn_labels = self._labels_of_steps(first, last)  # [steps, P]
        before = self._draws_of_labels(first)
        now = np.bincount(drawn_labels.ravel(), minlength=len(self._by_label))
        by_label = [
            self._images_of(label, before[label], before[label] + now[label])
            for label in np.flatnonzero(now).tolist()
        ]
        rows = np.empty((drawn_labels.size, self.settings.images_per_label), np.int64)  # [steps * P, K]
        rows[np.argsort(drawn_labels, axis=None, kind="stable")] = np.concatenate(by_label)
        labels = np.repeat(drawn_labels, self.settings.images_per_label, axis=1)  # [steps, P * K]
        return [*zip(rows.reshape(labels.shape), labels, strict=True)]

    def images_drawn(self, steps: int) -> int:
        """How many different images are in the first `steps` batches of the training."""
        if self.labels is None:
            return min(self.count, steps * self.settings.batch_size)
        draws = self._draws_of_labels(steps)
        return sum(
            min(len(images), int(count) * self.settings.images_per_label)
            for images, count in zip(self._by_label, draws, strict=True)
        )

    @cached_property
    def _by_label(self) -> list[Rows]:
        assert self.labels is not None
        return np.split(np.argsort(self.labels, kind="stable"), np.cumsum(np.bincount(self.labels))[:-1])

    def _labels_of_steps(self, first: int, last: int) -> Rows:
        return in_turn(
            len(self._by_label), self.settings.labels_per_batch, first, last, (self.seed, _DRAW_LABELS)
        )

    def _draws_of_labels(self, steps: int) -> Rows:
        """How often each label is drawn in the first `steps` batches: int64 [labels]."""
        count, chosen = len(self._by_label), self.settings.labels_per_batch
        period = draws_per_period(count, chosen)
        whole = steps // period
        since = np.bincount(self._labels_of_steps(whole * period, steps).ravel(), minlength=count)
        return since + whole * (period * chosen // count)

    def _images_of(self, label: int, first: int, last: int) -> Rows:
        """The images of a label's draws `first` to `last` - 1: int64 [last - first, K].

        A label with fewer than K images gives all of them, and some again.
        """
        images, per_draw = self._by_label[label], self.settings.images_per_label
        size = min(len(images), per_draw)
        draws = in_turn(len(images), size, first, last, (self.seed, _DRAW_IMAGES_OF_LABEL, label))
        return images[draws[:, np.arange(per_draw) % size]]


class Batches(Dataset):  # pyright: ignore[reportMissingTypeArgument]
    """The batches of one epoch. Each follows from seed, epoch and step alone, in whichever process.

    Args:
        pixels: uint8 [N, 3, S, S], of the training images.
        plan: which images the batches hold, as `Sampling.epoch` gives it.
        augment: how an image is varied.
        views: how many augmented copies of an image a batch holds.
        seed_and_epoch: the pipeline's seed, and the number of the epoch.
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        plan: Plan,
        augment: Augment,
        views: int,
        seed_and_epoch: tuple[int, int],
    ) -> None:
        self.pixels, self.plan, self.augment, self.views = pixels, plan, augment, views
        self.seed_and_epoch = seed_and_epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images, uint8 [V*B, 3, size, size], first views before second ones; their labels, int64 [V*B]."""
        rows, labels = self.plan[step]
        seed = np.random.SeedSequence([*self.seed_and_epoch, step]).generate_state(1, np.uint32)[0]
        images = self.augment.batch(np.concatenate([self.pixels[rows]] * self.views), int(seed))
        return images, torch.from_numpy(np.tile(labels, self.views))
