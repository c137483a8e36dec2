"""Figures after junk was removed from rankings: by hand, against loops, and against a search without junk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.slices
from lineup import paths
from lineup.evaluation import row_metrics, scoring
from lineup.evaluation.rounding import DECIMALS
from lineup.evaluation.scoring import Scores
from lineup.relevance import judgements
from lineup.relevance.judged_relevance import JudgedRelevance, with_people
from lineup.relevance.judgements import JUNK, NOT_RELEVANT, RELEVANT, Judgement
from lineup.relevance.relevance import Relevance
from lineup.storage import files
from lineup.storage.rankings import Ranking
from stages import compare, score
from tests.support.collection import Image, params, search, write, write_embeddings, write_params

TIME = "2026-11-27T05:00:00Z"
# Each value is off by half of the last decimal at most.
ROUNDING = 10**-DECIMALS


def labelled(right: Sequence[int]) -> Relevance:
    """A query whose label the gallery images have that are 1 in `right`; the others have another one."""
    return Relevance(
        source="labels",
        query_ids=np.array(["q"]),
        gallery_ids=np.array([f"g{number:02}" for number in range(len(right))], np.bytes_),
        query_labels=np.array([0]),
        gallery_labels=np.where(np.array(right) == 1, 0, 1),
        judged=np.empty((0, 3), np.int64),
    )


def scored(right: Sequence[int], depth: int, said: dict[int, int], cutoffs: Sequence[int]) -> Scores:
    """The scores of a query whose gallery is ranked in its order, after people judged some of the images.

    Args:
        depth: of the stored ranking.
        said: {gallery image: relevance}.
    """
    judged = {("q", f"g{number:02}"): relevance for number, relevance in said.items()}
    relevance = with_people(labelled(right), judged)
    positions = np.arange(min(depth, len(right)))[None]
    if isinstance(relevance, JudgedRelevance):
        ids = relevance.gallery_ids.astype(np.str_)
        ranking = Ranking(relevance.query_ids, ids, positions, -positions.astype(np.float32))
        _, positions = relevance.without_junk(ranking, positions)
    return scoring.score(positions, relevance, cutoffs)


def ends(scores: Scores, metric: str) -> tuple[float, float]:
    """The least and the greatest value of the only query."""
    least = float(scores.values[metric][0])
    own = scores.unknown.bounds.get(metric) if scores.unknown else None
    assert own is None or float(own.least[0]) == least
    return least, float(own.most[0]) if own else least


def naive(right: Sequence[int], num_relevant: int, k: int) -> dict[str, float]:
    """Every metric of a ranking, by loops over its ranks."""

    def precisions(depth: int) -> float:
        return sum(sum(right[: i + 1]) / (i + 1) for i in range(min(depth, len(right))) if right[i])

    gained = sum(1 / math.log2(i + 2) for i in range(min(k, len(right))) if right[i])
    return {
        "map_at_r": precisions(num_relevant) / num_relevant,
        "r_precision": sum(right[:num_relevant]) / num_relevant,
        "mrr": next((1 / (i + 1) for i, is_right in enumerate(right) if is_right), 0.0),
        f"top_{k}": float(any(right[:k])),
        f"recall_{k}": sum(right[:k]) / num_relevant,
        f"precision_{k}": sum(right[:k]) / k,
        f"map_{k}": precisions(k) / min(num_relevant, k),
        f"ndcg_{k}": gained / sum(1 / math.log2(i + 2) for i in range(min(k, num_relevant))),
    }


def test_by_hand() -> None:
    """R is 3, so the ranking is stored to rank 4: right, wrong, right, wrong; then a right and a wrong image.

    Without its first junk, rank 3 is still there. Without its second, rank 3 is one of the last two images.
    """
    right = [1, 0, 1, 0, 1, 0]
    before = scored(right, 4, {0: RELEVANT}, [1])
    assert ends(before, "map_at_r") == pytest.approx(((1 + 2 / 3) / 3,) * 2, abs=ROUNDING)
    without_one = scored(right, 4, {1: JUNK}, [1])
    assert ends(without_one, "map_at_r") == pytest.approx((2 / 3, 2 / 3), abs=ROUNDING)
    assert without_one.unknown is None
    without_two = scored(right, 4, {1: JUNK, 3: JUNK}, [1])
    assert ends(without_two, "map_at_r") == pytest.approx((2 / 3, 1), abs=ROUNDING)
    assert ends(without_two, "r_precision") == pytest.approx((2 / 3, 1), abs=ROUNDING)
    assert without_two.unknown and without_two.unknown.depth_needed == 5, "R and the two that are junk"
    assert without_two.unknown.judged_at == {}, "the relevance of every pair is known"
    # Junk with the query's label is not part of R either.
    right_junk = scored(right, 4, {0: JUNK, 1: JUNK}, [1])
    assert right_junk.num_relevant.tolist() == [2]
    assert ends(right_junk, "map_at_r") == (0.5, 0.5), "right, wrong: two images are left, and R is 2"


def test_where_only_right_or_only_wrong_images_follow_nothing_is_unknown() -> None:
    only_wrong = scored([1, 0, 1, 0, 0, 0], 4, {1: JUNK, 3: JUNK}, [3])
    assert only_wrong.unknown is None and ends(only_wrong, "precision_3") == pytest.approx(
        (2 / 3,) * 2, abs=ROUNDING
    )
    only_right = scored([1, 0, 0, 1, 1], 3, {1: JUNK}, [1])
    assert only_right.unknown is None
    assert ends(only_right, "map_at_r") == pytest.approx(((1 + 2 / 3) / 3,) * 2, abs=ROUNDING)


def test_a_ranking_that_is_deep_enough_has_exact_figures_in_spite_of_junk() -> None:
    """Four images are left, enough for R and every cut-off; `mrr` is 0, as for any ranking without a hit."""
    scores = scored([0, 0, 0, 0, 0, 1], 5, {0: JUNK, 1: NOT_RELEVANT}, [1, 3])
    assert scores.unknown is None and scores.values["mrr"][0] == 0


def test_images_that_people_add_to_r_may_need_a_deeper_ranking() -> None:
    """Labels make one image right, so that rank 2 is enough; people make it three."""
    scores = scored([1, 0, 0, 0, 0], 2, {1: RELEVANT, 4: RELEVANT}, [1])
    assert ends(scores, "map_at_r") == pytest.approx((2 / 3, 1), abs=ROUNDING)
    assert scores.unknown and scores.unknown.depth_needed == 3


@pytest.mark.slow
@settings(max_examples=150)
@given(st.integers(0, 10**6))
def test_ranges_are_those_of_every_order_behind_the_end(seed: int) -> None:
    """Naively: all orders of the images that a ranking lacks; one of them is a search's without junk."""
    random = np.random.default_rng(seed)
    size, k = int(random.integers(4, 10)), int(random.integers(1, 4))
    right = (random.random(size) < 0.5).astype(int).tolist()
    right[int(random.integers(size))] = 1
    depth = min(size, max(k, sum(right) + 1))
    choices, odds = [JUNK, NOT_RELEVANT, RELEVANT], [0.6, 0.2, 0.2]
    judged = random.choice(size, int(random.integers(1, size)), replace=False)
    said = {int(image): int(random.choice(choices, p=odds)) for image in judged}
    truth = [*{**dict(enumerate(right)), **said}.values()]
    num_relevant = truth.count(RELEVANT)
    scores = scored(right, depth, said, [k])
    assert scores.num_relevant.tolist() == [num_relevant]
    if not num_relevant:
        assert np.isnan(scores.values["map_at_r"][0])
        return
    stored = [value for value in truth[:depth] if value != JUNK]
    behind = [value for value in truth[depth:] if value != JUNK]
    searched = max(len(stored), num_relevant, k)
    values = [
        naive([*stored, *order][:searched], num_relevant, k) for order in {*itertools.permutations(behind)}
    ]
    without_junk = naive((stored + behind)[:searched], num_relevant, k)
    for metric in without_junk:
        least, most = ends(scores, metric)
        assert least == pytest.approx(min(value[metric] for value in values), abs=ROUNDING), metric
        assert most == pytest.approx(max(value[metric] for value in values), abs=ROUNDING), metric
        assert least - ROUNDING <= without_junk[metric] <= most + ROUNDING


def run_stages(*rows: str) -> None:
    for row in rows:
        search(row)
        score.main(["--row", row])
    stages.slices.main([])
    compare.main([])


@pytest.mark.slow
@pytest.mark.usefixtures("empty_folder")
def test_the_stages_say_how_deep_rankings_have_to_be() -> None:
    """After that depth is searched, map_at_r is exact, and it decides the order again."""
    images = [Image("q", "query", "a", [1, 0])] + [
        Image(f"g{n}", "gallery", label, [np.cos(n / 10), np.sin(n / 10)])
        for n, label in enumerate("abababbb", 1)
    ]
    images += [replace(images[0], name="q2", vector=[0, 1])]
    write_params(params("row", "other", score={"cutoffs": [1, 2]}, retrieve={"depth": 2}))
    write(images)
    ids = {image.name: image.id for image in images}
    for row in ("row", "other"):
        write_embeddings(row, images)
    marks = [Judgement(ids["q"], ids[name], JUNK, "ann", TIME) for name in ("g2", "g4")]
    judgements.append(paths.JUDGEMENTS, marks)
    run_stages("row", "other")
    row, page = row_metrics.read("row"), paths.COMPARISON.read_text(encoding="utf-8")
    assert row.depth == 4 and row.partial and row.partial.depth_needed == 5
    assert row.is_exact("precision_2") and not row.is_exact("map_at_r") and not row.is_partly_judged
    assert row.identification is not None
    own = row.range_of("map_at_r")
    assert own and own.most - own.least == pytest.approx(1 / 6, abs=2 * ROUNDING), (
        "a third of one of 2 queries"
    )
    assert "set `retrieve.depth: 5` in params.yaml and run `dvc repro`." in page
    assert "It decides the order: without junk, some rankings are too short for map_at_r." in page
    assert "lineup judge" not in page and "judged@" not in page
    write_params(params("row", "other", score={"cutoffs": [1, 2]}, retrieve={"depth": 5}))
    run_stages("row", "other")
    exact = row_metrics.read("row")
    assert exact.partial is None and own.least <= exact.quality["map_at_r"].mean <= own.most
    assert files.read_json(paths.METRICS)["row"]["map_at_r"] == pytest.approx(
        exact.quality["map_at_r"].mean, abs=1e-4
    )
    assert "retrieve.depth" not in paths.COMPARISON.read_text(encoding="utf-8")
