"""The figures of one comparison, as files of the working tree or of an earlier revision hold them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.storage import csv_files

Read = Callable[[Path], bytes | None]  # the content of a file, None if it does not exist
Setup = Mapping[str, str | int | None]

# Of metrics/rows/<row>.json, with the words for them; they are the same for all rows of a comparison.
_SETUP = {"gallery": "gallery images", "relevance": "relevance", "exclude": "relevance.exclude"}
_JUDGED = "judged pairs"


@dataclass(frozen=True)
class Snapshot:
    """What was measured at one time.

    Attributes:
        figures: metrics.json, {row: {figure: value}}.
        queries: by row, with query_id, label and `metric`. A row is missing where its file does not exist, or
            was written by a version that lacks one of these columns.
        setup: what was searched in what, by name.
        data: DVC's hash of the list of test images, None where dvc.lock does not have it.
        metric: by which rows are compared: map_at_r, or where people judged some pairs only, precision at the
            largest k.
        inexact: rows of which the metric is a range, since some of their answers are not judged.
    """

    figures: Mapping[str, Mapping[str, float]]
    queries: Mapping[str, pa.Table]
    setup: Setup
    data: str | None
    metric: str = MAIN_METRIC
    inexact: frozenset[str] = frozenset()


def read(read_file: Read, source: str, metric: str | None = None) -> Snapshot | None:
    """The snapshot in the files of a working tree or revision; None if there is no metrics.json.

    Args:
        source: what an error calls it.
        metric: by which rows are compared; by default that of its own figures.
    Raises:
        UserError: metrics.json is damaged.
    """
    content = read_file(paths.METRICS)
    if content is None:
        return None
    figures: Any = _json(content)
    if not isinstance(figures, dict) or not all(isinstance(row, dict) for row in figures.values()):
        raise UserError(f"{source}: its {paths.METRICS} is damaged; run `dvc repro -f -s compare` there")
    metric = metric or _metric(figures)
    queries: dict[str, pa.Table] = {}
    inexact: set[str] = set()
    setup: Setup = dict.fromkeys((*_SETUP.values(), _JUDGED))
    for row, shown in figures.items():
        metrics = _json(read_file(paths.row_metrics(row)) or b"null") or {}
        with suppress(KeyError, TypeError):  # metrics.json has rounded it
            shown[metric] = metrics["quality"][metric]["mean"]
        if metric in ((metrics.get("partial") or {}).get("ranges") or {}):
            inexact.add(row)
        judged = (metrics.get("people") or {}).get("pairs", 0) if metrics else None
        setup = {words: metrics.get(name) for name, words in _SETUP.items()} | {_JUDGED: judged}
        table = _queries(read_file(paths.row_queries(row)), metric)
        if table is not None:
            queries[row] = table
    data = _data_hash(read_file(Path("dvc.lock")))
    return Snapshot(figures, queries, setup, data, metric, frozenset(inexact))


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _metric(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The main metric of figures, which lack map_at_r where people judged some pairs only."""
    names = {name for shown in figures.values() for name in shown}
    precisions = [name for name in names if re.fullmatch(r"precision_\d+", name)]
    if MAIN_METRIC in names or not precisions:
        return MAIN_METRIC
    return max(precisions, key=lambda name: int(name.rpartition("_")[2]))


def _queries(content: bytes | None, metric: str) -> pa.Table | None:
    columns = {"query_id": pa.string(), "label": pa.string(), metric: pa.float64()}
    try:
        return None if content is None else csv_files.read_csv_columns(io.BytesIO(content), columns)
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None


def _data_hash(lock: bytes | None) -> str | None:
    try:
        outs = yaml.load(lock or b"", yaml.CSafeLoader)["stages"]["preprocess"]["outs"]
        manifest = paths.manifest("test").as_posix()
        return next((out.get("md5") for out in outs if out["path"] == manifest), None)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
