"""Approximate indexes: the recall they promise, against a double loop.

The same bytes for any threads; what is refused.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup.errors import UserError
from lineup.search import approximate, faiss_file, faiss_search, faiss_vectors, flat_index, ground_truth
from lineup.search.vectors import Metric
from lineup.settings.search import Index
from tests.support.galleries import gallery, prepared
from tests.support.project import ROOT, environment

NONE = np.empty((0, 2), np.int64)
METRICS: tuple[Metric, ...] = ("cosine", "l2")
SETTINGS = [
    {"index": "hnsw"},
    {"index": "hnsw", "storage": "int8"},
    {"index": "ivf"},
    {"index": "ivf", "storage": "float16"},
    {"index": "flat", "storage": "int8"},
    {"index": "flat", "storage": "float16"},
]


@pytest.fixture(scope="module", autouse=True)
def small_codebooks() -> Iterator[None]:
    """A product quantiser trains on fewer images here, so that the tests have time for it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(approximate, "PQ_TRAINING_IMAGES", 2_000)
        yield


def clustered(rows: int, dim: int = 32, seed: int = 0, noise: float = 0.5) -> np.ndarray:
    centres = np.random.default_rng(99).standard_normal((40, dim))
    random = np.random.default_rng(seed)
    return (centres[random.integers(0, 40, rows)] + noise * random.standard_normal((rows, dim))).astype(
        np.float32
    )


def naive(metric: Metric, queries: np.ndarray, stored: np.ndarray, k: int) -> np.ndarray:
    """Brute force by numpy in float64."""
    a, b = queries.astype(np.float64), stored.astype(np.float64)
    if metric == "cosine":
        scores = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
            b / np.linalg.norm(b, axis=1, keepdims=True)
        ).T
    else:
        scores = -np.array([((b - row) ** 2).sum(axis=1) for row in a])
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def share(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(
        np.mean([len({*f.tolist()} & {*w.tolist()}) / len(w) for f, w in zip(found, wanted, strict=True)])
    )


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "chosen",
    [{"index": "hnsw"}, {"index": "ivf"}, {"index": "ivf", "storage": "float16"}, {"index": "ivfpq"}],
)
@pytest.mark.parametrize("target", [0.8, 0.99])
def test_the_target_is_reached_on_new_queries(metric: Metric, chosen: dict[str, Any], target: float) -> None:
    """Tuned on the gallery's own vectors; new queries from the same clusters find as much, but for chance."""
    vectors, queries = clustered(3_000), clustered(200, seed=1)
    built = approximate.build(
        Index(recall_target=target, **chosen), gallery(vectors, metric), 10, "models.a.search"
    )
    assert built.setup.tuned_recall is not None and built.setup.tuned_recall >= target
    positions, scores = faiss_search.nearest(built.index, prepared(metric, queries), 10, NONE)
    truth = naive(metric, queries, vectors, 10)
    assert share(positions, truth) >= target - 0.05
    recalls = ground_truth.recalls(
        positions, prepared(metric, queries), NONE, gallery(vectors, metric), [1, 10]
    )
    assert recalls == {
        "1": pytest.approx(share(positions[:, :1], truth[:, :1]), abs=1e-4),
        "10": pytest.approx(share(positions, truth), abs=1e-4),
    }
    assert not (np.diff(scores, axis=1) > 0).any()  # NaN behind the end of a list that was short


@pytest.mark.slow
def test_a_lower_target_searches_less() -> None:
    widths = []
    for target in (0.5, 0.9, 0.999):
        built = approximate.build(
            Index(index="ivf", recall_target=target), gallery(clustered(3_000, noise=2)), 10, ""
        )
        widths.append(built.setup.parameters["nprobe"])
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("chosen", SETTINGS)
def test_scores_are_those_of_the_vectors_in_the_index(metric: Metric, chosen: dict[str, Any]) -> None:
    vectors, queries = clustered(1_500), prepared(metric, clustered(20, seed=1))
    built = approximate.build(Index(recall_target=None, **chosen), gallery(vectors, metric), 10, "")
    positions, scores = faiss_search.nearest(built.index, queries, 10, NONE)
    stored = faiss_vectors.stored_vectors(built.index, 1_500)
    assert np.array_equal(faiss_vectors.vectors_at(built.index, positions), stored[positions])
    for q in range(20):
        pairs = [(queries[q].astype(np.float64), stored[p].astype(np.float64)) for p in positions[q]]
        expected = [a @ b if metric == "cosine" else -((a - b) ** 2).sum() for a, b in pairs]
        np.testing.assert_allclose(scores[q], expected, rtol=1e-4, atol=1e-5)
    unquantised = prepared(metric, vectors)
    if chosen.get("storage", "float32") == "float32":
        assert np.array_equal(stored, unquantised)
    else:
        np.testing.assert_allclose(stored, unquantised, atol=0.05 * np.abs(unquantised).max())


@pytest.mark.parametrize(
    "chosen", [*SETTINGS, {"index": "ivfpq"}, {"index": "ivfpq", "storage": "pq", "recall_target": 0.1}]
)
def test_no_cosine_is_above_one_however_the_vectors_are_held(chosen: dict[str, Any]) -> None:
    """Vectors that an index holds in fewer bits aren't of length 1 any more: 1.0008 was the cosine of an
    image with itself.
    """
    vectors = clustered(2_500)
    built = approximate.build(Index(**chosen), gallery(vectors), 10, "")
    queries = prepared("cosine", vectors[:200])
    faiss_vectors.vectors_at(built.index, np.arange(1))  # by which an inverted file learns where each lies
    held = built.index.reconstruct_batch(np.arange(2_500)).astype(np.float64)
    for asked in (queries, faiss_vectors.vectors_at(built.index, np.arange(200))):
        positions, scores = faiss_search.nearest(built.index, asked, 10, NONE)
        kept = positions >= 0
        assert scores[kept].max() <= 1 + 1e-6
        for q, g in [(q, g) for q in range(0, 200, 13) for g in range(10) if kept[q, g]]:
            other = held[positions[q, g]]
            assert scores[q, g] == pytest.approx(
                asked[q] @ other / np.linalg.norm(asked[q]) / np.linalg.norm(other), abs=1e-6
            )
    assert np.linalg.norm(faiss_vectors.vectors_at(built.index, np.arange(50)), axis=1) == pytest.approx(
        1, abs=1e-6
    )


@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_an_exhaustive_search_of_decoded_vectors_orders_them_by_their_cosine(storage: str) -> None:
    """Whatever the depth: FAISS orders its candidates by products, in which a decoded vector's length counts."""
    vectors = clustered(600, dim=4, noise=0.01)  # crowded, so that lengths decide which are candidates
    built = approximate.build(
        Index.model_validate({"index": "flat", "storage": storage}), gallery(vectors), 10, ""
    )
    queries = prepared("cosine", clustered(50, dim=4, seed=1, noise=0.01))
    whole, all_scores = faiss_search.nearest(built.index, queries, 600, NONE)
    stored = faiss_vectors.stored_vectors(built.index, 600).astype(np.float64)
    for q, ranked in enumerate(whole):
        assert (np.diff(stored[ranked] @ queries[q].astype(np.float64)) < 1e-6).all()
    for k in (1, 3, 20):
        positions, scores = faiss_search.nearest(built.index, queries, k, NONE)
        assert np.array_equal(positions, whole[:, :k]) and np.array_equal(scores, all_scores[:, :k])


def test_an_exhaustive_search_of_halves_is_the_flat_one_of_the_decoded_vectors() -> None:
    """storage changes the vectors, and nothing else: order, ties and exclusions are those of an exact search
    of what is stored.
    """
    vectors = np.repeat(clustered(300), 4, axis=0)  # four of each: ties at every boundary
    built = approximate.build(Index(index="flat", storage="float16"), gallery(vectors), 10, "")
    stored = faiss_vectors.stored_vectors(built.index, len(vectors))
    twin = faiss.IndexFlatIP(stored.shape[1])
    twin.add(stored)  # type: ignore[call-arg]
    queries, excluded = prepared("cosine", clustered(30, seed=1)), np.array([[0, 3], [4, 1_000], [29, 5]])
    for ours, theirs in zip(
        faiss_search.nearest(built.index, queries, 9, excluded),
        faiss_search.nearest(twin, queries, 9, excluded),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen", [*SETTINGS, {"index": "ivfpq"}, {"index": "ivfpq", "storage": "pq", "recall_target": 0.1}]
)
def test_a_query_is_answered_as_if_it_came_alone_by_any_number_of_threads(chosen: dict[str, Any]) -> None:
    built = approximate.build(Index(**chosen), gallery(clustered(2_500)), 10, "")
    queries, excluded = (
        prepared("cosine", clustered(60, seed=1)),
        np.array([[q, g] for q in (0, 7) for g in range(0, 900)]),
    )
    before = faiss.omp_get_max_threads()
    try:
        results = []
        for threads in (1, 2, 4):
            faiss.omp_set_num_threads(threads)
            results.append(faiss_search.nearest(built.index, queries, 12, excluded))
    finally:
        faiss.omp_set_num_threads(before)
    alone = [
        faiss_search.nearest(
            built.index, queries[q : q + 1], 12, excluded[excluded[:, 0] == q] * np.array([0, 1])
        )
        for q in range(60)
    ]
    results.append(tuple(np.concatenate(parts) for parts in zip(*alone, strict=True)))
    for positions, scores in results[1:]:
        assert positions.tobytes() == results[0][0].tobytes() and scores.tobytes() == results[0][1].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("chosen", [*SETTINGS, {"index": "ivfpq"}])
def test_excluded_images_are_replaced_by_the_next_ones(metric: Metric, chosen: dict[str, Any]) -> None:
    """All that an index finds at first is junk: it is searched deeper."""
    target = {} if chosen["index"] == "flat" else {"recall_target": 0.99}
    built = approximate.build(
        Index.model_validate({**chosen, **target}), gallery(clustered(2_000), metric), 100, ""
    )
    queries = prepared(metric, clustered(5, seed=1))
    first, _ = faiss_search.nearest(built.index, queries, 100, NONE)
    banned = np.array([[q, g] for q in range(5) for g in first[q, :60]])
    second, scores = faiss_search.nearest(built.index, queries, 20, banned)
    for q in range(5):
        assert not {*second[q].tolist()} & {*first[q, :60].tolist()}
        assert (second[q] >= 0).all() and np.isfinite(scores[q]).all()


def test_a_ranking_that_ends_early_is_filled() -> None:
    """One list of many is looked at, and it holds few images."""
    built = approximate.build(Index(index="ivf", recall_target=0.01), gallery(clustered(2_000)), 5, "")
    assert built.setup.parameters == {"nprobe": 1}
    positions, scores = faiss_search.nearest(
        built.index, prepared("cosine", clustered(40, seed=1)), 500, NONE
    )
    ends = (positions >= 0).sum(axis=1)
    assert (ends > 0).all() and (ends < 500).all()
    for q, end in enumerate(ends):
        assert (positions[q, :end] >= 0).all() and (positions[q, end:] == -1).all()
        assert np.isfinite(scores[q, :end]).all() and np.isnan(scores[q, end:]).all()


@pytest.mark.parametrize("chosen", [{"index": "hnsw"}, {"index": "ivf"}])
def test_equal_images_are_ordered_by_position_also_at_the_boundary(chosen: dict[str, Any]) -> None:
    vectors = np.concatenate(
        [clustered(600), np.repeat(clustered(1, seed=5), 60, axis=0), clustered(600, seed=2)]
    )
    built = approximate.build(Index(recall_target=0.99, **chosen), gallery(vectors), 10, "")
    positions, _ = faiss_search.nearest(
        built.index, prepared("cosine", clustered(1, seed=5)), 5, np.array([[0, 601]])
    )
    assert positions.tolist() == [[600, 602, 603, 604, 605]]


_BUILD = """
import sys, faiss
faiss.omp_set_num_threads(int(sys.argv[1]))
from lineup.search import approximate, faiss_file
approximate.PQ_TRAINING_IMAGES = 2_000
from tests.test_approximate_search import SETTINGS, clustered, gallery
from lineup.settings.search import Index
from pathlib import Path
from typing import Any
for name, chosen in enumerate([*SETTINGS, {"index": "ivfpq"}]):
    built = approximate.build(Index(**chosen), gallery(clustered(9_000), batch=int(sys.argv[2])), 10, "")
    faiss_file.save(Path(sys.argv[3]) / str(name), built.index)
"""


@pytest.mark.slow
def test_the_same_vectors_give_the_same_bytes_for_any_threads_and_batches(tmp_path: Path) -> None:
    made = []
    for threads, batch in ((1, 9_000), (2, 333), (4, 2_048)):
        folder = tmp_path / f"{threads}"
        folder.mkdir()
        extra = {
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", _BUILD, str(threads), str(batch), str(folder)]
        subprocess.run(
            command, env=environment(forks=False, **extra), check=True, capture_output=True, cwd=tmp_path
        )
        made.append([(folder / str(name)).read_bytes() for name in range(len(SETTINGS) + 1)])
    assert made[0] == made[1] == made[2]


@pytest.mark.slow
def test_product_quantisation_trains_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS hands the lists out as those of any inverted file, where its settings for the codes aren't
    reached.
    """
    monkeypatch.setattr(approximate, "PQ_TRAINING_IMAGES", 2_000)
    built = approximate.build(Index(index="ivfpq"), gallery(clustered(2_500)), 10, "")
    lists: Any = faiss.downcast_index(faiss.extract_index_ivf(built.index))
    assert (lists.pq.cp.niter, lists.pq.cp.max_points_per_centroid, lists.do_polysemous_training) == (
        10,
        39,
        False,
    )


@pytest.mark.parametrize("chosen", [*SETTINGS, {"index": "ivfpq"}])
def test_a_saved_index_answers_as_the_built_one(chosen: dict[str, Any], tmp_path: Path) -> None:
    built = approximate.build(Index(**chosen), gallery(clustered(2_500)), 10, "")
    faiss_file.save(tmp_path / "x.faiss", built.index)
    assert faiss_file.size(built.index) == (tmp_path / "x.faiss").stat().st_size
    loaded = faiss_file.load(tmp_path / "x.faiss", "cosine", 2_500)
    queries = prepared("cosine", clustered(20, seed=1))
    for ours, theirs in zip(
        faiss_search.nearest(loaded, queries, 10, NONE),
        faiss_search.nearest(built.index, queries, 10, NONE),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert np.array_equal(
        faiss_vectors.vectors_at(loaded, np.array([7])), faiss_vectors.vectors_at(built.index, np.array([7]))
    )
    with pytest.raises(UserError, match=r"x.faiss: was built for another metric than l2"):
        faiss_file.load(tmp_path / "x.faiss", "l2", 2_500)
    (tmp_path / "x.faiss").write_bytes((tmp_path / "x.faiss").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"x.faiss: is not a FAISS index"):
        faiss_file.load(tmp_path / "x.faiss", "cosine", 2_500)


def test_auto_goes_by_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (
        1,
        approximate.AUTO_FLAT_BELOW_IMAGES - 1,
        approximate.AUTO_FLAT_BELOW_IMAGES,
        approximate.AUTO_IVF_FROM_IMAGES - 1,
        approximate.AUTO_IVF_FROM_IMAGES,
    )
    assert [approximate.kind(Index(index="auto"), rows) for rows in sizes] == [
        "flat",
        "flat",
        "hnsw",
        "hnsw",
        "ivf",
    ]
    assert approximate.is_exact(Index(index="auto"), 9_999) and not approximate.is_exact(
        Index(index="auto"), 10_000
    )
    assert not approximate.is_exact(Index(index="auto", storage="int8"), 5)
    monkeypatch.setattr(approximate, "AUTO_FLAT_BELOW_IMAGES", 1_000)
    built = approximate.build(Index(index="auto"), gallery(clustered(1_000)), 10, "")
    assert built.setup.index == "hnsw" and isinstance(built.index, faiss.IndexHNSW)


@pytest.mark.parametrize(
    "chosen", [{"index": "hnsw"}, {"index": "ivf"}, {"index": "flat", "storage": "int8"}]
)
@pytest.mark.parametrize("rows", [1, 2, 50])
def test_a_gallery_of_few_images_is_searched_too(chosen: dict[str, Any], rows: int) -> None:
    vectors = clustered(rows)
    built = approximate.build(Index(**chosen), gallery(vectors), 10, "")
    positions, _ = faiss_search.nearest(built.index, prepared("cosine", vectors), 10, NONE)
    assert positions[:, 0].tolist() == list(range(rows))


@pytest.mark.slow
def test_what_cannot_be_built_is_told_in_a_sentence() -> None:
    with pytest.raises(UserError) as error:
        approximate.build(Index(index="ivfpq"), gallery(clustered(1_999)), 10, "params.yaml: models.a.search")
    assert str(error.value) == (
        "params.yaml: models.a.search.index: ivfpq is trained on 2,000 gallery images or more, and there are 1,999; set flat or hnsw"
    )
    with pytest.raises(UserError) as error:
        chosen = Index(index="ivfpq", storage="pq", recall_target=1)
        approximate.build(chosen, gallery(clustered(2_000)), 10, "params.yaml: refinements.b")
    told = r"params.yaml: refinements.b.recall_target is 1.0, but index: ivfpq with storage: pq reaches 0"
    assert str(error.value).startswith(told) and str(error.value).endswith(
        "at most; lower the target or set storage: float32"
    )
    broken = clustered(50)
    broken[7] = 0
    with pytest.raises(UserError, match="here: the vector of image 7 is all zero"):
        approximate.build(Index(index="hnsw"), gallery(broken), 10, "")


# What exact search finds


@settings(max_examples=40)
@given(
    st.sampled_from(METRICS),
    st.integers(1, 40),
    st.integers(1, 12),
    st.lists(st.integers(0, 9), max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_neighbours_of_a_stream_are_those_of_one_index(
    metric: Metric, rows: int, k: int, cuts: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = prepared(
        metric, random.integers(-2, 3, (rows, 3)).astype(np.float32) + np.array([5, 0, 0])
    )  # many equal ones
    queries = prepared(metric, random.standard_normal((4, 3)).astype(np.float32))
    excluded = np.column_stack([random.integers(0, 4, 5), random.integers(0, rows, 5)])
    parts = np.split(vectors, sorted(min(cut * rows // 9, rows) for cut in cuts))
    index = flat_index.build(metric, 3, rows, [([str(i) for i in range(rows)], vectors)], "here")
    expected, _ = faiss_search.nearest(index, queries, k, excluded)
    found = ground_truth.neighbours(metric, queries, excluded, parts, k)
    assert (
        np.array_equal(found[:, : expected.shape[1]], expected)
        and (found[:, expected.shape[1] :] == -1).all()
    )


def test_recall_by_hand() -> None:
    truth = np.array([[1, 2, 3, 4], [5, 6, -1, -1], [-1, -1, -1, -1]])
    found = np.array([[2, 9, 1, 4], [6, -1, -1, -1], [3, 4, 5, 6]])
    assert ground_truth.recall(found, truth, 4) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert ground_truth.recall(found, truth, 2) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert ground_truth.recall(found, truth, 1) == 0
    assert ground_truth.recall(truth, truth, 4) == 1


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_recall_equals_a_double_loop(queries: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    found, truth = (np.array([random.permutation(12)[:k] for _ in range(queries)]) for _ in range(2))
    for cut in range(1, k + 1):
        assert ground_truth.recall(found, truth, cut) == pytest.approx(share(found[:, :cut], truth[:, :cut]))


# params.yaml


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (
            {"index": "flat", "recall_target": 0.9},
            "recall_target is for hnsw, ivf, ivfpq and auto; index: flat compares every vector",
        ),
        (
            {"index": "hnsw", "storage": "pq"},
            "storage: pq goes with index: ivfpq; with index: hnsw set float32, float16 or int8",
        ),
        ({"index": "auto", "storage": "pq"}, "storage: pq goes with index: ivfpq; with index: auto set"),
        ({"index": "ivf", "recall_target": 1.5}, "less than or equal to 1"),
        ({"index": "ivf", "recall_target": 0}, "greater than 0"),
        ({"index": "annoy"}, "'flat', 'hnsw', 'ivf', 'ivfpq' or 'auto'"),
    ],
)
def test_settings_that_do_not_go_together_are_told(chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Index(**chosen)
