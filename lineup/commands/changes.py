"""What changed in the comparison since a revision of the project: `lineup show --against`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lineup import paths
from lineup.comparison import against, dvc_views, snapshot
from lineup.comparison.against import Difference
from lineup.comparison.comparison import CLEARLY_FASTER_RATIO, SIGNIFICANCE_LEVEL
from lineup.comparison.snapshot import Snapshot
from lineup.errors import UserError, printable
from lineup.settings import params
from lineup.storage import files, git_revision
from lineup.storage.git_revision import Revision
from lineup.summary import markdown, tables
from lineup.summary.tables import NO_FIGURE, Cell, RowName, Table


def since(name: str) -> str:
    """The rows of both comparisons as Markdown: the main metric, then every other figure that changed.

    Raises:
        UserError: there is no such revision, or it or the working tree has no comparison or a damaged one.
    """
    revision = git_revision.find(name)
    old = snapshot.read(revision.read, revision.name)
    if old is None:
        raise UserError(
            f"{revision.name}: has no {paths.METRICS}; commit metrics/ there after `dvc repro`, "
            "or name another revision"
        )
    new = snapshot.read(_read_file, "the working tree")
    if new is None:
        raise files.missing(paths.METRICS)
    if old.metric != new.metric:
        old = snapshot.read(revision.read, revision.name, new.metric) or old
    settings = params.load()
    differences = against.differences(old, new, settings.score.bootstrap_samples, settings.seed)
    parts = [
        f"# What changed since `{printable(name)}` ({revision.commit[:10]})",
        "\n".join(f"- {line}" for line in _warnings(revision, old, new)),
        markdown.table(_quality(old, new, differences)),
        _legend(old, new, differences),
        not_tested(old, new),
        _other_figures(old, new),
    ]
    return "\n\n".join(part for part in parts if part)


def _read_file(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _warnings(revision: Revision, old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Sentences on how the data of the two comparisons differ, and on changes that are not committed."""
    changes = against.query_changes(old, new)
    counts = {"added": changes.added, "removed": changes.removed, "under another label": changes.relabelled}
    differing = [
        f"{count:,} {'query' if count == 1 else 'queries'} {change}"
        for change, count in counts.items()
        if count
    ]
    differing += [
        f"{name} {_shown(old.setup[name])} → {_shown(value)}"
        for name, value in new.setup.items()
        if None not in (value, old.setup[name]) and value != old.setup[name]
    ]
    if differing:
        yield f"**The data differ**: {', '.join(differing)}."
    elif old.data and new.data and old.data != new.data:
        yield (
            f"**The data may differ**: {paths.manifest('test')} is not that of `{printable(revision.name)}`, "
            "so that gallery images or labels may have changed."
        )
    if git_revision.has_changes(paths.METRICS.parent):
        yield "metrics/ has changes that are not committed; they are compared."


def _shown(value: str | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _quality(old: Snapshot, new: Snapshot, differences: dict[str, Difference]) -> Table:
    """A line per row of either comparison: first those of today, from best to worst, then removed ones."""
    lines = []
    for row in _ordered(new) + sorted(old.figures.keys() - new.figures.keys()):
        before, after = (side.figures.get(row, {}).get(new.metric) for side in (old, new))
        line: list[Cell] = [RowName(row, random=False), tables.figure(before, 3), tables.figure(after, 3)]
        if row not in old.figures:
            line += ["new", NO_FIGURE]
        elif row not in new.figures:
            line += ["removed", NO_FIGURE]
        else:
            line += _change(differences.get(row))
        lines.append(line)
    return Table(["row", "before", "now", "difference", "more than chance?"], lines)


def _ordered(new: Snapshot) -> list[str]:
    return sorted(new.figures, key=lambda row: (-new.figures[row].get(new.metric, 0.0), row))


def _change(difference: Difference | None) -> Sequence[str]:
    if difference is None:
        return NO_FIGURE, NO_FIGURE
    mean, low, high, p = difference
    if mean == low == high == 0:
        return "none", NO_FIGURE
    interval = f" ({low:+.3f} to {high:+.3f})" if not math.isnan(low) else ""
    word = "yes" if p < SIGNIFICANCE_LEVEL else "can't tell"
    return f"{mean:+.3f}{interval}", f"{word}, {tables.p_value(p)}"


def _legend(old: Snapshot, new: Snapshot, differences: dict[str, Difference]) -> str:
    if not differences:
        if _inexact(old, new):
            return ""
        return f"No query was scored in both, so that no difference in {new.metric} can be tested."
    changes, rows = against.query_changes(old, new), len(differences)
    return (
        f"{new.metric}: before and now over all queries of that time; the difference over the "
        f"{changes.same:,} queries that both scored under the same label, with its 95% bootstrap interval, "
        f"resampling labels. p: paired randomisation test, Holm-adjusted for {rows} row{'s' * (rows > 1)}."
    )


def not_tested(old: Snapshot, new: Snapshot) -> str:
    """A sentence on the rows of both that are not tested, as their metric is a range; empty without any."""
    rows = _inexact(old, new)
    if not rows:
        return ""
    names = ", ".join(f"`{row}`" for row in rows)
    return (
        f"Not tested: {names}. Not all answers that {new.metric} needs are judged, before or now, so that it "
        "is a range; `lineup judge` asks for the rest."
    )


def _inexact(old: Snapshot, new: Snapshot) -> list[str]:
    inexact = old.inexact | new.inexact
    return [row for row in _ordered(new) if row in old.figures and row in inexact]


def _other_figures(old: Snapshot, new: Snapshot) -> str:
    """The other figures that changed in a row of both comparisons, as "before → now"; empty if none did."""
    rows = [row for row in _ordered(new) if row in old.figures]
    names = dict.fromkeys(name for row in rows for name in new.figures[row] if name != new.metric)
    changes = {
        row: {name: _before_and_now(old.figures[row], new.figures[row], name) for name in names}
        for row in rows
    }
    changed = [name for name in names if any(changes[row][name] for row in rows)]
    lines: list[list[Cell]] = [
        [RowName(row, random=False), *(changes[row][name] or "same" for name in changed)]
        for row in rows
        if any(changes[row].values())
    ]
    if not lines:
        return ""
    table = markdown.table(Table(["row", *changed], lines))
    return (
        f"Other figures that changed (speeds and times by a factor of {CLEARLY_FASTER_RATIO} or more, as "
        f"runs differ by some per cent):\n\n{table}"
    )


def _before_and_now(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    """A row's figure as "before → now"; empty if it did not change, or only one of the two has it."""
    if name not in before or name not in after or before[name] == after[name]:
        return ""
    least, most = sorted((before[name], after[name]))
    if name in dvc_views.MEASURED and most < least * CLEARLY_FASTER_RATIO:
        return ""
    return f"{before[name]:,} → {after[name]:,}"
