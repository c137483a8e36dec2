"""The vectors of a row's last result, out of the DVC cache: for a clone whose side cache is empty but that
ran `dvc pull`.

DVC removes a stage's outs before it runs the stage; dvc.lock still names them by hash, and the DVC cache
still has them. Whatever is missing, damaged, or was computed in another way isn't used: the vectors are
computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lineup import paths
from lineup.embedding import vector_cache
from lineup.embedding.vector_cache import VectorCache
from lineup.paths import Part
from lineup.storage import embeddings

LOCK = Path("dvc.lock")


def restore(model: str, fingerprint: str, cache: VectorCache, part: Part = "test") -> int:
    """Puts the vectors of the row's last result into `cache`, if they have this fingerprint.

    How many were new there.
    """
    outs = _outs(f"embed@{model}" if part == "test" else f"embed_train@{model}")
    listing = outs.get(paths.embeddings(model, part).as_posix())
    objects = _dvc_cache() if listing else None
    if not listing or objects is None:
        return 0
    return sum(_take(file, fingerprint, cache) for file in _files(objects, listing))


def costs(model: str, fingerprint: str) -> dict[str, Any] | None:
    """What that result cost, as `embed` wrote it."""
    hashed = _outs(f"embed@{model}").get(paths.costs("embed", model).as_posix())
    objects = _dvc_cache() if hashed else None
    content = _read(objects, hashed) if hashed and objects else None
    told = json.loads(content) if content else {}
    return told if told.get("fingerprint") == fingerprint else None


def _outs(stage: str) -> dict[str, str]:
    """Path -> MD5 (of a folder: of its listing) of a stage's outs, as dvc.lock has them."""
    try:
        lock = yaml.load(LOCK.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return {out["path"]: out["md5"] for out in lock["stages"][stage]["outs"]}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}


def _dvc_cache() -> Path | None:
    """The folder of DVC's objects; a team may share one elsewhere."""
    told = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, check=False)
    return Path(os.fsdecode(told.stdout.strip())) / "files" / "md5" if told.returncode == 0 else None


def _object(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]


def _read(objects: Path, md5: str) -> bytes | None:
    """A small object, unless it is missing or damaged."""
    try:
        content = _object(objects, md5).read_bytes()
    except OSError:
        return None
    intact = hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir")
    return content if intact else None


def _files(objects: Path, listing: str) -> list[Path]:
    """The intact files of a folder."""
    content = _read(objects, listing)
    files = (
        [(_object(objects, entry["md5"]), entry["md5"]) for entry in json.loads(content)] if content else []
    )
    return [path for path, md5 in files if _md5(path) == md5]


def _md5(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:
        return None


def _take(file: Path, fingerprint: str, cache: VectorCache) -> int:
    taken = 0
    try:
        with pq.ParquetFile(file) as parquet:
            metadata = parquet.schema_arrow.metadata or {}
            if (
                metadata.get(b"fingerprint") != fingerprint.encode()
                or metadata.get(b"dim") != str(cache.dim).encode()
            ):
                return 0
            for rows in parquet.iter_batches(
                batch_size=cache.merged_rows, columns=["image_id", "prepared_id", "embedding"]
            ):
                keys = vector_cache.keys(rows)
                lacking = ~cache.has(keys)
                if lacking.any():
                    cache.add(keys[lacking], embeddings.vectors_of(rows.column("embedding"))[lacking])
                    taken += int(lacking.sum())
    except pa.ArrowInvalid:
        return taken
    return taken
