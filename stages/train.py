"""train@row: fine-tunes the row's encoder with its objective.

With `objective: {name: none}`, the row's model is a pointer to the fetched weights. With `adapter`, it is
that pointer and the adapter: the encoder itself is not trained.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lineup import cli, machine, paths
from lineup.encoders import origin
from lineup.errors import UserError
from lineup.fingerprint import fingerprint
from lineup.objectives import none
from lineup.settings import label_share, prepared_size, training_photos
from lineup.settings.adapter import Adapter
from lineup.settings.objective import NoObjective, Trained
from lineup.settings.params import Params
from lineup.settings.training import Train, settings_of
from lineup.storage import csv_files, files
from lineup.training import data

if TYPE_CHECKING:  # importing torch takes seconds, which a row that is not trained need not wait for
    from lineup.adapters.learning import Learned
    from lineup.training.checkpoint import Epoch
    from lineup.training.loop import Result

log = logging.getLogger(__name__)

LOG_COLUMNS = ("epoch", "loss", "map_at_r", "learning_rate", "drawn", "drawn_so_far", "idle")


@dataclass(frozen=True)
class TrainCosts:
    """What a training took, over all its interruptions, and a note on it for the comparison.

    Args:
        row: the row's name.
        minutes: how long it ran.
        note: what a reader of the comparison has to know; None where there is nothing.
        epochs: how many it trained to their end.
        best_epoch: the epoch whose weights are kept.
        images_per_second: of its steps, each view of an image counted; None where there was no step.
        peak_memory_mb: the most memory that the process has held.
        device: the name of what it was trained on.
        curve: a record per epoch.
        fingerprint: of all that decides the weights.
        labelled_photos: how many photos had a label that the row may see, those held out included.
        labels: of the photos that the weights were trained on, sorted; of an objective without labels, too.
        finished: False where the deadline stopped it, so that more time would train it further.
    """

    row: str
    minutes: float
    note: str | None
    epochs: int
    best_epoch: float
    images_per_second: float | None
    peak_memory_mb: float
    device: str
    curve: list[dict[str, float | None]]
    fingerprint: str
    labelled_photos: int
    labels: list[str]
    finished: bool


def log_csv(epochs: list[Epoch]) -> str:
    """A line per epoch; epoch 0 is the encoder before training, which has no loss.

    It holds no times, so that equal trainings give equal bytes.
    """
    lines = (
        [None if (value := getattr(epoch, name)) is None else f"{value:.6g}" for name in LOG_COLUMNS]
        for epoch in epochs
    )
    return csv_files.csv_text(LOG_COLUMNS, lines)


def costs(
    row: str, result: Result | Learned, fingerprint: str, manifest: data.Manifest, parts: data.Parts
) -> TrainCosts:
    """What a training took. Values of the curve are rounded to six digits."""
    trained = np.unique(manifest.labels[parts.train]).tolist()
    progress = result.progress
    curve = [
        {name: value if value is None else float(f"{value:.6g}") for name, value in asdict(epoch).items()}
        for epoch in progress.log
    ]
    return TrainCosts(
        row=row,
        minutes=round(progress.seconds / 60, 3),
        note=result.note,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        images_per_second=round(progress.images / progress.training_seconds, 2)
        if progress.training_seconds
        else None,
        peak_memory_mb=round(machine.peak_memory_mb(), 1),
        device=result.device,
        curve=curve,
        fingerprint=fingerprint,
        labelled_photos=int((manifest.labels >= 0).sum()),
        labels=[manifest.names[label] for label in trained if label >= 0],
        finished=progress.finished,
    )


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("train", argv)
    objective = params.models[row].objective
    origin.fetched_config(row, params)
    if isinstance(objective, NoObjective):
        none.point_to_weights(paths.weights(row), paths.model(row), log_csv([]))
        files.write_json(paths.costs("train", row), {"row": row, "minutes": 0.0, "note": None})
        return
    try:
        _train(row, objective, params)
    except UserError as error:
        raise UserError(f"{paths.PARAMS}: models.{row}.objective: {error}") from None


def _train(row: str, objective: Trained, params: Params) -> None:
    settings = settings_of(params.train, objective)
    manifest = data.read_manifest(paths.manifest("train"))
    if objective.label_share < 1:
        seen = label_share.visible(manifest.labels, manifest.names, objective.label_share, params.seed)
        manifest = data.Manifest(manifest.ids, *seen)
    training_photos.check(objective.needs, settings, data.counts(manifest))  # before torch is loaded
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it CUDA does not repeat its results
    if isinstance(objective, Adapter):
        _train_adapter(row, objective, settings, manifest, params)
        return
    from lineup.encoders import encoder_folder
    from lineup.training import allocation, checkpoint, loop
    from lineup.training.cache_key import cache_key
    from lineup.training.deadline import Deadline
    from lineup.training.weights import blend, last_result, lora, weights_key

    encoder, photos = encoder_folder.load(paths.weights(row)), paths.images("train")
    resize_px = max(encoder.config.resize_px, settings.image_size or 0)
    if fault := prepared_size.fault(row, resize_px, params.preprocess.shorter_side_px):
        raise UserError(fault)
    low_rank = lora.add(encoder, settings.lora, params.seed) if settings.lora else None
    key = cache_key(objective, settings, encoder.config, manifest, photos, params.seed)
    key = weights_key.with_lora(key, settings)
    trained = key if settings.blend == 1 else {**key, "blend": settings.blend}
    cache = paths.CACHE / "training"
    folders = loop.Folders(paths.weights(row), photos, cache / fingerprint(key))
    if not folders.checkpoint.exists() and last_result.restore(row, trained):
        log.info("%s: its last training stays, as nothing has changed that decides its weights", row)
        return
    files.mark_used(folders.checkpoint)
    checkpoint.prune(cache, folders.checkpoint)
    deadline = Deadline(60 * settings.max_minutes)
    if low_rank:
        settings = settings.model_copy(update={"batch_norm": "frozen"})
    allocation.keep_freed_memory()
    result = loop.train(objective, settings, encoder, manifest, folders, params.seed, deadline)
    if low_rank:
        low_rank.merge()
    if settings.blend != 1:
        start = encoder_folder.load(paths.weights(row)).module.state_dict()
        blend.blend(encoder.module, start, settings.blend)  # a new head has no start
    trained = {**trained, "best_epoch": result.progress.best_epoch}
    config = result.config.model_copy(update={"trained": trained})
    encoder_folder.save(paths.model(row), result.module, config)
    files.write_text(paths.model(row) / "log.csv", log_csv(result.progress.log))
    parts = data.split(manifest, settings, objective.needs, params.seed)
    measured = costs(row, result, folders.checkpoint.name, manifest, parts)
    files.write_json(paths.costs("train", row), asdict(measured))


def _train_adapter(
    row: str, objective: Adapter, settings: Train, manifest: data.Manifest, params: Params
) -> None:
    from lineup.adapters import row as adapter_row
    from lineup.encoders import adapter

    learned, trained = adapter_row.train(row, objective, settings, manifest, params)
    log = log_csv(learned.progress.log)
    adapter.save(paths.model(row), paths.weights(row), learned.adapter, trained, log)
    parts = data.split(manifest, settings, objective.needs, params.seed)
    measured = costs(row, learned, fingerprint(trained), manifest, parts)
    files.write_json(paths.costs("train", row), asdict(measured))


if __name__ == "__main__":
    cli.run(main)
