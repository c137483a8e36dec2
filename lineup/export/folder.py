"""`lineup export ROW --to`: a folder with all that a service needs of a row, in open formats."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lineup import paths
from lineup.encoders import model_folder, origin
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError, printable
from lineup.evaluation import row_metrics
from lineup.evaluation.thresholds import Threshold
from lineup.export import (
    card,
    gallery_files,
    licences,
    match_threshold,
    networks,
    random_weights,
    search_plan,
    selftest_files,
    transform_steps,
)
from lineup.export.handed_over import lineup_row
from lineup.export.search_plan import SearchPlan
from lineup.serving import gallery_photos
from lineup.settings.params import Params
from lineup.storage import embeddings, files, parquet

log = logging.getLogger(__name__)
JsonObject = dict[str, Any]

SETTINGS_FILE = "settings.json"
_MADE_BY = "Lineup"
_FORMAT = 1
_MODULES = ("lineup_row.py", "selftest.py")
# The names of all that an export may have written or Python may have added.
_WRITTEN = (
    *_MODULES,
    *("settings.json", "README.md", "LICENSES", "selftest", "__pycache__"),
    *("gallery.csv", "gallery.parquet", "index*.faiss", "candidates_*.faiss", "learned_*.npz"),
    *("encoder*.onnx", "encoder*.onnx.data", "text*.onnx", "text*.onnx.data", "text*_tokenizer.json"),
)
# What decides vectors and answers in the folder, by the names that pip knows.
_PACKAGES = ("numpy", "pillow", "onnxruntime", "faiss-cpu")


def run(row: str, target: Path, params: Params, *, threshold: Threshold | None, force: bool) -> None:
    """Writes the folder, which appears as a whole after its self-test has passed.

    Args:
        threshold: the score from which on an answer is a match; None for the row's own.
        force: replaces a folder that is no export.
    Raises:
        UserError: the row is not finished or cannot be exported, or the folder cannot be written.
    """
    networks.check_installed()
    check_target(target, force)
    photos = gallery_photos.read(params.relevance.exclude)
    plan = search_plan.make(row, params, photos)
    configs = {model: origin.model_config(model, params) for model in plan.models}
    _refuse_random(row, configs)
    row_metrics.read(row)
    rights = [licences.of_model(model, config) for model, config in configs.items()]
    for each in rights:
        if each.warning:
            log.warning("WARNING: %s", printable(each.warning))
    chosen = match_threshold.chosen(row, threshold)
    samples = selftest_files.choose()

    def write(folder: Path) -> None:
        folder.mkdir()
        encoders = {model: _write_networks(model, plan, folder) for model in plan.models}
        plan.write(folder)
        gallery_files.write(folder, photos, plan)
        content = settings(plan, encoders, chosen, len(photos.ids))
        files.write_json(folder / SETTINGS_FILE, content)
        for name in _MODULES:
            shutil.copyfile(Path(lineup_row.__file__).with_name(name), folder / name)
        files.write_text(folder / "LICENSES", licences.text(rights))
        files.write_text(folder / "README.md", card.text(plan, content, rights))
        selftest_files.write(folder, plan, samples)
        selftest_files.run(folder, row)

    files.replace_atomically(target, write)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    log.info("%s: %s, %.1f MB; its self-test passes", printable(str(target)), row, size / 1e6)


def check_target(target: Path, force: bool) -> None:
    """UserError unless a folder can be written there and nothing but an export would be lost."""
    shown = printable(str(target))
    if target.is_file():
        raise UserError(f"--to {shown}: is a file; name a folder")
    if Path.cwd().is_relative_to(target.resolve()):
        raise UserError(f"--to {shown}: holds this project; name a folder of its own, such as out/ROW")
    raw = paths.RAW.resolve()
    if raw.is_relative_to(target.resolve()) or target.resolve().is_relative_to(raw):
        raise UserError(f"--to {shown}: is where your photos lie; name a folder of its own, such as out/ROW")
    if target.is_dir() and any(target.iterdir()) and not force:
        if not _is_export(target):
            raise UserError(
                f"--to {shown}: exists and is no export of Lineup; name another folder, "
                "or use --force to replace it"
            )
        if others := sorted(path.name for path in target.iterdir() if not _is_written(path.name)):
            raise UserError(
                f"--to {shown}: holds {printable(others[0])}, which no export wrote; move it, "
                "or use --force to replace the folder with all that it holds"
            )


def _is_written(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _WRITTEN)


def _is_export(folder: Path) -> bool:
    try:
        content = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        return str(content["made_by"]).startswith(_MADE_BY) and (folder / _MODULES[0]).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse_random(row: str, configs: dict[str, EncoderConfig]) -> None:
    for model, config in configs.items():
        if config.random:
            raise random_weights.refusal(row, model)


def _write_networks(model: str, plan: SearchPlan, folder: Path) -> JsonObject:
    """Writes a model's towers; returns its entry of settings.json."""
    source = model_folder.resolve(paths.model(model))
    encoder, text = networks.load(source)
    suffix = "" if len(plan.models) == 1 else f"_{model}"
    file, text_file = f"encoder{suffix}.onnx", f"text{suffix}.onnx"
    steps = transform_steps.steps(model, encoder)
    networks.write_encoder(model, encoder, folder / file)
    written = text and networks.write_text(model, text, source, folder, text_file)
    return {
        "file": file,
        "fingerprint": embeddings.origin(paths.embeddings(model)).fingerprint,
        "metric": plan.metric(model),
        "dimensions": encoder.dim,
        "image_size": encoder.config.image_size,
        "steps": steps,
        **transform_steps.scaling(encoder.config),
        "text": {"file": text_file, **written.to_json()} if written else None,
    }


def settings(
    plan: SearchPlan, encoders: dict[str, JsonObject], threshold: JsonObject | None, images: int
) -> JsonObject:
    """The content of settings.json, after the plan has named its files.

    Args:
        encoders: an entry for each model.
        threshold: what `match_threshold.chosen` returned.
        images: how many the gallery has.
    """
    spaces = {
        space: {
            "index": plan.index_file(space),
            "column": gallery_files.vector_column(space, plan),
            "metric": plan.metric(space),
            "dimensions": _dimensions(plan.vectors_row(space)),
        }
        for space in plan.spaces
    }
    return {
        "format": _FORMAT,
        "made_by": f"{_MADE_BY} {metadata.version('lineup')}",
        "row": plan.row,
        "fingerprint": _fingerprint([str(encoder["fingerprint"]) for encoder in encoders.values()]),
        "preparation": {"shorter_side_px": plan.params.preprocess.shorter_side_px},
        "encoders": encoders,
        "spaces": spaces,
        "rows": plan.rows,
        "threshold": threshold,
        "thresholds": match_threshold.listed(plan.row) if threshold else [],
        "gallery_images": images,
        "versions": {package: metadata.version(package) for package in _PACKAGES},
    }


def _dimensions(row: str) -> int:
    shard = parquet.shards(paths.embeddings(row))[0]
    return parquet.read_schema(shard).field("embedding").type.list_size


def _fingerprint(parts: Sequence[str]) -> str:
    """The fingerprint of the only model's vectors, or one of all of them."""
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()
