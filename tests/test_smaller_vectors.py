"""Shortened and quantised vectors, against naive loops, by hand, and against exact search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lineup.errors import UserError
from lineup.refinements import quantise, truncate
from lineup.refinements import refinement as refinements
from lineup.refinements.quantise import BinarySpace, Int8Space
from lineup.refinements.refinement import RefinementInput, VectorSpace
from lineup.search import faiss_file, faiss_vectors, parted_index
from lineup.search.hits import Hits
from lineup.search.vectors import Metric, Positions, Vectors, prepare_vectors
from lineup.settings.refinement import Quantise, RefinementSettings, Truncate
from tests.support.galleries import gallery

NOT_EXCLUDED = np.empty((0, 2), np.int64)


def settings(**values: Any) -> RefinementSettings:
    return TypeAdapter(RefinementSettings).validate_python({"from": "a", "with": "a", **values})


def quantised(to: str, rescore: int = 4) -> quantise.Method:
    chosen = settings(method="quantise", to=to, rescore=rescore)
    assert isinstance(chosen, Quantise)
    return quantise.Method(chosen)


def given_to(
    method: quantise.Method, images: np.ndarray, queries: np.ndarray, k: int, metric: Metric = "cosine"
) -> RefinementInput:
    searched = gallery(images.astype(np.float32), metric, batch=7)
    learned = method.learn(searched, k, "here")
    names = [f"q{i}" for i in range(len(queries))]
    prepared = prepare_vectors(metric, names, queries.astype(np.float32), "here")
    space = VectorSpace(metric, np.array(names), prepared, searched.flat_index())
    nothing = Hits(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
    return RefinementInput(nothing, nothing, space, NOT_EXCLUDED, k, learned)


def naive_candidates(
    images: Vectors, queries: Vectors, thresholds: Vectors, count: int, excluded: Positions
) -> list[list[int]]:
    """By one comparison of two numbers at a time."""
    chosen = []
    for q, query in enumerate(queries):
        distances = []
        for g, image in enumerate(images):
            differing = sum(
                bool(a > t) != bool(b > t) for a, b, t in zip(query, image, thresholds, strict=True)
            )
            if [q, g] not in excluded.tolist():
                distances.append((differing, g))
        chosen.append([g for _, g in sorted(distances)[:count]])
    return chosen


# Truncation


def test_the_first_dimensions_stay_and_have_length_1_again(tmp_path: Path) -> None:
    images = np.array([[3.0, 4.0, 100.0], [1.0, 0.0, -7.0]])
    learned = truncate.FirstDimensions("cosine", 2)
    source = gallery(images.astype(np.float32), batch=7)
    prepared = np.concatenate([*source.prepared()])
    shortened = gallery(learned.transform(prepared))
    learned.save_index(tmp_path / refinements.INDEX_FILE, shortened)
    index = refinements.load_index(tmp_path, "cosine", 2)
    stored = faiss_vectors.stored_vectors(index, 2)
    np.testing.assert_allclose(stored, [[0.6, 0.8], [1.0, 0.0]], atol=1e-6)


def test_all_dimensions_are_the_vectors_themselves() -> None:
    vectors = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    assert np.array_equal(truncate.FirstDimensions("l2", 5).transform(vectors), vectors)


def test_more_dimensions_than_the_vectors_have_are_refused() -> None:
    chosen = settings(method="truncate", dim=6)
    assert isinstance(chosen, Truncate)
    with pytest.raises(UserError, match=r"refinements\.r\.dim is 6, .* a have 5 dimensions; set dim to less"):
        truncate.Method(chosen).learn(gallery(np.eye(5)), 10, "params.yaml: refinements.r")


def test_a_vector_of_which_nothing_is_left_is_told_where_it_has_no_direction() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    with pytest.raises(UserError, match=r"first 1 numbers are zero, .* set dim to more"):
        truncate.FirstDimensions("cosine", 1).transform(vectors)
    assert truncate.FirstDimensions("l2", 1).transform(vectors).tolist() == [[1], [0]]


# Bits


def test_bits_worked_by_hand() -> None:
    """Above the mean of the gallery is 1, at the mean 0; the rest of the last byte is 0."""
    thresholds = np.array([0.0, 0.5, -1.0], np.float32)
    vectors = np.array([[0.1, 0.5, 0.0], [0.0, 0.6, -2.0]], np.float32)
    assert quantise.bits(vectors, thresholds).tolist() == [[0b10100000], [0b01000000]]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_thresholds_are_the_means_of_the_gallery_as_it_is_searched(metric: Metric) -> None:
    images = np.random.default_rng(1).standard_normal((40, 11)) + 0.3
    learned = quantised("binary").learn(gallery(images.astype(np.float32), metric, batch=7), 10, "here")
    assert isinstance(learned, BinarySpace)
    searched = images / np.linalg.norm(images, axis=1, keepdims=True) if metric == "cosine" else images
    np.testing.assert_allclose(learned.thresholds, searched.mean(axis=0), atol=1e-6)
    assert learned.codes.shape == (40, 2)


@pytest.mark.slow
@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**31))
def test_candidates_are_those_of_a_naive_loop_ties_and_exclusions_included(
    images: int, dim: int, queries: int, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    # Few values, so that many images are equally distant.
    vectors = random.integers(-1, 2, (images + queries, dim)).astype(np.float32)
    thresholds = vectors[:images].mean(axis=0)
    pairs = [(q, g) for q in range(queries) for g in range(images) if random.random() < 0.2]
    excluded = np.array(pairs, np.int64).reshape(-1, 2)
    learned = BinarySpace(4, thresholds, quantise.bits(vectors[:images], thresholds))
    candidates = learned.candidates(vectors[images:], count, excluded)
    expected = naive_candidates(vectors[:images], vectors[images:], thresholds, count, excluded)
    assert [[int(p) for p in row if p >= 0] for row in candidates] == expected


def test_more_images_at_one_distance_than_are_asked_for_come_in_the_order_of_the_gallery() -> None:
    thresholds = np.zeros(8, np.float32)
    codes = np.repeat(np.array([[255], [0]], np.uint8), 500, axis=0)
    [chosen] = BinarySpace(4, thresholds, codes).candidates(np.full((1, 8), -1, np.float32), 3, NOT_EXCLUDED)
    assert chosen.tolist() == [500, 501, 502]


# Both


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("to", ["int8", "binary"])
def test_as_many_candidates_as_images_give_the_exact_ranking(to: str, metric: Metric) -> None:
    random = np.random.default_rng(2)
    images, queries = random.standard_normal((60, 9)), random.standard_normal((5, 9))
    method = quantised(to, rescore=6)
    task = given_to(method, images, queries, 10, metric)
    space = task.vector_space()
    expected = parted_index.nearest(space.index, space.queries, 10, NOT_EXCLUDED)
    ranked = method.rank(task)
    assert np.array_equal(ranked.positions, expected.positions)
    assert np.array_equal(ranked.scores, expected.scores)


@pytest.mark.parametrize("to", ["int8", "binary"])
def test_scores_are_exact_and_more_candidates_find_more(to: str) -> None:
    random = np.random.default_rng(3)
    images, queries = random.standard_normal((400, 32)), random.standard_normal((20, 32))
    recalls = []
    for rescore in (1, 4, 16):
        method = quantised(to, rescore)
        task = given_to(method, images, queries, 10)
        space = task.vector_space()
        ranked = method.rank(task)
        assert np.array_equal(
            ranked.scores, parted_index.pairwise(space.index, space.queries, ranked.positions)
        )
        truth, _ = parted_index.nearest(space.index, space.queries, 10, NOT_EXCLUDED)
        recalls.append(np.mean([len({*a} & {*b}) / 10 for a, b in zip(ranked.positions, truth, strict=True)]))
    assert recalls == sorted(recalls)
    assert recalls[0] > (0.9 if to == "int8" else 0.15)  # 10 of 400 at random are 0.025
    assert recalls[-1] > 0.9


@pytest.mark.parametrize("to", ["int8", "binary"])
def test_a_space_that_was_saved_is_the_same_when_it_is_loaded(tmp_path: Path, to: str) -> None:
    random = np.random.default_rng(4)
    images, queries = random.standard_normal((50, 12)), random.standard_normal((4, 12))
    method = quantised(to, rescore=1)
    task = given_to(method, images, queries, 5)
    learned = task.learned
    assert isinstance(learned, Int8Space | BinarySpace)
    learned.save(tmp_path)
    loaded = method.load(tmp_path, "cosine", 50)
    queries = task.vector_space().queries
    first, second = (space.candidates(queries, 5, NOT_EXCLUDED) for space in (learned, loaded))
    assert np.array_equal(first, second)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    learned.save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_a_service_holds_is_a_fourth_or_a_32nd(tmp_path: Path) -> None:
    images = np.random.default_rng(5).standard_normal((1_000, 64))
    searched = gallery(images.astype(np.float32), batch=7)
    full = faiss_file.size(searched.flat_index())
    sizes = {}
    for to in ("int8", "binary"):
        learned = quantised(to).learn(searched, 10, "here")
        learned.save(tmp_path)
        sizes[to] = learned.index_bytes(tmp_path) / full
    assert sizes["int8"] == pytest.approx(1 / 4, rel=0.02)
    assert sizes["binary"] == pytest.approx(1 / 32, rel=0.02)


def test_bits_that_are_missing_or_damaged_are_told(tmp_path: Path) -> None:
    method = quantised("binary")
    with pytest.raises(UserError, match=r"bits\.safetensors: does not exist; run `dvc repro`"):
        method.load(tmp_path, "cosine", 5)
    (tmp_path / quantise.BITS_FILE).write_bytes(b"\0" * 40)
    with pytest.raises(UserError, match=r"bits\.safetensors: is damaged"):
        method.load(tmp_path, "cosine", 5)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"to": "int4"}, {"to": "int8", "rescore": 0}, {}):
        with pytest.raises(ValidationError):
            settings(method="quantise", **wrong)
    with pytest.raises(ValidationError):
        settings(method="truncate", dim=0)
    assert refinements.create(settings(method="quantise", to="binary")).settings.rescore == 4
