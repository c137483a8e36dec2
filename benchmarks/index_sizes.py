"""What an index takes on disk for each photo: calculated, and of the files that Lineup writes.

Run: python -m benchmarks.index_sizes [--photos 100000] [--dim 512]
Takes about 5 minutes on two cores.

docs/scale.md calculates larger galleries with the same formulas. Indexes are tuned to a low recall here, as
that is quick and changes no size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import command
from benchmarks.search_in_parts import gallery
from lineup import cli
from lineup.search import flat_index, parted_build
from lineup.settings.search import Index

LINKS = 32
INDEXES = (
    {"index": "flat"},
    {"index": "flat", "storage": "float16"},
    {"index": "flat", "storage": "int8"},
    {"index": "hnsw"},
    {"index": "hnsw", "storage": "int8"},
    {"index": "ivf"},
    {"index": "ivf", "storage": "int8"},
    {"index": "ivfpq", "storage": "pq"},
)


def calculated(photos: int, dim: int, index: str, storage: str) -> float:
    """Bytes for each photo: its code, its links or its place in a list, and its share of what is learned."""
    code = {"float32": 4 * dim, "float16": 2 * dim, "int8": dim, "pq": dim // 8}[storage]
    lists = min(int(4 * photos**0.5), photos // 39)
    if index == "hnsw":
        # 2 * LINKS numbers of 4 bytes on the lowest level, LINKS on each level that a photo reaches beyond it
        # (1 / LINKS of the photos reach the next), and 4 + 8 bytes for its level and where its links begin.
        return code + 4 * LINKS * (2 + 1 / (LINKS - 1)) + 12
    if index in ("ivf", "ivfpq"):
        codebook = 256 * 4 * dim if storage == "pq" else 0
        return code + 8 + (4 * dim * lists + codebook) / photos
    return code


def main() -> None:
    parser = command.parser("index_sizes")
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    asked = parser.parse_args()
    images = gallery(asked.photos, asked.dim)
    print(f"{asked.photos:,} x {asked.dim}; bytes for each photo")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.faiss"
        for chosen in INDEXES:
            index, storage = chosen["index"], chosen.get("storage", "float32")
            if storage == "float32" and index == "flat":
                flat_index.build_file(path, "cosine", asked.dim, asked.photos, images.batches(), "here")
            else:
                target = {} if index == "flat" else {"recall_target": 0.05}
                settings = Index.model_validate({**chosen, **target})
                parted_build.build_file(path, settings, images, 10, "here", None)
            written = path.stat().st_size / asked.photos
            expected = calculated(asked.photos, asked.dim, index, storage)
            print(f"  {index:6} {storage:8} calculated {expected:8,.1f}   file {written:8,.1f}", flush=True)


if __name__ == "__main__":
    cli.run(main)
