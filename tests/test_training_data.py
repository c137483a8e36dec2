"""Which images train, in which batches, at which learning rate: by hand, and as properties."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.lib import params, training_data, training_network, training_params, training_pixels
from stages.lib.errors import UserError
from stages.lib.objectives import Needs
from stages.lib.training_data import Manifest
from stages.lib.training_params import Train
from tests.training_photos import objective


def manifest(counts: list[int]) -> Manifest:
    """counts: images per label."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return Manifest(np.array([f"{i:04}" for i in range(len(labels))]), labels, tuple(f"label {i}" for i in range(len(counts))))


@given(
    counts=st.lists(st.integers(1, 6), min_size=4, max_size=12),
    chosen=st.integers(2, 4),
    per_label=st.integers(1, 4),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_a_batch_holds_p_labels_with_k_images_each(counts: list[int], chosen: int, per_label: int, seed: int) -> None:
    labels = manifest(counts).labels
    how = Train(labels_per_batch=chosen, images_per_label=per_label)
    batches = training_data.plan(labels, len(labels), how, (seed, 1))
    assert len(batches) == max(1, len(labels) // (chosen * per_label))
    for rows, told in batches:
        assert labels[rows].tolist() == told.tolist()
        assert Counter(told.tolist()) == {label: per_label for label in set(told.tolist())} and len(set(told.tolist())) == chosen
        for label in set(told.tolist()):
            different = len(set(rows[told == label].tolist()))
            assert different == min(per_label, counts[label]), "no image twice while there are others"


def test_an_epochs_batches_follow_from_seed_and_epoch_alone() -> None:
    labels = manifest([4] * 10).labels
    plans = [training_data.plan(labels, 40, Train(labels_per_batch=5), seed) for seed in ((0, 1), (0, 1), (0, 2), (1, 1))]
    rows = [np.concatenate([rows for rows, _ in plan]).tolist() for plan in plans]
    assert rows[0] == rows[1] and rows[0] != rows[2] and rows[0] != rows[3]


def test_every_label_comes_once_before_one_comes_twice() -> None:
    batches = training_data.plan(manifest([3] * 12).labels, 36, Train(labels_per_batch=4, images_per_label=3), (0, 1))
    assert sorted(label for _, told in batches for label in set(told.tolist())) == list(range(12))


def test_without_labels_every_image_comes_once() -> None:
    batches = training_data.plan(None, 20, Train(batch_size=5), (0, 1))
    assert sorted(row for rows, _ in batches for row in rows.tolist()) == list(range(20))
    assert all(told.tolist() == [0, 1, 2, 3, 4] for _, told in batches)


@given(counts=st.lists(st.integers(1, 5), min_size=20, max_size=30), share=st.floats(0.05, 0.3), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_labels_are_held_out_as_a_whole(counts: list[int], share: float, seed: int) -> None:
    whole = manifest(counts)
    parts = training_data.split(whole, Train(labels_per_batch=2, validation_share=share), Needs(), seed)
    held, trained = set(whole.labels[parts.validation].tolist()), set(whole.labels[parts.train].tolist())
    assert held.isdisjoint(trained) and len(parts.train) + len(parts.validation) == len(whole.ids)
    assert all(counts[label] > 1 for label in held), "one image alone can't be found again"
    assert parts.labels is not None
    assert [parts.names[label] for label in parts.labels] == [whole.names[label] for label in whole.labels[parts.train]]


def test_images_without_a_label_are_left_out_where_labels_count() -> None:
    whole = manifest([3] * 10)
    whole.labels[::5] = -1
    parts = training_data.split(whole, Train(labels_per_batch=2), Needs(), 0)
    assert (whole.labels[np.concatenate([parts.train, parts.validation])] >= 0).all()
    assert len(training_data.split(whole, Train(batch_size=2), Needs(labels=False), 0).train) == 27


def test_the_learning_rate_rises_then_follows_a_cosine_to_zero() -> None:
    rates = [training_network.rate(step, 20, 0.2) for step in range(20)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[11] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2))) and rates[-1] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(rates[3:]))
    assert training_network.rate(0, 1, 0.0) == pytest.approx(0) and training_network.rate(0, 10, 0.0) < 1


@pytest.mark.parametrize("size", [(40, 40), (40, 90), (300, 20), (7, 5)])
def test_the_middle_square_is_kept(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    pixels = training_pixels.square(image, 24)
    assert pixels.shape == (3, 24, 24)
    assert pixels[0, :, 0].min() > 200 and pixels[2, :, -1].min() > 200, "left is red, right is blue"


def test_a_row_says_what_differs_from_train() -> None:
    defaults = Train(epochs=7, learning_rate=0.5, augmentation=training_params.Augmentation(flip=0, blur=0))
    told = training_params.settings_of(defaults, objective("arcface", learning_rate=0.1, augmentation={"blur": 0.3}))
    assert (told.epochs, told.learning_rate) == (7, 0.1)
    assert (told.augmentation.flip, told.augmentation.blur) == (0, 0.3)


ROW: dict[str, Any] = {
    "encoder": {"library": "torchvision", "name": "resnet50", "weights": "hub"},
    "objective": {"name": "arcface", "margin": 0.3, "augmentation": {"crop": 0.7}},
    "search": {"metric": "cosine", "index": "flat"},
}


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ({"name": "arcfac"}, "models.row.objective.name is 'arcfac'; did you mean 'arcface'?"),
        ({"name": "arcface", "margn": 0.3}, "models.row.objective.margn is unknown; did you mean 'margin'?"),
        ({"name": "triplet", "epoch": 3}, "models.row.objective.epoch is unknown; did you mean 'epochs'?"),
        ({"name": "triplet", "mining": "semi-hard"}, "models.row.objective.mining is 'semi-hard'; did you mean 'semihard'?"),
        ({"name": "simclr", "augmentation": {"colur": 1}}, "models.row.objective.augmentation.colur is unknown; did you mean 'colour'?"),
        ({"name": "softmax", "epochs": 0}, "models.row.objective.epochs is 0: input should be greater than or equal to 1"),
        ({"name": "clip", "prompt": "a photo"}, "models.row.objective: prompt 'a photo' must hold {label}"),
        ({"name": "metric_loss"}, "models.row.objective.loss is missing"),
        ({"margin": 0.3}, "models.row.objective.name is missing"),
        ({"name": "none", "epochs": 3}, "models.row.objective.epochs is unknown"),
    ],
)
def test_a_fault_in_an_objective_is_told(tmp_path: Path, objective: dict[str, Any], told: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"models": {"row": {**ROW, "objective": objective}}}), encoding="utf-8")
    with pytest.raises(UserError) as error:
        params.load(file)
    assert told in str(error.value)
