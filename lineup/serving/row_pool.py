"""The rows of params.yaml that can be searched here, and the few that are in memory."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from lineup import paths
from lineup.encoders import encoder_config, model_folder
from lineup.errors import UserError
from lineup.search.vectors import Metric
from lineup.serving import gallery_photos, query_encoder, row_search
from lineup.serving.gallery_photos import GalleryPhotos
from lineup.settings.params import Params
from lineup.settings.refinement import RefinementSettings
from lineup.storage import files

# Enough to compare two rows by searching them alternately: neither is loaded again.
MAX_ROWS_IN_MEMORY = 2

# Time of the last change and size of some files.
_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RowInfo:
    """What the page shows of a row.

    made_of: a refinement's method and models; empty for a model.
    ready: the row's files exist here, and are of the present gallery.
    fault: why the row is not ready; empty if it is.
    text: the row can be searched with a text.
    random: the encoder's weights are random, so its rankings mean nothing.
    """

    name: str
    made_of: str
    ready: bool
    fault: str
    text: bool
    random: bool


def row_infos(params: Params) -> list[RowInfo]:
    """The info of each row, in the order of params.yaml."""
    return [_row_info(row, params) for row in (*params.models, *params.refinements)]


def _row_info(row: str, params: Params) -> RowInfo:
    models, fault = row_search.models_of(row, params), _fault(row, params)
    ready, refinement = not fault, params.refinements.get(row)
    made_of = f"{refinement.method.replace('_', ' ')} of {' and '.join(models)}" if refinement else ""
    text = ready and all(query_encoder.has_text(model, params) for model in models)
    random = ready and any(
        files.read_json(model_folder.resolve(paths.model(model)) / encoder_config.CONFIG_FILE).get("random")
        for model in models
    )
    return RowInfo(row, made_of, ready, fault, text, random)


def check(row: str, params: Params) -> None:
    """UserError if the row is not ready; the sentence names the first file that is at fault."""
    if fault := _fault(row, params):
        raise UserError(fault)


def _fault(row: str, params: Params) -> str:
    """Why a row cannot be searched, in a sentence; empty if it can."""
    models = tuple((model, params.models[model].search.metric) for model in row_search.models_of(row, params))
    try:
        return _misfit(models, _own_spaces(row, params), _stamp(*_files(row, params)))
    except UserError as error:
        return str(error)


# The page shows all rows, and each check reads ids: the results are cached until a file changes.
@functools.lru_cache(maxsize=256)
def _misfit(
    models: tuple[tuple[str, Metric], ...],
    own_spaces: tuple[tuple[str, RefinementSettings], ...],
    stamp: _Stamp,
) -> str:
    """Which of a row's files does not belong to the others, in a sentence; empty if all do.

    models: those that embed the row's queries. own_spaces: refinements with an index of their own. stamp: of
    all files that are read.
    """
    ids = gallery_photos.read("bytes").ids
    try:
        for model, metric in models:
            query_encoder.checked_index(model, metric, ids)
        for row, settings in own_spaces:
            row_search.check_own_space(row, settings, ids)
    except UserError as error:
        return str(error)
    return ""


def _own_spaces(row: str, params: Params) -> tuple[tuple[str, RefinementSettings], ...]:
    """The refinements with an index of their own among the row and what it is made of."""
    settings = params.refinements.get(row)
    if settings is None:
        return ()
    sources = dict.fromkeys((*_own_spaces(settings.first, params), *_own_spaces(settings.second, params)))
    return (*sources, (row, settings)) if settings.builds_index else tuple(sources)


def _files(row: str, params: Params) -> tuple[Path, ...]:
    """The files and folders that a row is loaded from; if one changes, the row is loaded again."""
    if row in params.models:
        encoder = model_folder.resolve(paths.model(row)) / encoder_config.CONFIG_FILE
        built = paths.costs("index", row)
        return paths.manifest("test"), paths.index(row), paths.embeddings(row), encoder, built
    settings = params.refinements[row]
    own = (paths.embeddings(row), paths.refinement(row)) if settings.builds_index else ()
    return (*_files(settings.first, params), *_files(settings.second, params), paths.QRELS, *own)


class RowPool:
    """Loads rows when they are first searched, and again when `dvc repro` has changed their files.

    Not thread-safe.
    """

    def __init__(self, params: Params) -> None:
        self._params = params
        self._rows: OrderedDict[str, tuple[_Stamp, row_search.Row]] = OrderedDict()
        self._photos: tuple[_Stamp, GalleryPhotos] | None = None

    def photos(self) -> GalleryPhotos:
        """UserError if nothing is prepared."""
        stamp = _stamp(paths.manifest("test"))
        if self._photos is None or self._photos[0] != stamp:
            self._photos = stamp, gallery_photos.read(self._params.relevance.exclude)
        return self._photos[1]

    def row(self, row: str) -> row_search.Row:
        """A row of params, loaded if need be. The rows that a refinement is made of come from the pool, too.

        Raises:
            UserError: one of its files does not exist, or does not belong to the others.
        """
        stamp = _stamp(*_files(row, self._params))
        loaded = self._rows.pop(row, None)
        if loaded is None or loaded[0] != stamp:
            while row in self._params.models and len(self._rows) >= MAX_ROWS_IN_MEMORY:
                self._drop_oldest()
            loaded = stamp, row_search.open_row(row, self._params, self.photos(), self.row)
        self._rows[row] = loaded
        while len(self._rows) > MAX_ROWS_IN_MEMORY:
            self._drop_oldest()
        return loaded[1]

    def _drop_oldest(self) -> None:
        """Drops the row that was searched longest ago."""
        self._rows.popitem(last=False)


def _stamp(*sources: Path) -> _Stamp:
    """The stamp of some files and folders. UserError if one of them does not exist."""
    try:
        return tuple((state.st_mtime_ns, state.st_size) for state in (source.stat() for source in sources))
    except FileNotFoundError as error:
        raise files.missing(Path(error.filename)) from None
