"""What searching a row takes: its encoders, its indexes, and what its refinements have learned."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from lineup import paths
from lineup.errors import UserError
from lineup.export.handed_over import lineup_row
from lineup.refinements import refinement as refinements
from lineup.refinements.quantise import CANDIDATES_FILE
from lineup.refinements.refinement import INDEX_FILE
from lineup.search import gallery
from lineup.search.vectors import Metric, Vectors
from lineup.serving import row_search
from lineup.serving.gallery_photos import GalleryPhotos
from lineup.serving.row_search import ModelSearch, RefinedSearch, Row
from lineup.settings.params import Params

JsonObject = dict[str, Any]


@dataclass
class SearchPlan:
    """The rows that a row's search is made of.

    rows: by name, as settings.json has them. spaces: those whose vectors are searched, in the order in which
    they were met. models: those that embed a query.
    """

    row: str
    params: Params
    opened: Row
    rows: dict[str, JsonObject] = field(default_factory=dict)
    spaces: list[str] = field(default_factory=list)

    @cached_property
    def models(self) -> list[str]:
        """The models that embed a query, each once."""
        return row_search.models_of(self.row, self.params)

    def metric(self, row: str) -> Metric:
        """How a row's vectors are compared."""
        return refinements.metric_of(row, self.params)

    def vectors_row(self, space: str) -> str:
        """The row whose stored vectors a space holds: its own, or those of `with`."""
        settings = self.params.refinements.get(space)
        return space if settings is None or settings.makes_vectors else settings.second

    def gallery_vectors(self, space: str) -> Iterator[Vectors]:
        """The gallery's vectors as a space compares them, float32 [n, D] each, in the order of the ids."""
        folder = paths.embeddings(self.vectors_row(space))
        return gallery.open_gallery(folder, self.metric(space)).prepared()

    def index_file(self, space: str) -> str:
        """The name of a space's index in the folder."""
        return "index.faiss" if len(self.spaces) == 1 else f"index_{space}.faiss"

    def write(self, folder: Path) -> None:
        """Writes the indexes and what was learned, and names the files in `rows`."""
        for space in self.spaces:
            file = self.index_file(space)
            stored = (
                paths.index(space) if space in self.params.models else paths.refinement(space) / INDEX_FILE
            )
            if zipfile.is_zipfile(stored):
                raise UserError(
                    f"{paths.PARAMS}: models.{space}.search.part_rows divides the index into parts, which an "
                    "exported folder can't search; remove part_rows and run `dvc repro`"
                )
            shutil.copyfile(stored, folder / file)
            self.rows[space]["index"] = file
        for row in self.rows:
            if tensors := self._learned(row):
                self.rows[row]["learned"] = f"learned_{row}.npz"
                np.savez(folder / f"learned_{row}.npz", **tensors)  # type: ignore[arg-type]
            if (candidates := paths.refinement(row) / CANDIDATES_FILE).exists():
                self.rows[row]["candidates"] = f"candidates_{row}.faiss"
                shutil.copyfile(candidates, folder / f"candidates_{row}.faiss")

    def _learned(self, row: str) -> dict[str, np.ndarray]:
        if row not in self.params.refinements:
            return {}
        tensors: dict[str, np.ndarray] = {}
        for file in sorted(paths.refinement(row).glob("*.safetensors")):
            tensors |= load_file(file)
        return tensors


def check_precision(model: str, params: Params) -> None:
    """Raises UserError if the model is embedded in int8: an exported network computes in float32."""
    if params.embed_of(model).precision == "int8":
        raise UserError(
            f"{paths.PARAMS}: models.{model}: is embedded in int8, and an exported network computes in "
            "float32, whose vectors are not those of the gallery; export a row in float32 or bfloat16"
        )


def make(row: str, params: Params, photos: GalleryPhotos) -> SearchPlan:
    """The plan of a row whose results are complete.

    Raises:
        UserError: a file does not exist or belongs to other images, or a method is unknown to lineup_row.py.
    """
    for model in row_search.models_of(row, params):
        check_precision(model, params)
    plan = SearchPlan(row, params, row_search.open_row(row, params, photos))
    _add_ranking(plan, row)
    return plan


def _add_ranking(plan: SearchPlan, row: str) -> None:
    """Adds what ranking by a row takes."""
    _add_row(plan, row)
    settings = plan.params.refinements.get(row)
    if settings is None or settings.builds_index:
        _add_space(plan, row)
        return
    _add_ranking(plan, settings.first)
    if settings.searches_second and settings.second != settings.first:
        _add_ranking(plan, settings.second)
    if settings.needs_vectors:
        _add_space(plan, settings.second)


def _add_space(plan: SearchPlan, row: str) -> None:
    """Adds what comparing vectors of a row takes, and the rows that these come from."""
    _add_row(plan, row)
    settings = plan.params.refinements.get(row)
    if settings is not None and not settings.builds_index:
        _add_space(plan, settings.second)
        return
    if row not in plan.spaces:
        plan.spaces.append(row)
    while settings is not None:
        row = settings.second
        _add_row(plan, row)
        settings = plan.params.refinements.get(row)


def _add_row(plan: SearchPlan, row: str) -> None:
    if row in plan.rows:
        return
    if row in plan.params.models:
        plan.rows[row] = {"method": "nearest", "encoder": row}
        return
    settings = plan.params.refinements[row]
    if settings.method not in lineup_row.METHODS:
        raise UserError(
            f"refinements.{row}: an exported folder can't compute {settings.method}; "
            f"export {settings.second}, or another refinement"
        )
    values = settings.model_dump(mode="json", by_alias=True)
    search = _searches(plan.opened.search, plan.row, plan.params)[row]
    assert isinstance(search, RefinedSearch)
    plan.rows[row] = {**values, "depth": search.depth}


def _searches(
    search: ModelSearch | RefinedSearch, row: str, params: Params
) -> dict[str, ModelSearch | RefinedSearch]:
    """The searches that a row's search is made of, by row."""
    if not isinstance(search, RefinedSearch):
        return {row: search}
    settings = params.refinements[row]
    return {
        row: search,
        **_searches(search.first, settings.first, params),
        **_searches(search.second, settings.second, params),
    }
