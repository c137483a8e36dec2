"""Training on a share of the labels, and what the last doubling of labelled photos brought."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lineup.comparison import sweeps
from lineup.comparison.comparison import Pair
from lineup.comparison.sweeps import Sweep
from lineup.settings import label_share, trained_rows
from lineup.settings.params import Params
from lineup.settings.trained_objectives import SimCLR
from lineup.summary import learning_curves, markdown
from tests.support.training_photos import objective

LABELS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=40, unique=True)
SHARES = st.floats(min_value=0.001, max_value=1).map(lambda share: round(share, 3))
SEEDS = st.integers(0, 2**32 - 1)


def test_a_share_is_rounded_up_to_a_whole_label() -> None:
    labels = [f"label {i}" for i in range(30)]
    sizes = {share: len(label_share.chosen(labels, share, 0)) for share in (0.001, 0.1, 0.11, 0.5, 0.999, 1)}
    assert sizes == {0.001: 1, 0.1: 3, 0.11: 4, 0.5: 15, 0.999: 30, 1: 30}


@pytest.mark.slow
@given(LABELS, SHARES, SHARES, SEEDS)
def test_a_larger_share_contains_a_smaller_one(
    labels: list[str], one: float, other: float, seed: int
) -> None:
    smaller, larger = (label_share.chosen(labels, share, seed) for share in sorted((one, other)))
    assert smaller <= larger <= {*labels}


@pytest.mark.slow
@given(LABELS, SHARES, SEEDS, st.randoms())
def test_the_order_of_labels_decides_nothing(labels: list[str], share: float, seed: int, random: Any) -> None:
    shuffled = random.sample(labels, len(labels))
    assert label_share.chosen(labels, share, seed) == label_share.chosen(shuffled, share, seed)


@pytest.mark.slow
@given(LABELS, st.text(min_size=1, max_size=5), SHARES, SEEDS)
def test_a_new_label_reorders_no_other(labels: list[str], new: str, share: float, seed: int) -> None:
    before = label_share.chosen(labels, share, seed)
    after = label_share.chosen({*labels, new}, share, seed) - {new}
    assert before <= after or after <= before


def test_another_seed_chooses_other_labels() -> None:
    labels = [f"label {i}" for i in range(100)]
    assert len({label_share.chosen(labels, 0.1, seed) for seed in range(5)}) == 5


@pytest.mark.slow
@given(st.lists(st.integers(-1, 6), max_size=30), SHARES, SEEDS)
def test_images_of_other_labels_count_as_unlabelled(codes: list[int], share: float, seed: int) -> None:
    names = tuple("abcdefg")
    labels, kept = label_share.visible(np.array(codes, np.int64), names, share, seed)
    seen = label_share.chosen(names, share, seed)
    expected = [names[code] if code >= 0 and names[code] in seen else None for code in codes]
    assert [kept[label] if label >= 0 else None for label in labels.tolist()] == expected
    assert list(kept) == sorted(seen)


def test_the_counts_that_are_checked_are_those_of_the_share() -> None:
    images = Counter({"a": 3, "b": 1, "c": 5, None: 2})
    [only] = label_share.chosen(["a", "b", "c"], 0.3, 7)
    assert label_share.counts(images, 0.3, 7) == {only: images[only], None: 11 - images[only]}
    assert label_share.counts(images, 1, 7) == images


# Settings


def params(**models: dict[str, Any]) -> Params:
    encoder = {"library": "torchvision", "name": "resnet18", "weights": "hub"}
    rows = {
        row: {"encoder": encoder, "objective": settings, "search": {"metric": "cosine", "index": "flat"}}
        for row, settings in models.items()
    }
    return Params.model_validate({"models": rows})


@pytest.mark.parametrize("name", ["softmax", "contrastive", "triplet", "arcface", "clip", "simclr"])
def test_rows_without_it_keep_the_key_of_their_training(name: str) -> None:
    assert "label_share" not in objective(name).model_dump(mode="json")
    assert objective(name, label_share=1.0).model_dump() == objective(name).model_dump()


def test_rows_with_it_have_a_key_of_their_own() -> None:
    shares = [objective("arcface", label_share=share).model_dump(mode="json") for share in (0.1, 0.5)]
    assert [dumped["label_share"] for dumped in shares] == [0.1, 0.5]


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan"), "half", True])
def test_what_is_no_share_is_refused(share: object) -> None:
    with pytest.raises(ValidationError, match="label_share"):
        objective("arcface", label_share=share)


def test_an_objective_without_labels_has_no_share() -> None:
    with pytest.raises(ValidationError, match="simclr uses no labels; remove it"):
        SimCLR(name="simclr", label_share=0.5)


def test_too_small_a_share_is_refused_before_anything_is_fetched() -> None:
    rows = params(
        whole={"name": "arcface", "labels_per_batch": 8},
        part={"name": "arcface", "labels_per_batch": 8, "label_share": 0.25},
    )
    [(row, fault)] = trained_rows.faults(rows, {f"label {i}": 4 for i in range(20)}).items()
    assert row == "part" and "labels_per_batch is 8, but there are 5 labels" in fault


# The curve


def curve_params() -> Params:
    shares: dict[str, dict[str, Any]] = {
        "all": {},
        "tenth": {"label_share": 0.1},
        "half": {"label_share": 0.5},
    }
    return params(**{row: {"name": "arcface", **share} for row, share in shares.items()})


def test_rows_of_several_shares_are_a_sweep_with_the_row_without_one() -> None:
    [sweep] = sweeps.find(curve_params())
    assert sweep == Sweep("objective.label_share", {0.1: "tenth", 0.5: "half", 1.0: "all"})


def pair(a: str, b: str, difference: float, low: float, high: float, p: float) -> Pair:
    return Pair("map_at_r", a, b, difference, low, high, p, p)


CURVE = Sweep(sweeps.LABELLED_PHOTOS, {100: "tenth", 480: "half", 1000: "all"})


def test_the_last_doubling_is_between_all_photos_and_about_half_of_them() -> None:
    pairs = [pair("tenth", "all", -0.3, -0.4, -0.2, 0.001), pair("half", "all", -0.05, -0.08, -0.02, 0.01)]
    last = learning_curves.last_doubling(CURVE, pairs, "map_at_r")
    assert last == (480, 1000, pair("all", "half", 0.05, 0.02, 0.08, 0.01))


def said(p: float) -> str:
    pairs = [pair("half", "all", -0.05, -0.08, -0.02, p)]
    last = learning_curves.last_doubling(CURVE, pairs, "map_at_r")
    assert last
    return markdown.text(learning_curves.sentence(last, {1000: 0.6, 480: 0.55}))


def test_the_sentence_says_whether_it_can_be_told_from_zero() -> None:
    start = "`all`: map_at_r 0.550 with 480, 0.600 with 1,000 labelled photos. From 480 to 1,000, it changed by +0.050 (+0.020 to +0.080, p = 0.0"
    assert said(0.01) == start + "10), which is more than chance."
    assert said(0.06) == start + "60), which can't be told from zero."


def test_no_learning_curve_has_no_doubling() -> None:
    assert learning_curves.last_doubling(CURVE, [], "map_at_r") is None
    sizes = Sweep("encoder.image_size", {64: "half", 128: "all"})
    assert learning_curves.last_doubling(sizes, [pair("half", "all", 0, 0, 0, 1)], "map_at_r") is None
