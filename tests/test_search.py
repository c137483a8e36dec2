"""The nearest images against a double loop; nothing but the vectors decides the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup.errors import UserError
from lineup.search import faiss_candidates, faiss_file, faiss_search, flat_index, query_time
from lineup.search.vectors import Metric, prepare_vectors

NONE = np.empty((0, 2), np.int64)
METRICS: tuple[Metric, ...] = ("cosine", "l2")


@pytest.fixture(autouse=True)
def matrix_product() -> Iterator[None]:
    """FAISS takes its matrix product, whose last bits vary, only from some size on; here always."""
    before, faiss.cvar.distance_compute_blas_threshold = faiss.cvar.distance_compute_blas_threshold, 1
    yield
    faiss.cvar.distance_compute_blas_threshold = before


def vectors(rows: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def built(metric: Metric, gallery: np.ndarray, batch: int = 7) -> faiss.IndexFlat:
    batches = (
        ([str(i) for i in range(s, min(s + batch, len(gallery)))], gallery[s : s + batch])
        for s in range(0, len(gallery), batch)
    )
    return flat_index.build(metric, gallery.shape[1], len(gallery), batches, "here")


def nearest(
    metric: Metric, queries: np.ndarray, gallery: np.ndarray, k: int, excluded: np.ndarray = NONE
) -> tuple[np.ndarray, ...]:
    prepared = prepare_vectors(metric, [str(i) for i in range(len(queries))], queries, "here")
    return faiss_search.nearest(built(metric, gallery), prepared, k, excluded)


def naive(
    metric: Metric, queries: np.ndarray, gallery: np.ndarray, k: int, excluded: np.ndarray = NONE
) -> list[list[int]]:
    banned = {tuple(pair) for pair in excluded.tolist()}

    def score(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a.astype(np.float64), b.astype(np.float64)
        return (
            float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            if metric == "cosine"
            else -float(((a - b) ** 2).sum())
        )

    found = []
    for q, query in enumerate(queries):
        # Rounded: of two scores that differ in float64's last bits only, neither is nearer.
        order = sorted(
            (-round(score(query, image), 9), g) for g, image in enumerate(gallery) if (q, g) not in banned
        )
        found.append([g for _, g in order[:k]])
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 40, 100])
def test_equals_a_double_loop(metric: Metric, k: int) -> None:
    queries, gallery = vectors(12), vectors(40, seed=1)
    excluded = np.array([[0, 3], [0, 4], [5, 0], [11, 39]])
    positions, scores = nearest(metric, queries, gallery, k, excluded)
    assert [[p for p in row if p >= 0] for row in positions.tolist()] == naive(
        metric, queries, gallery, k, excluded
    )
    assert positions.shape == (12, min(k, 40))
    assert np.array_equal(np.isnan(scores), positions < 0)


def test_scores_are_what_they_are_called() -> None:
    queries, gallery = np.array([[3, 4]], np.float32), np.array([[4, 3], [-3, -4]], np.float32)
    positions, scores = nearest("cosine", queries, gallery, 2)
    assert positions.tolist() == [[0, 1]] and scores[0] == pytest.approx([0.96, -1])
    positions, scores = nearest("l2", queries, gallery, 2)
    assert positions.tolist() == [[0, 1]] and scores.tolist() == [[-2, -100]]


@pytest.mark.parametrize("metric", METRICS)
def test_equal_scores_are_ordered_by_position_also_at_the_boundary(metric: Metric) -> None:
    """40 equal images in the middle of 100: those of the lowest positions are kept, though FAISS may find any
    of them.
    """
    gallery = np.concatenate(
        [vectors(30, seed=1), np.repeat(vectors(1, seed=2), 40, axis=0), vectors(30, seed=3)]
    )
    positions, scores = nearest(metric, vectors(1, seed=2), gallery, 5, np.array([[0, 31]]))
    assert positions.tolist() == [[30, 32, 33, 34, 35]]
    assert len(set(scores[0].tolist())) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_an_all_equal_scorer_orders_by_position_alone(metric: Metric) -> None:
    positions, _ = nearest(metric, np.ones((3, 8), np.float32), np.ones((3_000, 8), np.float32), 150)
    assert positions.tolist() == [list(range(150))] * 3


def near_ties(rows: int, dim: int, seed: int) -> np.ndarray:
    """Vectors so close to each other that the last bits decide their order."""
    random = np.random.default_rng(seed)
    return (random.standard_normal(dim) + 1e-6 * random.standard_normal((rows, dim))).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("make", [near_ties, vectors])
def test_threads_and_chunks_decide_nothing(
    metric: Metric, make: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, gallery = make(60, 257, 5), make(3_000, 257, 6)
    results = []
    before = faiss.omp_get_max_threads()
    try:
        for threads, entries in ((1, 2**21), (2, 2**21), (4, 40), (3, 7_000)):
            faiss.omp_set_num_threads(threads)
            monkeypatch.setattr(faiss_candidates, "_CANDIDATES_IN_MEMORY", entries)
            results.append(nearest(metric, queries, gallery, 25))
    finally:
        faiss.omp_set_num_threads(before)
    for positions, scores in results[1:]:
        assert positions.tobytes() == results[0][0].tobytes()
        assert scores.tobytes() == results[0][1].tobytes()


@pytest.mark.parametrize("metric", METRICS)
def test_searching_all_pairs_one_by_one_gives_the_same(metric: Metric) -> None:
    """Where the last bits decide, what was found in two steps is what a search of the whole gallery finds."""
    queries, gallery = near_ties(20, 130, 5), near_ties(2_000, 130, 6)
    some, _ = nearest(metric, queries, gallery, 30)
    every, _ = nearest(metric, queries, gallery, 2_000)  # depth is the gallery: FAISS's own search isn't used
    assert np.array_equal(some, every[:, :30])


@settings(max_examples=60)
@given(st.sampled_from(METRICS), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_permuting_the_gallery_changes_nothing(metric: Metric, images: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    gallery, queries = (
        random.integers(-2, 3, (images, 3)).astype(np.float32),
        random.standard_normal((4, 3)).astype(np.float32),
    )
    gallery[:, 0] += 5  # no zero vector; many equal ones
    order = random.permutation(images)
    positions, scores = nearest(metric, queries, gallery, k)
    moved, moved_scores = nearest(metric, queries, gallery[order], k)
    np.testing.assert_array_equal(scores, moved_scores)
    # Equal scores are ordered by place, which was permuted: the same images share each score, but for the cut
    # at k.
    whole = scores > scores[:, -1:]
    for q in range(4):
        ours, theirs = (
            sorted(zip(scores[q], images, strict=True)) for images in (positions[q], order[moved[q]])
        )
        cut = int((~whole[q]).sum())
        assert ours[cut:] == theirs[cut:]


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(2, 30), st.integers(0, 2**32 - 1), st.integers(-20, 20))
def test_rescaling_vectors_changes_nothing_under_cosine(images: int, seed: int, power: int) -> None:
    random = np.random.default_rng(seed)
    gallery, queries = (
        random.standard_normal((images, 5)).astype(np.float32),
        random.standard_normal((4, 5)).astype(np.float32),
    )
    scales = (2.0 ** random.integers(-9, 9, (images, 1))).astype(np.float32)
    for ours, theirs in zip(
        nearest("cosine", queries, gallery, 9),
        nearest("cosine", queries * 2.0**power, gallery * scales, 9),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)  # powers of two leave float32's digits as they are
    _, scores = nearest("cosine", queries, gallery, 9)
    _, rescaled = nearest("cosine", queries * 3, gallery * np.float32(0.7), 9)
    np.testing.assert_allclose(scores, rescaled, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_that_grew_equals_one_that_was_built_at_once(metric: Metric, tmp_path: Path) -> None:
    """The file follows from the images alone; batches that come later are appended, and nothing is moved."""
    gallery = vectors(100, seed=1)
    for name, batch in (("once", 100), ("grown", 9)):
        faiss_file.save(tmp_path / name, built(metric, gallery, batch))
    assert (tmp_path / "once").read_bytes() == (tmp_path / "grown").read_bytes()
    batches = [([""] * 30, gallery[:30]), ([""] * 70, gallery[30:])]
    flat_index.build_file(tmp_path / "streamed", metric, 16, 100, batches, "here")
    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "once").read_bytes()
    # FAISS itself adding the same vectors gives that index too.
    theirs = faiss.IndexFlatIP(16) if metric == "cosine" else faiss.IndexFlatL2(16)
    for start in range(0, 100, 10):
        theirs.add(prepare_vectors(metric, [""] * 10, gallery[start : start + 10], ""))  # type: ignore[call-arg]
    faiss.write_index(theirs, str(tmp_path / "theirs"))
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "once").read_bytes()
    # One more image, whose id sorts first: only what it changes changes.
    more = np.concatenate([vectors(1, seed=9), gallery])
    positions, scores = nearest(metric, vectors(5), more, 101)
    before, before_scores = nearest(metric, vectors(5), gallery, 100)
    np.testing.assert_array_equal(positions[positions > 0].reshape(5, 100) - 1, before)
    np.testing.assert_array_equal(scores[positions > 0].reshape(5, 100), before_scores)


@pytest.mark.parametrize(
    ("metric", "vector", "fault"),
    [
        ("cosine", [0, 0], "here: the vector of image b is all zero"),
        ("cosine", [np.nan, 1], "here: the vector of image b holds NaN"),
        ("l2", [np.inf, 1], "here: the vector of image b holds NaN, infinity"),
        ("l2", [3e38, 1], "here: the vector of image b holds NaN, infinity or huge"),
    ],
)
def test_a_vector_that_cannot_be_searched_is_named(metric: Metric, vector: list[float], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        prepare_vectors(metric, ["a", "b"], np.array([[1, 2], vector], np.float32), "here")
    assert prepare_vectors("l2", ["a"], np.zeros((1, 2), np.float32), "here").tolist() == [
        [0, 0]
    ]  # a place as good as any other


def test_an_index_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.faiss"
    with pytest.raises(UserError, match=r"x.faiss: does not exist"):
        faiss_file.load(path, "l2", 3)
    faiss_file.save(path, built("l2", vectors(3)))
    assert faiss_file.load(path, "l2", 3).ntotal == 3
    with pytest.raises(
        UserError, match=r"x.faiss: was built for another metric than cosine; run `dvc repro`"
    ):
        faiss_file.load(path, "cosine", 3)
    with pytest.raises(
        UserError,
        match=r"x.faiss: the gallery has changed since it was built, from 3 images to 4; run `dvc repro`",
    ):
        faiss_file.load(path, "l2", 4)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"x.faiss: is not a FAISS index"):
        faiss_file.load(path, "l2", 3)


def test_query_ms_measures() -> None:
    assert 0 < query_time.query_ms(built("l2", vectors(50)), vectors(300), k=100) < 1_000
