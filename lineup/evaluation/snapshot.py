"""The figures of one comparison, as files of the working tree or of an earlier revision hold them."""

from __future__ import annotations

import io
import json
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

_QUERY_COLUMNS = {
    "query_id": pa.string(),
    "label": pa.string(),
    "relevant": pa.float64(),
    MAIN_METRIC: pa.float64(),
}
# Of metrics/rows/<row>.json, with the words for them; they are the same for all rows of a comparison.
_SETUP = {"gallery": "gallery images", "relevance": "relevance", "exclude": "relevance.exclude"}


@dataclass(frozen=True)
class Snapshot:
    """What was measured at one time.

    Attributes:
        figures: metrics.json, {row: {figure: value}}.
        queries: by row, with query_id, label, relevant and the main metric. A row is missing where its file
            does not exist, or was written by a version that lacks one of these columns.
        setup: what was searched in what, by name.
        data: DVC's hash of the list of test images, None where dvc.lock does not have it.
    """

    figures: Mapping[str, Mapping[str, float]]
    queries: Mapping[str, pa.Table]
    setup: Setup
    data: str | None


def read(read_file: Read, source: str) -> Snapshot | None:
    """The snapshot in the files of a working tree or revision; None if there is no metrics.json.

    Args:
        source: what an error calls it.
    Raises:
        UserError: metrics.json is damaged.
    """
    content = read_file(paths.METRICS)
    if content is None:
        return None
    figures: dict[str, dict[str, float]] = _json(content)
    if not isinstance(figures, dict) or not all(isinstance(row, dict) for row in figures.values()):
        raise UserError(f"{source}: its {paths.METRICS} is damaged; run `dvc repro -f -s compare` there")
    queries: dict[str, pa.Table] = {}
    setup: Setup = dict.fromkeys(_SETUP.values())
    for row, shown in figures.items():
        metrics = _json(read_file(paths.row_metrics(row)) or b"null") or {}
        with suppress(KeyError, TypeError):  # metrics.json has rounded it
            shown[MAIN_METRIC] = metrics["quality"][MAIN_METRIC]["mean"]
        setup = {words: metrics.get(name) for name, words in _SETUP.items()}
        table = _queries(read_file(paths.row_queries(row)))
        if table is not None:
            queries[row] = table
    return Snapshot(figures, queries, setup, _data_hash(read_file(Path("dvc.lock"))))


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _queries(content: bytes | None) -> pa.Table | None:
    try:
        return None if content is None else csv_files.read_csv_columns(io.BytesIO(content), _QUERY_COLUMNS)
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None


def _data_hash(lock: bytes | None) -> str | None:
    try:
        outs = yaml.load(lock or b"", yaml.CSafeLoader)["stages"]["preprocess"]["outs"]
        manifest = paths.manifest("test").as_posix()
        return next((out.get("md5") for out in outs if out["path"] == manifest), None)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
