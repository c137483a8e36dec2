"""The rows of params.yaml that can be asked here, and the few that are in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stages.lib import encoders, paths, query, tables
from stages.lib.errors import UserError
from stages.lib.params import Params

IN_MEMORY = 2  # rows: comparing two by turns loads nothing twice

_Kept = TypeVar("_Kept")
_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Offer:
    """What the page says of a row. ready: its files are here; random: its weights are, so its answers mean nothing."""

    name: str
    metric: str
    ready: bool
    text: bool
    random: bool


def offers(params: Params) -> list[Offer]:
    """In the order of params.yaml."""
    return [_offer(name, row.search.metric) for name, row in params.models.items()]


def _offer(name: str, metric: str) -> Offer:
    ready = all(file.exists() for file in _files(name))
    facts: dict[str, Any] = tables.read_json(paths.trained(name) / encoders.FACTS_FILE) if ready else {}
    return Offer(name, metric, ready, ready and query.has_text(name), bool(facts.get("random")))


def check(model: str) -> None:
    """UserError names the first file that is missing."""
    _stamp(*_files(model))


def _files(model: str) -> tuple[Path, ...]:
    return paths.manifest("test"), paths.index(model), paths.embeddings(model), paths.trained(model) / encoders.FACTS_FILE


class Rooms:
    """Opens rows when they're first asked, and again when `dvc repro` has changed their files. For one thread."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._rows: OrderedDict[str, tuple[_Stamp, query.Row]] = OrderedDict()
        self._gallery: tuple[_Stamp, query.Gallery] | None = None

    def gallery(self) -> query.Gallery:
        """UserError if nothing is prepared."""
        stamp = _stamp(paths.manifest("test"))
        if self._gallery is None or self._gallery[0] != stamp:
            self._gallery = stamp, query.read_gallery()
        return self._gallery[1]

    def row(self, model: str) -> query.Row:
        """model: a key of params.models. UserError says which of its files isn't there, or doesn't fit."""
        stamp = _stamp(*_files(model))
        kept = self._rows.pop(model, None)
        if kept is None or kept[0] != stamp:
            while len(self._rows) >= IN_MEMORY:
                self._rows.popitem(last=False)  # the one asked longest ago
            kept = stamp, query.open_row(model, self._params, self.gallery())
        self._rows[model] = kept
        return kept[1]


def _stamp(*files: Path) -> _Stamp:
    try:
        return tuple((state.st_mtime_ns, state.st_size) for state in (file.stat() for file in files))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: is not there; run `dvc repro`, or `dvc pull` it") from None
