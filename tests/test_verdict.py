"""The verdict while judging: by hand, what unjudged answers do to it, how often it is wrong, and on emoji."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks import judging
from lineup.commands import demo
from lineup.judging import overlaps, verdict, verdict_sentences
from lineup.judging.estimates import PairEstimate, RowEstimate
from lineup.judging.verdict import Verdict

SOLVER_TOLERANCE = 1e-3


def three_rows(seed: int, queries: int, k: int = 4) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rankings of 12 images for each query, and which of the first k are right."""
    random = np.random.default_rng(seed)
    answers = {row: np.argsort(random.random((queries, 12)), axis=1)[:, :k] for row in ("a", "b", "c")}
    right = random.random((queries, 12)) < 0.4
    return answers, {row: np.take_along_axis(right, each, 1).astype(float) for row, each in answers.items()}


def of_pair(found: Verdict, first: str, second: str) -> tuple[float, float, float]:
    """The lead of one row over another: the least that it may be, its estimate, and the most."""
    for pair in found.pairs:
        if (pair.better, pair.worse) == (first, second):
            return pair.low, pair.difference, pair.high
        if (pair.better, pair.worse) == (second, first):
            return -pair.high, -pair.difference, -pair.low
    raise AssertionError("no such pair")


def test_one_query_by_hand() -> None:
    """Of three queries one is judged: `a` is right twice, `b` once. On each query one of two answers differs,
    so that on the other two queries a lead is between -0.5 and 0.5.
    """
    answers = {"a": np.array([[1, 2], [1, 2], [1, 2]]), "b": np.array([[1, 3], [4, 1], [5, 2]])}
    found = verdict.from_answers(answers, {"a": np.array([[1.0, 1]]), "b": np.array([[1.0, 0]])})
    assert (found.judged, found.queries, found.same) == (1, 3, 0)
    assert [(row.row, row.mean) for row in found.rows] == [("a", 1), ("b", 0.5)]
    assert found.rows[0].low == pytest.approx(1 / 3) and found.rows[0].high == 1
    [pair] = found.pairs
    assert (pair.better, pair.worse, pair.decided, pair.more_queries) == ("a", "b", False, None)
    assert (pair.low, pair.difference, pair.high) == pytest.approx((-0.5 / 3, 0.5, 0.5))
    assert found.sentences == ["`a` and `b` can't be told apart yet (their difference is 0.50 at most)."]


def test_when_every_query_is_judged_the_figures_are_exact() -> None:
    answers, relevance = three_rows(0, queries=60)
    found = verdict.from_answers(answers, relevance)
    true = {row: float(each.mean()) for row, each in relevance.items()}
    assert [row.row for row in found.rows] == sorted(true, key=lambda row: -true[row])
    for row in found.rows:
        np.testing.assert_allclose(row[1:], true[row.row], atol=1e-9)
    for first, second in combinations(true, 2):
        np.testing.assert_allclose(of_pair(found, first, second), true[first] - true[second], atol=1e-9)
    assert all(pair.decided for pair in found.pairs)
    on_others = [text for text in found.sentences if "`dvc repro` tests it in metrics/comparison.md" in text]
    assert len(on_others) == 1
    fewer = verdict.from_answers(answers, {row: each[:59] for row, each in relevance.items()})
    assert not any("dvc repro" in text for text in fewer.sentences)


def test_nothing_judged_yet() -> None:
    answers, relevance = three_rows(0, queries=20)
    found = verdict.from_answers(answers, {row: each[:0] for row, each in relevance.items()})
    assert found.judged == 0 and all((row.mean, row.low, row.high) == (0.5, 0, 1) for row in found.rows)
    assert not any(pair.decided for pair in found.pairs)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.02, 0.2, 0.6]))
def test_judging_what_was_unjudged_keeps_every_interval_within_the_former(
    seed: int, judged: int, share: float
) -> None:
    """Whatever the unjudged answers turn out to be, the intervals held it already."""
    answers, relevance = three_rows(seed, queries=40)
    random = np.random.default_rng(seed)
    unknown = random.random((40, 12)) < share
    in_part = {
        row: np.where(np.take_along_axis(unknown, answers[row], 1), np.nan, each)[:judged]
        for row, each in relevance.items()
    }
    wide = verdict.from_answers(answers, in_part)
    narrow = verdict.from_answers(answers, {row: each[:judged] for row, each in relevance.items()})
    for first, second in combinations(answers, 2):
        outer, inner = of_pair(wide, first, second), of_pair(narrow, first, second)
        assert outer[0] <= inner[0] + SOLVER_TOLERANCE and outer[2] >= inner[2] - SOLVER_TOLERANCE
    outer_rows, inner_rows = ({row.row: row for row in found.rows} for found in (wide, narrow))
    for row in answers:
        assert outer_rows[row].low <= inner_rows[row].low + SOLVER_TOLERANCE
        assert outer_rows[row].high >= inner_rows[row].high - SOLVER_TOLERANCE


def test_an_unjudged_answer_that_two_rows_share_says_nothing_of_their_difference() -> None:
    """Image 1 is the first answer of `a` and the second of `b`; image 9 is unjudged and only `b` has it."""
    answers = {"a": np.tile([1, 2], (30, 1)), "b": np.tile([3, 1], (30, 1))}
    known = {"a": np.tile([1.0, 1.0], (12, 1)), "b": np.tile([0.0, 1.0], (12, 1))}
    shared = {"a": np.tile([np.nan, 1.0], (12, 1)), "b": np.tile([0.0, np.nan], (12, 1))}
    with_shared = verdict.from_answers(answers, shared)
    assert of_pair(with_shared, "a", "b") == of_pair(verdict.from_answers(answers, known), "a", "b")
    assert of_pair(with_shared, "a", "b")[1] == 0.5
    only_b = {"a": known["a"], "b": np.tile([np.nan, 1.0], (12, 1))}
    assert of_pair(verdict.from_answers(answers, only_b), "a", "b")[1] == 0.25


def test_queries_with_the_same_answers_change_no_interval() -> None:
    """The same answers in another order, judged or not, between the others or behind them."""
    answers, relevance = three_rows(1, queries=50)
    alone = verdict.from_answers(answers, {row: each[:30] for row, each in relevance.items()})
    places = np.sort(np.random.default_rng(2).permutation(60)[:50])
    assert places[29] < 59
    mixed, right = {}, {}
    for number, row in enumerate(answers):
        mixed[row] = np.tile(np.roll(np.arange(4), number), (60, 1))
        mixed[row][places] = answers[row]
        right[row] = np.full((int(places[29]) + 1, 4), np.nan)
        right[row][places[:30]] = relevance[row][:30]
    found = verdict.from_answers(mixed, right)
    assert (found.rows, found.pairs, found.same, alone.same) == (alone.rows, alone.pairs, 10, 0)
    assert found.sentences[-1].startswith("On 10 other queries all rows have the same first answers")


def test_rows_with_the_same_answers_everywhere() -> None:
    answers, relevance = three_rows(3, queries=30)
    twins = answers | {"c": answers["a"][:, ::-1]}
    relevance |= {"c": relevance["a"][:, ::-1]}
    found = verdict.from_answers(twins, {row: each[:20] for row, each in relevance.items()})
    assert of_pair(found, "a", "c") == (0, 0, 0)
    assert "`a` and `c` are equally good on these queries." in found.sentences
    # The pair can't be wrong, so the others share the error rate: `a` with `b`, and `c` with `b`.
    two = verdict.from_answers(
        {row: answers[row] for row in "ab"}, {row: relevance[row][:20] for row in "ab"}
    )
    assert two.pairs[0].high - two.pairs[0].low < of_pair(found, "b", "a")[2] - of_pair(found, "b", "a")[0]


def test_one_row_and_rankings_that_end_early() -> None:
    ranked = np.array([[1, 2], [3, -1], [-1, -1]])
    found = verdict.from_answers({"a": ranked}, {"a": np.array([[1.0, 0], [1, np.nan], [np.nan, np.nan]])})
    assert found.rows[0].mean == pytest.approx(1 / 3) == found.rows[0].low
    assert found.sentences == ["`a` is the only row: there is nothing to compare it with."]


def test_scores_of_any_metric() -> None:
    """Their limits are unknown, so that the intervals are wider than those of the same precisions."""
    answers, relevance = three_rows(4, queries=80)
    scores = {row: each[:40].mean(axis=1) for row, each in relevance.items()}
    by_scores = verdict.from_scores(scores, None, queries=80)
    by_answers = verdict.from_answers(answers, {row: each[:40] for row, each in relevance.items()})
    assert [row[:2] for row in by_scores.rows] == [
        (row.row, pytest.approx(row.mean)) for row in by_answers.rows
    ]
    for first, second in combinations(answers, 2):
        wide, narrow = of_pair(by_scores, first, second), of_pair(by_answers, first, second)
        assert wide[1] == pytest.approx(narrow[1])
        assert wide[0] < narrow[0] and wide[2] > narrow[2]
    highest = {row: np.minimum(each + 0.1, 1) for row, each in scores.items()}
    ranges = verdict.from_scores(scores, highest, queries=80)
    for pair, same in zip(ranges.pairs, by_scores.pairs, strict=True):
        assert (pair.better, pair.worse) == (same.better, same.worse)
        assert pair.low < same.low and pair.high > same.high


@pytest.mark.parametrize(
    ("lowest", "highest", "queries"),
    [([1.1], None, 5), ([-0.1], None, 5), ([np.nan], None, 5), ([0.5], [0.4], 5), ([0.1, 0.2], None, 1)],
)
def test_scores_that_can_not_be_are_refused(
    lowest: list[float], highest: list[float] | None, queries: int
) -> None:
    upper = None if highest is None else {"a": np.array(highest)}
    with pytest.raises(ValueError, match="score"):
        verdict.from_scores({"a": np.array(lowest)}, upper, queries)


def test_overlaps_by_hand() -> None:
    first, second = np.array([[1, 2, 3], [1, 2, -1], [5, 6, 7]]), np.array([[3, 4, 5], [2, 8, 9], [7, 5, 6]])
    known = overlaps.between([first, second])
    assert known.tell_apart.tolist() == [True, True, False]
    # By how many answers the first row can be behind, and the second.
    assert known.limits.tolist() == [[2, 2], [2, 1]]


@pytest.mark.slow
def test_the_rest_is_told_at_the_present_rate() -> None:
    """Twice as many queries with the same scores: the estimate of how many it takes stays about the same."""
    rows = judging.apart(np.random.default_rng(0), 1000, 0.1)
    answers = dict(zip("ab", rows.answers, strict=True))

    def after(judged: int) -> PairEstimate:
        return verdict.from_answers(
            answers, {row: right[:judged] for row, right in zip("ab", rows.right, strict=True)}
        ).pairs[0]

    decided = next(judged for judged in range(10, 200) if after(judged).decided)
    estimates = [judged + (after(judged).more_queries or 0) for judged in range(20, decided)]
    assert decided / 2 < np.median(estimates) < decided * 2
    assert after(9).more_queries is None and after(decided).more_queries is None


def row(name: str) -> RowEstimate:
    return RowEstimate(name, 0.5, 0.4, 0.6)


def undecided(better: str, worse: str, more: int | None) -> PairEstimate:
    return PairEstimate(better, worse, 0.1, -0.02, 0.12, False, more)


def decided(better: str, worse: str) -> PairEstimate:
    return PairEstimate(better, worse, 0.1, 0.02, 0.2, True, None)


def test_sentences() -> None:
    pairs = [decided("arcface", "finetuned"), decided("arcface", "siamese"), decided("arcface", "triplet")]
    pairs += [decided("finetuned", "siamese"), undecided("finetuned", "triplet", 20)]
    pairs += [undecided("siamese", "triplet", 42)]
    rows = [row(name) for name in ("arcface", "finetuned", "siamese", "triplet")]
    assert verdict_sentences.sentences(rows, pairs, left=900, same=0) == [
        "`arcface` is better than every other row, by at least 0.02.",
        "`finetuned` is better than `siamese`, by 0.02 to 0.20.",
        "`siamese` and `triplet` can't be told apart yet (their difference is 0.12 at most): "
        "about 40 more queries at the present rate.",
        "1 other pair can't be told apart yet, either.",
    ]


@pytest.mark.parametrize(
    ("lows", "text"),
    [
        ([0.1534], "`a` is better than `b`, by 0.15 to 0.39."),
        ([0.004], "`a` is better than `b`, by 0.39 at most."),
        ([0.29], "`a` is better than `b`, by 0.29 to 0.39."),  # 0.29 * 100 is 28.999...
        ([0.2, 0.1], "`a` is better than `b` (by 0.20 to 0.39) and `c` (by 0.10 to 0.39)."),
        ([0.2, 0.1, 0.3], "`a` is better than every other row, by at least 0.10."),
        ([0.2, 0.001, 0.3], "`a` is better than every other row."),
        ([0.3801], "`a` is better than `b`, by 0.300."),  # a point: the estimate, which is exact then
    ],
)
def test_by_how_much_a_row_is_better(lows: list[float], text: str) -> None:
    """The bounds are rounded outwards, so that what is said holds."""
    names = "abcd"
    pairs = [
        PairEstimate("a", worse, 0.3, low, 0.3801, True, None)
        for worse, low in zip(names[1:], lows, strict=False)
    ]
    rows = [row(name) for name in names[: max(len(lows) + 1, 2)]]
    rows += [row("d")] if len(lows) == 2 else []
    assert verdict_sentences.sentences(rows, pairs, left=0, same=0)[0] == text


@pytest.mark.parametrize(
    ("more", "left", "end"),
    [
        (1, 90, "about 1 more query at the present rate."),
        (7, 90, "about 7 more queries at the present rate."),
        (96, 900, "about 100 more queries at the present rate."),
        (1268, 9000, "about 1,300 more queries at the present rate."),
        (85, 90, "it takes nearly all of the 90 queries that are left."),
        (None, 90, "can't be told apart yet (their difference is 0.12 at most)."),
        (None, 0, "can't be told apart: it depends on answers that are unjudged."),
    ],
)
def test_sentences_about_what_is_undecided(more: int | None, left: int, end: str) -> None:
    [text] = verdict_sentences.sentences([row("a"), row("b")], [undecided("a", "b", more)], left, same=0)
    assert text.startswith("`a` and `b`") and text.endswith(end)


@pytest.mark.slow
def test_of_1000_runs_looked_at_after_every_query_few_are_ever_wrong() -> None:
    """Two rows are equally good. A t test after each query calls one of them better far too often."""
    found = judging.wrong(np.random.default_rng(0), runs=1000, ties=1, queries=60)
    assert found.verdicts <= 0.05 and found.intervals <= 0.05
    assert found.by_peeking > 0.1


@pytest.mark.slow
def test_many_looks_at_many_rows() -> None:
    """Six rows and 15 pairs, of which three are ties: all intervals hold at every look, all together."""
    found = judging.wrong(np.random.default_rng(1), runs=50, ties=3, queries=40)
    assert found.intervals <= 0.05


@pytest.mark.slow
def test_a_row_that_is_added_while_judging_makes_few_runs_wrong() -> None:
    """Two rows are equally good, and so is a third one, of which only the new answers are asked for."""
    runs = judging.wrong_after_adding(np.random.default_rng(0), runs=200, queries=60)
    assert runs.verdicts <= 0.05 and runs.intervals <= 0.05
    assert runs.by_peeking > 0.1


@pytest.mark.slow
def test_queries_behind_a_gap_would_make_many_runs_wrong() -> None:
    """Which of them are fully judged depends on the new row's answers, so that they are no random sample."""
    random = np.random.default_rng(3)
    rows = judging.with_an_added_row(random, 200)
    orders = [random.permutation(200) for _ in range(judging.RUNS_AT_ONCE)]
    added = judging.adding(rows, orders, np.full(judging.RUNS_AT_ONCE, 80))
    assert np.abs(rows.differences()).max() < 1e-9
    assert judging.false_with_gaps(rows, added).mean() > 0.2


def features(path: str) -> dict[str, np.ndarray]:
    """What four simple models see of a picture: three colours, 64 grey values, 192 colours, a histogram."""
    with Image.open(path) as file:
        picture = Image.alpha_composite(Image.new("RGBA", file.size, "white"), file.convert("RGBA")).convert(
            "RGB"
        )
    small = np.asarray(picture.resize((8, 8), Image.Resampling.BOX), np.float64)
    bins = (np.asarray(picture.resize((32, 32)), np.int64) // 64).reshape(-1, 3) @ [16, 4, 1]
    return {
        "mean_colour": small.mean(axis=(0, 1)),
        "grey": small.mean(axis=2).ravel(),
        "colours": small.ravel(),
        "histogram": np.sqrt(np.bincount(bins, minlength=64)) * 10,
    }


@pytest.mark.slow
def test_thirty_screens_order_rows_of_emoji_as_all_labels_do() -> None:
    """Real pictures, unlabelled: the labels only say what the person who judges would click."""
    pictures = demo.layout(demo.emoji_folder(), identities=50)
    queries = sorted(name for name in pictures if name.startswith("test/query"))
    gallery = sorted(name for name in pictures if name.startswith("test/gallery"))
    seen = {name: features(str(pictures[name])) for name in (*queries, *gallery)}
    right = np.array([[q.split("/")[2] == g.split("/")[2] for g in gallery] for q in queries])
    order = np.random.default_rng(0).permutation(len(queries))
    answers, relevance = {}, {}
    for name in seen[queries[0]]:
        vectors = {image: seen[image][name] for image in seen}
        distances = np.array([[np.linalg.norm(vectors[q] - vectors[g]) for g in gallery] for q in queries])
        answers[name] = np.argsort(distances, axis=1, kind="stable")[order, :10]
        relevance[name] = np.take_along_axis(right[order], answers[name], 1).astype(float)
    full = verdict.from_answers(answers, relevance)
    after_30 = verdict.from_answers(answers, {name: each[:30] for name, each in relevance.items()})
    assert after_30.judged == 30 and full.judged == full.queries == len(queries) == 100
    assert [estimate.row for estimate in after_30.rows] == [estimate.row for estimate in full.rows]
    for first, second in combinations(answers, 2):
        low, _, high = of_pair(after_30, first, second)
        assert low < relevance[first].mean() - relevance[second].mean() < high


def test_a_lead_that_the_rest_could_just_undo() -> None:
    """After one of two queries `a` leads by one answer; on the other one `b` could do the same."""
    answers = {"a": np.array([[1, 2], [1, 2]]), "b": np.array([[1, 3], [1, 3]])}
    found = verdict.from_answers(answers, {"a": np.array([[0.0, 1]]), "b": np.array([[0.0, 0]])})
    assert of_pair(found, "a", "b") == (0, 0.5, 0.5)
    assert not found.pairs[0].decided


@pytest.mark.slow
def test_larger_differences_take_fewer_screens() -> None:
    """Medians of 50 runs; benchmarks/RESULTS.md has those of more runs and more rows."""
    random = np.random.default_rng(2)
    medians = [
        np.median(judging.screens_until_decided(random, 50, apart, pairs=1)) for apart in (0.2, 0.1, 0.05)
    ]
    assert medians[0] < 30 < medians[1] < 60 < medians[2] < 130
