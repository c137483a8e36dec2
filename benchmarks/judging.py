"""The verdict while judging: how often it is wrong, how soon it comes, and how wide its intervals are.

Run: python -m benchmarks.judging [--runs 1000] [--project FOLDER]
Takes about 7 minutes on two cores.
Simulated rows rank 60 images for each query, and their true precision_10 is known. Each run judges the
queries in another random order, and looks at the verdict after every query. In some of them a row is added
in the middle. With --project, the rankings of a
project that has labels are judged instead, as someone would who knows the labels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks import command
from lineup import cli
from lineup.judging import leads, overlaps, verdict
from lineup.judging.overlaps import Overlaps
from lineup.relevance import prepared_relevance, relevance
from lineup.storage import rankings

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

K, IMAGES, RELEVANT = 10, 60, 15
ERROR_RATE = verdict.ERROR_RATE
QUERIES_OF_TIES, QUERIES_OF_DIFFERENCES = 200, 1000
RUNS_AT_ONCE = 50
DIFFERENCES, NUMBERS_OF_PAIRS = (0.05, 0.1, 0.2), (1, 10, 78)
LOOKS_OF_WIDTH = (30, 100, 300)
SIZES_TIMED = ((5, 100), (16, 5_000))
SCREENS = 30


@dataclass(frozen=True)
class Rows:
    """Rows whose rankings were judged in full.

    Attributes:
        answers: int [R, N, k], the images of the first ranks.
        right: float [R, N, k], 1 where an image is relevant, else 0.
    """

    answers: IntArray
    right: FloatArray

    def differences(self) -> FloatArray:
        """The true mean differences in precision_k of every pair: float [P]."""
        means = self.right.mean(axis=(1, 2))
        return np.array([means[a] - means[b] for a, b in combinations(range(len(means)), 2)])


class Noise(NamedTuple):
    """What decides the scores of N queries' images, besides relevance: float [N, IMAGES] each."""

    of_query: FloatArray
    of_row: FloatArray


def ranked(noise: Noise, quality: float) -> IntArray:
    """The first K images of each query by a row that is as good as `quality` says: int [N, K].

    Of a query's images, those numbered below RELEVANT are right; see `rows_of`.
    """
    scores = noise.of_query + 0.8 * noise.of_row
    scores[:, :RELEVANT] += quality
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def rows_of(answers: Sequence[IntArray]) -> Rows:
    """Rows by their answers. An image numbered IMAGES higher is another one, which is right where it is."""
    stacked = np.stack(answers)
    return Rows(stacked, (stacked % IMAGES < RELEVANT).astype(np.float64))


def apart(random: np.random.Generator, queries: int, difference: float) -> Rows:
    """Two rows whose precision_10 differs by `difference`, to within 0.001."""
    of_query = random.normal(size=(queries, IMAGES))
    own = [Noise(of_query, random.normal(size=(queries, IMAGES))) for _ in range(2)]
    worse = ranked(own[1], 1.2)
    low, high = 0.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        reached = (ranked(own[0], middle) < RELEVANT).mean() - (worse < RELEVANT).mean() >= difference
        low, high = (low, middle) if reached else (middle, high)
    return rows_of([ranked(own[0], high), worse])


def with_ties(random: np.random.Generator, queries: int, ties: int) -> Rows:
    """Rows of which every two neighbours are equally good, but on no single query.

    Queries come in pairs with one gallery, and the second row of a tie has the first row's answers to the
    other query of the pair. Each tie is a little better than the next.
    """
    of_query = np.repeat(random.normal(size=(queries // 2, IMAGES)), 2, axis=0)
    answers = []
    for tie in range(ties):
        first = ranked(Noise(of_query, random.normal(size=of_query.shape)), 1.3 - 0.05 * tie)
        answers += [first, first.reshape(-1, 2, K)[:, ::-1].reshape(-1, K)]
    return rows_of(answers)


def with_an_added_row(random: np.random.Generator, queries: int) -> Rows:
    """Two rows that are equally good, and a third one, added later, which is as good as they are.

    Queries come in pairs as in `with_ties`; each row has good answers to one of the two, by chance. To the
    first query of a pair the third row gives the good answers of either row, so nothing new; to the second
    one the bad answers, the last one in another image. So it looks better than it is on those queries on
    which all its answers are judged when it is added.
    """
    of_query = random.normal(size=(queries // 2, IMAGES))
    good, bad = (ranked(Noise(of_query, random.normal(size=of_query.shape)), q) for q in (1.9, 0.7))
    good_first = random.random((queries // 2, 1)) < 0.5
    first, second = np.where(good_first, good, bad), np.where(good_first, bad, good)
    pairs = ((first, second), (second, first), (good, bad + IMAGES * (np.arange(K) == K - 1)))
    return rows_of([np.stack(pair, axis=1).reshape(-1, K) for pair in pairs])


class Judging(NamedTuple):
    """Runs that judge the same rows, each in an order of its own.

    Attributes:
        shown: int [runs, N], the queries on which any two rows have different answers, in their order.
        scores: float [runs, R, N], the precision of each row in the order of judging.
        least: float [2P, N] of each run, [2, runs, P, N] flattened: the least leads in answers.
        known: of all runs likewise.
        truth: float [P], the true differences.
    """

    shown: IntArray
    scores: FloatArray
    least: FloatArray
    known: Overlaps
    truth: FloatArray

    @property
    def runs(self) -> int:
        return len(self.scores)

    def samples(self) -> FloatArray:
        """The difference of every pair on each query, in the order of judging: float [runs, P, N]."""
        return self.least[: len(self.least) // 2].reshape(self.runs, len(self.truth), -1) / K

    def bounds(self, judged: int, pairs: int) -> tuple[FloatArray, FloatArray]:
        """Each difference's bounds after some queries, one verdict in each run: float [runs, P] each.

        Args:
            pairs: the number of pairs that share the error rate.
        """
        rate = ERROR_RATE * self.runs * len(self.truth) / pairs
        lows = leads.estimate(self.least[:, :judged], self.known, rate).lows.reshape(2, self.runs, -1)
        return lows[0], -lows[1]


def judging(rows: Rows, orders: Sequence[IntArray]) -> Judging:
    """Judges the queries on which any two rows have different answers, in each of the orders."""
    known = overlaps.between(list(rows.answers))
    limits = np.zeros((len(known.limits), len(known.tell_apart)), np.int16)
    limits[:, known.tell_apart] = known.limits
    right = rows.right.sum(axis=2)
    least = leads.least_leads(rows.answers, right, np.zeros(rows.answers.shape, bool))
    shown = [order[known.tell_apart[order]] for order in orders]
    queries = len(shown[0])

    def together(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        halves = values.reshape(2, -1, values.shape[1])
        return np.stack([halves[:, :, order] for order in shown], axis=1).reshape(-1, queries)

    every = Overlaps(known.depth, np.ones(queries, bool), together(limits))
    scores = np.stack([right[:, order] for order in shown]) / known.depth
    truth = rows.differences() * len(known.tell_apart) / queries
    return Judging(np.stack(shown), scores, together(least), every, truth)


def _looks(batch: Judging, step: int) -> list[int]:
    """After how many queries to look: after each of the first 100, then at every multiple of step."""
    queries = batch.least.shape[1]
    return [n for n in range(1, queries + 1) if n <= 100 or n % step == 0 or n == queries]


class Wrong(NamedTuple):
    """Shares of runs in which, at any look, a row was called better that is not; or an interval missed."""

    verdicts: float
    intervals: float
    by_peeking: float  # a t test with Bonferroni's correction, after each query, calls one better that is not


def wrong(random: np.random.Generator, runs: int, ties: int, queries: int = QUERIES_OF_TIES) -> Wrong:
    """Judges rows of which every two are equally good, and looks after every query."""
    counts = np.zeros(3)
    for _ in range(0, runs, RUNS_AT_ONCE):
        rows = with_ties(random, queries, ties)
        batch = judging(rows, [random.permutation(queries) for _ in range(RUNS_AT_ONCE)])
        counts += _failed(batch, np.ones((batch.runs, batch.shown.shape[1]), bool)).sum(axis=1)
    return Wrong(*(counts / (-(-runs // RUNS_AT_ONCE) * RUNS_AT_ONCE)).tolist())


def _failed(batch: Judging, looks: BoolArray) -> BoolArray:
    """Whether each run was ever wrong at a look, in the three ways of `Wrong`: bool [3, runs].

    Args:
        looks: bool [runs, N], whether a run looks after the first judged query, the second, and so on.
    """
    pairs, samples = len(batch.truth), batch.samples()
    failed = np.zeros((3, batch.runs), bool)
    for judged in range(1, looks.shape[1] + 1):
        low, high = batch.bounds(judged, pairs)
        claims = (low > 0) & (batch.truth <= 1e-9) | (high < 0) & (batch.truth >= -1e-9)
        missed = (low > batch.truth + 1e-9) | (high < batch.truth - 1e-9)
        looked = looks[:, judged - 1]
        failed[0] |= looked & claims.any(axis=1)
        failed[1] |= looked & missed.any(axis=1)
        if judged >= 5:
            failed[2] |= looked & _peeking(samples[:, :, :judged], batch.truth, pairs).any(axis=1)
    return failed


class WrongAfterAdding(NamedTuple):
    """Shares of runs that were wrong at any look, before or after a row was added."""

    verdicts: float
    intervals: float
    by_peeking: float
    with_gaps: float  # a false verdict if, when the row is added, all queries counted that are fully judged


class Added(NamedTuple):
    """Runs in which a row is added in the middle of judging; afterwards only its new answers are asked for.

    Attributes:
        before: of the rows without it.
        after: of all rows.
        judged: int [runs], how many queries are judged when it is added.
        complete: bool [runs, N], whether every answer to a query of `after` is judged then.
    """

    before: Judging
    after: Judging
    judged: IntArray
    complete: BoolArray

    def looks_before(self) -> BoolArray:
        """Whether a run looks after each query, until the row is added: bool [runs, N of before]."""
        return np.arange(1, self.before.shown.shape[1] + 1) <= self.judged[:, None]

    def looks_after(self) -> BoolArray:
        """Likewise after that: bool [runs, N of after].

        The verdict rests on the first queries up to the first one that is not fully judged, which is asked
        for next.
        """
        return np.concatenate([~self.complete[:, 1:], np.ones((self.after.runs, 1), bool)], axis=1)


def adding(rows: Rows, orders: Sequence[IntArray], judged: IntArray) -> Added:
    """Judges all rows but the last, and after some queries the last one, too.

    Args:
        judged: int [runs], after how many queries the last row is added.
    """
    before, after = judging(Rows(rows.answers[:-1], rows.right[:-1]), orders), judging(rows, orders)
    new = rows.answers[-1][None, :, :, None] == rows.answers[:-1, :, None, :]
    gives_nothing_new = new.any(axis=(0, 3)).all(axis=1)
    complete = [
        np.isin(after.shown[run], before.shown[run, :count]) & gives_nothing_new[after.shown[run]]
        for run, count in enumerate(judged.tolist())
    ]
    return Added(before, after, judged, np.stack(complete))


def wrong_after_adding(
    random: np.random.Generator, runs: int, queries: int = QUERIES_OF_TIES
) -> WrongAfterAdding:
    """Judges equally good rows, adds another one that is as good, and looks after every query.

    The row is added after 10 queries at least, and half of them at most.
    """
    counts = np.zeros(4)
    for _ in range(0, runs, RUNS_AT_ONCE):
        rows = with_an_added_row(random, queries)
        orders = [random.permutation(queries) for _ in range(RUNS_AT_ONCE)]
        runs_of_batch = adding(rows, orders, random.integers(10, queries // 2, RUNS_AT_ONCE))
        failed = _failed(runs_of_batch.before, runs_of_batch.looks_before())
        failed |= _failed(runs_of_batch.after, runs_of_batch.looks_after())
        counts += [*failed.sum(axis=1), false_with_gaps(rows, runs_of_batch).sum()]
    return WrongAfterAdding(*(counts / (-(-runs // RUNS_AT_ONCE) * RUNS_AT_ONCE)).tolist())


def false_with_gaps(rows: Rows, added: Added) -> BoolArray:
    """Whether each run calls a row better that is not, if every fully judged query counted: bool [runs]."""
    claims = []
    for shown, complete in zip(added.after.shown, added.complete, strict=True):
        alone = judging(rows, [np.concatenate([shown[complete], shown[~complete]])])
        low, high = alone.bounds(int(complete.sum()), len(alone.truth))
        claims.append(bool(((low > 0) | (high < 0)).any()))
    return np.array(claims)


def _peeking(samples: FloatArray, truth: FloatArray, pairs: int) -> BoolArray:
    """Whether a t test with Bonferroni's correction calls the wrong row better: bool [runs, P]."""
    judged = samples.shape[2]
    critical = stats.t.ppf(1 - ERROR_RATE / (2 * pairs), judged - 1)
    mean, error = samples.mean(axis=2), samples.std(axis=2, ddof=1) / np.sqrt(judged)
    called = np.abs(mean) > critical * error
    return called & (np.sign(mean) * truth <= 1e-9)


def screens_until_decided(random: np.random.Generator, runs: int, difference: float, pairs: int) -> IntArray:
    """How many queries it takes in each run until the better row is called better: int [runs]."""
    taken = []
    for _ in range(0, runs, RUNS_AT_ONCE):
        rows = apart(random, QUERIES_OF_DIFFERENCES, difference)
        batch = judging(rows, [random.permutation(QUERIES_OF_DIFFERENCES) for _ in range(RUNS_AT_ONCE)])
        first = np.zeros(RUNS_AT_ONCE, np.int64)
        for judged in _looks(batch, 5):
            low, _ = batch.bounds(judged, pairs)
            first[(low[:, 0] > 0) & (first == 0)] = judged
            if (first > 0).all():
                break
        taken.append(first)
    return np.concatenate(taken)


def widths(random: np.random.Generator, judged: int, pairs: int) -> tuple[float, float]:
    """An interval's width as a multiple of a t interval's and of Hoeffding's, at the same level and n."""
    rows = apart(random, QUERIES_OF_DIFFERENCES, 0.1)
    batch = judging(rows, [random.permutation(QUERIES_OF_DIFFERENCES) for _ in range(RUNS_AT_ONCE)])
    low, high = batch.bounds(judged, pairs)
    samples = batch.least[:RUNS_AT_ONCE, :judged] / K
    error = samples.std(axis=1, ddof=1) / np.sqrt(judged)
    by_t = 2 * stats.t.ppf(1 - ERROR_RATE / (2 * pairs), judged - 1) * error
    by_hoeffding = 2 * np.sqrt(2 * np.log(2 * pairs / ERROR_RATE) / judged)
    width = (high - low)[:, 0]
    return float(np.median(width / by_t)), float(np.median(width) / by_hoeffding)


def seconds_of_a_look(random: np.random.Generator, rows: int, judged: int) -> float:
    """Processor time of the verdict after `judged` of a fifth more queries, without the overlaps."""
    queries = judged * 6 // 5
    of_query = random.normal(size=(queries, IMAGES))
    every = rows_of([ranked(Noise(of_query, random.normal(size=of_query.shape)), 1.2) for _ in range(rows)])
    known = overlaps.between(list(every.answers))
    names = [f"row_{number}" for number in range(rows)]
    answers = dict(zip(names, every.answers, strict=True))
    relevance_of = dict(zip(names, every.right[:, :judged], strict=True))
    taken = []
    for _ in range(5):
        start = time.process_time()
        verdict.from_answers(answers, relevance_of, known)
        taken.append(time.process_time() - start)
    return float(np.median(taken))


class PairAgreement(NamedTuple):
    """How the judging of a project's rankings agrees with all its labels about two rows."""

    difference: float  # the true one, at least 0, on the queries on which any rows differ
    in_order: float  # share of runs with the two in the true order
    decided: float  # share of runs with a verdict about them


class Agreement(NamedTuple):
    """How runs that judge a project's rankings by its labels agree with all its labels."""

    rows: int
    queries: int
    same_order: float  # share of runs with the rows in the same order
    same_best: float  # share of runs with the same best row
    pairs_in_order: float  # mean share of the pairs that are in the same order
    decided: float  # mean share of the pairs that are decided
    false_at_once: float  # share of runs with a false verdict after so many screens
    missed_ever: float  # share of runs in which an interval missed at any look, up to the last query
    pairs: tuple[PairAgreement, ...]  # the smallest difference first


def agreement(rows: Rows, random: np.random.Generator, runs: int, screens: int) -> Agreement:
    """Judges the queries of `rows` in `runs` random orders, and looks again and again."""
    results, missed_ever = [], 0
    queries = int(overlaps.between(list(rows.answers)).tell_apart.sum())
    for start in range(0, runs, RUNS_AT_ONCE):
        count = min(RUNS_AT_ONCE, runs - start)
        orders = [random.permutation(rows.answers.shape[1]) for _ in range(count)]
        batch = judging(rows, orders)
        missed = np.zeros(batch.runs, bool)
        for judged in _looks(batch, 20):
            low, high = batch.bounds(judged, len(batch.truth))
            missed |= ((low > batch.truth + 1e-9) | (high < batch.truth - 1e-9)).any(axis=1)
            if judged == min(screens, queries):
                results.append(_at_look(rows, batch, low, high, judged))
        missed_ever += int(missed.sum())
    means = np.concatenate(results, axis=1).mean(axis=1)
    order, best, in_order, decided, false = means[:5].tolist()
    differences = np.abs(rows.differences()) * rows.answers.shape[1] / queries
    of_pairs = zip(differences.tolist(), *means[5:].reshape(2, -1).tolist(), strict=True)
    pairs = tuple(sorted(PairAgreement(*pair) for pair in of_pairs))
    return Agreement(
        len(rows.answers), queries, order, best, in_order, decided, false, missed_ever / runs, pairs
    )


def _at_look(rows: Rows, batch: Judging, low: FloatArray, high: FloatArray, judged: int) -> FloatArray:
    """What each run says after some queries: float [5 + 2P, runs].

    First the fields of `Agreement` in order, then whether each pair is in the true order, and is decided.
    """
    truth = rows.right.mean(axis=(1, 2))
    means = batch.scores[:, :, :judged].mean(axis=2)
    pairs = np.array(list(combinations(range(len(truth)), 2)))
    sampled = np.sign((means[:, pairs[:, 0]] - means[:, pairs[:, 1]]).round(9))
    agrees = (sampled == np.sign(batch.truth.round(9))) | (batch.truth.round(9) == 0)
    false = (low > 0) & (batch.truth <= 1e-9) | (high < 0) & (batch.truth >= -1e-9)
    decided = (low > 0) | (high < 0)
    return np.stack(
        [
            agrees.all(axis=1),
            truth[means.argmax(axis=1)] == truth.max(),
            agrees.mean(axis=1),
            decided.mean(axis=1),
            false.any(axis=1),
            *agrees.T,
            *decided.T,
        ]
    ).astype(np.float64)


def of_project(folder: Path) -> Rows:
    """The rankings of a project, judged by its labels."""
    os.chdir(folder)
    known = prepared_relevance.load_relevance("pixels")
    answers, right = [], []
    for path in sorted(Path("data/rankings").glob("*.parquet")):
        ranking = rankings.read_ranking(path)
        positions = relevance.gallery_positions(ranking, known, str(path))[:, :K]
        answers.append(positions)
        right.append(known.is_relevant(positions).astype(np.float64))
    return Rows(np.stack(answers), np.stack(right))


def main() -> None:
    parser = command.parser("judging")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--project", type=Path)
    options = parser.parse_args()
    if options.project:
        _print_agreement(options.project, options.runs)
        return
    random = np.random.default_rng(0)
    print(f"{QUERIES_OF_TIES} queries, looked at after each. Share of runs with a false verdict,")
    print("  with an interval that missed (target 0.05), and with a false verdict by repeated t tests")
    for ties, runs in ((1, options.runs), (3, options.runs // 5)):
        shares = " ".join(f"{share:.3f}" for share in wrong(random, runs, ties))
        print(f"  {2 * ties} rows, {runs} runs: {shares}", flush=True)
    for difference in DIFFERENCES:
        for pairs in NUMBERS_OF_PAIRS:
            taken = screens_until_decided(random, options.runs // 5, difference, pairs)
            quartiles = " ".join(f"{value:.0f}" for value in np.percentile(taken, (25, 50, 75)))
            print(f"difference {difference}, one of {pairs} pairs: quartiles {quartiles} screens", flush=True)
    for judged in LOOKS_OF_WIDTH:
        by_t, by_hoeffding = widths(random, judged, 10)
        print(f"width after {judged} queries: {by_t:.2f} times a t interval, {by_hoeffding:.2f} Hoeffding's")
    for rows, judged in SIZES_TIMED:
        seconds = seconds_of_a_look(random, rows, judged)
        print(f"{rows} rows, {judged:,} judged: {seconds:.3f} s of a processor")
    added = wrong_after_adding(np.random.default_rng(1), options.runs)
    print(
        f"2 rows, then a third, {options.runs} runs: a false verdict {added.verdicts:.3f}, an interval that"
    )
    print(
        f"  missed {added.intervals:.3f}, repeated t tests {added.by_peeking:.3f}; a false verdict if queries"
    )
    print(f"  behind a gap counted {added.with_gaps:.3f}")


def _print_agreement(project: Path, runs: int) -> None:
    rows = of_project(project)
    found = agreement(rows, np.random.default_rng(0), runs, SCREENS)
    print(f"{found.rows} rows, {found.queries} queries on which they differ, {runs} random orders")
    print(f"after {SCREENS} screens: share of orders with all rows in the true order {found.same_order:.3f},")
    print(f"  with the best row first {found.same_best:.3f}, with a false verdict {found.false_at_once:.3f};")
    print(f"  share of the pairs in the true order {found.pairs_in_order:.3f}, decided {found.decided:.3f}")
    for pair in found.pairs:
        shares = f"in the true order in {pair.in_order:.3f}, decided in {pair.decided:.3f}"
        print(f"  two rows that differ by {pair.difference:.4f}: {shares}")
    print(f"share of orders in which an interval missed at any look: {found.missed_ever:.3f}")


if __name__ == "__main__":
    cli.run(main)
