"""The figures of a database beside those of exact search, as a table and sentences for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lineup.errors import printable
from lineup.evaluation.quality_records import Average
from lineup.export.database import Provenance, Settings
from lineup.export.side_by_side import NEIGHBOURS, RECALL_TARGET, Figures, Trial
from lineup.summary import markdown, tables
from lineup.summary.tables import Cell, Estimate, Table

_BYTES_PER_NUMBER = 4  # float32


@dataclass(frozen=True)
class Answering:
    """What answers.

    kind: the database's name; version, index: as `Collection` describes them; settings: of the search.
    """

    kind: str
    version: str
    collection: str
    index: str
    settings: Settings
    size_bytes: int | None


def heading(provenance: Provenance, answering: Answering, photos: int) -> str:
    """What is compared, in two lines."""
    searched = ", ".join([answering.index, *_words(answering.settings)])
    return (
        f"{provenance.row} in {answering.version}: collection {answering.collection}, {photos:,} photos, "
        f"{provenance.dim:,} dimensions, {provenance.metric}\nindex: {searched}"
    )


def table(
    provenance: Provenance,
    answering: Answering,
    photos: int,
    by_exact: Figures,
    by_it: Figures,
    metrics: Sequence[str],
) -> str:
    """A line for each figure, a column for exact search and one for the database.

    metrics: the names of those that are shown; none where nothing could be scored.
    """
    recall = f"recall@{NEIGHBOURS}"
    lines: list[list[Cell]] = [
        [recall, _share(by_exact.recall), _share(by_it.recall)],
        ["worst query", _share(by_exact.recalls.min()), _share(by_it.recalls.min())],
        *(
            [name, _estimate(by_exact.quality[name]), _estimate(by_it.quality[name])]
            for name in metrics
            if name in by_exact.quality
        ),
        *(
            [f"p{percent} ms", *(_ms(figures, percent) for figures in (by_exact, by_it))]
            for percent in (50, 95)
        ),
        [
            "disk MB",
            _megabytes(photos * provenance.dim * _BYTES_PER_NUMBER),
            _megabytes(answering.size_bytes),
        ],
    ]
    return markdown.table(Table([provenance.row, "exact search", answering.kind], lines))


def notes(
    answering: Answering,
    by_it: Figures,
    trials: Sequence[Trial],
    *,
    worst_query: str,
    asked: int,
    queries: int,
    depth: int,
    search_code: Callable[[Settings], str],
    denser_index: str,
) -> list[str]:
    """What the table does not say: the worst query, and what is to be done about answers that lack.

    Args:
        worst_query: the path of the query with the lowest recall.
        asked, queries: how many queries were asked, of how many.
        depth: how many photos were asked for, for the metrics.
        search_code, denser_index: of the database.
    """
    sentences = []
    if asked < queries:
        sentences.append(f"All figures are of {asked:,} of the {queries:,} queries, drawn at random.")
    if by_it.recalls.min() < 1:
        sentences.append(
            f"Worst query: {printable(worst_query)}, {by_it.recalls.min():.0%} of whose nearest photos "
            f"{answering.kind} finds."
        )
    if by_it.fewest < depth:
        sentences.append(
            f"Asked for {depth:,} photos, {answering.kind} gives {by_it.fewest:,} to some queries; a longer "
            "answer needs a wider search."
        )
    if by_it.recall < RECALL_TARGET:
        sentences.append(_remedy(answering, by_it, trials, search_code, denser_index))
    return sentences


def _remedy(
    answering: Answering,
    by_it: Figures,
    trials: Sequence[Trial],
    search_code: Callable[[Settings], str],
    denser_index: str,
) -> str:
    """The setting that mends a low recall, and at what cost in time."""
    low = f"recall@{NEIGHBOURS} is {_share(by_it.recall)}, below {RECALL_TARGET}"
    if not trials:
        return f"{low}; {denser_index}."
    tried = "; ".join(
        f"{' '.join(_words(trial.settings))}: {_share(trial.recall)} at {trial.median_ms:.2f} ms"
        for trial in trials
    )
    best = trials[-1]
    if best.recall < RECALL_TARGET:
        return f"{low}, and wider searches do not reach it either ({tried}); {denser_index}."
    options = " ".join(f"--search {word}" for word in _words(best.settings))
    return (
        f"{low}. A wider search mends it ({tried}): `{search_code(best.settings)}` in your service, "
        f"and `--check-only {options}` for its metrics here."
    )


def _words(settings: Settings) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def _share(value: float) -> str:
    """Rounded down: 1.000 means all."""
    return f"{np.floor(value * 1000 + 1e-9) / 1000:.3f}"


def _ms(figures: Figures, percent: int) -> str:
    return tables.figure(float(np.percentile(figures.ms, percent)), 2)


def _megabytes(size: int | None) -> str:
    return tables.figure(None if size is None else size / 1e6, 1)


def _estimate(average: Average) -> Estimate:
    interval = ""
    if average.low is not None and average.high is not None:
        interval = f"({average.low:.3f}-{average.high:.3f})".replace("0.", ".")
    return Estimate(f"{average.mean:.3f}", interval, average.mean, average.low, average.high)
