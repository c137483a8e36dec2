"""`lineup judge`: the judging page, on which a person says which answers of the rows are right."""

from __future__ import annotations

import getpass
import hashlib
import sys
import webbrowser
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc

from lineup import cli, locks, paths
from lineup.comparison import comparison
from lineup.errors import UserError, printable
from lineup.evaluation import row_metrics
from lineup.judging import address, app, photos, pooled_rankings, suspects
from lineup.judging.photos import Photos
from lineup.judging.pool import Pool
from lineup.judging.questions import Scope
from lineup.judging.session import Session
from lineup.relevance import agreement, judgements
from lineup.relevance.agreement import Disagreement
from lineup.relevance.judgements import JUNK, NOT_RELEVANT, RELEVANT
from lineup.report import overview
from lineup.report.suspects import judges as questioning_rows
from lineup.settings.params import Params
from lineup.storage import git_revision, parquet
from lineup.web import server
from lineup.web.limits import ConnectionLimits

MAX_ANSWERS = 100
MAX_DISPUTED_LINES = 50
_WORDS = {RELEVANT: "right", NOT_RELEVANT: "wrong", JUNK: "junk"}


def judge_name(given: str | None) -> str:
    """The name under which judgements are stored: the given one, git's, or the login's.

    Raises:
        UserError: the given one can't be used, or none of the others can.
    """
    if given is not None:
        return judgements.judge_name(given)
    for own_name in (lambda: git_revision.output(Path(), "config", "user.name") or "", getpass.getuser):
        # Where the login has no name, as in a container, getuser raises KeyError or OSError.
        with suppress(UserError, KeyError, OSError):
            return judgements.judge_name(own_name())
    raise UserError("--judge: neither git nor the login has a name that can be used; add --judge NAME")


def read_known(query_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """What qrels.csv says: {query_id: {gallery_id: relevance}}."""
    known: defaultdict[str, dict[str, int]] = defaultdict(dict)
    table = parquet.read_table(paths.QRELS)
    for line in table.filter(pc.field("query_id").isin(pa.array(query_ids, pa.string()))).to_pylist():
        known[line["query_id"]][line["gallery_id"]] = line["relevance"]
    return dict(known)


def rows_that_question_labels(params: Params, ranked: Sequence[str]) -> list[str]:
    """Of the ranked rows those that question labels in the report; all if nothing was compared yet."""
    try:
        rows = row_metrics.read_all((*params.models, *params.refinements))
        pairs = overview.read_pairs(paths.SIGNIFICANCE)
        compared = comparison.compare(rows, comparison.shown_metrics(rows, params.score.cutoffs), pairs)
    except (UserError, KeyError):  # a row was scored, but not compared yet
        return [*ranked]
    chosen = questioning_rows(compared, {row: params.model_of(row) for row in rows})
    return [row for row in ranked if row in chosen] or [*ranked]


def find_suspects(pool: Pool, of_pool: Photos, known: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """The pairs whose labels are in doubt. UserError if there are none."""
    if not of_pool.labelled_queries:
        raise UserError(
            "--suspects: no query has a label that could be wrong; leave --suspects out to judge answers"
        )
    chosen = suspects.find(pool, of_pool, known)
    if not chosen:
        raise UserError(
            f"--suspects: there are none, since {', '.join(pool.rows)} never agree on a first answer that "
            "the labels call wrong; name fewer or better rows with --row"
        )
    return chosen


def disputed_pairs(of_pool: Photos) -> list[Disagreement]:
    """The pairs of the pool on which people differ."""
    every = agreement.disagreements(judgements.read(paths.JUDGEMENTS))
    return [each for each in every if each.query in of_pool.queries and each.gallery in of_pool.gallery]


def find_disputed(of_pool: Photos) -> dict[str, list[str]]:
    """The pairs on which people differ: {query_id: gallery_ids}. UserError if there are none."""
    only: defaultdict[str, list[str]] = defaultdict(list)
    for each in disputed_pairs(of_pool):
        only[each.query].append(each.gallery)
    if not only:
        raise UserError(
            "--disputed: people differ on no pair that these rows rank in front; leave --disputed out, or "
            "judge with --second-opinion what others have judged"
        )
    return dict(only)


def disputed_lines(of_pool: Photos) -> list[str]:
    """Who said what about each pair on which people differ, at most MAX_DISPUTED_LINES of them."""
    pairs = disputed_pairs(of_pool)
    lines = []
    for each in pairs[:MAX_DISPUTED_LINES]:
        query, answer = of_pool.queries[each.query].path, of_pool.gallery[each.gallery].path
        said = ", ".join(f"{judge} says {_WORDS[value]}" for judge, value in each.relevances.items())
        lines.append(f"{printable(query)} and {printable(answer)}: {said}")
    if len(pairs) > MAX_DISPUTED_LINES:
        lines.append(f"and {len(pairs) - MAX_DISPUTED_LINES:,} more pairs")
    return lines


@click.command("judge")
@click.option(
    "--k",
    type=click.IntRange(1, MAX_ANSWERS),
    default=10,
    show_default=True,
    help="How many answers of each row are judged.",
)
@click.option("--row", "rows", multiple=True, metavar="ROW", help="Judge these rows only. May be repeated.")
@click.option("--judge", "name", metavar="NAME", help="Your name in the file; default: git's user.name.")
@click.option(
    "--second-opinion", is_flag=True, help="Ask also for pairs that only others have judged, to compare."
)
@click.option(
    "--suspects",
    "only_suspects",
    is_flag=True,
    help="Ask only for first answers on which the best rows agree, and which the labels call wrong.",
)
@click.option(
    "--disputed",
    "only_disputed",
    is_flag=True,
    help="List the pairs on which people differ, and ask for these again.",
)
@click.option(
    "--port",
    type=int,
    default=address.PORT,
    show_default=True,
    help="The port to listen on; 0: any free one.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def command(
    k: int,
    rows: tuple[str, ...],
    name: str | None,
    second_opinion: bool,
    only_suspects: bool,
    only_disputed: bool,
    port: int,
    opens: bool,
) -> None:
    """Serve a local page on which you judge the rows' answers.

    Each screen has one query and the first answers of all rows to it, shuffled. Judgements go to
    data/judgements.csv, screen by screen; `dvc repro` takes them into the comparison.
    """
    params = cli.start_stage("judge", exclusive=False)
    for row in rows:
        cli.check_row(row, params, "all")
    if only_suspects and only_disputed:
        raise UserError("--disputed: can't be used with --suspects; leave one of them out")
    judge = judge_name(name)
    with (
        server.listen(address.HOST, port, host_option=False) as listener,
        only_page(judge, server.url(listener)),
    ):
        chosen, absent = pooled_rankings.choose_rows(params, rows)
        if only_suspects and not rows:
            chosen = rows_that_question_labels(params, chosen)
        session, of_pool = open_session(
            params, chosen, k, judge, second_opinion, only_suspects, only_disputed
        )
        for line in _summary(session, of_pool, absent, only_suspects, only_disputed):
            print(line)
        url = server.url(listener)
        print(f"judging page: {url} (Ctrl-C ends it)", flush=True)
        names = server.names(address.HOST, [], local=True)
        served = app.create(session, of_pool, only_suspects, names, disputed=only_disputed)
        if opens:
            webbrowser.open(url)
        try:
            server.create(served, ConnectionLimits()).run(sockets=[listener])
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)
        finally:
            judgements.tidy(paths.JUDGEMENTS)


@contextmanager
def only_page(judge: str, url: str) -> Iterator[None]:
    """Two pages of one judge would ask for the same answers, and the later marks would replace the earlier.

    Raises UserError if the judge has another page in this project.
    """
    name = f"judge.{hashlib.sha256(judge.encode()).hexdigest()[:16]}"
    with locks.only_one(name, url) as other:
        if other is not None:
            raise UserError(
                f"--judge: {judge} is judging here already, at {other}; open that page, or add --judge NAME "
                "if you are somebody else"
            )
        yield


def open_session(
    params: Params,
    rows: Sequence[str],
    k: int,
    judge: str,
    second_opinion: bool,
    only_suspects: bool,
    only_disputed: bool = False,
) -> tuple[Session, Photos]:
    """Reads the pool of some rows, and what was judged.

    Raises:
        UserError: a file does not exist, has a fault or is of other photos, or there is nothing to judge.
    """
    manifest = parquet.read_table(paths.manifest("test"), columns=["image_id", "split", "label", "paths"])
    query_ids = manifest.filter(pc.field("split") == "query").column("image_id").to_pylist()
    if not query_ids:
        raise UserError(
            "data/raw/test/query: holds no image that can be read; put at least one there and run `dvc repro`"
        )
    pool = pooled_rankings.read_pool(rows, k, query_ids)
    of_pool, known = photos.of_pool(pool, manifest), read_known(query_ids)
    if only_disputed:
        only, again = find_disputed(of_pool), Counter(judgements.read(paths.JUDGEMENTS))
        scope = Scope(judge, second_opinion=True, only=only, known=known, again=again)
    else:
        found = find_suspects(pool, of_pool, known).items() if only_suspects else ()
        scope = Scope(judge, second_opinion, {query: [image] for query, image in found} or None, known)
    return Session(pool, paths.JUDGEMENTS, scope, params.seed), of_pool


def _summary(
    session: Session, of_pool: Photos, absent: Sequence[str], only_suspects: bool, only_disputed: bool
) -> list[str]:
    """What is judged, in a few lines."""
    pool, progress = session.pool, session.progress()
    if only_disputed:
        count = len(disputed_pairs(of_pool))
        lines = [f"{count:,} {'pair' if count == 1 else 'pairs'} on which people differ:"]
        lines += disputed_lines(of_pool)
    elif only_suspects:
        lines = [f"{progress.queries:,} suspects, on which {', '.join(pool.rows)} agree"]
    else:
        lines = [f"the first {pool.k} answers of {len(pool.rows)} rows to {len(pool.query_ids):,} queries"]
        if progress.same_queries:
            lines.append(
                f"{progress.same_queries:,} queries have the same first {pool.k} answers in every row; "
                "they come last"
            )
        if of_pool.labelled_queries:
            lines.append(
                f"labels decide what nobody judges, of {of_pool.labelled_queries:,} queries; --suspects asks "
                "only where they may be wrong"
            )
    if absent:
        lines.append(f"not ranked here, and left out: {', '.join(absent)}")
    if progress.pairs and not only_disputed:
        lines.append(f"{progress.pairs:,} pairs are judged already")
    return [*lines, f"judgements of {session.judge} go to {paths.JUDGEMENTS}"]
