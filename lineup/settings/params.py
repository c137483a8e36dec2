"""params.yaml, read and checked as a whole before any stage does work.

`lineup check [file]` checks it alone.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from lineup import paths
from lineup.errors import UserError
from lineup.settings import model_rules, refinement_sources, row_names, yaml_file
from lineup.settings.explanation import explain
from lineup.settings.model import Model
from lineup.settings.refinement import RefinementSettings
from lineup.settings.schema import RowName, Strict
from lineup.settings.sections import (
    Embed,
    Export,
    Map,
    NearCopies,
    Preprocess,
    Relevance,
    Retrieve,
    Score,
    Transfer,
)
from lineup.settings.training import Train


class Params(Strict):
    """The whole of params.yaml."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    preprocess: Preprocess = Preprocess()
    train: Train = Train()
    embed: Embed = Embed()
    relevance: Relevance = Relevance()
    retrieve: Retrieve = Retrieve()
    score: Score = Score()
    near_copies: NearCopies = NearCopies()
    map: dict[RowName, Map] = Field(
        default={}, description="rows of models of which the report has a map: {arcface: {}}"
    )
    transfer: Transfer = Transfer()
    export: Export = Export()
    models: dict[RowName, Model] = Field(min_length=1)
    refinements: dict[RowName, RefinementSettings] = Field(
        default={}, description="rows made of what other rows computed"
    )

    @model_validator(mode="after")
    def _check_names_of_rows(self) -> Params:
        row_names.check_near_copies(self.near_copies.rows, self.models)
        row_names.check_map(self.map, self.models)
        row_names.check_transfer(self.transfer, self.models, self.refinements)
        row_names.check_export(self.export, {**self.models, **self.refinements})
        return self

    @model_validator(mode="after")
    def _check_models(self) -> Params:
        model_rules.check_prepared_size(self.models, self.train, self.preprocess)
        model_rules.check_pairs(self.models, self.train)
        model_rules.check_lora(self.models, self.train)
        model_rules.check_precision(self.models, self.embed)
        return self

    @model_validator(mode="after")
    def _check_refinements(self) -> Params:
        refinement_sources.check(self.models, self.refinements)
        return self

    def model_of(self, row: str) -> str:
        """The row of models that a row's vectors come from."""
        while row in self.refinements:
            row = self.refinements[row].second
        return row

    def embed_of(self, row: str) -> Embed:
        """The section `embed` with the precision of a row of models."""
        precision = model_rules.precision_of(self.models[row], self.embed)
        return self.embed.model_copy(update={"precision": precision})


def load(path: Path = paths.PARAMS) -> Params:
    """The checked settings.

    Raises:
        UserError: the message names the setting, the first fault and the nearest fix.
    """
    document = yaml_file.read(path)
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Params, document)}") from None
