"""Which images train, in which batches, at which learning rate: by hand, and as properties."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lineup.errors import UserError
from lineup.settings import params, training
from lineup.settings.trained_objectives import Needs
from lineup.settings.training import Train
from lineup.training import data, decoded_images, optimisation
from lineup.training.batches import Sampling
from lineup.training.data import Manifest
from lineup.training.draws import in_turn
from tests.support.training_photos import objective


def manifest(counts: list[int]) -> Manifest:
    """counts: images per label."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return Manifest(
        np.array([f"{i:04}" for i in range(len(labels))]),
        labels,
        tuple(f"label {i}" for i in range(len(counts))),
    )


def sampling(labels: Any, count: int, seed: int = 0, **how: int) -> Sampling:
    return Sampling(labels, count, Train(**how), seed)  # type: ignore[arg-type]


def drawn(of: Sampling, epochs: Iterable[int]) -> list[int]:
    return [row for epoch in epochs for rows, _ in of.epoch(epoch) for row in rows.tolist()]


@pytest.mark.slow
@given(
    counts=st.lists(st.integers(1, 6), min_size=4, max_size=12),
    chosen=st.integers(2, 4),
    per_label=st.integers(1, 4),
    seed=st.integers(0, 5),
    epoch=st.integers(1, 4),
)
@settings(max_examples=60)
def test_a_batch_holds_p_labels_with_k_images_each(
    counts: list[int], chosen: int, per_label: int, seed: int, epoch: int
) -> None:
    labels = manifest(counts).labels
    batches = sampling(labels, len(labels), seed, labels_per_batch=chosen, images_per_label=per_label).epoch(
        epoch
    )
    assert len(batches) == max(1, len(labels) // (chosen * per_label))
    for rows, batch_labels in batches:
        assert labels[rows].tolist() == batch_labels.tolist()
        assert (
            Counter(batch_labels.tolist()) == {label: per_label for label in set(batch_labels.tolist())}
            and len(set(batch_labels.tolist())) == chosen
        )
        for label in set(batch_labels.tolist()):
            different = len(set(rows[batch_labels == label].tolist()))
            assert different == min(per_label, counts[label]), "no image twice while there are others"


def test_an_epochs_batches_follow_from_seed_and_epoch_alone() -> None:
    labels = manifest([4] * 10).labels
    first, again, other = (sampling(labels, 40, seed, labels_per_batch=5) for seed in (0, 0, 1))
    drawn(first, (1, 2))
    assert drawn(first, [3]) == drawn(again, [3]) != drawn(first, [2])
    assert drawn(first, [3]) != drawn(other, [3])


@pytest.mark.slow
@given(count=st.integers(2, 40), size=st.integers(1, 40), cut=st.integers(0, 60))
@settings(max_examples=100)
def test_every_number_is_drawn_before_one_is_drawn_again(count: int, size: int, cut: int) -> None:
    size = min(size, count)
    whole = in_turn(count, size, 0, 60, (3,))
    assert all(len(set(draw)) == size for draw in whole.tolist())
    in_a_row = whole.ravel().tolist()
    for start in range(0, len(in_a_row) - count + 1, count):
        assert sorted(in_a_row[start : start + count]) == list(range(count))
    assert np.array_equal(
        np.concatenate([in_turn(count, size, 0, cut, (3,)), in_turn(count, size, cut, 60, (3,))]), whole
    )


@pytest.mark.slow
def test_no_photo_of_a_large_label_is_drawn_twice_before_all_were_drawn() -> None:
    """One label of 287 photos beside 52 of 5, in ten epochs at the defaults: once some were drawn again and
    again.
    """
    labels = manifest([287] + [5] * 52).labels
    of = sampling(labels, len(labels))
    of_large = [row for row in drawn(of, range(1, 11)) if labels[row] == 0]
    assert len(of_large) == len(set(of_large)) > 90
    later = [row for row in drawn(of, range(1, 41)) if labels[row] == 0]
    assert set(later) == set(range(287)) and Counter(later).most_common(1)[0][1] == 2


def test_every_label_is_drawn_before_one_is_drawn_again_over_epochs() -> None:
    """33 labels, 32 in a batch: the one that is left over begins the next batch."""
    labels = manifest([4] * 33).labels
    batches = [
        set(batch_labels.tolist())
        for epoch in range(1, 12)
        for _, batch_labels in sampling(labels, len(labels)).epoch(epoch)
    ]
    draws = Counter(label for batch in batches[:33] for label in batch)
    assert len(batches) == 22 and max(draws.values()) - min(draws.values()) <= 1


def test_without_labels_every_image_is_drawn_before_one_is_drawn_again_over_epochs() -> None:
    of = sampling(None, 23, batch_size=5)
    in_a_row = drawn(of, range(1, 11))
    assert all(sorted(in_a_row[start : start + 23]) == list(range(23)) for start in range(0, 200 - 23, 23))
    assert all(labels.tolist() == [0, 1, 2, 3, 4] for _, labels in of.epoch(1))


@pytest.mark.parametrize(
    "labels", [None, manifest([9, 1, 2, 30, 5]).labels], ids=["without labels", "with labels"]
)
def test_the_share_that_was_drawn_is_counted(labels: Any) -> None:
    of = sampling(labels, 47, labels_per_batch=2, images_per_label=3, batch_size=6, images_per_epoch=14)
    for epochs in (0, 1, 2, 5, 9, 30):
        assert of.images_drawn(epochs * of.steps) == len(set(drawn(of, range(1, epochs + 1))))


@given(
    counts=st.lists(st.integers(1, 5), min_size=20, max_size=30),
    share=st.floats(0.05, 0.3),
    seed=st.integers(0, 3),
)
@settings(max_examples=40)
def test_labels_are_held_out_as_a_whole(counts: list[int], share: float, seed: int) -> None:
    whole = manifest(counts)
    parts = data.split(whole, Train(labels_per_batch=2, validation_share=share), Needs(), seed)
    held, trained = set(whole.labels[parts.validation].tolist()), set(whole.labels[parts.train].tolist())
    assert held.isdisjoint(trained) and len(parts.train) + len(parts.validation) == len(whole.ids)
    assert all(counts[label] > 1 for label in held), "one image alone can't be found again"
    assert parts.labels is not None
    assert [parts.names[label] for label in parts.labels] == [
        whole.names[label] for label in whole.labels[parts.train]
    ]


@pytest.mark.parametrize(
    ("counts", "how", "held"),
    [
        ([3] * 10, {"labels_per_batch": 8}, 2),  # a tenth of them is one, which would find itself
        ([3] * 10, {"labels_per_batch": 9}, 0),
        ([3] * 4, {"labels_per_batch": 2}, 2),
        ([3] * 3, {"labels_per_batch": 2}, 0),
        ([3] * 30, {"labels_per_batch": 8}, 3),
        ([1] * 30 + [2], {"labels_per_batch": 8}, 0),
        ([1] * 30 + [2, 2], {"labels_per_batch": 8}, 2),
        ([2] * 4, {"labels_per_batch": 2, "validation_share": 0.3}, 2),
    ],
)
def test_two_labels_at_least_are_held_out_or_none(counts: list[int], how: dict[str, Any], held: int) -> None:
    whole = manifest(counts)
    parts = data.split(whole, Train(**how), Needs(), 0)
    assert len(set(whole.labels[parts.validation].tolist())) == held
    assert len(parts.names) == len(counts) - held


@pytest.mark.parametrize(
    ("labels", "fault_and_fix"),
    [
        (3, "there are 3 labels to train on; set it to 3 or less, or add labels"),
        (
            10,
            "there are 10 labels to train on; set it to 8 or less (up to 10 without validation), or add labels",
        ),
        (30, "there are 27 labels to train on (3 more validate); set it to 27 or less, or add labels"),
        (1, "there is 1 label to train on; add labels"),
    ],
)
def test_too_few_labels_are_refused_with_what_to_set(labels: int, fault_and_fix: str) -> None:
    with pytest.raises(UserError) as error:
        data.split(manifest([3] * labels), Train(), Needs(), 0)
    assert str(error.value) == f"labels_per_batch is 32, but {fault_and_fix}"


def test_images_without_a_label_are_left_out_where_labels_count() -> None:
    whole = manifest([3] * 10)
    whole.labels[::5] = -1
    parts = data.split(whole, Train(labels_per_batch=2), Needs(), 0)
    assert (whole.labels[np.concatenate([parts.train, parts.validation])] >= 0).all()
    assert len(data.split(whole, Train(batch_size=2), Needs(labels=False), 0).train) == 27


def test_the_learning_rate_rises_then_follows_a_cosine_to_zero() -> None:
    rates = [optimisation.rate(step, 20, 0.2) for step in range(20)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[11] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2))) and rates[-1] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(rates[3:]))
    assert optimisation.rate(0, 1, 0.0) == pytest.approx(0) and optimisation.rate(0, 10, 0.0) < 1


@pytest.mark.parametrize("size", [(40, 40), (40, 90), (300, 20), (7, 5)])
def test_the_middle_square_is_kept(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    pixels = decoded_images.square(image, 24)
    assert pixels.shape == (3, 24, 24)
    assert pixels[0, :, 0].min() > 200 and pixels[2, :, -1].min() > 200, "left is red, right is blue"


def test_a_row_says_what_differs_from_train() -> None:
    defaults = Train(epochs=7, learning_rate=0.5, augmentation=training.Augmentation(flip=0, blur=0))
    row = objective("arcface", learning_rate=0.1, augmentation={"blur": 0.3})
    merged = training.settings_of(defaults, row)
    assert (merged.epochs, merged.learning_rate) == (7, 0.1)
    assert (merged.augmentation.flip, merged.augmentation.blur) == (0, 0.3)
    assert merged.batch_size == Train().batch_size and merged.augmentation.crop == Train().augmentation.crop


ROW: dict[str, Any] = {
    "encoder": {"library": "torchvision", "name": "resnet50", "weights": "hub"},
    "objective": {"name": "arcface", "margin": 0.3, "augmentation": {"crop": 0.7}},
    "search": {"metric": "cosine", "index": "flat"},
}


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        ({"name": "arcfac"}, "models.row.objective.name is 'arcfac'; did you mean 'arcface'?"),
        ({"name": "arcface", "margn": 0.3}, "models.row.objective.margn is unknown; did you mean 'margin'?"),
        ({"name": "triplet", "epoch": 3}, "models.row.objective.epoch is unknown; did you mean 'epochs'?"),
        (
            {"name": "triplet", "mining": "semi-hard"},
            "models.row.objective.mining is 'semi-hard'; did you mean 'semihard'?",
        ),
        (
            {"name": "simclr", "augmentation": {"colur": 1}},
            "models.row.objective.augmentation.colur is unknown; did you mean 'colour'?",
        ),
        (
            {"name": "softmax", "epochs": 0},
            "models.row.objective.epochs is 0: input should be greater than or equal to 1",
        ),
        ({"name": "clip", "prompt": "a photo"}, "models.row.objective: prompt 'a photo' must hold {label}"),
        ({"name": "metric_loss"}, "models.row.objective.loss is missing"),
        ({"margin": 0.3}, "models.row.objective.name is missing"),
        ({"name": "none", "epochs": 3}, "models.row.objective.epochs is unknown"),
    ],
)
def test_a_fault_in_an_objective_is_named(tmp_path: Path, objective: dict[str, Any], sentence: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"models": {"row": {**ROW, "objective": objective}}}), encoding="utf-8")
    with pytest.raises(UserError) as error:
        params.load(file)
    assert sentence in str(error.value)
