"""`lineup submit`: a row's nearest photos as the competition's JSON, checked; with --url sent to its server.

Needs no labels. Not a stage of dvc.yaml: sending is never repeated on its own.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import click

from lineup import cli, paths
from lineup.errors import UserError
from lineup.evaluation import relevance
from lineup.photos import raw_folder
from lineup.settings.params import Params
from lineup.storage import csv_files, files, parquet, rankings
from lineup.submission import client, document

log = logging.getLogger(__name__)


def submit(
    row: str, k: int, shape: document.Shape, group: str | None, naming: document.Naming, params: Params
) -> bytes:
    """The checked document of a row's ranking. Reads the ranking, the test manifest and the judgements."""
    manifest = parquet.read_table(paths.manifest("test"), columns=[*relevance.COLUMNS, "paths"])
    queries, gallery = document.names(manifest, "query", naming), document.names(manifest, "gallery", naming)
    ranking = rankings.read_ranking(paths.ranking(row))
    answers = relevance.read(manifest, parquet.read_table(paths.QRELS), params.relevance.exclude)
    relevance.gallery_positions(
        ranking, answers, str(paths.ranking(row))
    )  # refuses a ranking of other images
    found = document.nearest_names(
        ranking, queries, gallery, answers.left_out_copies(), k, params.retrieve.depth
    )
    body = document.encode(document.document(found, shape, group))
    document.check(
        body,
        (n for names in queries.values() for n in names),
        (n for names in gallery.values() for n in names),
        k,
    )
    return body


def left_out() -> int:
    """How many photos of test/query `preprocess` couldn't read.

    UserError if it hasn't seen one that lies there now.
    """
    named: set[str] = set()
    if paths.PROBLEMS.exists():
        named = {
            line["path"]
            for line in csv_files.read_csv(paths.PROBLEMS)
            if line["path"].startswith("test/query/")
        }
    manifest = parquet.read_table(paths.manifest("test"), columns=["paths"])
    ranked = {path for places in manifest.column("paths").to_pylist() for path in places}
    new = sorted(raw_folder.photos(paths.RAW, "test/query") - ranked - named)
    if new:
        raise UserError(
            f"{paths.RAW / new[0]}: is new since the last `dvc repro` ({len(new)} in all); run it, then hand in"
        )
    return len(named - ranked)


def write(out: Path, text: str) -> None:
    """UserError if there is no writing there."""
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        files.write_text(out, text)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"{out}: can't be written ({error.strerror}); say --out FILE for another place"
        ) from None


@click.command("submit")
@click.option("--row", required=True, help="A row of params.yaml.")
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Gallery photos per query.")
@click.option(
    "--shape",
    type=click.Choice(["groups", "list"]),
    default="groups",
    show_default=True,
    help="The shape of the JSON.",
)
@click.option("--group", help="Your group's name, for --shape groups.")
@click.option(
    "--names",
    type=click.Choice(["file", "path"]),
    default="file",
    show_default=True,
    help="How photos are named: by their files, or by their paths below test/query and test/gallery.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Default: data/submissions/ROW.json.")
@click.option("--url", help="Send it there.")
@click.option("--again", is_flag=True, help="Send it even if the same was sent there before.")
def command(
    row: str,
    k: int,
    shape: document.Shape,
    group: str | None,
    names: document.Naming,
    out: Path | None,
    url: str | None,
    again: bool,
) -> None:
    """Write a row's nearest photos as the competition's JSON, checked, and send it where --url is given."""
    params = cli.start_whole("submit")
    cli.check_row(row, params, "all")
    unread = left_out()
    body = submit(row, k, shape, group, names, params)
    out = out or paths.submission(row)
    write(out, body.decode())
    if unread:
        log.warning(
            "photos of test/query that couldn't be read and are not in it: %d; see %s", unread, paths.PROBLEMS
        )
    log.info("%s: the %d nearest of each query", out, k)
    if url:
        print(f"accuracy {client.send(url, body, again=again)}")
