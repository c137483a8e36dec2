"""The part of the comparison about queries without a match: which threshold to set, and what it costs."""

from __future__ import annotations

from lineup.comparison.comparison import ComparedRow, Comparison
from lineup.evaluation.identification import FALSE_MATCHES_PER_PROMISE
from lineup.evaluation.quality_records import Identification, OperatingPoint, Rate
from lineup.summary.rich_text import Code, Text
from lineup.summary.tables import Cell, Estimate, RowName, Table, figure

TITLE = "Is there a match at all?"
_SCORE_DECIMALS = 3


def figures_of(row: ComparedRow) -> Identification:
    """Of a row of a comparison in which something was scored."""
    identified = row.metrics.identification
    assert identified is not None, "every row is scored on the same queries"
    return identified


def is_shown(compared: Comparison) -> bool:
    """Whether anything was scored that says whether a photo has a match, as edited copies do not."""
    scored = bool(compared.metric_names) and all(row.metrics.identification for row in compared.rows)
    return scored and not compared.task.edits_only


def table(compared: Comparison) -> Table:
    """A line per row, in the order of the comparison, with a threshold for each FPIR that can be promised."""
    targets = [point.target for point in figures_of(compared.rows[0]).operating_points]
    header = ["row", "µAP", "recall at 90% precision"]
    for target in targets:
        header += [f"score for FPIR {percent(target)}", "false matches", "misses"]
    return Table(header, [_line(row) for row in compared.rows])


def _line(row: ComparedRow) -> list[Cell]:
    identified = figures_of(row)
    line: list[Cell] = [
        RowName(row.name, row.metrics.costs.random),
        _share(identified.micro_average_precision),
        _share(identified.recall_at_precision_90),
    ]
    for point in identified.operating_points:
        line += [figure(point.threshold, _SCORE_DECIMALS), _percentage(point.fpir), _percentage(point.fnir)]
    return line


def sentences(compared: Comparison) -> list[Text]:
    """Which searches were counted, the best row's threshold in words, and which rate can't be promised."""
    task = figures_of(compared.rows[0])
    texts: list[Text] = [(_searches(task),)]
    if compared.best is not None:
        texts += _thresholds(compared, compared.best)
    for target in task.unsupported:
        needed = round(FALSE_MATCHES_PER_PROMISE / target)
        texts.append(
            (
                f"No threshold is given for an FPIR of {percent(target)}: "
                f"it takes {needed:,} queries without a match, and there are {task.non_mated:,}.",
            )
        )
    return texts


def _searches(task: Identification) -> str:
    own = task.non_mated - task.stand_ins
    text = f"{task.mated:,} queries have a match in the gallery; {own:,} have none."
    if task.stand_ins:
        text += f" So that there are enough of these, {task.stand_ins:,} queries count a second time, "
        text += "without their right images in the gallery."
    return text


def _thresholds(compared: Comparison, best: ComparedRow) -> list[Text]:
    """For each FPIR the best row's threshold, and that of another row if it has the fewest misses."""
    texts: list[Text] = []
    for number, point in enumerate(figures_of(best).operating_points):
        points = {row.name: figures_of(row).operating_points[number] for row in compared.trained}
        fewest = min(points, key=lambda row: points[row].fnir.value)
        if point.threshold is not None:
            texts.append(_in_words(best.name, point))
        if fewest != best.name and points[fewest].threshold is not None:
            texts.append(("Fewest misses: ", *_in_words(fewest, points[fewest])))
    return texts


def _in_words(row: str, point: OperatingPoint) -> Text:
    assert point.threshold is not None
    return (
        Code(row),
        f", score ≥ {point.threshold:.{_SCORE_DECIMALS}f}: {_worded(point.fpir)} false matches, "
        f"{_worded(point.fnir)} misses.",
    )


def _worded(rate: Rate) -> str:
    shown = _percentage(rate)
    return f"{shown.mean} {shown.interval}".rstrip()


def legend() -> list[str]:
    """How to read the table, a line each."""
    return [
        "False matches (FPIR): share of the queries without a match whose first answer reaches the score. "
        "Misses (FNIR): share of the queries with a match whose first answer is wrong or does not reach it.",
        "Both are measured on labels that the score was not chosen on, with 95% intervals over labels.",
        "µAP: average precision of the first answers of all queries in one list, ordered by score. "
        "Recall at 90% precision: share of the queries with a match that are answered right "
        "where nine of ten answers are right.",
        "A score holds for photos as queries; texts have other scores.",
    ]


def percent(share: float) -> str:
    """A share as a percentage without needless decimals: 0.001 is "0.1%"."""
    return f"{share * 100:g}%"


def _percentage(rate: Rate) -> Estimate:
    return Estimate(f"{rate.value:.1%}", _ends(rate, 100, 1), rate.value, rate.low, rate.high)


def _share(rate: Rate) -> Estimate:
    return Estimate(figure(rate.value, 3), _ends(rate, 1, 3), rate.value, rate.low, rate.high)


def _ends(rate: Rate, factor: int, digits: int) -> str:
    """The interval, "(0.4-1.9)" or, of shares, "(.609-.666)"; empty if there is none."""
    if rate.low is None or rate.high is None:
        return ""
    low, high = (f"{factor * end:.{digits}f}" for end in (rate.low, rate.high))
    if factor == 1:
        low, high = low.removeprefix("0"), high.removeprefix("0")
    return f"({low}-{high})"
