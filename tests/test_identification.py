"""Identification metrics: worked by hand, against naive loops and scikit-learn, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_curve

from lineup.evaluation import identification, precision_recall
from lineup.evaluation.identification import Searches

NONE = float("nan")


def searches(
    mated: list[tuple[float, bool]], non_mated: list[float], clusters: list[int] | None = None
) -> Searches:
    """(score, whether it is right) of the first answers of mated searches, and scores of non-mated ones."""
    count = len(mated) + len(non_mated)
    return Searches(
        score=np.array([score for score, _ in mated] + non_mated),
        right=np.array([right for _, right in mated] + [False] * len(non_mated)),
        mated=np.arange(count) < len(mated),
        cluster=np.arange(count) if clusters is None else np.array(clusters),
        stand_ins=0,
    )


def once(given: Searches) -> np.ndarray:
    return np.ones((1, len(given.score)))


def noisy(random: np.random.Generator, count: int = 60, decimals: int = 1) -> Searches:
    """Searches with many equal scores."""
    mated = zip(np.round(random.normal(1, 1, count), decimals), random.random(count) < 0.8, strict=True)
    return searches([*mated], np.round(random.normal(0, 1, count), decimals).tolist())


# By hand


def test_worked_by_hand() -> None:
    """Falling: right .9, non-mated .8, right .7, wrong .6, non-mated .5, right .4."""
    some = searches([(0.9, True), (0.7, True), (0.6, False), (0.4, True)], [0.8, 0.5])
    # Precision at the right ones: 1/1, 2/3, 3/6; each adds 1/4 of recall.
    assert precision_recall.micro_average_precision(some, once(some))[0] == pytest.approx(
        (1 + 2 / 3 + 1 / 2) / 4
    )
    assert precision_recall.recall_at_precision(some, once(some), 0.9)[0] == 1 / 4
    assert precision_recall.recall_at_precision(some, once(some), 2 / 3)[0] == 2 / 4
    # At 0.8 half of the non-mated searches get an answer, and one of four mated ones the right one.
    assert identification.threshold_at(some.score[~some.mated], 0.5) == 0.8
    assert identification.error_curve(some, [0.5, 1.0, 0.1]).tolist() == [3 / 4, 2 / 4, 1.0]


def test_curve_and_histograms_worked_by_hand() -> None:
    some = searches([(0.9, True), (0.7, True), (0.6, False)], [0.8, 0.5, -math.inf] + [0.1] * 9)
    targets = identification.curve_targets(some)
    assert targets[0] == 1 and 1 / 12 <= targets[-1] < 1 / 12 * 10**0.1
    assert np.diff(np.log10(targets)) == pytest.approx(-0.1)
    bounds, right, non_mated = identification.histograms(some)
    assert (bounds[0], bounds[-1], len(bounds)) == (0.1, 0.9, identification.HISTOGRAM_BINS + 1)
    assert (right.sum(), right[-1], right[30]) == (2, 1, 1), "0.7 is three quarters of the way"
    assert (non_mated.sum(), non_mated[0]) == (11, 9), "a search without an answer has no score"


def test_queries_whose_right_answers_are_left_out_stand_in_for_few_non_mated_ones() -> None:
    some = identification.searches(
        first_score=np.array([0.9, 0.8, 0.7, NONE, 0.5]),
        first_hit=np.array([1, 2, 0, 0, 0]),
        wrong_score=np.array([0.3, 0.8, 0.7, NONE, 0.5]),
        num_relevant=np.array([2, 1, 0, 1, 0]),
        known=np.array([True, True, True, True, False]),
        cluster=np.array([0, 1, 2, 3, 4]),
    )
    assert some.mated.tolist() == [True, True, True, False, False, False, False]
    assert some.score.tolist() == [0.9, 0.8, -math.inf, 0.7, 0.3, 0.8, -math.inf]
    assert some.right.tolist() == [True] + [False] * 6
    assert some.cluster.tolist() == [0, 1, 3, 2, 0, 1, 3]
    assert some.stand_ins == 3


def test_nobody_stands_in_where_enough_queries_are_non_mated() -> None:
    count = identification.FEW_NON_MATED
    some = identification.searches(
        first_score=np.full(count + 1, 0.5),
        first_hit=np.arange(count + 1) == 0,
        wrong_score=np.full(count + 1, 0.4),
        num_relevant=np.where(np.arange(count + 1) == 0, 1, 0),
        known=np.ones(count + 1, bool),
        cluster=np.arange(count + 1),
    )
    assert (some.stand_ins, len(some.score)) == (0, count + 1)


def test_a_search_without_an_answer_is_missed_and_is_no_false_match() -> None:
    some = searches([(-math.inf, False), (0.5, True)], [-math.inf, 0.4])
    assert identification.error_curve(some, [0.5, 1.0]).tolist() == [0.5, 0.5]
    assert precision_recall.micro_average_precision(some, once(some))[0] == 1 / 2
    none = searches([(-math.inf, False)] * 2, [-math.inf])
    micro, recall = precision_recall.ranked_figures(none, 100, 0)
    assert (micro.value, recall.value) == (0, 0)


def test_one_label_has_no_interval() -> None:
    some = searches([(0.5, True)], [0.4], [0, 0])
    micro, _ = precision_recall.ranked_figures(some, 100, 0)
    assert micro.value == 1 and np.isnan(micro.low) and np.isnan(micro.high)
    [point] = identification.operating_points(some, [0.5], 0)
    assert np.isnan(point.fpir.value)


def test_three_over_the_rate_searches_are_needed_to_promise_it() -> None:
    assert identification.is_supported(searches([(1, True)], [0.0] * 300), 0.01)
    assert not identification.is_supported(searches([(1, True)], [0.0] * 299), 0.01)


# Oracles


@pytest.mark.parametrize("seed", range(5))
def test_equals_naive_loops(seed: int) -> None:
    some = noisy(np.random.default_rng(seed))
    best, recall, area, mated = 0.0, 0.0, 0.0, int(some.mated.sum())
    for threshold in sorted(set(some.score.tolist()), reverse=True):
        answered = [i for i, score in enumerate(some.score) if score >= threshold]
        right = sum(bool(some.right[i]) for i in answered)
        area += right / len(answered) * (right / mated - recall)
        recall = right / mated
        best = max(best, recall) if right / len(answered) >= 0.9 else best
    assert precision_recall.micro_average_precision(some, once(some))[0] == pytest.approx(area)
    assert precision_recall.recall_at_precision(some, once(some), 0.9)[0] == pytest.approx(best)
    for fpir in (0.02, 0.1, 0.35):
        allowed = [
            threshold
            for threshold in some.score[~some.mated]
            if sum(score >= threshold for score in some.score[~some.mated]) <= fpir * np.sum(~some.mated)
        ]
        threshold = min(allowed, default=math.inf)
        assert identification.threshold_at(some.score[~some.mated], fpir) == threshold
        missed = sum(
            not (r and s >= threshold) for s, r in zip(some.score, some.right, strict=True)
        ) - np.sum(~some.mated)
        assert identification.error_curve(some, [fpir])[0] == pytest.approx(missed / mated)


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed: int) -> None:
    some = noisy(np.random.default_rng(seed))
    share = some.right.sum() / some.mated.sum()
    expected = average_precision_score(some.right, some.score) * share
    assert precision_recall.micro_average_precision(some, once(some))[0] == pytest.approx(expected)
    wrong = some.mated & ~some.right
    false_positive, true_positive, thresholds = roc_curve(
        some.mated[~wrong], some.score[~wrong], drop_intermediate=False
    )
    for fpir in (0.05, 0.2, 0.5):
        at = thresholds.tolist().index(identification.threshold_at(some.score[~some.mated], fpir))
        assert false_positive[at] <= fpir
        assert identification.error_curve(some, [fpir])[0] == pytest.approx(1 - true_positive[at] * share)


@pytest.mark.parametrize("seed", range(3))
def test_weights_count_searches_as_often_as_copies_would(seed: int) -> None:
    random = np.random.default_rng(seed)
    some = noisy(random)
    weights = random.integers(0, 3, len(some.score))
    copies = Searches(
        score=np.repeat(some.score, weights),
        right=np.repeat(some.right, weights),
        mated=np.repeat(some.mated, weights),
        cluster=np.repeat(some.cluster, weights),
        stand_ins=0,
    )
    once_weighted = weights[None].astype(float)
    assert precision_recall.micro_average_precision(some, once_weighted) == pytest.approx(
        precision_recall.micro_average_precision(copies, once(copies))
    )
    assert precision_recall.recall_at_precision(some, once_weighted, 0.7) == pytest.approx(
        precision_recall.recall_at_precision(copies, once(copies), 0.7)
    )


# Properties


@given(st.integers(0, 1_000), st.floats(0.01, 1))
def test_no_more_than_the_rate_reach_the_threshold(seed: int, fpir: float) -> None:
    scores = np.round(np.random.default_rng(seed).normal(size=50), 1)
    threshold = identification.threshold_at(scores, fpir)
    assert np.mean(scores >= threshold) <= fpir
    lower = scores[scores < threshold]
    assert not len(lower) or np.mean(scores >= lower.max()) > fpir


def test_a_constant_on_one_querys_scores_moves_what_is_compared_between_queries() -> None:
    some = searches([(0.9, True), (0.7, True)], [0.8])
    lifted = searches([(0.9, True), (1.7, True)], [0.8])
    before, after = (precision_recall.micro_average_precision(one, once(one))[0] for one in (some, lifted))
    assert (before, after) == (pytest.approx((1 + 2 / 3) / 2), 1)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_pure_noise_misses_all_but_what_chance_lets_through(share: float) -> None:
    """Scores of mated and non-mated searches are drawn alike, so a threshold that a share f of the non-mated
    reaches is reached by a share f of the right answers: FNIR = 1 - share * f.
    """
    random, count = np.random.default_rng(0), 20_000
    right = random.random(count) < share
    some = searches([*zip(random.normal(size=count), right, strict=True)], random.normal(size=count).tolist())
    for fpir in (0.01, 0.1, 0.3):
        assert identification.error_curve(some, [fpir])[0] == pytest.approx(1 - share * fpir, abs=0.01)


# Held-out labels


def test_no_label_is_measured_at_a_threshold_that_it_was_part_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every score names its label: the whole part is the label's number."""
    random, labels = np.random.default_rng(0), 40
    scores = [label + random.random() for label in range(labels) for _ in range(3)]
    some = searches([(score, True) for score in scores], scores, np.repeat(np.arange(labels), 3).tolist() * 2)
    chosen_on: list[set[int]] = []
    choose, count_errors = identification.threshold_at, identification._errors

    def threshold_at(scores: np.ndarray, fpir: float) -> float:
        chosen_on.append({int(score) for score in scores})
        return choose(scores, fpir)

    def errors(given: Searches, weight: np.ndarray, threshold: float) -> tuple[float, float]:
        measured = set(given.cluster[weight > 0].tolist())
        assert measured and len(chosen_on[-1]) == labels // 2
        assert not measured & chosen_on[-1]
        return count_errors(given, weight, threshold)

    monkeypatch.setattr(identification, "threshold_at", threshold_at)
    monkeypatch.setattr(identification, "_errors", errors)
    identification.operating_points(some, [0.1], 0)
    assert len(set(map(frozenset, chosen_on))) > 100


def test_the_same_seed_gives_the_same_figures() -> None:
    some = noisy(np.random.default_rng(0))
    first, again, other = (identification.operating_points(some, [0.1], seed) for seed in (1, 1, 2))
    assert first == again != other


def independent(random: np.random.Generator) -> Searches:
    count = 400
    mated = [(score, True) for score in random.normal(2, 1, count)]
    return searches(mated, random.normal(size=count).tolist(), [*range(count)] * 2)


def alike_within_labels(random: np.random.Generator) -> Searches:
    """Four searches of each of 150 labels, whose scores share half of their variance."""
    labels, each = 150, 4
    shared = np.repeat(random.normal(size=labels), each)
    scores = np.sqrt(0.5) * shared + np.sqrt(0.5) * random.normal(size=labels * each)
    return searches(
        [(score + 2, True) for score in scores],
        scores.tolist(),
        np.repeat(np.arange(labels), each).tolist() * 2,
    )


@pytest.mark.slow
@pytest.mark.parametrize("draw", [independent, alike_within_labels])
def test_what_is_promised_holds_on_fresh_labels(draw: Callable[[np.random.Generator], Searches]) -> None:
    """Fresh scores are of the standard normal distribution, so the true rates at a threshold are known."""
    held, runs, rates = np.zeros(2), 500, []
    for run in range(runs):
        [point] = identification.operating_points(draw(np.random.default_rng(run)), [0.01], run)
        true = 1 - NormalDist().cdf(point.threshold), NormalDist(2).cdf(point.threshold)
        rates.append(true[0])
        held += [
            interval.low <= rate <= interval.high
            for interval, rate in zip((point.fpir, point.fnir), true, strict=True)
        ]
    assert (held >= 0.95 * runs).all()
    assert np.mean(rates) == pytest.approx(0.01, abs=0.002)
