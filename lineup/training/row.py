"""The training of a row on photos: its checkpoint or last result, the training, LoRA and the blend."""

from __future__ import annotations

import logging
from dataclasses import replace

from lineup import paths
from lineup.encoders import encoder_folder
from lineup.errors import UserError
from lineup.fingerprint import fingerprint
from lineup.settings import prepared_size
from lineup.settings.objective import Trained
from lineup.settings.params import Params
from lineup.settings.training import Train
from lineup.storage import files
from lineup.training import allocation, checkpoint, loop
from lineup.training.cache_key import cache_key
from lineup.training.data import Manifest
from lineup.training.deadline import Deadline
from lineup.training.loop import Result
from lineup.training.weights import blend, last_result, lora, weights_key

log = logging.getLogger(__name__)


def train(
    row: str, objective: Trained, settings: Train, manifest: Manifest, params: Params
) -> tuple[Result, str] | None:
    """Fine-tunes the row's encoder; a checkpoint and a last result that nothing has changed for are used.

    Returns:
        The result, and the fingerprint of all that decided its weights; None where the row's last training
        stays, whose files are in place again.
    Raises:
        UserError: photos are prepared too small, or data, settings and encoder don't go together.
    """
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
        return None
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
    return replace(result, config=config), folders.checkpoint.name
