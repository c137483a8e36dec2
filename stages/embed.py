"""embed@model: one vector per test image; computes only those that no earlier run has computed."""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from lineup import cli, machine, paths
from lineup.embedding import dvc_cache, job
from lineup.embedding.job import Work
from lineup.embedding.vector_cache import VectorCache
from lineup.encoders import encoder as encoders
from lineup.encoders import model_folder
from lineup.fingerprint import fingerprint
from lineup.settings import prepared_size
from lineup.storage import files

log = logging.getLogger(__name__)

MEASUREMENT = "measurement.json"
NOT_MEASURED = {
    "images_per_second": None,
    "measured_images": 0,
    "peak_memory_mb": None,
    "peak_gpu_memory_mb": None,
    "device": None,
}


def restore(model: str, key: str, cache: VectorCache) -> int:
    """Takes what the side cache lacks, vectors and measurement, from the row's last result in the DVC cache."""
    taken = dvc_cache.restore(model, key, cache)
    costs = dvc_cache.costs(model, key) if taken else None
    if costs and NOT_MEASURED.keys() <= costs.keys() and _kept(cache.folder / MEASUREMENT) == NOT_MEASURED:
        _keep(cache.folder / MEASUREMENT, {fact: costs[fact] for fact in NOT_MEASURED})
    if taken:
        log.info("%s: %d vectors of the last result are in the DVC cache", model, taken)
    return taken


def _kept(file: Path) -> dict[str, Any]:
    """What is damaged in any way counts as absent, as everywhere in the side cache."""
    try:
        content = json.loads(file.read_bytes())
        intact = content["sha256"] == fingerprint(content["measurement"])
    except (OSError, ValueError, KeyError, TypeError):
        return NOT_MEASURED
    return content["measurement"] if intact else NOT_MEASURED


def _keep(file: Path, measured: dict[str, Any]) -> None:
    files.write_json(file, {"measurement": measured, "sha256": fingerprint(measured)})


def measurement(cache: VectorCache, work: Work, device: torch.device) -> dict[str, Any]:
    """The measurement over most images so far: a handful of new photos, or none, doesn't replace that of a
    full run.
    """
    file = cache.folder / MEASUREMENT
    earlier = _kept(file)
    if earlier["measured_images"] > work.measured_images or not work.measured_images:
        return earlier
    gpu = device.type == "cuda"
    now = {
        "images_per_second": round(work.measured_images / work.measured_seconds, 2),
        "measured_images": work.measured_images,
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1) if gpu else None,
        "device": torch.cuda.get_device_name()
        if gpu
        else f"{machine.cpu_name()}, {machine.threads()} threads",
    }
    _keep(file, now)
    return now


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("embed", argv)
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what was freed of the photos' bytes
    start = time.perf_counter()
    folder, photos = model_folder.resolve(paths.model(model)), paths.images("test")
    facts = files.read_json(folder / encoders.FACTS_FILE)
    prepared_size.check(model, facts["resize_px"], params.preprocess.shorter_side_px)
    vectors = job.settle(folder, photos, params.embed, partial(restore, model))
    work = job.compute(vectors, photos, params.embed)
    engine, rows = vectors.engine, job.write(model, "test", vectors)
    costs = {
        **measurement(vectors.cache, work, engine.device),
        **{
            name: facts.get(name)
            for name in (
                "parameters",
                "gflops",
                "dim",
                "image_size",
                "resize_px",
                "random",
                "licence",
                "source",
            )
        },
        "row": model,
        "seconds": round(time.perf_counter() - start, 3),
        "fingerprint": vectors.fingerprint,
        "pixels": vectors.pixels_fingerprint,
        "computed": work.computed,
        "reused": work.images - work.computed,
        "engine": engine.described,
        "precision": engine.precision,
    }
    files.write_json(paths.costs("embed", model), costs)
    log.info(
        "%s: %d vectors of %d dimensions, %d of them computed now", model, rows, facts["dim"], work.computed
    )


if __name__ == "__main__":
    cli.run(main)
