"""The rows of params.yaml that can be asked here, and the few that are in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from stages.lib import encoders, paths, queried_model, query, searched_gallery, tables
from stages.lib.errors import UserError
from stages.lib.params import Params
from stages.lib.refinement_params import Whitening
from stages.lib.searched_gallery import Gallery

IN_MEMORY = 2  # rows: comparing two by turns loads nothing twice

_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Offer:
    """What the page says of a row.

    made_of: a refinement's method and models, else empty; ready: its files are here; text: it can be asked with words;
    random: weights are, so its answers mean nothing.
    """

    name: str
    made_of: str
    ready: bool
    text: bool
    random: bool


def offers(params: Params) -> list[Offer]:
    """In the order of params.yaml."""
    return [_offer(row, params) for row in (*params.models, *params.refinements)]


def _offer(row: str, params: Params) -> Offer:
    models, ready = query.models_of(row, params), all(file.exists() for file in _files(row, params))
    refinement = params.refinements.get(row)
    made_of = f"{refinement.method.replace('_', ' ')} of {' and '.join(models)}" if refinement else ""
    text = ready and all(queried_model.has_text(model, params) for model in models)
    random = ready and any(tables.read_json(paths.trained(model) / encoders.FACTS_FILE).get("random") for model in models)
    return Offer(row, made_of, ready, text, random)


def check(row: str, params: Params) -> None:
    """UserError names the first file that is missing."""
    _stamp(*_files(row, params))


def _files(row: str, params: Params) -> tuple[Path, ...]:
    if row in params.models:
        return paths.manifest("test"), paths.index(row), paths.embeddings(row), paths.trained(row) / encoders.FACTS_FILE
    settings = params.refinements[row]
    own = (paths.embeddings(row),) if isinstance(settings, Whitening) else ()
    return (*_files(settings.first, params), *_files(settings.second, params), paths.QRELS, *own)


class Rooms:
    """Opens rows when they're first asked, and again when `dvc repro` has changed their files. For one thread."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._rows: OrderedDict[str, tuple[_Stamp, query.Row]] = OrderedDict()
        self._gallery: tuple[_Stamp, Gallery] | None = None

    def gallery(self) -> Gallery:
        """UserError if nothing is prepared."""
        stamp = _stamp(paths.manifest("test"))
        if self._gallery is None or self._gallery[0] != stamp:
            self._gallery = stamp, searched_gallery.read(self._params.relevance.exclude)
        return self._gallery[1]

    def row(self, row: str) -> query.Row:
        """A model or refinement of params. UserError says which of its files isn't there, or doesn't fit.

        A refinement shares what it is made of with the rows that are kept.
        """
        stamp = _stamp(*_files(row, self._params))
        kept = self._rows.pop(row, None)
        if kept is None or kept[0] != stamp:
            while row in self._params.models and len(self._rows) >= IN_MEMORY:
                self._rows.popitem(last=False)  # the one asked longest ago
            kept = stamp, query.open_row(row, self._params, self.gallery(), self.row)
        self._rows[row] = kept
        while len(self._rows) > IN_MEMORY:
            self._rows.popitem(last=False)
        return kept[1]


def _stamp(*files: Path) -> _Stamp:
    try:
        return tuple((state.st_mtime_ns, state.st_size) for state in (file.stat() for file in files))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: is not there; run `dvc repro`, or `dvc pull` it") from None
