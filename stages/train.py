"""train@model: fine-tunes the row's encoder with its objective.

With `objective: {name: none}` passes the weights on.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lineup import cli, machine, paths
from lineup.errors import UserError
from lineup.fingerprint import fingerprint
from lineup.objectives import none
from lineup.settings import prepared_size, training_photos
from lineup.settings.params import Params
from lineup.settings.training import NoObjective, Trained, settings_of
from lineup.storage import csv_files, files
from lineup.training import data

if TYPE_CHECKING:  # torch is imported where something is trained: passing weights on takes no time
    from lineup.training.checkpoint import Epoch
    from lineup.training.loop import Result

LOG: tuple[str, ...] = ("epoch", "loss", "map_at_r", "learning_rate", "drawn", "drawn_so_far", "idle")


def log_csv(entries: list[Epoch]) -> str:
    """One line per epoch; epoch 0 is the encoder before training, which has no loss.

    No times: equal trainings give equal bytes.
    """
    lines = (
        [None if (value := getattr(entry, name)) is None else f"{value:.6g}" for name in LOG]
        for entry in entries
    )
    return csv_files.csv_text(LOG, lines)


def costs(result: Result) -> dict[str, Any]:
    """What the training took, over all its interruptions, and what the table should say of it."""
    progress = result.progress
    return {
        "minutes": round(progress.seconds / 60, 3),
        "note": result.note,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "images_per_second": round(progress.images / progress.training_seconds, 2)
        if progress.training_seconds
        else None,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "device": result.device,
        "curve": [
            {name: value if value is None else float(f"{value:.6g}") for name, value in asdict(entry).items()}
            for entry in progress.log
        ],
    }


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("train", argv)
    objective = params.models[model].objective
    if isinstance(objective, NoObjective):
        none.pass_on(paths.weights(model), paths.trained(model), log_csv([]))
        files.write_json(paths.costs("train", model), {"row": model, "minutes": 0.0, "note": None})
        return
    try:
        _train(model, objective, params)
    except UserError as error:
        raise UserError(f"{paths.PARAMS}: models.{model}.objective: {error}") from None


def _train(model: str, objective: Trained, params: Params) -> None:
    settings = settings_of(params.train, objective)
    manifest = data.read_manifest(paths.manifest("train"))
    training_photos.check(objective.needs, settings, data.counts(manifest))  # before torch is loaded
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA needs to be repeatable
    from lineup.encoders import encoder_folder
    from lineup.training import checkpoint, loop

    encoder = encoder_folder.load(paths.weights(model))
    resize_px = max(encoder.config.resize_px, settings.image_size or 0)
    if fault := prepared_size.fault(model, resize_px, params.preprocess.shorter_side_px):
        raise UserError(fault)
    decides = loop.ingredients(
        objective, settings, encoder.config, manifest, paths.images("train"), params.seed
    )
    cache = paths.CACHE / "training"
    sources = loop.Sources(paths.weights(model), paths.images("train"), cache / fingerprint(decides))
    checkpoint.prune(cache, sources.checkpoint)
    result = loop.train(objective, settings, encoder, manifest, sources, params.seed)
    encoder_folder.save(
        paths.trained(model),
        result.module,
        result.facts.model_copy(update={"trained": {**decides, "best_epoch": result.progress.best_epoch}}),
    )
    files.write_text(paths.trained(model) / "log.csv", log_csv(result.progress.log))
    files.write_json(
        paths.costs("train", model), {"row": model, **costs(result), "fingerprint": sources.checkpoint.name}
    )


if __name__ == "__main__":
    cli.run(main)
