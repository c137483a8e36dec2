"""index, retrieve and score with 10k, 100k and 1M synthetic vectors: time, peak memory, and how they grow.

Run: python -m benchmarks.scale [--index flat|hnsw|ivf|ivfpq|auto] [--sizes 10000,100000,1000000]
         [--dim 512] [--queries 1000]
Takes about 4 minutes on two cores, and needs Linux and 5 GB of the temporary folder.
Vectors are clustered, 50 to a label. Each stage is a process of its own, as DVC starts it. Peak memory
includes the pages of a mapped index, which the system takes back when it needs them; "anonymous" leaves them
out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from benchmarks import command
from lineup import cli, machine, paths
from lineup.storage import embeddings, files, parquet, schemas

ROOT = Path(__file__).resolve().parent.parent

STAGES = ("index", "retrieve", "score")
VECTORS_PER_LABEL, VECTORS_PER_BATCH = 50, 8_192


def lay_out(folder: Path, rows: int, dim: int, queries: int, index: str) -> None:
    """Writes what preprocess, train and embed write: a manifest, vectors, costs."""
    random = np.random.default_rng(0)
    labels = max(2, rows // VECTORS_PER_LABEL)
    of = random.integers(0, labels, rows + queries)
    splits = np.where(random.permutation(rows + queries) < queries, "query", "gallery")
    digits = np.sort(random.integers(0, 2**63, rows + queries, dtype=np.uint64))
    ids = [f"{d:016x}{i:048x}" for i, d in enumerate(digits)]
    names = pa.array([f"label {label}" for label in of])
    photo_paths = pa.array([[f"test/{i}.jpg"] for i in range(len(ids))], pa.list_(pa.string()))
    same = {"pixels_id": pa.array(ids), "format": pa.array(["JPEG"] * len(ids))}
    sides = pa.array(np.full(len(ids), 8, np.int32))
    columns = {
        "image_id": pa.array(ids),
        "split": pa.array(splits),
        "label": names,
        "paths": photo_paths,
        "width": sides,
        "height": sides,
        **same,
    }
    parquet.write_table(
        folder / paths.manifest("test"),
        pa.table([columns[f.name] for f in schemas.MANIFEST], schemas.MANIFEST),
    )
    parquet.write_table(folder / paths.QRELS, schemas.QRELS.empty_table())
    # Like embeddings of photos, the vectors vary in some tens of directions much more than in the others.
    centres, directions = (
        random.standard_normal((labels, 32), np.float32),
        random.standard_normal((32, dim), np.float32),
    )
    schema = schemas.embeddings_schema(dim)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(ids), VECTORS_PER_BATCH):
            part = slice(start, start + VECTORS_PER_BATCH)
            inner = centres[of[part]] + 0.7 * random.standard_normal((len(of[part]), 32), np.float32)
            vectors = (
                inner @ directions + 0.5 * random.standard_normal((len(inner), dim), np.float32)
            ).astype(np.float32)
            known = {
                "image_id": pa.array(ids[part]),
                "split": pa.array(splits[part]),
                "prepared_id": pa.array(ids[part]),
            }
            yield embeddings.embeddings_batch(pa.RecordBatch.from_pydict(known), vectors.astype(np.float32))

    parquet.write_shards(
        folder / paths.embeddings("a"), schema, batches(), len(ids), schemas.VECTORS_PER_SHARD, {"model": "a"}
    )
    files.write_json(folder / paths.costs("embed", "a"), {"row": "a", "fingerprint": None})
    files.write_json(folder / paths.costs("train", "a"), {"minutes": 0.0})
    encoder = {"library": "torchvision", "name": "resnet18", "weights": "hub"}
    row = {"encoder": encoder, "objective": {"name": "none"}, "search": {"metric": "cosine", "index": index}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"models": {"a": row}}), encoding="utf-8")


_STAGE = """
import importlib, sys, threading, time
from pathlib import Path
peak = 0
def kilobytes(name):
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(name)).split()[1])
def anonymous():
    global peak
    while True:
        peak = max(peak, kilobytes("RssAnon"))
        time.sleep(0.01)
threading.Thread(target=anonymous, daemon=True).start()
importlib.import_module("stages." + sys.argv[1]).main(["--row", "a"])
print(kilobytes("VmHWM"), peak)
"""


def measure(folder: Path, stage: str) -> tuple[float, float, float]:
    """Runs a stage. Returns its seconds, its peak memory and its peak anonymous memory in MB."""
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _STAGE, stage]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} ended with {done.returncode}\n{done.stderr}")
    peak, anonymous = (int(part) * 1024 / 1e6 for part in done.stdout.split())
    return time.monotonic() - start, peak, anonymous


def main() -> None:
    parser = command.parser("scale")
    parser.add_argument("--index", default="flat", choices=("flat", "hnsw", "ivf", "ivfpq", "auto"))
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1_000)
    asked = parser.parse_args()
    libraries = ("faiss-cpu", "numpy", "pyarrow")
    print(
        f"{machine.cpu_name()}, {machine.threads()} threads; "
        + ", ".join(f"{name} {version(name)}" for name in libraries)
    )
    print(f"index: {asked.index}, {asked.dim} dimensions, {asked.queries:,} queries")
    before: dict[str, tuple[int, float, float]] = {}
    for rows in map(int, asked.sizes.split(",")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lay_out(folder, rows, asked.dim, asked.queries, asked.index)
            for stage in STAGES:
                seconds, peak, anonymous = measure(folder, stage)
                memory = f"peak {peak:6.0f} MB, anonymous {anonymous:6.0f} MB"
                growth = ""
                if stage in before:
                    fewer, faster, lighter = before[stage]
                    slope = np.log(seconds / faster) / np.log(rows / fewer)
                    added_bytes = (peak - lighter) * 1e6 / (rows - fewer)
                    growth = f"  time ~ n^{slope:.2f}, {added_bytes:.0f} bytes more for each vector"
                before[stage] = (rows, seconds, peak)
                print(f"{rows:9,} {stage:8} {seconds:7.1f} s  {memory}{growth}", flush=True)
            size = (folder / paths.index("a")).stat().st_size / 1e6
            searched = json.loads((folder / paths.costs("retrieve", "a")).read_text())
            built = (
                json.loads((folder / paths.costs("index", "a")).read_text())
                .get("search", {})
                .get("parameters", "exact")
            )
            query = f"query {searched['query_ms']:.2f} ms, recall {searched.get('ann_recall', 1)}"
            print(f"{rows:9,} index file {size:.0f} MB, {built}, {query}")


if __name__ == "__main__":
    cli.run(main)
