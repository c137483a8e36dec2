"""report_row@row: a row's answers as a script that the report's page loads. report, without --model: the page itself.

The page joins the rows, hence reads git-tracked figures only; a row's file that isn't here is missed on the page alone.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pyarrow as pa

from stages.lib import cli, images, paths, relevance, tables
from stages.lib.params import Params
from stages.lib.report import collection, front, html, scripts, thumbnails
from stages.lib.report.row import row_data


def report_row(row: str, params: Params) -> None:
    """Writes data/report/rows/<row>.js."""
    manifest = read_manifest()
    answers = relevance.read(manifest, tables.read_table(paths.QRELS), params.relevance.exclude)
    ranking = tables.read_ranking(paths.ranking(row))
    positions = relevance.gallery_positions(ranking, answers, str(paths.ranking(row)))
    metric = params.models[row].search.metric if row in params.models else None  # a refinement's scores are of its own kind
    told = row_data(ranking, positions, answers, collection.read(manifest).key, metric)
    tables.write_text(paths.report_row(row), scripts.assignment("LINEUP_ROWS", row, told))


def report(params: Params) -> None:
    """Writes data/report/index.html and assets/."""
    rows = front.comparison.read_rows((*params.models, *params.refinements))
    figures = {row: front.read_figures(paths.row_queries(row)) for row in rows}
    test = collection.read(read_manifest())
    pairs, curves, leaks = front.read_pairs(paths.SIGNIFICANCE), front.read_curves(paths.TOP_K_CURVES), tables.read_csv(paths.LEAKS)
    scored = all(row["quality"] for row in rows.values())
    names = ["map_at_r", *(f"top_{k}" for k in sorted(set(params.score.k)))] if scored else []
    found = front.comparison.standings(rows, names, pairs)
    data = scripts.assignment("LINEUP", "collection", test.data())
    data += scripts.assignment("LINEUP", "queries", front.query_data(figures, rows, test))
    tables.replace_atomically(paths.REPORT_ASSETS, lambda folder: write_assets(folder, data))
    charts = front.chart_data(rows, found, curves, names) | {"matched": params.leaks.by}
    tables.write_text(paths.REPORT, html.index(rows, found, names, charts, leaks, front.LEAKS_SHOWN))
    cli.log.info("%d rows, open %s", len(rows), paths.REPORT)


def read_manifest() -> pa.Table:
    return tables.read_table(paths.manifest("test"), columns=[*relevance.COLUMNS, "paths"])


def write_assets(folder: Path, data: str) -> None:
    folder.mkdir()
    for name in html.ASSETS:
        shutil.copyfile(html.PAGE / name, folder / name)
    (folder / "data.js").write_text(data, encoding="utf-8", newline="\n")


def report_thumbnails() -> None:
    """Writes data/report/thumbnails/: apart from the page, as a changed model changes no picture."""
    cache = thumbnails.cache_folder(paths.CACHE)
    count = thumbnails.write(paths.REPORT_THUMBNAILS, images.prepared(paths.images("test")), cache, cli.threads())
    cli.log.info("%d thumbnails", count)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.report", description="The report's page, or a part of it.")
    part = parser.add_mutually_exclusive_group()
    cli.add_row(part)
    part.add_argument("--thumbnails", action="store_true", help="the small pictures")
    arguments = parser.parse_args(argv)
    if arguments.thumbnails:
        cli.start_whole("report")
        report_thumbnails()
    elif arguments.row_of_stage or arguments.model is not None:
        report_row(*cli.start_row("report", cli.row_of(arguments), "all"))
    else:
        report(cli.start_whole("report"))


if __name__ == "__main__":
    cli.run(main)
