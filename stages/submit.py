"""submit: a row's nearest photos as the competition's JSON, checked; with --url sent to its server.

Needs no labels. Not a stage of dvc.yaml: sending is never repeated on its own.
"""

from __future__ import annotations

import argparse
import errno
from pathlib import Path

from stages.lib import cli, paths, raw_data, relevance, submission, submission_server, tables
from stages.lib.errors import UserError
from stages.lib.params import Params


def submit(row: str, k: int, shape: submission.Shape, group: str | None, naming: submission.Naming, params: Params) -> bytes:
    """The checked document of a row's ranking. Reads the ranking, the test manifest and the judgements."""
    manifest = tables.read_table(paths.manifest("test"), columns=[*relevance.COLUMNS, "paths"])
    queries, gallery = submission.names(manifest, "query", naming), submission.names(manifest, "gallery", naming)
    ranking = tables.read_ranking(paths.ranking(row))
    submission.check_same_images(ranking, queries, gallery, str(paths.ranking(row)))
    answers = relevance.read(manifest, tables.read_table(paths.QRELS), params.relevance.exclude)
    found = submission.nearest_names(ranking, queries, gallery, answers.left_out_copies(), k, params.retrieve.k)
    body = submission.encode(submission.document(found, shape, group))
    submission.check(body, (n for names in queries.values() for n in names), (n for names in gallery.values() for n in names), k)
    return body


def left_out() -> int:
    """How many photos of test/query `preprocess` couldn't read. UserError if it hasn't seen one that lies there now."""
    named: set[str] = set()
    if paths.PROBLEMS.exists():
        named = {line["path"] for line in tables.read_csv(paths.PROBLEMS) if line["path"].startswith("test/query/")}
    manifest = tables.read_table(paths.manifest("test"), columns=["paths"])
    ranked = {path for places in manifest.column("paths").to_pylist() for path in places}
    new = sorted(raw_data.photos(paths.RAW, "test/query") - ranked - named)
    if new:
        raise UserError(f"{paths.RAW / new[0]}: is new since the last `dvc repro` ({len(new)} in all); run it, then hand in")
    return len(named - ranked)


def write(out: Path, text: str) -> None:
    """UserError if there is no writing there."""
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        tables.write_text(out, text)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UserError(f"{out}: can't be written ({error.strerror}); say --out FILE for another place") from None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.submit")
    parser.add_argument("--model", required=True, help="a row of params.yaml")
    parser.add_argument("-k", type=_count, default=10, help="gallery photos per query; default: %(default)s")
    parser.add_argument("--shape", choices=["groups", "list"], default="groups", help="of the JSON; default: %(default)s")
    parser.add_argument("--group", help="your group's name, for --shape groups")
    parser.add_argument("--names", choices=["file", "path"], default="file", help="file names, or paths below test/query, test/gallery")
    parser.add_argument("--out", type=Path, help="default: data/submissions/<model>.json")
    parser.add_argument("--url", help="send it there")
    parser.add_argument("--again", action="store_true", help="send it even if the same was sent there before")
    arguments = parser.parse_args(argv)
    params = cli.start_whole("submit")
    row = arguments.model
    cli.check_row(row, params, "all")
    unread = left_out()
    body = submit(row, arguments.k, arguments.shape, arguments.group, arguments.names, params)
    out = arguments.out or paths.submission(row)
    write(out, body.decode())
    if unread:
        cli.log.warning("photos of test/query that couldn't be read and are not in it: %d; see %s", unread, paths.PROBLEMS)
    cli.log.info("%s: the %d nearest of each query", out, arguments.k)
    if arguments.url:
        print(f"accuracy {submission_server.send(arguments.url, body, again=arguments.again)}")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of photos, 1 or more")
    return int(text)


if __name__ == "__main__":
    cli.run(main)
