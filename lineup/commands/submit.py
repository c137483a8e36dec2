"""`lineup submit`: a row's nearest photos as the competition's JSON, checked, and sent where --url is given.

It needs no labels. It is not a stage of dvc.yaml, as a submission must never be sent again on its own.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import click

from lineup import cli, paths
from lineup.errors import UserError
from lineup.evaluation import thresholds
from lineup.photos import raw_folder
from lineup.relevance import judgements
from lineup.relevance.judged_relevance import JudgedRelevance, with_people
from lineup.relevance.prepared_relevance import COLUMNS, read_relevance
from lineup.relevance.relevance import gallery_positions
from lineup.settings.params import Params
from lineup.storage import csv_files, files, parquet, rankings
from lineup.submission import client, document

log = logging.getLogger(__name__)


def submission(
    row: str,
    k: int,
    shape: document.Shape,
    group: str | None,
    naming: document.Naming,
    params: Params,
    least: float | None = None,
) -> bytes:
    """The checked JSON of a row's ranking. It reads the ranking, the test manifest and the judgements.

    least: photos with a lower score are left out; None for none.
    """
    manifest = parquet.read_table(paths.manifest("test"), columns=[*COLUMNS, "paths"])
    queries, gallery = document.names(manifest, "query", naming), document.names(manifest, "gallery", naming)
    ranking = rankings.read_ranking(paths.ranking(row))
    relevance = with_people(
        read_relevance(manifest, parquet.read_table(paths.QRELS), params.relevance.exclude),
        judgements.resolved(judgements.read(paths.JUDGEMENTS)),
    )
    positions = gallery_positions(ranking, relevance, str(paths.ranking(row)))
    if isinstance(relevance, JudgedRelevance):
        ranking, _ = relevance.without_junk(ranking, positions)
    copies = relevance.left_out_copies()
    nearest = document.nearest_names(ranking, queries, gallery, copies, k, params.retrieve.depth, least)
    body = document.encode(document.document(nearest, shape, group))
    query_names = (name for names in queries.values() for name in names)
    gallery_names = (name for names in gallery.values() for name in names)
    document.check(body, query_names, gallery_names, k, fewer=least is not None)
    return body


def count_unreadable() -> int:
    """How many photos of test/query `preprocess` could not read.

    Raises:
        UserError: a photo lies there that `preprocess` has not seen.
    """
    problems: set[str] = set()
    if paths.PROBLEMS.exists():
        listed = {line["path"] for line in csv_files.read_csv(paths.PROBLEMS)}
        problems = {path for path in listed if path.startswith("test/query/")}
    manifest = parquet.read_table(paths.manifest("test"), columns=["paths"])
    prepared = {path for image_paths in manifest.column("paths").to_pylist() for path in image_paths}
    new = sorted(raw_folder.photos(paths.RAW, "test/query") - prepared - problems)
    if new:
        raise UserError(
            f"{paths.RAW / new[0]}: is new since the last `dvc repro` ({len(new)} in all); "
            "run it, then submit again"
        )
    return len(problems - prepared)


def write(out: Path, text: str) -> None:
    """Writes the JSON; UserError if that is not possible there."""
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        files.write_text(out, text)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"{out}: can't be written ({error.strerror}); use --out FILE to write it elsewhere"
        ) from None


@click.command("submit")
@click.option("--row", required=True, help="Row of params.yaml.")
@click.option(
    "-k", type=click.IntRange(1), default=10, show_default=True, help="Number of gallery photos per query."
)
@click.option(
    "--shape",
    type=click.Choice(["groups", "list"]),
    default="groups",
    show_default=True,
    help="Shape of the JSON.",
)
@click.option("--group", help="Name of your group, for --shape groups.")
@click.option(
    "--names",
    type=click.Choice(["file", "path"]),
    default="file",
    show_default=True,
    help="Name photos by their files, or by their paths below test/query and test/gallery.",
)
@click.option("--threshold", help=thresholds.OPTION_HELP)
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write.  [default: data/submissions/ROW.json]"
)
@click.option("--url", help="Address of the server to send it to.")
@click.option("--again", is_flag=True, help="Send it even if it was sent there before.")
def command(
    row: str,
    k: int,
    shape: document.Shape,
    group: str | None,
    names: document.Naming,
    threshold: str | None,
    out: Path | None,
    url: str | None,
    again: bool,
) -> None:
    """Write a row's nearest photos as the competition's JSON, and send it to a server with --url."""
    params = cli.start_stage("submit")
    cli.check_row(row, params, "all")
    num_unreadable = count_unreadable()
    asked = thresholds.parse(threshold)
    body = submission(row, k, shape, group, names, params, asked.of_row(row) if asked else None)
    out = out or paths.submission(row)
    write(out, body.decode())
    if num_unreadable:
        log.warning(
            "photos of test/query that couldn't be read and are not in it: %d; see %s",
            num_unreadable,
            paths.PROBLEMS,
        )
    log.info("%s: the %d nearest of each query%s", out, k, " above the threshold" if asked else "")
    if url:
        print(f"accuracy {client.send(url, body, again=again)}")
