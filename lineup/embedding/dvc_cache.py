"""The vectors of rows' last results, from the DVC cache (`dvc_objects.py`).

Files that are missing, damaged, or have another fingerprint are not used: their vectors are computed again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lineup import paths
from lineup.embedding import vector_cache
from lineup.embedding.vector_cache import VectorCache
from lineup.paths import Part
from lineup.storage import dvc_objects, embeddings

_STAGES: dict[Part, str] = {"test": "embed", "train": "embed_train"}


def rows(row: str, part: Part = "test") -> list[str]:
    """The rows whose last result may have the vectors of `row`, beginning with `row` itself.

    Rows that are not trained share the vectors of their encoder, as do rows with an adapter.
    """
    others = dvc_objects.rows_of(_STAGES[part])
    return [row, *(other for other in others if other != row)]


def restore(row: str, fingerprint: str, cache: VectorCache, part: Part = "test") -> int:
    """Adds the vectors of the row's last result to `cache`, if they have this fingerprint.

    Returns:
        How many of them were not in the cache.
    """
    outs = dvc_objects.outs(f"{_STAGES[part]}@{row}")
    listing = outs.get(paths.embeddings(row, part).as_posix())
    objects = dvc_objects.folder() if listing else None
    if not listing or objects is None:
        return 0
    stored = dvc_objects.listed(objects, listing)
    of_encoder = [file for file in stored if _fingerprint(file.path) == fingerprint and file.is_intact()]
    return sum(_add_vectors(file.path, cache) for file in of_encoder)


def costs(row: str, fingerprint: str) -> dict[str, Any] | None:
    """The costs file of the row's last result; None if it is missing, damaged or of another fingerprint."""
    md5 = dvc_objects.outs(f"embed@{row}").get(paths.costs("embed", row).as_posix())
    objects = dvc_objects.folder() if md5 else None
    content = dvc_objects.read(objects, md5) if md5 and objects else None
    written = json.loads(content) if content else {}
    return written if written.get("fingerprint") == fingerprint else None


def _fingerprint(file: Path) -> str | None:
    """The fingerprint in a Parquet file's metadata; None where there is none, or no such file."""
    try:
        return (pq.read_schema(file).metadata or {}).get(b"fingerprint", b"").decode() or None
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError):
        return None


def _add_vectors(file: Path, cache: VectorCache) -> int:
    """Adds the vectors of a Parquet file to the cache, and returns how many of them were new."""
    added = 0
    try:
        with pq.ParquetFile(file) as parquet:
            if (parquet.schema_arrow.metadata or {}).get(b"dim") != str(cache.dim).encode():
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
