"""The vectors of a row's last result, from the DVC cache.

A clone that ran `dvc pull` has them there, while its local cache is empty. DVC removes a stage's outs before
it runs the stage, but dvc.lock still names them by their hash, and the DVC cache still has them. Files that
are missing, damaged, or have another fingerprint are not used: their vectors are computed again.
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


def restore(row: str, fingerprint: str, cache: VectorCache, part: Part = "test") -> int:
    """Adds the vectors of the row's last result to `cache`, if they have this fingerprint.

    Returns:
        How many of them were not in the cache.
    """
    outs = _outs(f"embed@{row}" if part == "test" else f"embed_train@{row}")
    listing = outs.get(paths.embeddings(row, part).as_posix())
    objects = _dvc_cache() if listing else None
    if not listing or objects is None:
        return 0
    return sum(_add_vectors(file, fingerprint, cache) for file in _files(objects, listing))


def costs(row: str, fingerprint: str) -> dict[str, Any] | None:
    """The costs file of the row's last result; None if it is missing, damaged or of another fingerprint."""
    md5 = _outs(f"embed@{row}").get(paths.costs("embed", row).as_posix())
    objects = _dvc_cache() if md5 else None
    content = _read(objects, md5) if md5 and objects else None
    written = json.loads(content) if content else {}
    return written if written.get("fingerprint") == fingerprint else None


def _outs(stage: str) -> dict[str, str]:
    """The MD5 of a stage's outs by path, from dvc.lock; the MD5 of a folder is that of its listing."""
    try:
        lock = yaml.load(LOCK.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return {out["path"]: out["md5"] for out in lock["stages"][stage]["outs"]}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}


def _dvc_cache() -> Path | None:
    """The folder of DVC's objects, which may lie outside the repository; None if `dvc cache dir` fails."""
    dvc = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, check=False)
    return Path(os.fsdecode(dvc.stdout.strip())) / "files" / "md5" if dvc.returncode == 0 else None


def _object(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]


def _read(objects: Path, md5: str) -> bytes | None:
    """The content of a small object; None if it is missing or damaged."""
    try:
        content = _object(objects, md5).read_bytes()
    except OSError:
        return None
    intact = hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir")
    return content if intact else None


def _files(objects: Path, listing: str) -> list[Path]:
    """The intact files of the folder with this listing."""
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


def _add_vectors(file: Path, fingerprint: str, cache: VectorCache) -> int:
    """Adds the vectors of a Parquet file to the cache, and returns how many of them were new."""
    added = 0
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
                missing = ~cache.has(keys)
                if missing.any():
                    cache.add(keys[missing], embeddings.vectors_of(rows.column("embedding"))[missing])
                    added += int(missing.sum())
    except pa.ArrowInvalid:
        return added
    return added
