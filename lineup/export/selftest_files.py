"""Ten photos for an exported folder's self-test, with the row's own vectors and answers."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.export.search_plan import SearchPlan
from lineup.search.vectors import Vectors, prepare_vectors
from lineup.storage import embeddings, files, parquet

PHOTOS = 10
ANSWERS = 5
FOLDER = "selftest"
NEEDS_PACKAGE = "HEIC"
# Scores may differ by this share of the distance between a query's first score and its hundredth.
_TOLERANCE = 1e-3
_SPREAD_RANKS = 100
# The least cosine to the row's vectors, by the precision that they were computed in: see
# engines/conversion.py.
_LEAST_COSINE = {"float32": 0.99999}
_LEAST_COSINE_OF_OTHERS = 0.99


@dataclass(frozen=True)
class Photo:
    """A test photo whose file is here. name: in the folder."""

    image_id: str
    path: Path
    name: str


def choose() -> list[Photo]:
    """Ten test photos, spread over the queries in the order of their ids; then over the gallery.

    Photos that need a further package to be decoded come last.

    Raises:
        UserError: no file of a test photo is here.
    """
    columns = ["image_id", "split", "paths", "format"]
    manifest = parquet.read_table(paths.manifest("test"), columns=columns)
    chosen: list[Photo] = []
    needs_package = pc.field("format") == NEEDS_PACKAGE
    for wanted_images in (
        (pc.field("split") == "query") & ~needs_package,
        (pc.field("split") == "gallery") & ~needs_package,
        needs_package,
    ):
        images = manifest.filter(wanted_images)
        ids, several = (images.column(name).to_pylist() for name in ("image_id", "paths"))
        wanted = PHOTOS - len(chosen)
        spread = np.linspace(0, len(ids) - 1, min(wanted, len(ids))).astype(int).tolist()
        for position in [*spread, *sorted({*range(min(len(ids), 10 * PHOTOS))} - {*spread})]:
            if len(chosen) == PHOTOS:
                return chosen
            if ids[position] in {photo.image_id for photo in chosen}:
                continue
            if path := _file_of(ids[position], several[position]):
                suffix = re.sub(r"[^a-z0-9.]", "", path.suffix.lower())
                chosen.append(Photo(ids[position], path, f"{FOLDER}/{len(chosen) + 1:02}{suffix}"))
    if not chosen:
        raise UserError(
            f"{paths.RAW}: has no file of a test photo, which the self-test needs; put the photos back"
        )
    return chosen


def _file_of(image_id: str, several: Sequence[str]) -> Path | None:
    for path in several:
        file = paths.RAW / path
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == image_id:
            return file
    return None


def write(folder: Path, plan: SearchPlan, photos: Sequence[Photo]) -> None:
    """Writes the photos, their vectors in each space, and the row's answers to them."""
    (folder / FOLDER).mkdir()
    ids = [photo.image_id for photo in photos]
    vectors = {space: _stored(plan, plan.vectors_row(space), ids) for space in plan.spaces}
    by_model = {model: dict(zip(ids, _stored(plan, model, ids), strict=True)) for model in plan.models}
    listed: list[dict[str, Any]] = []
    spreads: list[float] = []
    for photo in photos:
        (folder / photo.name).write_bytes(photo.path.read_bytes())
        hits = plan.opened.nearest(
            lambda encoder, photo=photo: by_model[encoder.name][photo.image_id][None], _SPREAD_RANKS
        )
        spreads.append(hits[0].score - hits[-1].score if hits else 0.0)
        answers = [
            {"image_id": hit.photo.image_id, "path": hit.photo.paths[0], "score": hit.score}
            for hit in hits[:ANSWERS]
        ]
        listed.append({"file": photo.name, "image_id": photo.image_id, "answers": answers})
    np.savez(folder / FOLDER / "vectors.npz", **vectors)  # type: ignore[arg-type]
    expected = {
        "photos": listed,
        "least_cosine": least_cosine(plan.models),
        "score_tolerance": max(_TOLERANCE * float(np.median(spreads)), 1e-6),
    }
    files.write_json(folder / FOLDER / "expected.json", expected)


def least_cosine(models: Sequence[str]) -> float:
    """The least cosine between a vector of the folder's network, in float32, and the row's."""
    precisions = [row_metrics.read(model).costs.precision or "" for model in models]
    return min(_LEAST_COSINE.get(precision, _LEAST_COSINE_OF_OTHERS) for precision in precisions)


def _stored(plan: SearchPlan, row: str, ids: Sequence[str]) -> Vectors:
    """The row's vectors of some images as they are compared, float32 [N, D]."""
    by_id: dict[str, Vectors] = {}
    wanted = {*ids}
    for batch in embeddings.read_vectors(paths.embeddings(row)):
        batch_ids, vectors = embeddings.ids_and_vectors(batch)
        by_id |= {image: vector for image, vector in zip(batch_ids, vectors, strict=True) if image in wanted}
    stacked = np.stack([by_id[image] for image in ids])
    return prepare_vectors(plan.metric(row), [*ids], stacked, str(paths.embeddings(row)))


def run(folder: Path, row: str) -> None:
    """Runs the self-test as a service's owner would.

    Raises:
        UserError: the folder does not compute what the row computed.
    """
    command = [sys.executable, "-B", "-P", "selftest.py"]
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve()), "PYTHONUTF8": "1"}
    tested = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    if tested.returncode:
        lines = [line for line in tested.stderr.splitlines() if line.strip()] or ["it printed nothing"]
        more = f" ({len(lines) - 1} more)" if len(lines) > 1 else ""
        raise UserError(
            f"{row}: the exported folder fails its self-test: {lines[0]}{more}; nothing was written"
        )
