"""Sweeps: rows that differ in one number of their settings alone, and how good each is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lineup.comparison.dvc_views import CsvTable, with_interval
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.row_metrics import RowMetrics
from lineup.settings.params import Params

MIN_ROWS = 3
LABELLED_PHOTOS = "labelled photos"
_LABEL_SHARE = "objective.label_share"


class Sweep(NamedTuple):
    """setting: with dots, such as "encoder.image_size"; rows: {value: the row that has it}, values rising."""

    setting: str
    rows: dict[float, str]


def find(params: Params) -> list[Sweep]:
    """All sweeps of MIN_ROWS rows or more, by setting and first row.

    Settings that params.yaml leaves out count with their defaults.
    """
    groups: dict[tuple[str, Any], dict[float, str]] = defaultdict(dict)
    for section in (params.models, params.refinements):
        for row, settings in section.items():
            flat = dict(_flat(settings.model_dump(mode="json", by_alias=True)))
            if flat.get("objective.name", "none") != "none":
                flat.setdefault(_LABEL_SHARE, 1.0)  # its default is not dumped
            if flat.get("precision", "") is None:
                flat["precision"] = params.embed.precision
            for setting, value in flat.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    others = frozenset(item for item in flat.items() if item[0] != setting)
                    groups[setting, others].setdefault(value, row)
    sweeps = [
        Sweep(setting, dict(sorted(rows.items())))
        for (setting, _), rows in groups.items()
        if len(rows) >= MIN_ROWS
    ]
    return sorted(sweeps, key=lambda sweep: (sweep.setting, [*sweep.rows.values()]))


def by_photos(sweeps: Iterable[Sweep], rows: Mapping[str, RowMetrics]) -> list[Sweep]:
    """The sweeps, with those of `label_share` by the number of labelled photos that their rows may see."""
    changed = []
    for sweep in sweeps:
        training = {row: rows[row].training for row in sweep.rows.values()}
        photos = {own.labelled_photos: row for row, own in training.items() if own is not None}
        is_curve = sweep.setting == _LABEL_SHARE and len(photos) == len(sweep.rows)
        changed.append(Sweep(LABELLED_PHOTOS, dict(sorted(photos.items()))) if is_curve else sweep)
    return changed


def table(sweeps: list[Sweep], rows: Mapping[str, RowMetrics]) -> CsvTable:
    """A line per sweep and value with an exact quality: the ends that an interval lacks are the mean."""
    lines = []
    for setting, values in sweeps:
        name = f"{setting} of {next(iter(values.values()))}"
        for value, row in values.items():
            quality = rows[row].quality.get(MAIN_METRIC)
            if quality and rows[row].is_exact(MAIN_METRIC):
                lines.append([name, row, f"{value:.12g}", *with_interval(quality)])
    return CsvTable(("sweep", "model", "value", MAIN_METRIC, "low", "high"), lines)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings with their names in full; lists become text, so that they can be compared."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value) if isinstance(value, list) else value
