"""What each row of params.yaml is, in one line for readers of the report."""

from __future__ import annotations

from collections.abc import Iterator

from lineup.settings.model import Model
from lineup.settings.objective import NoObjective
from lineup.settings.params import Params
from lineup.settings.refinement import RefinementSettings


def descriptions(params: Params) -> dict[str, str]:
    """By row: its network and what was done with it, or the method and the rows that it is made of."""
    models = {row: ", ".join(_parts(model)) for row, model in params.models.items()}
    return models | {row: _refinement(settings) for row, settings in params.refinements.items()}


def _parts(model: Model) -> Iterator[str]:
    encoder, objective = model.encoder, model.objective
    size = f" at {encoder.image_size} px" if encoder.image_size else ""
    yield f"{encoder.name} of {encoder.library}{size}"
    start = "random weights" if encoder.weights == "none" else "pretrained weights"
    if isinstance(objective, NoObjective):
        yield start
    else:
        share = "" if objective.label_share == 1 else f" on {objective.label_share:.0%} of the labels"
        yield f"{start}, then trained with {objective.name}{share}"
    if encoder.mean is not None or encoder.std is not None:
        yield "pixels normalised by the row's own mean and std"
    if model.search.metric == "l2":
        yield "L2 distance"
    if model.search.index != "flat":
        yield f"searched by {model.search.index}"
    if model.precision is not None:
        yield model.precision


def _refinement(settings: RefinementSettings) -> str:
    rows = dict.fromkeys((settings.first, settings.second))
    return f"{settings.method} of {' and '.join(rows)}"
