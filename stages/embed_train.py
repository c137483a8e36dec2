"""embed_train@row: one vector per training photo, for the rows that `near_copies.rows` names.

Computes only those that no earlier run has computed.
"""

from __future__ import annotations

import logging

import pyarrow as pa

from lineup import cli, paths
from lineup.embedding import computation, job
from lineup.encoders import origin

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("embed_train", argv)
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool holds on to the freed bytes of photos
    origin.model_config(row, params)
    embedded = job.prepare_job(row, "train", params.embed_of(row))
    stats = computation.compute(embedded, params.embed)
    if rows := job.write(embedded):
        log.info("%s: %d training photos, %d of them computed now", row, rows, stats.computed)
    else:
        log.warning(
            "%s holds no training photo; there is nothing that test photos could be copies of",
            paths.RAW / "train",
        )


if __name__ == "__main__":
    cli.run(main)
