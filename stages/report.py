"""report_row@row: a row's rankings as scripts that the report's page loads. report: the page itself.

report_map@row: the row's map of the photos, as such a script.

The page joins all rows, so it reads git-tracked figures only. Where a row's script is missing, the page says
so and shows the rest.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from lineup import cli, machine, paths
from lineup.photos import prepared_images, thumbnails
from lineup.relevance import judgements
from lineup.relevance.judged_relevance import JudgedRelevance, with_people
from lineup.relevance.prepared_relevance import COLUMNS, read_relevance
from lineup.relevance.relevance import gallery_positions
from lineup.report import collection, front_page, html, js_data, made, map_data, page_sources
from lineup.report.row import rank_parts, row_data
from lineup.settings.params import Params
from lineup.storage import files, parquet, rankings, schemas

log = logging.getLogger(__name__)


def read_manifest() -> pa.Table:
    return parquet.read_table(paths.manifest("test"), columns=[*COLUMNS, "paths"])


def report_row(row: str, params: Params) -> None:
    """Writes data/report/rows/<row>.js and data/report/ranks/<row>/."""
    manifest = read_manifest()
    relevance = with_people(
        read_relevance(manifest, parquet.read_table(paths.QRELS), params.relevance.exclude),
        judgements.resolved(judgements.read(paths.JUDGEMENTS)),
    )
    ranking = rankings.read_ranking(paths.ranking(row))
    positions = gallery_positions(ranking, relevance, str(paths.ranking(row)))
    if isinstance(relevance, JudgedRelevance):
        ranking, positions = relevance.without_junk(ranking, positions)
    metric = params.models[row].search.metric if row in params.models else None
    data = row_data(ranking, positions, relevance, collection.read(manifest).key, metric)
    files.write_text(paths.report_row(row), js_data.assignment("LINEUP_ROWS", row, data))
    parts = rank_parts(ranking, positions, data["collection"])
    files.replace_atomically(paths.report_ranks(row), lambda folder: write_ranks(folder, row, parts))


def write_ranks(folder: Path, row: str, parts: Iterable[tuple[int, dict[str, Any]]]) -> None:
    """Writes a row's rankings in full to a new folder, a script for each part."""
    folder.mkdir()
    for number, part in parts:
        script = js_data.assignment("LINEUP_RANKS", f"{row}/{number}", part)
        (folder / f"{number}.js").write_text(script, encoding="ascii", newline="\n")


def report_map(row: str) -> None:
    """Writes data/report/maps/<row>.js."""
    source = paths.photo_map(row) / schemas.MAP_FILE
    data = map_data.map_data(
        parquet.read_table(source),
        collection.read(read_manifest()),
        parquet.read_table(paths.ATTRIBUTES),
        str(source),
    )
    files.write_text(paths.report_map(row), js_data.assignment("LINEUP_MAPS", row, data))


def report(params: Params) -> None:
    """Writes data/report/index.html and assets/, and when they were made to a script beside them."""
    sources = page_sources.read(read_manifest(), params)
    page = front_page.build(sources, params)
    files.replace_atomically(paths.REPORT_ASSETS, lambda folder: write_assets(folder, page.data))
    files.write_text(paths.REPORT, page.html)
    files.write_text(paths.REPORT_MADE, made.script(page.id, Path(), datetime.now(UTC)))
    log.info("%d rows, open %s", len(sources.rows), paths.REPORT)


def write_assets(folder: Path, data: str) -> None:
    """Writes the page's style and scripts, and the data that all rows share, to a new folder."""
    folder.mkdir()
    for name in html.ASSETS:
        shutil.copyfile(html.PAGE / name, folder / name)
    (folder / "data.js").write_text(data, encoding="utf-8", newline="\n")


def report_thumbnails() -> None:
    """Writes thumbnails/ and pictures/ of data/report, apart from the page: no model changes a picture."""
    cache = thumbnails.cache_folder(paths.CACHE)
    prepared = prepared_images.stream(paths.images("test"))
    count = thumbnails.write(
        paths.REPORT_THUMBNAILS, paths.REPORT_PICTURES, prepared, cache, machine.threads()
    )
    log.info("%d images", count)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.report", description="Writes the report's page, or a part of the report."
    )
    part = parser.add_mutually_exclusive_group()
    cli.add_row(part)
    part.add_argument("--thumbnails", action="store_true", help="only the pictures")
    parser.add_argument("--map", action="store_true", help="of the row, its map instead of its rankings")
    arguments = parser.parse_args(argv)
    if arguments.map:
        if not arguments.row_of_stage and arguments.row is None:
            parser.error("--map takes --row ROW")
        report_map(cli.start_row("report_map", cli.row_of(arguments), "models")[0])
    elif arguments.thumbnails:
        cli.start_stage("report")
        report_thumbnails()
    elif arguments.row_of_stage or arguments.row is not None:
        report_row(*cli.start_row("report", cli.row_of(arguments), "all"))
    else:
        report(cli.start_stage("report"))


if __name__ == "__main__":
    cli.run(main)
