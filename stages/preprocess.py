"""data/raw -> data/prepared: checks, hashes and labels every photo, and packs it into shards for all models.

Pass 1, in worker processes: reads and hashes each file, and decodes it unless its record is in the local
cache. Pass 2, in the order of ids: writes the shards, from the raw files, or from the local cache where an
image was shrunk or converted. The pixels' attributes are computed in pass 1, from the prepared images.

preprocess_transfer@set does so with a second test set that `transfer.sets` names, in data/prepared_transfer.
"""

from __future__ import annotations

import argparse
import logging
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from lineup import cli, paths
from lineup.photos import (
    attribute_table,
    duplicates,
    part_tables,
    photo_register,
    preparation,
    preparation_summary,
    problems,
    qrels_table,
    raw_attributes,
    raw_folder,
    raw_tables,
    registration,
)
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.duplicates import Leak
from lineup.photos.image_cache import ImageCache
from lineup.photos.preparation import Preparation
from lineup.settings import training_check
from lineup.settings.params import Params
from lineup.storage import csv_files, parquet, schemas

log = logging.getLogger(__name__)


def prepare(given: Preparation, params: Params) -> None:
    """Raises UserError: the folder has a fault, or rows of params.yaml can't be trained on its photos."""
    root, shorter_side_px = given.root, params.preprocess.shorter_side_px
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool would keep memory that was freed.
    with photo_register.temporary() as register:
        raw_folder.read(register, root)
        judgements = raw_tables.read_judgements(register, root)
        columns = raw_attributes.read(register, root) if given.attributes else []
        if not given.with_training:
            raw_folder.leave_out_training(register)
        elif not raw_folder.has_training(register):
            training_check.check(params, {})  # Before the other photos are decoded.
        cache = ImageCache.open(paths.CACHE, shorter_side_px)
        attributes = AttributeCache.open(paths.CACHE, cache)
        registration.register_photos(register, root, attributes, params.preprocess.on_bad_image)
        qrels_table.check(register, root)
        qrels_metadata = qrels_table.metadata(register, judgements)
        if given.with_training:
            labels = Counter(image.label for image in photo_register.images(register, "train"))
            training_check.check(params, labels)
        contradictions = duplicates.note_contradictions(register)
        write_parts(register, given, cache)
        if given.attributes:
            rows = attribute_table.rows(register, attributes, root, columns)
            metadata = attribute_table.metadata(register, columns)
            parquet.write_rows(given.attributes, attribute_table.schema(columns), rows, metadata)
        parquet.write_rows(given.qrels, schemas.QRELS, qrels_table.rows(register), qrels_metadata)
        csv_files.write_csv(given.problems, problems.COLUMNS, problems.rows(register))
        if given.leaks:
            csv_files.write_csv(given.leaks, Leak._fields, duplicates.leaks(register))
        for line in preparation_summary.summary(register, contradictions, shorter_side_px, given):
            log.info(line)


def write_parts(register: sqlite3.Connection, given: Preparation, cache: ImageCache) -> None:
    """Writes the prepared images and the manifest of each part."""
    for part, files in given.parts.items():
        batches = part_tables.image_batches(register, part, given.root, cache)
        rows = photo_register.count_images(register, part)
        metadata = part_tables.image_metadata(register, part, cache)
        parquet.write_shards(files.images, schemas.IMAGES, batches, rows, schemas.IMAGES_PER_SHARD, metadata)
        parquet.write_rows(files.manifest, schemas.MANIFEST, part_tables.manifest(register, part))


def main(argv: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.preprocess")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--set", metavar="SET", help="of transfer.sets, which is prepared instead of data/raw")
    which.add_argument("--set-of-stage", action="store_true", help="the set whose stage DVC runs")
    arguments = parser.parse_args(argv)
    name = cli.name_of_stage("--set-of-stage", "--set SET") if arguments.set_of_stage else arguments.set
    params = cli.start_stage("preprocess" if name is None else "preprocess_transfer")
    if name is None:
        prepare(preparation.of_raw(), params)
    else:
        prepare(preparation.of_transfer_set(name, params.transfer.sets), params)


if __name__ == "__main__":
    cli.run(lambda: main(sys.argv[1:]))
