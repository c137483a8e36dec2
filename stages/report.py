"""report_row@row: a row's answers as a script that the report's page loads. report, without --row: the page
itself.

The page joins the rows, hence reads git-tracked figures only; a row's file that isn't here is missed on the
page alone.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path

import pyarrow as pa

from lineup import cli, machine, paths
from lineup.evaluation import relevance
from lineup.photos import decoding, thumbnails
from lineup.report import collection, html, js_data, overview
from lineup.report.row import row_data
from lineup.settings.params import Params
from lineup.storage import csv_files, files, parquet, rankings

log = logging.getLogger(__name__)


def report_row(row: str, params: Params) -> None:
    """Writes data/report/rows/<row>.js."""
    manifest = read_manifest()
    answers = relevance.read(manifest, parquet.read_table(paths.QRELS), params.relevance.exclude)
    ranking = rankings.read_ranking(paths.ranking(row))
    positions = relevance.gallery_positions(ranking, answers, str(paths.ranking(row)))
    metric = (
        params.models[row].search.metric if row in params.models else None
    )  # a refinement's scores are of its own kind
    told = row_data(ranking, positions, answers, collection.read(manifest).key, metric)
    files.write_text(paths.report_row(row), js_data.assignment("LINEUP_ROWS", row, told))


def report(params: Params) -> None:
    """Writes data/report/index.html and assets/."""
    rows = overview.comparison.read_rows((*params.models, *params.refinements))
    figures = {row: overview.read_figures(paths.row_queries(row)) for row in rows}
    test = collection.read(read_manifest())
    pairs, curves, leaks = (
        overview.read_pairs(paths.SIGNIFICANCE),
        overview.read_curves(paths.TOP_K_CURVES),
        csv_files.read_csv(paths.LEAKS),
    )
    scored = all(row["quality"] for row in rows.values())
    names = ["map_at_r", *(f"top_{k}" for k in sorted(set(params.score.cutoffs)))] if scored else []
    found = overview.comparison.standings(rows, names, pairs)
    data = js_data.assignment("LINEUP", "collection", test.data())
    data += js_data.assignment("LINEUP", "queries", overview.query_data(figures, rows, test))
    files.replace_atomically(paths.REPORT_ASSETS, lambda folder: write_assets(folder, data))
    charts = overview.chart_data(rows, found, curves, names) | {"matched": params.near_copies.rows}
    files.write_text(paths.REPORT, html.index(rows, found, names, charts, leaks, overview.LEAKS_SHOWN))
    log.info("%d rows, open %s", len(rows), paths.REPORT)


def read_manifest() -> pa.Table:
    return parquet.read_table(paths.manifest("test"), columns=[*relevance.COLUMNS, "paths"])


def write_assets(folder: Path, data: str) -> None:
    folder.mkdir()
    for name in html.ASSETS:
        shutil.copyfile(html.PAGE / name, folder / name)
    (folder / "data.js").write_text(data, encoding="utf-8", newline="\n")


def report_thumbnails() -> None:
    """Writes data/report/thumbnails/: apart from the page, as a changed model changes no picture."""
    cache = thumbnails.cache_folder(paths.CACHE)
    count = thumbnails.write(
        paths.REPORT_THUMBNAILS, decoding.prepared(paths.images("test")), cache, machine.threads()
    )
    log.info("%d thumbnails", count)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.report", description="The report's page, or a part of it."
    )
    part = parser.add_mutually_exclusive_group()
    cli.add_row(part)
    part.add_argument("--thumbnails", action="store_true", help="the small pictures")
    arguments = parser.parse_args(argv)
    if arguments.thumbnails:
        cli.start_stage("report")
        report_thumbnails()
    elif arguments.row_of_stage or arguments.row is not None:
        report_row(*cli.start_row("report", cli.row_of(arguments), "all"))
    else:
        report(cli.start_stage("report"))


if __name__ == "__main__":
    cli.run(main)
