"""The comparison as Markdown that reads as well in a terminal: verdict, quality, cost, how to read it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lineup import paths
from lineup.errors import UserError
from lineup.storage import files

LEVEL = 0.05  # of the tests, after correction
FEW_CLUSTERS = 20
FASTER = 1.2  # times; speeds of one model vary by some per cent from run to run

Rows = Mapping[str, dict[str, Any]]  # metrics/rows/<row>.json by row


class Pair(NamedTuple):
    """Two rows under one metric: mean of a minus b with its 95% interval, p, and p adjusted for the number of
    pairs.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


class Standings(NamedTuple):
    """Rows from best to worst.

    The best with trained weights; each other row's pair with it; those not told apart from it.
    """

    ordered: list[str]
    trained: list[str]
    best: str | None
    against: dict[str, Pair]
    alike: list[str]


class Table(NamedTuple):
    header: list[str]
    lines: list[list[str]]


def read_rows(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """metrics/rows/<row>.json by row.

    UserError if one is missing, says that it is another row's, or lacks what this version writes.
    """
    rows = {name: files.read_json(paths.row_metrics(name)) for name in names}
    for name, row in rows.items():
        if row.get("row") != name or "exclude" not in row:
            raise UserError(
                f"{paths.row_metrics(name)}: isn't what this version writes for {name}; run `dvc repro -f -s score@{name}`"
            )
    return rows


def standings(rows: Rows, names: Sequence[str], pairs: Sequence[Pair]) -> Standings:
    """names: metrics to show, the first decides the order; empty if there was nothing to score by."""
    ordered = sorted(rows, key=lambda row: (-rows[row]["quality"][names[0]]["mean"] if names else 0, row))
    trained = [row for row in ordered if not rows[row]["costs"]["random"]]
    best = trained[0] if names and trained else None
    against = {
        ({*pair[1:3]} - {best}).pop(): pair for pair in pairs if best in pair[1:3] and pair.metric == names[0]
    }
    alike = [row for row in trained if row in against and not against[row].p_holm < LEVEL]
    return Standings(ordered, trained, best, against, alike)


def page(rows: Rows, names: Sequence[str], pairs: Sequence[Pair]) -> str:
    """names: metrics to show, the first decides the order; empty if there was nothing to score by."""
    found = standings(rows, names, pairs)
    parts = [
        "# Which model finds the right picture?",
        task(rows[found.ordered[0]]),
        verdict(rows, found),
        "## Quality\n\n" + table(*quality(rows, found, names)),
        "## Cost\n\n" + table(*cost(rows, found.ordered, names)),
        measured_on(rows, found.ordered),
        "## How to read it\n\n" + legend(rows[found.ordered[0]], names, len(rows), ann_depth(rows)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: object) -> str:
    """Shown as the characters it has, whatever they mean in Markdown; one line."""
    return re.sub(r"([\\`*_\[\]<>|&~#])", r"\\\1", " ".join(str(text).split()))


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, the first to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *lines, strict=True)]
    rule = [f"{'-' * (max(w, 2))}" if i == 0 else f"{'-' * (max(w, 2) - 1)}:" for i, w in enumerate(widths)]
    aligned = [
        [
            c.ljust(max(w, 2)) if i == 0 else c.rjust(max(w, 2))
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (header, rule, *lines)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)


def task(row: dict[str, Any]) -> str:
    left_out = _judgements_left_out(row)
    unusable = bool(row.get("judgements")) and row["relevance"] != "qrels"
    if row["unscored"]:
        summary = f"{row['queries']:,} queries, {row['gallery']:,} gallery images, {row['unscored']}: quality can't be measured."
        summary += " data/raw/qrels.csv has no judgement that can be used." if unusable else ""
        return summary + (f"\nLeft out: {left_out[0]}." if left_out else "") + itself(row)
    queries = (
        f"{row['queries']:,} queries"
        if row["scored"] == row["queries"]
        else f"{row['scored']:,} of {row['queries']:,} queries"
    )
    labels = f" with {row['labels']:,} labels" if row["labels"] else ""
    right = (
        "data/raw/qrels.csv says which images are right"
        if row["relevance"] == "qrels"
        else "images with the query's label are right"
    )
    if unusable:
        right = f"data/raw/qrels.csv has no judgement that can be used, so {right}"
    left_out = [
        f"{row[key]:,} {what}"
        for key, what in (
            ("without_label", "without a label"),
            ("without_answer", "without a right answer in the gallery"),
        )
        if row[key]
    ] + left_out
    return (
        f"{queries}{labels}, each searched in {row['gallery']:,} gallery images; {right}, the query itself doesn't count."
        + (f"\nLeft out: {', '.join(left_out)}." if left_out else "")
        + itself(row)
    )


def _judgements_left_out(row: dict[str, Any]) -> list[str]:
    judgements = row.get("judgements")
    if not judgements or not judgements["left_out"]:
        return []
    return [
        f"{judgements['left_out']:,} of {judgements['lines']:,} judgements, about photos that can't be read"
    ]


def itself(row: dict[str, Any]) -> str:
    """What doesn't count because it is the query itself, in a line.

    Empty where no query's picture is in the gallery.
    """
    same_bytes, other_bytes = row["own_picture"]["same_bytes"], row["own_picture"]["other_bytes"]
    if not same_bytes + other_bytes:
        return ""
    if row["exclude"] == "bytes":
        told = f"own file, {_times(same_bytes)}; its picture in other bytes is an answer, {_times(other_bytes)} (relevance.exclude: bytes)"
    else:
        told = f"own picture, {_times(same_bytes + other_bytes)} ({other_bytes:,} in other bytes; relevance.exclude: pixels)"
    return f"\nExcluded from the answers: the query's {told}."


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def verdict(rows: Rows, found: Standings) -> str:
    best, alike = found.best, found.alike
    if best is None:
        return "" if found.trained else "**No row has trained weights: none of these figures is a result.**"
    if len(found.trained) == 1:
        alone = "" if len(rows) == 1 else " with trained weights"  # others have random ones
        return f"`{best}` is the only row{alone}: there is nothing to compare it with yet."
    if not alike:
        return f"**Best: `{best}`**, better than every other row by more than chance."
    told = f"**Best: `{best}`**, but not told apart from {', '.join(f'`{row}`' for row in alike)} by these queries."
    group = [best, *alike]
    speeds = {row: rows[row]["costs"]["images_per_second"] for row in group}
    if len({rows[row]["costs"]["device"] for row in group}) == 1 and all(speeds.values()):
        second, fastest = sorted(group, key=lambda row: speeds[row])[-2:]
        if speeds[fastest] > FASTER * speeds[second]:
            told += f" Of these, `{fastest}` embeds fastest, {speeds[fastest]:,.0f} images/s."
    return told


def quality(rows: Rows, found: Standings, names: Sequence[str]) -> Table:
    if not names:
        return Table(["model", "quality"], [[f"`{row}`", rows[row]["unscored"]] for row in found.ordered])
    by_label = [f"{names[0]} by label"] if _labels_matter(rows, names[0]) else []
    lines = []
    for row in found.ordered:
        values = rows[row]["quality"]
        cells = [_with_interval(values[name]) for name in names]
        mean_over_labels = [_figure(values[names[0]]["mean_over_labels"], 3)] if by_label else []
        lines.append([_name(rows, row), cells[0], _against(rows, row, found), *cells[1:], *mean_over_labels])
    return Table(["model", names[0], "against the best", *names[1:], *by_label], lines)


def _labels_matter(rows: Rows, name: str) -> bool:
    """Whether the mean over labels says anything that the mean over queries doesn't.

    Where labels are balanced, it doesn't.
    """
    qualities = [row["quality"][name] for row in rows.values()]
    return any(
        q["mean_over_labels"] is not None and _figure(q["mean_over_labels"], 3) != _figure(q["mean"], 3)
        for q in qualities
    )


def _name(rows: Rows, row: str) -> str:
    return f"`{row}`" + (" (random weights)" if rows[row]["costs"]["random"] else "")


def _against(rows: Rows, row: str, found: Standings) -> str:
    if rows[row]["costs"]["random"]:
        return "not a result"
    if row == found.best:
        return "best"
    p = found.against[row].p_holm
    told = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"worse, {told}" if p < LEVEL else f"can't tell, {told}"


def _with_interval(value: Mapping[str, float | None]) -> str:
    if value["low"] is None:
        return _figure(value["mean"], 3)
    low, high = (f"{value[end]:.3f}".removeprefix("0") for end in ("low", "high"))
    return f"{value['mean']:.3f} ({low}-{high})"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def cost(rows: Rows, ordered: Sequence[str], names: Sequence[str]) -> Table:
    depth = ann_depth(rows)
    approximate = ["index", f"ANN recall@{depth}"] if depth else []
    measured = ["images/s", "query ms", "dim", "index MB", *approximate]
    measured += ["memory MB", "params M", "GFLOPs", "px", "train min", "licence"]
    lines = []
    for row in ordered:
        costs = rows[row]["costs"]
        lines.append(
            [
                _name(rows, row),
                *([_figure(rows[row]["quality"][names[0]]["mean"], 3)] if names else []),
                _figure(costs["images_per_second"], 1),
                _figure(costs["query_ms"], 2),
                _figure(costs["dim"], 0),
                _figure(costs["index_mb"], 1),
                *(_index(costs, depth) if depth else []),
                _figure(costs["peak_gpu_memory_mb"] or costs["peak_memory_mb"], 0),
                _figure(costs["parameters"] and costs["parameters"] / 1e6, 1),
                _figure(costs["gflops"], 2),
                _figure(costs["image_size"], 0),
                _figure(costs["train_minutes"], 1),
                escape(costs["licence"] or "unknown"),
            ]
        )
    return Table(["model", *names[:1], *measured], lines)


def ann_depth(rows: Rows) -> str:
    """The k of the deepest recall@k that an approximate row was measured at.

    Empty if there is no such row.
    """
    return max(
        (k for row in rows.values() for k in row["costs"].get("search", {}).get("ann_recall", {})),
        key=int,
        default="",
    )


def _index(costs: Mapping[str, Any], depth: str) -> list[str]:
    """Kind, storage where it isn't float32, and search parameters; recall."""
    if "search" not in costs:
        return ["exact", "-"]
    built = costs["search"]
    told = [built["index"], *([built["storage"]] if built["storage"] != "float32" else [])]
    told += [f"{name}={value}" for name, value in built["parameters"].items()]
    return [" ".join(told), _figure(built["ann_recall"].get(depth), 3)]


def measured_on(rows: Rows, ordered: Sequence[str]) -> str:
    """One line per machine and setting, with the rows measured there.

    Rows of different ones can't be compared in speed.
    """
    places: dict[str, list[str]] = {}
    for row in ordered:
        costs = rows[row]["costs"]
        how = ", ".join(escape(costs[key]) for key in ("engine", "precision") if costs[key])
        embedded, searched = (
            costs["device"] or "an unknown device",
            f"{costs['search_device']}, {costs['search_threads']} threads",
        )
        where = f" on {escape(embedded)}" if embedded != searched else ""
        places.setdefault(f"embedded{where} ({how}) and searched on {escape(searched)}", []).append(
            f"`{row}`"
        )
    if len(places) == 1:
        told = ["All rows " + next(iter(places)) + "."]
    else:
        told = ["Measured in different places, so speeds of different ones can't be compared:", ""]
        told += [f"- {', '.join(some)}: {place}" for place, some in places.items()]
    notes = [
        f"- `{row}`: {escape(rows[row]['costs']['train_note'])}"
        for row in ordered
        if rows[row]["costs"]["train_note"]
    ]
    notes += _enlarged_notes(rows, ordered)
    return "\n".join([*told, *(["", "Notes:", "", *notes] if notes else [])])


def _enlarged_notes(rows: Rows, ordered: Sequence[str]) -> list[str]:
    """One line per size that photos are enlarged to, with the rows that do so."""
    by_sentence: dict[str, list[str]] = {}
    for row in ordered:
        enlarged = rows[row].get("enlarged")
        if enlarged and enlarged["images"]:
            count = f"{enlarged['images']:,} of {enlarged['of']:,} images"
            sentence = f"{count} are smaller than the {enlarged['resize_px']} px that the transform resizes to, and are enlarged"
            by_sentence.setdefault(sentence, []).append(f"`{row}`")
    return [f"- {', '.join(names)}: {sentence}" for sentence, names in by_sentence.items()]


def legend(row: dict[str, Any], names: Sequence[str], rows: int, ann_depth: str = "") -> str:
    unit = "queries" if row["clusters"] == row["scored"] else "labels"
    pairs = rows * (rows - 1) // 2
    quality = [
        "map_at_r: of a query's R right images, average precision over the first R answers; 1 is perfect, it decides the order.",
        "top_k: share of queries with a right image among the first k answers.",
        f"(low-high): 95% bootstrap interval, resampling {unit}. By label (shown where it differs): the mean of the labels' means.",
        f"Against the best: paired randomisation test on map_at_r, flipping {unit}; p is Holm-adjusted for {pairs} pairs.",
        f'"Can\'t tell" (p >= {LEVEL}) is not "equally good": more {unit} may tell. All pairs are in metrics/significance.csv.',
    ]
    if row["clusters"] < FEW_CLUSTERS:
        quality.append(f"With {row['clusters']} {unit} only, intervals and p values are rough.")
    if pairs and pairs * 2 / 2 ** row["clusters"] >= LEVEL:  # of all flips two are as clear as can be
        counts = f"{row['clusters']} {unit} and {pairs} pair{'s' * (pairs > 1)}"
        quality.append(
            f"With {counts} no difference can reach p < {LEVEL}: with more {unit} it can, or with fewer rows."
        )
    cost = [
        "images/s: prepared images decoded and embedded, after the first batch where enough follow.",
        "query ms: one search for one query, without its embedding.",
        "memory MB: peak of the embedding process, of the GPU's memory where it has one. index MB: on disk, all gallery vectors.",
        "GFLOPs: of one image, a multiply-add being two operations. px: side of the image that the network sees.",
    ]
    if ann_depth:
        cost.append(
            f"ANN recall@{ann_depth}: of the {ann_depth} images nearest by exact search, the share that the row's index finds, mean over "
            "queries. The row's quality is that of what its index finds; query ms and index MB are the index's."
        )
    return "\n".join(f"- {line}" for line in [*(quality if names else []), *cost])
