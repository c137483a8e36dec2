"""What decides the weights that a training ends with: the key under which its checkpoints are cached."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lineup.encoders import encoder_folder, libraries
from lineup.encoders.encoder_config import TEXT_FIELDS, EncoderConfig
from lineup.evaluation import metrics
from lineup.fingerprint import code_digest
from lineup.objectives.objective import load_objective, objective_code
from lineup.photos import decoding
from lineup.search import (
    faiss_candidates,
    faiss_search,
    faiss_vectors,
    flat_index,
    hits,
    pair_scores,
    vectors,
)
from lineup.settings import training_photos
from lineup.settings.objective import Trained
from lineup.settings.training import Train
from lineup.storage import parquet
from lineup.training.data import Manifest
from lineup.training.device import choose_device

# Settings that decide no weight. With more time, a training resumes where its deadline stopped it.
_DECIDING_NOTHING = {"max_minutes", "memory_mb", "device"}
# The modules that decide weights beside those of this folder: of the images, and of the score of an epoch.
_MODULES = (
    *(faiss_candidates, faiss_search, faiss_vectors, flat_index, hits, metrics, pair_scores, vectors),
    training_photos,
)
_CODE_DECIDING_NOTHING = {"__init__.py", "costs.py", "log_file.py", "notes.py"}


def cache_key(
    row: Trained, settings: Train, config: EncoderConfig, manifest: Manifest, photos: Path, seed: int
) -> dict[str, Any]:
    """All that decides the weights that a training ends with, as JSON; its fingerprint names the checkpoint.

    Args:
        row: the row's objective.
        settings: the training loop's, for this row.
        config: the fetched encoder's.
        manifest: the training images.
        photos: the folder of their prepared shards.
        seed: the pipeline's.
    """
    training = [
        file for file in sorted(Path(__file__).parent.glob("*.py")) if file.name not in _CODE_DECIDING_NOTHING
    ]
    modules = (Path(str(module.__file__)) for module in _MODULES)
    code = [*training, *decoding.CODE, *modules, *objective_code(row.name)]
    code += [*encoder_folder.CODE, *libraries.source_files(config.library)]
    packages = load_objective(row.name).PACKAGES
    return {
        "encoder": config.deciding(),
        "text": {name: config.to_json().get(name) for name in sorted(TEXT_FIELDS)},
        "objective": row.model_dump(mode="json", exclude=set(Train.model_fields)),
        "needs": asdict(row.needs),
        "settings": settings.model_dump(mode="json", exclude=_DECIDING_NOTHING),
        "seed": seed,
        "images": manifest.digest(),
        "preparation": _preparation(photos),
        "device": choose_device(settings.device).type,
        "versions": libraries.versions(*config.versions, "torchvision", *packages),
        "code": code_digest(*code),
    }


def _preparation(photos: Path) -> str:
    """How `preprocess` prepared the images, as their shards say."""
    metadata = parquet.read_schema(parquet.shards(photos)[0]).metadata or {}
    return metadata.get(b"preparation", b"").decode()
