"""The batches of a training: which images an epoch draws, and how they are varied.

Every label has its turn before one has its next, and so does every image of a label, over the epochs. What an
epoch draws
follows from images, seed and epoch alone: in whichever process, resumed or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from lineup.settings.training import Train
from lineup.training.augmentation import Augment
from lineup.training.data import Rows

_LABELS, _IMAGES, _IMAGES_OF_LABEL = (
    2,
    3,
    4,
)  # what else, beside the seed, makes their random numbers different ones


@dataclass(frozen=True)
class Sampling:
    """labels: int64 [count], of every training image, each of 0..max at least once.

    None where they may not be used.
    """

    labels: Rows | None
    count: int
    settings: Train
    seed: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        batch = (
            self.settings.batch_size
            if self.labels is None
            else self.settings.labels_per_batch * self.settings.images_per_label
        )
        return max(1, (self.settings.images_per_epoch or self.count) // batch)

    def epoch(self, number: int) -> list[tuple[Rows, Rows]]:
        """Its batches, number 1 being the first: positions among the training images, and the labels that the
        loss gets.
        """
        first, last = (number - 1) * self.steps, number * self.steps
        if self.labels is None:
            size = self.settings.batch_size
            return [
                (rows, np.arange(size))
                for rows in in_turn(self.count, size, first, last, (self.seed, _IMAGES))
            ]
        of_steps = self._labels_of_steps(first, last)  # [steps, P]
        begun, drawn = self._turns(first), np.bincount(of_steps.ravel(), minlength=len(self._by_label))
        by_label = [
            self._images_of(label, begun[label], begun[label] + drawn[label])
            for label in np.flatnonzero(drawn).tolist()
        ]
        rows = np.empty((of_steps.size, self.settings.images_per_label), np.int64)  # [steps * P, K]
        rows[np.argsort(of_steps, axis=None, kind="stable")] = np.concatenate(by_label)
        numbers = np.repeat(of_steps, self.settings.images_per_label, axis=1)  # [steps, P * K]
        return [*zip(rows.reshape(numbers.shape), numbers, strict=True)]

    def images_drawn(self, steps: int) -> int:
        """How many different images the first `steps` batches of the training hold."""
        if self.labels is None:
            return min(self.count, steps * self.settings.batch_size)
        turns = self._turns(steps)
        return sum(
            min(len(images), int(turn) * self.settings.images_per_label)
            for images, turn in zip(self._by_label, turns, strict=True)
        )

    @cached_property
    def _by_label(self) -> list[Rows]:
        assert self.labels is not None
        return np.split(np.argsort(self.labels, kind="stable"), np.cumsum(np.bincount(self.labels))[:-1])

    def _labels_of_steps(self, first: int, last: int) -> Rows:
        return in_turn(len(self._by_label), self.settings.labels_per_batch, first, last, (self.seed, _LABELS))

    def _turns(self, steps: int) -> Rows:
        """How often each label was drawn in the first `steps` batches: int64 [labels]."""
        count, chosen = len(self._by_label), self.settings.labels_per_batch
        period = _draws_per_period(count, chosen)
        whole = steps // period
        since = np.bincount(self._labels_of_steps(whole * period, steps).ravel(), minlength=count)
        return since + whole * (period * chosen // count)

    def _images_of(self, label: int, first: int, last: int) -> Rows:
        """What the draws of a label take: [last - first, K]; where it has fewer than K images, all of them,
        and some again.
        """
        images, wanted = self._by_label[label], self.settings.images_per_label
        size = min(len(images), wanted)
        draws = in_turn(len(images), size, first, last, (self.seed, _IMAGES_OF_LABEL, label))
        return images[draws[:, np.arange(wanted) % size]]


def in_turn(count: int, size: int, first: int, last: int, key: tuple[int, ...]) -> Rows:
    """Draws `first` to `last` - 1 of an endless sequence of draws: int64 [last - first, size], different
    numbers below `count`.

    The sequence is one random permutation of all numbers after another, so each is drawn before one is drawn
    again.
    key: names the sequence; the same key gives the same one.
    """
    period = _draws_per_period(count, size)
    draws = [np.empty((0, size), np.int64)]
    for number in range(first // period, math.ceil(last / period)):
        start = number * period
        rng = np.random.default_rng([*key, number])
        draws.append(_draws_of_period(count, size, max(first - start, 0), min(last - start, period), rng))
    return np.concatenate(draws)


def _draws_per_period(count: int, size: int) -> int:
    """The fewest draws in which permutations end where a draw does: after them each number was drawn equally
    often.
    """
    return count // math.gcd(count, size)


def _draws_of_period(count: int, size: int, first: int, last: int, rng: np.random.Generator) -> Rows:
    """As `in_turn`, of a single period, whose permutations follow from the one before."""
    wanted: list[Rows] = []
    skipped, length, begun = (
        0,
        0,
        np.empty(0, np.int64),
    )  # begun: what the draw holds in which a permutation ended
    while length < last * size:
        order = rng.permutation(count)
        if len(begun):
            order = _others_first(order, begun, size - len(begun))
        length += count
        begun = order[count - length % size :]
        if length <= first * size:
            skipped = length
        else:
            wanted.append(order)
    return np.concatenate(wanted)[first * size - skipped : last * size - skipped].reshape(-1, size)


def _others_first(order: Rows, begun: Rows, needed: int) -> Rows:
    """A permutation whose first `needed` numbers aren't among `begun`: one draw holds both."""
    free, behind = np.ones(len(order), bool), np.ones(len(order), bool)
    free[begun] = False
    front = np.flatnonzero(free[order])[:needed]
    behind[front] = False
    return np.concatenate([order[front], order[behind]])


class Batches(Dataset):
    """The batches of one epoch, each made from (seed, epoch, step) alone, in whichever process.

    pixels: uint8 [N, 3, S, S]; plan: of `Sampling.epoch`; views: augmented copies of an image; seed: and the
        epoch's number.
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        plan: list[tuple[Rows, Rows]],
        augment: Augment,
        views: int,
        seed: tuple[int, int],
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
