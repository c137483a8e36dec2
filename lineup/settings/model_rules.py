"""Whether the settings of each model go with each other, and with the sections that hold for all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lineup.settings import prepared_size
from lineup.settings.model import Model
from lineup.settings.objective import NoObjective, Trained
from lineup.settings.sections import Embed, Precision, Preprocess
from lineup.settings.training import Train, settings_of

Models = Mapping[str, Model]


def precision_of(model: Model, embed: Embed) -> Precision:
    """The precision that a model computes in: its own, or that of the section `embed`."""
    return model.precision or embed.precision


def check_prepared_size(models: Models, train: Train, preprocess: Preprocess) -> None:
    """Raises ValueError if preprocess keeps photos smaller than a model needs them."""
    for row, model in models.items():
        training_px = (
            None
            if isinstance(model.objective, NoObjective)
            else settings_of(train, model.objective).image_size
        )
        resize_px = max(model.encoder.image_size or 0, training_px or 0)
        if fault := prepared_size.fault(row, resize_px, preprocess.shorter_side_px):
            raise ValueError(fault)


def check_pairs(models: Models, train: Train) -> None:
    """Raises ValueError if an objective compares pairs, and a batch has one image of each label."""
    for row, objective in _trained(models):
        if objective.needs.pairs and settings_of(train, objective).images_per_label < 2:
            own = f"models.{row}.objective.images_per_label"
            is_own = "images_per_label" in objective.model_fields_set
            raise ValueError(
                f"{own if is_own else 'train.images_per_label'} is 1, but {objective.name} of "
                f"models.{row} learns from pairs of images of one label; set {own} to 2 or more"
            )


def check_lora(models: Models, train: Train) -> None:
    """Raises ValueError if other settings decide which weights are trained, as LoRA does."""
    for row, objective in _trained(models):
        settings = settings_of(train, objective)
        if settings.lora and (settings.freeze or settings.backbone_lr_scale == 0):
            other = f"freeze is {settings.freeze}" if settings.freeze else "backbone_lr_scale is 0"
            raise ValueError(
                f"models.{row}.objective: {other}, and lora freezes the network already, "
                f"all but its own matrices; remove {other.split()[0]}, or lora"
            )


def check_precision(models: Models, embed: Embed) -> None:
    """Raises ValueError if an adapter is to be applied to vectors in int8."""
    for row, model in models.items():
        if model.objective.name == "adapter" and precision_of(model, embed) == "int8":
            raise ValueError(
                f"models.{row}: its precision is int8, and an adapter is applied to vectors in "
                "float32 or bfloat16; set precision: bfloat16 for the row"
            )


def _trained(models: Models) -> Iterator[tuple[str, Trained]]:
    """The models that train, with their objectives."""
    for row, model in models.items():
        if not isinstance(model.objective, NoObjective):
            yield row, model.objective
