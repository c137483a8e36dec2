"""The rows of params.yaml that can be asked here, and the few that are in memory."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from lineup import paths
from lineup.encoders.encoder_config import CONFIG_FILE
from lineup.errors import UserError
from lineup.search import exact, gallery
from lineup.serving import gallery_photos, query_encoder, row_search
from lineup.serving.gallery_photos import Gallery
from lineup.settings.params import Params
from lineup.settings.refinement import Whitening
from lineup.storage import files

IN_MEMORY = 2  # rows: comparing two by turns loads nothing twice

_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Offer:
    """What the page says of a row.

    made_of: a refinement's method and models, else empty; ready: its files are here, and of the gallery as it
    is; fault: why not, else empty; text: it can be asked with words; random: weights are, so its answers mean
    nothing.
    """

    name: str
    made_of: str
    ready: bool
    fault: str
    text: bool
    random: bool


def offers(params: Params) -> list[Offer]:
    """In the order of params.yaml."""
    return [_offer(row, params) for row in (*params.models, *params.refinements)]


def _offer(row: str, params: Params) -> Offer:
    models, fault = row_search.models_of(row, params), _fault(row, params)
    ready, refinement = not fault, params.refinements.get(row)
    made_of = f"{refinement.method.replace('_', ' ')} of {' and '.join(models)}" if refinement else ""
    text = ready and all(query_encoder.has_text(model, params) for model in models)
    random = ready and any(
        files.read_json(paths.trained(model) / CONFIG_FILE).get("random") for model in models
    )
    return Offer(row, made_of, ready, fault, text, random)


def check(row: str, params: Params) -> None:
    """UserError names the first file that is missing, or that isn't of the gallery as it is."""
    if fault := _fault(row, params):
        raise UserError(fault)


def _fault(row: str, params: Params) -> str:
    """Why a row can't be asked, in a sentence; empty if it can."""
    models = tuple((model, params.models[model].search.metric) for model in row_search.models_of(row, params))
    try:
        return _misfit(models, _whitened(row, params), _stamp(*_files(row, params)))
    except UserError as error:
        return str(error)


@functools.lru_cache(maxsize=256)  # a page asks for all rows, and each reads its ids
def _misfit(models: tuple[tuple[str, exact.Metric], ...], whitened: tuple[str, ...], stamp: _Stamp) -> str:
    """As `_fault`, of files that are there; stamp: theirs."""
    ids = gallery_photos.read("bytes").ids
    try:
        for model, metric in models:
            query_encoder.check(model, metric, ids)
        for row in whitened:
            gallery.check_ids(paths.embeddings(row), ids)
    except UserError as error:
        return str(error)
    return ""


def _whitened(row: str, params: Params) -> tuple[str, ...]:
    """The whitenings that a row is made of, itself among them: those have vectors of their own."""
    settings = params.refinements.get(row)
    if settings is None:
        return ()
    parts = dict.fromkeys((*_whitened(settings.first, params), *_whitened(settings.second, params)))
    return (*parts, row) if isinstance(settings, Whitening) else tuple(parts)


def _files(row: str, params: Params) -> tuple[Path, ...]:
    if row in params.models:
        encoder, built = paths.trained(row) / CONFIG_FILE, paths.costs("index", row)
        return paths.manifest("test"), paths.index(row), paths.embeddings(row), encoder, built
    settings = params.refinements[row]
    own = (paths.embeddings(row),) if isinstance(settings, Whitening) else ()
    return (*_files(settings.first, params), *_files(settings.second, params), paths.QRELS, *own)


class Rooms:
    """Opens rows when they're first asked, and again when `dvc repro` has changed their files.

    For one thread.
    """

    def __init__(self, params: Params) -> None:
        self._params = params
        self._rows: OrderedDict[str, tuple[_Stamp, row_search.Row]] = OrderedDict()
        self._gallery: tuple[_Stamp, Gallery] | None = None

    def gallery(self) -> Gallery:
        """UserError if nothing is prepared."""
        stamp = _stamp(paths.manifest("test"))
        if self._gallery is None or self._gallery[0] != stamp:
            self._gallery = stamp, gallery_photos.read(self._params.relevance.exclude)
        return self._gallery[1]

    def row(self, row: str) -> row_search.Row:
        """A model or refinement of params. UserError says which of its files isn't there, or doesn't fit.

        A refinement shares what it is made of with the rows that are kept.
        """
        stamp = _stamp(*_files(row, self._params))
        kept = self._rows.pop(row, None)
        if kept is None or kept[0] != stamp:
            while row in self._params.models and len(self._rows) >= IN_MEMORY:
                self._rows.popitem(last=False)  # the one asked longest ago
            kept = stamp, row_search.open_row(row, self._params, self.gallery(), self.row)
        self._rows[row] = kept
        while len(self._rows) > IN_MEMORY:
            self._rows.popitem(last=False)
        return kept[1]


def _stamp(*files: Path) -> _Stamp:
    try:
        return tuple((state.st_mtime_ns, state.st_size) for state in (file.stat() for file in files))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: is not there; run `dvc repro`, or `dvc pull` it") from None
