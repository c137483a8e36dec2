"""What the report says before anything else: which photos it is of, and how far ahead the best row is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lineup.comparison import comparison
from lineup.comparison.comparison import ComparedRow, Comparison, Pair
from lineup.summary import tables

MINUS = "\N{MINUS SIGN}"
MOST_LEADS = 4


class Lead(NamedTuple):
    """How far the best row is ahead of another under the first metric, and the p of their pair.

    may_be_chance: whether the two are not told apart. This follows from p, which is adjusted for the number
    of pairs; the interval of `difference` is not.
    """

    row: str
    difference: str
    p_holm: float
    may_be_chance: bool


@dataclass(frozen=True)
class FirstScreen:
    """What the front page needs for it, besides the comparison.

    Attributes:
        data_digest: of the photos and their labels.
        figures_blob: metrics/metrics.json as git names its content.
        metric: the first one, in which the leads are; "" where nothing was scored.
        leads: what `leads` returned.
        machines: on which speeds were measured.
    """

    data_digest: str
    figures_blob: str
    metric: str
    leads: list[Lead]
    machines: list[str]


def first_screen(compared: Comparison, data_digest: str, figures_blob: str) -> FirstScreen:
    """What the page says first; `figures_blob` is metrics/metrics.json as git names its content."""
    setups = comparison.measurement_setups(compared)
    metric = next(iter(compared.metric_names), "")
    machines = dict.fromkeys(setup.device or setup.search_device for setup in setups)
    return FirstScreen(data_digest, figures_blob, metric, leads(compared), [*machines])


def leads(compared: Comparison) -> list[Lead]:
    """The best row's lead over the runner-up and over the next rows that are not told apart from it."""
    if compared.best is None:
        return []
    _, *others = compared.trained
    undecided = compared.with_outcome("undecided")
    shown = [row for number, row in enumerate(others) if number == 0 or row in undecided]
    return [_lead(row) for row in shown[:MOST_LEADS]]


def _lead(row: ComparedRow) -> Lead:
    to_best = row.standing
    assert to_best and to_best.p_holm is not None and to_best.difference is not None
    assert to_best.low is not None and to_best.high is not None, "every trained row is compared with the best"
    difference = difference_text(-to_best.difference, -to_best.high, -to_best.low)
    return Lead(row.name, difference, to_best.p_holm, to_best.outcome == "undecided")


def difference_text(difference: float, low: float, high: float) -> str:
    """As "+0.047 (+0.036 to +0.058)"; without the interval where there is none."""
    interval = "" if math.isnan(low) or math.isnan(high) else f" ({signed(low)} to {signed(high)})"
    return f"{signed(difference)}{interval}"


def signed(value: float) -> str:
    """As in the comparison, with a true minus sign."""
    return tables.signed(value).replace("-", MINUS)


def pairs_json(pairs: Iterable[Pair]) -> list[list[str | float | None]]:
    """What the page's scripts read as LINEUP.pairs: each pair's fields in order, None for NaN."""
    return [[None if value != value else value for value in pair] for pair in pairs]
