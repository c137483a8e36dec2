"""A row that can answer at once: with its networks loaded, which otherwise the first query would wait for."""

from __future__ import annotations

import functools

from lineup.engines.engine import Network
from lineup.serving import gallery_photos, row_search
from lineup.serving.row_search import ModelSearch, Row
from lineup.settings.params import Params


def open_row(name: str, params: Params, threads: int) -> Row:
    """The row with its networks loaded; a model that it uses twice is loaded once.

    Args:
        threads: how many of them will search at once.
    Raises:
        UserError: a file does not exist, or is of other images.
    """
    photos = gallery_photos.read(params.relevance.exclude)

    @functools.cache
    def opened(each: str) -> Row:
        return row_search.open_row(each, params, photos, opened, threads)

    row = opened(name)
    for model in row_search.models_of(name, params):
        search = opened(model).search
        assert isinstance(search, ModelSearch)
        search.encoder.network()
    return row


def network_of(row: Row) -> Network:
    """The network of the row, or of the first row that a refinement is made of."""
    search = row.search
    while not isinstance(search, ModelSearch):
        search = search.first
    return search.encoder.network()
