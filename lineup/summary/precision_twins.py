"""What a lower precision costs: rows that differ from another in their precision alone, beside that row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lineup.comparison.comparison import SIGNIFICANCE_LEVEL, Pair
from lineup.evaluation.row_metrics import RowMetrics
from lineup.settings.params import Params
from lineup.summary import tables
from lineup.summary.rich_text import Code, Strong, Text, names
from lineup.summary.tables import Cell, RowName, Table

TITLE = "Precision"
FULL = "float32"
# From this share of the twin's metric on, a loss is named in a sentence of its own.
LARGE_LOSS = 0.03
_LEGEND = (
    f"Twin: the row with the same settings in {FULL}. Against its twin: the difference on the same queries, "
    "with its 95% interval over labels; p is Holm-adjusted for all pairs of rows. Change: the difference "
    "by the twin's figure. Images/s: as many times the twin's."
)


class Twin(NamedTuple):
    """A row of lower precision, and the row that is computed in float32 and otherwise the same.

    pair: the row minus its twin, under `metric`; loss: the share of the twin's metric that is lost, negative
    where the row is better; speed_ratio: its images/s by the twin's, None where they can't be compared.
    """

    row: str
    precision: str
    twin: str
    metric: str
    mean: float
    pair: Pair
    loss: float
    speed_ratio: float | None


class Alone(NamedTuple):
    """A row of lower precision that has no twin in float32."""

    row: str
    precision: str


def find(
    params: Params, rows: Mapping[str, RowMetrics], pairs: Iterable[Pair], metric_names: Sequence[str]
) -> list[Twin | Alone]:
    """Every model of lower precision, in the order of params.yaml; none where nothing was scored.

    Args:
        rows: all rows; the precision is the one in which a row was embedded.
        pairs: at least every two rows under the first metric.
    """
    if not metric_names:
        return []
    metric = metric_names[0]
    with_row = {(pair.a, pair.b): pair for pair in pairs if pair.metric == metric}
    with_row |= {(pair.b, pair.a): pair.reversed() for pair in with_row.values()}
    settings = {row: model.model_dump(exclude={"precision"}) for row, model in params.models.items()}
    full = [row for row in settings if rows[row].costs.precision == FULL]
    lower: list[Twin | Alone] = []
    for row, own in settings.items():
        precision = rows[row].costs.precision
        if precision in (None, FULL):
            continue
        twin = next((other for other in full if settings[other] == own), None)
        if twin is None:
            lower.append(Alone(row, precision))
        else:
            lower.append(_twin(row, precision, twin, rows, with_row[row, twin]))
    return lower


def _twin(row: str, precision: str, twin: str, rows: Mapping[str, RowMetrics], pair: Pair) -> Twin:
    mean, reference = (rows[name].middle(pair.metric) for name in (row, twin))
    own, other = rows[row].costs, rows[twin].costs
    speeds = own.images_per_second, other.images_per_second
    ratio = speeds[0] / speeds[1] if own.device == other.device and all(speeds) else None  # type: ignore[operator]
    loss = -pair.difference / reference if reference else 0.0
    return Twin(row, precision, twin, pair.metric, mean, pair, loss, ratio)


def table(computed: Sequence[Twin | Alone]) -> Table | None:
    """A line for each row that has a twin; None if there is none."""
    twins = [each for each in computed if isinstance(each, Twin)]
    if not twins:
        return None
    header = ["row", "precision", "twin", twins[0].metric, "against its twin", "change", "images/s"]
    lines: list[list[Cell]] = [
        [
            RowName(each.row, random=False),
            each.precision,
            RowName(each.twin, random=False),
            f"{each.mean:.3f}",
            tables.difference(each.pair.difference, each.pair.low, each.pair.high, each.pair.p_holm),
            f"{-each.loss:+.1%}",
            tables.NO_FIGURE if each.speed_ratio is None else f"{each.speed_ratio:.2f} x",
        ]
        for each in twins
    ]
    return Table(header, lines)


def warnings(computed: Sequence[Twin | Alone]) -> list[Text]:
    """Which rows lose much, and which have no twin to tell."""
    said = [_loss(each) for each in computed if isinstance(each, Twin) and each.loss > LARGE_LOSS]
    alone = [each for each in computed if isinstance(each, Alone)]
    if alone:
        precisions = " and ".join(dict.fromkeys(each.precision for each in alone))
        has, it, its = ("has", "it", "its") if len(alone) == 1 else ("have", "each of them", "their")
        said.append(
            (
                *names(each.row for each in alone),
                f" {has} no twin in {FULL} among the rows, so what {its} {precisions} costs is not known; "
                f"`lineup sweep ROW --precision {FULL}` adds {it} one.",
            )
        )
    return said


def sentences(computed: Sequence[Twin | Alone]) -> list[Text]:
    """The warnings, and how to read the table."""
    has_table = any(isinstance(each, Twin) for each in computed)
    return [*warnings(computed), (_LEGEND,)] if has_table else warnings(computed)


def _loss(each: Twin) -> Text:
    claim = Strong((Code(each.row), f" loses {each.loss:.1%} of {each.metric} in {each.precision}"))
    chance = (
        ", more than chance explains."
        if each.pair.p_holm < SIGNIFICANCE_LEVEL
        else ", by these queries; whether on others, too, can't be told yet."
    )
    return claim, " against its twin ", Code(each.twin), chance
