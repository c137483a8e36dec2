"""Refined rankings against naive loops over the published definitions, worked examples and properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from threadpoolctl import threadpool_limits

from lineup.errors import UserError
from lineup.refinements import k_reciprocal, local_scaling, score_normalisation, whitening
from lineup.refinements import refinement as refinements
from lineup.refinements.refinement import RefinementInput, VectorSpace
from lineup.search import flat_index, parted_index
from lineup.search.gallery import Gallery
from lineup.search.hits import Hits
from lineup.search.vectors import Metric, prepare_vectors
from lineup.settings.refinement import KReciprocal, RefinementSettings

NONE = np.empty((0, 2), np.int64)


def settings(method: str, **values: Any) -> RefinementSettings:
    return TypeAdapter(RefinementSettings).validate_python(
        {"from": "a", "with": "b", "method": method, **values}
    )


def hits(*rows: list[tuple[int, float]]) -> Hits:
    """Rankings as (place, score) pairs, nearest first."""
    depth = max(len(row) for row in rows)
    positions, scores = np.full((len(rows), depth), -1), np.full((len(rows), depth), np.nan, np.float32)
    for q, row in enumerate(rows):
        for rank, (place, score) in enumerate(row):
            positions[q, rank], scores[q, rank] = place, score
    return Hits(positions, scores)


def fuse(chosen: RefinementSettings, first: Hits, second: Hits, k: int = 100) -> Hits:
    return refinements.create(chosen).rank(RefinementInput(first, second, None, NONE, k))


def listed(ranking: Hits, query: int = 0) -> list[int]:
    return [int(p) for p in ranking.positions[query] if p >= 0]


def space(queries: np.ndarray, images: np.ndarray, metric: Metric = "cosine") -> VectorSpace:
    ids, names = [
        [f"{kind}{i:04}" for i in range(n)] for kind, n in (("q", len(queries)), ("g", len(images)))
    ]
    index = flat_index.build(
        metric, images.shape[1], len(images), [(names, images.astype(np.float32))], "here"
    )
    return VectorSpace(
        metric, np.array(ids), prepare_vectors(metric, ids, queries.astype(np.float32), "here"), index
    )


def searched(where: VectorSpace, k: int, excluded: np.ndarray = NONE) -> RefinementInput:
    """What `retrieve` finds, as both rows of a task."""
    first = parted_index.nearest(where.index, where.queries, k, excluded)
    return RefinementInput(first, first, where, excluded, k)


def scattered(
    images: int = 40, queries: int = 5, dim: int = 6, seed: int = 0, metric: Metric = "cosine"
) -> VectorSpace:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((images // 5, dim))
    pick = random.integers(len(centres), size=queries + images)
    vectors = centres[pick] + 0.4 * random.standard_normal((queries + images, dim))
    return space(vectors[:queries], vectors[queries:], metric)


def same(ranking: Hits, expected: list[dict[int, float]], k: int) -> None:
    """The k best of expected {place: score}, rounded as they're written, ties by place."""
    for q, scores in enumerate(expected):
        written = {place: np.float32(score) for place, score in scores.items()}
        best = sorted(written, key=lambda place: (-written[place], place))[:k]
        kept = ranking.positions[q] >= 0
        np.testing.assert_allclose(
            ranking.scores[q][kept], [written[place] for place in best], rtol=1e-5, atol=1e-6
        )
        for place, wanted, score in zip(listed(ranking, q), best, ranking.scores[q][kept], strict=True):
            assert (
                place == wanted or abs(written[place] - score) < 1e-6
            )  # near ties may change places by rounding


# Fusion


def test_reciprocal_ranks_worked_by_hand() -> None:
    ranking = fuse(
        settings("reciprocal_rank_fusion", k=1),
        hits([(7, 0.9), (3, 0.8), (5, 0.1)]),
        hits([(3, 9.0), (2, 8.0)]),
    )
    # 3: 1/3 + 1/2, 7: 1/2, 2: 1/3, 5: 1/4
    assert listed(ranking) == [3, 7, 2, 5]
    np.testing.assert_allclose(ranking.scores[0], [5 / 6, 1 / 2, 1 / 3, 1 / 4], rtol=1e-6)


def test_fused_scores_worked_by_hand() -> None:
    first, second = hits([(7, 0.9), (3, 0.7), (5, 0.5)]), hits([(3, -1.0), (2, -3.0)])
    ranking = fuse(settings("score_fusion", weight=0.25), first, second)
    # min_max of first: 7: 1, 3: .5, 5: 0; of second: 3: 1, 2: 0
    assert listed(ranking) == [3, 7, 2, 5]
    np.testing.assert_allclose(ranking.scores[0], [0.25 * 0.5 + 0.75, 0.25, 0, 0], atol=1e-6)
    ranking = fuse(settings("score_fusion", weight=0.5, normalisation="z"), first, second)
    z = np.sqrt(1.5)  # of first: z, 0, -z; of second: 1, -1; what's missing counts as the last
    assert listed(ranking) == [3, 7, 2, 5]
    np.testing.assert_allclose(ranking.scores[0], [0.5, (z - 1) / 2, (-z - 1) / 2, (-z - 1) / 2], rtol=1e-6)


RANKED = st.lists(
    st.tuples(st.integers(0, 12), st.integers(-4, 4)), max_size=8, unique_by=lambda pair: pair[0]
).map(
    lambda pairs: sorted(((place, score / 2) for place, score in pairs), key=lambda pair: (-pair[1], pair[0]))
)
PAIRS = st.lists(st.tuples(RANKED, RANKED), min_size=1, max_size=4)


@pytest.mark.slow
@given(PAIRS, st.integers(0, 60), st.integers(1, 12))
def test_reciprocal_rank_fusion_is_the_naive_sum(pairs: list[Any], constant: int, k: int) -> None:
    expected = []
    for pair in pairs:
        scores: dict[int, float] = {}
        for row in pair:
            for rank, (place, _) in enumerate(row, start=1):
                scores[place] = scores.get(place, 0) + 1 / (constant + rank)
        expected.append(scores)
    ranking = fuse(
        settings("reciprocal_rank_fusion", k=constant),
        hits(*(a for a, _ in pairs)),
        hits(*(b for _, b in pairs)),
        k,
    )
    same(ranking, expected, k)


@pytest.mark.slow
@given(PAIRS, st.sampled_from(["min_max", "z"]), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(1, 12))
def test_score_fusion_is_the_naive_sum(pairs: list[Any], normalisation: str, weight: float, k: int) -> None:
    expected = []
    for pair in pairs:
        scores = dict.fromkeys([place for row in pair for place, _ in row], 0.0)
        for row, share in zip(pair, (weight, 1 - weight), strict=True):
            own = [score for _, score in row]
            if not own or min(own) == max(own):
                continue
            shift, unit = (
                (min(own), max(own) - min(own)) if normalisation == "min_max" else (np.mean(own), np.std(own))
            )
            for place in scores:
                scores[place] += share * (dict(row).get(place, min(own)) - shift) / unit
        expected.append(scores)
    chosen = settings("score_fusion", normalisation=normalisation, weight=weight)
    same(fuse(chosen, hits(*(a for a, _ in pairs)), hits(*(b for _, b in pairs)), k), expected, k)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["reciprocal_rank_fusion", "score_fusion"])
@given(row=RANKED, other=RANKED)
def test_fusion_with_itself_keeps_the_order_and_rows_can_change_places(
    method: str, row: Any, other: Any
) -> None:
    chosen = settings(method)
    # Scores without ties: of equal scores both keep the order of the places, which RRF's ranks know nothing
    # of.
    distinct = [(place, -float(rank)) for rank, (place, _) in enumerate(row)]
    assert listed(fuse(chosen, hits(distinct), hits(distinct))) == [place for place, _ in row]
    there, back = fuse(chosen, hits(row), hits(other)), fuse(chosen, hits(other), hits(row))
    assert (
        there.positions.tolist() == back.positions.tolist()
        and there.scores.tobytes() == back.scores.tobytes()
    )


def test_score_fusion_of_full_weight_keeps_the_order_of_from() -> None:
    first, second = hits([(4, 3.0), (1, 2.0), (9, 1.0)]), hits([(9, 5.0), (8, 4.0)])
    assert listed(fuse(settings("score_fusion", weight=1.0), first, second), 0)[:2] == [4, 1]


# Query expansion


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(("n", "alpha"), [(1, 3.0), (4, 3.0), (4, 0.0), (30, 1.0)])
def test_query_expansion_is_the_naive_loop(metric: Metric, n: int, alpha: float) -> None:
    where = scattered(metric=metric)
    task = searched(where, 12, np.array([[0, 3], [2, 7]]))
    images = parted_index.vectors_at(where.index, np.arange(40)).astype(np.float64)
    expected = []
    for q, query in enumerate(where.queries.astype(np.float64)):
        total, weights = query.copy(), 1.0
        for place in listed(task.first, q)[:n]:
            image = images[place]
            weight = max(0.0, float(query @ image / np.linalg.norm(query) / np.linalg.norm(image))) ** alpha
            total, weights = total + weight * image, weights + weight
        new = total / np.linalg.norm(total) if metric == "cosine" else total / weights
        scores = {
            p: float(new @ image) if metric == "cosine" else -float((new - image) @ (new - image))
            for p, image in enumerate(images)
        }
        for query_place, place in ((0, 3), (2, 7)):
            if query_place == q:
                del scores[place]
        expected.append(scores)
    same(refinements.create(settings("query_expansion", n=n, alpha=alpha)).rank(task), expected, 12)


def test_expansion_worked_by_hand_finds_what_the_query_alone_does_not() -> None:
    # The query sees A; A's neighbour B lies behind it, C on the other side.
    angles = np.radians([20, 41, -40])
    where = space(np.array([[1.0, 0.0]]), np.column_stack([np.cos(angles), np.sin(angles)]))
    task = searched(where, 3)
    assert listed(task.first) == [0, 2, 1]
    ranking = refinements.create(settings("query_expansion", n=1, alpha=0.0)).rank(task)
    assert listed(ranking) == [0, 1, 2]  # the new query lies at 10 degrees
    np.testing.assert_allclose(ranking.scores[0], np.cos(np.radians([10, 31, 50])), rtol=1e-6)


# k-reciprocal re-ranking


def zhong(squared: np.ndarray, k1: int, k2: int, share: float) -> np.ndarray:
    """Zhong et al.'s steps for one query, in place 0, as loops over sets."""
    n = len(squared)
    distances = np.array(
        [[squared[i, j] / max(squared[i].max(), 1e-300) for j in range(n)] for i in range(n)]
    )
    ranks = [sorted(range(n), key=lambda j: (j != i, distances[i, j], j)) for i in range(n)]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in ranks[i][: k + 1] if i in ranks[j][: k + 1]}

    encoded = np.zeros((n, n))
    for i in range(n):
        own = reciprocal(i, k1)
        expanded = set(own)
        for j in own:
            others = reciprocal(j, int(np.around(k1 / 2)))
            if 3 * len(others & own) > 2 * len(others):
                expanded |= others
        for j in expanded:
            encoded[i, j] = np.exp(-distances[i, j])
        encoded[i] /= encoded[i].sum()
    if k2 > 1:
        encoded = np.array([np.mean([encoded[j] for j in ranks[i][:k2]], axis=0) for i in range(n)])
    result = []
    for g in range(1, n):
        shared = sum(min(encoded[0, j], encoded[g, j]) for j in range(n))
        result.append((1 - share) * (1 - shared / (2 - shared)) + share * distances[0, g])
    return np.array(result)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(
    ("k1", "k2", "share", "candidates", "k"),
    [(6, 3, 0.3, 100, 40), (3, 1, 0.0, 12, 20), (20, 6, 0.3, 20, 20), (1, 2, 0.5, 9, 9)],
)
def test_k_reciprocal_is_the_naive_loop(
    metric: Metric, k1: int, k2: int, share: float, candidates: int, k: int
) -> None:
    where = scattered(metric=metric, seed=1)
    task = searched(where, k, np.array([[1, 5]]))
    images = parted_index.vectors_at(where.index, np.arange(40)).astype(np.float64)
    chosen = settings("k_reciprocal", k1=k1, k2=k2, candidates=candidates, **{"lambda": share})
    ranking = refinements.create(chosen).rank(task)
    for q, query in enumerate(where.queries.astype(np.float64)):
        before = listed(task.first, q)
        near = before[:candidates]
        vectors = np.concatenate([query[None], images[near]])
        squared = np.array([[(a - b) @ (a - b) for b in vectors] for a in vectors])
        expected = dict(zip(near, -zhong(squared, k1, k2, share), strict=True))
        same(
            Hits(ranking.positions[[q], : len(near)], ranking.scores[[q], : len(near)]),
            [expected],
            candidates,
        )
        assert listed(ranking, q)[len(near) :] == before[len(near) :]  # behind the candidates nothing moves
        assert (np.diff(ranking.scores[q][ranking.positions[q] >= 0]) <= 0).all()


def test_k_reciprocal_worked_by_hand() -> None:
    # On a line: the query at 0, images at 1, 2 and -1.5. With k1 = 1, two are reciprocal if each is the
    # other's nearest.
    squared = (np.array([0, 1, 2, -1.5])[:, None] - np.array([0, 1, 2, -1.5])) ** 2
    chosen = settings("k_reciprocal", k1=1, k2=1, **{"lambda": 0.0})
    assert isinstance(chosen, KReciprocal)
    # 0's nearest is 1; 1's are 0 and 2, as near, and 0 comes first: these two find each other, 2 and -1.5
    # nobody.
    far, back = (
        np.exp(-1 / 4),
        np.exp(-1 / 6.25),
    )  # their distance over the furthest of 0 (2: 4), of 1 (-1.5: 6.25)
    query, image = np.array([1, far]) / (1 + far), np.array([back, 1]) / (1 + back)
    shared = np.minimum(query, image).sum()
    np.testing.assert_allclose(
        k_reciprocal.final_distances(squared, chosen), [1 - shared / (2 - shared), 1, 1], rtol=1e-12
    )


def test_lambda_1_keeps_the_order() -> None:
    task = searched(scattered(seed=2), 30)
    ranking = refinements.create(settings("k_reciprocal", **{"lambda": 1.0})).rank(task)
    assert ranking.positions.tolist() == task.first.positions.tolist()


def test_copies_of_one_picture_are_no_trouble() -> None:
    images = np.concatenate([np.tile([1.0, 0.0], (8, 1)), [[0.0, 1.0]]])
    task = searched(space(np.array([[1.0, 0.0]]), images), 9)
    ranking = refinements.create(settings("k_reciprocal", k1=2, k2=1)).rank(task)
    assert listed(ranking)[-1] == 8 and np.isfinite(ranking.scores).all()


def test_a_query_is_re_ranked_as_if_it_were_alone() -> None:
    task = scaled(scattered(queries=6), 25)
    for chosen in (
        settings("k_reciprocal", k1=5),
        settings("query_expansion"),
        settings("score_normalisation", **ONE_ROW, first_rank=2, last_rank=9),
        settings("local_scaling", **ONE_ROW, k=4),
    ):
        together = refinements.create(chosen).rank(task)
        for q in range(6):
            alone = refinements.create(chosen).rank(task.of_query(q))
            assert alone.positions[0].tolist() == together.positions[q].tolist()
            assert alone.scores[0].tobytes() == together.scores[q].tobytes()


# Scores that one threshold can cut


ONE_ROW = {"with": "a"}


def test_normalised_scores_worked_by_hand() -> None:
    ranking = hits([(7, 0.9), (3, 0.7), (5, 0.5), (2, 0.1)], [(1, 0.4), (2, 0.2)])
    task = RefinementInput(ranking, ranking, None, NONE, 3)
    chosen = settings("score_normalisation", **ONE_ROW, share=0.5, first_rank=3, last_rank=4)
    normalised = refinements.create(chosen).rank(task)
    # Half of (.5 + .1) / 2; and half of .2, the last score of a ranking that ends before.
    assert [listed(normalised, q) for q in range(2)] == [[7, 3, 5], [1, 2]]
    np.testing.assert_allclose(normalised.scores, [[0.75, 0.55, 0.35], [0.3, 0.1, np.nan]], rtol=1e-6)


@pytest.mark.slow
@given(st.integers(0, 500), st.integers(1, 12), st.integers(0, 12), st.floats(0, 2))
def test_score_normalisation_is_the_naive_loop(seed: int, first: int, more: int, share: float) -> None:
    task = searched(scattered(seed=seed % 7), 9)
    chosen = settings("score_normalisation", **ONE_ROW, share=share, first_rank=first, last_rank=first + more)
    ranking = refinements.create(chosen).rank(task)
    expected = []
    for positions, scores in zip(*task.first, strict=True):
        some = [float(score) for score in scores[first - 1 : first + more]] or [float(scores[-1])]
        bias = share * sum(some) / len(some)
        expected.append({int(p): float(s) - bias for p, s in zip(positions, scores, strict=True)})
    same(ranking, expected, 9)


def test_a_neighbourhood_of_no_images_scores_nothing() -> None:
    nothing = np.full((1, 3), np.nan, np.float32)
    assert score_normalisation.neighbourhood(nothing, 2, 3).tolist() == [0.0]


def gallery_of(where: VectorSpace) -> Gallery:
    vectors = parted_index.vectors_at(where.index, np.arange(where.index.ntotal))
    names = [f"g{i:04}" for i in range(len(vectors))]
    # In two batches, so that an image is left out of its own neighbourhood wherever it is read.
    batches = [(names[part], vectors[part]) for part in (slice(0, 7), slice(7, None))]
    return Gallery(where.metric, len(vectors), vectors.shape[1], lambda: batches, "here")


def scaled(where: VectorSpace, depth: int, k: int = 4) -> RefinementInput:
    task = searched(where, depth)
    learned = local_scaling.learn(gallery_of(where), k)
    return RefinementInput(task.first, task.second, where, NONE, depth, learned)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("k", [1, 4, 60])
def test_local_scaling_is_the_naive_loop(metric: Metric, k: int) -> None:
    where = scattered(metric=metric)
    images = parted_index.vectors_at(where.index, np.arange(40)).astype(np.float64)

    def score(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b) if metric == "cosine" else -float(((a - b) ** 2).sum())

    def neighbourhood(vector: np.ndarray, others: list[int]) -> float:
        nearest = sorted((score(vector, images[x]) for x in others), reverse=True)[:k]
        return sum(nearest) / len(nearest)

    of_images = [neighbourhood(images[x], [y for y in range(40) if y != x]) for x in range(40)]
    expected = []
    for query in where.queries.astype(np.float64):
        own = neighbourhood(query, [*range(40)])
        expected.append({x: 2 * score(query, images[x]) - own - of_images[x] for x in range(40)})
    ranking = refinements.create(settings("local_scaling", **ONE_ROW, k=k)).rank(scaled(where, 40, k))
    same(ranking, expected, 40)


def test_local_scaling_puts_a_lone_image_before_a_hub_that_is_a_little_nearer() -> None:
    """At angles of 0 (amid four others) and 50 degrees; the query is at 24 degrees."""
    angles = np.radians([0, 50, -3, -5, -8, -10])
    where = space(
        np.array([[np.cos(np.radians(24)), np.sin(np.radians(24))]]),
        np.column_stack([np.cos(angles), np.sin(angles)]),
    )
    assert listed(searched(where, 6).first)[:2] == [0, 1]
    ranking = refinements.create(settings("local_scaling", **ONE_ROW, k=3)).rank(scaled(where, 6, 3))
    assert listed(ranking)[:2] == [1, 0]


# Whitening


def test_whitened_gallery_has_mean_0_and_covariance_1() -> None:
    vectors = (np.random.default_rng(0).standard_normal((300, 8)) * np.linspace(3, 0.1, 8) + 5).astype(
        np.float32
    )
    learned = whitening.learn([vectors[:100], vectors[100:100], vectors[100:]], 8, 5)
    white = learned.transform(vectors)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(white.T @ white / 300, np.eye(5), atol=1e-4)


@pytest.mark.slow
def test_whitening_agrees_with_faiss_and_sklearn() -> None:
    vectors = (np.random.default_rng(1).standard_normal((500, 7)) * np.linspace(2, 0.2, 7) - 1).astype(
        np.float32
    )
    white = whitening.learn([vectors], 7, 4).transform(vectors)
    theirs = faiss.PCAMatrix(7, 4, -0.5)
    theirs.train(vectors)
    decomposition = pytest.importorskip("sklearn.decomposition")
    other = decomposition.PCA(4, whiten=True, svd_solver="full").fit_transform(vectors) * np.sqrt(
        500 / 499
    )  # divides by N - 1
    # FAISS divides by the standard deviation of the sums, not of the means.
    for expected in (theirs.apply(vectors) * np.sqrt(500), other):
        signs = np.sign((white * expected).sum(axis=0))
        np.testing.assert_allclose(white, expected * signs, atol=1e-4)


def test_full_whitening_gives_mahalanobis_distances_whatever_the_basis() -> None:
    random = np.random.default_rng(2)
    vectors = (random.standard_normal((200, 5)) * [4, 2, 1, 0.5, 0.3]).astype(np.float32)
    white = whitening.learn([vectors], 5, 5).transform(vectors).astype(np.float64)
    inverse = np.linalg.inv(np.cov(vectors.T, bias=True))
    gap = (vectors[3] - vectors[9]).astype(np.float64)
    np.testing.assert_allclose(((white[3] - white[9]) ** 2).sum(), gap @ inverse @ gap, rtol=1e-3)
    turned = (vectors @ random.standard_normal((5, 5))).astype(np.float32)  # any invertible map of the space
    again = whitening.learn([turned], 5, 5).transform(turned).astype(np.float64)
    np.testing.assert_allclose(((again[3] - again[9]) ** 2).sum(), gap @ inverse @ gap, rtol=1e-2)


@pytest.mark.slow
def test_whitening_gives_the_same_bytes_for_any_number_of_threads() -> None:
    random = np.random.default_rng(0)
    vectors = (random.standard_normal((3_000, 512)) * np.linspace(1, 0.01, 512)).astype(np.float32)
    results = set()
    for threads in (1, 2):  # without the method's own limit these differ
        with threadpool_limits(threads):
            learned = whitening.learn([vectors], 512, 128)
            results.add(learned.directions.tobytes() + learned.transform(vectors).tobytes())
    assert len(results) == 1


def test_more_dimensions_than_the_gallery_varies_in_are_refused() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    flat = np.concatenate([vectors, vectors[:, :1]], axis=1)
    with pytest.raises(
        UserError,
        match="dim is 4, but the gallery's 50 vectors of 4 dimensions vary in 3 only; set dim to 3 or less",
    ):
        whitening.learn([flat], 4, 4)
    with pytest.raises(UserError, match="nothing to whiten"):
        whitening.learn([vectors[:1]], 3, 1)


# All methods


@pytest.mark.parametrize(
    "method", ["reciprocal_rank_fusion", "score_fusion", "query_expansion", "k_reciprocal"]
)
def test_equal_scores_stand_in_the_order_of_their_ids(method: str) -> None:
    images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    task = searched(space(np.array([[1.0, 0.0]]), images), 5)
    assert listed(task.first) == [0, 2, 4, 1, 3]
    chosen = settings(
        method, **({"k1": 2} if method == "k_reciprocal" else {"n": 2} if method == "query_expansion" else {})
    )
    scores = refinements.create(chosen).rank(task)
    for rank in range(4):
        here, behind = scores.scores[0, rank : rank + 2]
        assert here > behind or scores.positions[0, rank] < scores.positions[0, rank + 1]


def test_there_is_a_file_for_every_method() -> None:
    files = {file.stem for file in Path(refinements.__file__).parent.glob("*.py")} - {
        "__init__",
        "costs",
        "ordering",
        "own_vectors",
        "refinement",
        "sources",
    }
    assert files == {
        "reciprocal_rank_fusion",
        "score_fusion",
        "query_expansion",
        "k_reciprocal",
        "whitening",
        "approximate",
        "truncate",
        "quantise",
        "score_normalisation",
        "local_scaling",
    }
    for method in files:
        needed = {
            "whitening": {"dim": 2, **ONE_ROW},
            "approximate": {"index": "hnsw", **ONE_ROW},
            "truncate": {"dim": 2, **ONE_ROW},
            "quantise": {"to": "int8", **ONE_ROW},
            "score_normalisation": ONE_ROW,
            "local_scaling": ONE_ROW,
        }.get(method, {})
        chosen = settings(method, **needed)
        created = refinements.create(chosen)
        assert isinstance(created, refinements.Refinement) and created.settings is chosen
        # Scores are those of a search, or the method says what they mean.
        searches = isinstance(created, refinements.SearchRefinement) or method == "quantise"
        assert searches != (created.SCORE_MEANING is not None)
        assert chosen.needs_vectors or not (chosen.makes_vectors or chosen.builds_index)
