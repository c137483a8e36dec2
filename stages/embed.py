"""embed@row: one vector per test image. Computes only those that no earlier run has computed."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from lineup import cli, paths
from lineup.embedding import computation, job, measurement
from lineup.embedding.computation import EmbedStats
from lineup.embedding.job import EmbedJob
from lineup.embedding.measurement import Measurement
from lineup.encoders import origin
from lineup.encoders.encoder_config import EncoderConfig
from lineup.settings import prepared_size
from lineup.storage import files

log = logging.getLogger(__name__)

# What the comparison shows of an encoder.
CONFIG_FIELDS = ("parameters", "gflops", "dim", "image_size", "resize_px", "random", "licence", "source")


def costs(
    config: EncoderConfig, embedded: EmbedJob, stats: EmbedStats, measured: Measurement, seconds: float
) -> dict[str, Any]:
    """The content of the row's costs file; seconds: how long the stage took."""
    return {
        **asdict(measured),
        **{name: getattr(config, name) for name in CONFIG_FIELDS},
        "row": embedded.row,
        "seconds": round(seconds, 3),
        "fingerprint": embedded.key,
        "pixels": embedded.pixel_key,
        "computed": stats.computed,
        "reused": stats.images - stats.computed,
        "engine": embedded.engine.described,
        "precision": embedded.engine.precision,
    }


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("embed", argv)
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool holds on to the freed bytes of photos
    start = time.perf_counter()
    config = origin.model_config(row, params)
    prepared_size.check(row, config.resize_px, params.preprocess.shorter_side_px)
    embedded = job.prepare_job(row, "test", params.embed_of(row))
    stats = computation.compute(embedded, params.embed)
    rows = job.write(embedded)
    measured = measurement.update(
        embedded.cache.folder, stats.measured_images, stats.measured_seconds, embedded.engine.device
    )
    files.write_json(
        paths.costs("embed", row), costs(config, embedded, stats, measured, time.perf_counter() - start)
    )
    log.info(
        "%s: %d vectors of %d dimensions, %d of them computed now", row, rows, config.dim, stats.computed
    )


if __name__ == "__main__":
    cli.run(main)
