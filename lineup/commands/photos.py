"""`lineup photos`: lays out a folder of photos as data/raw, and says what it understood and did."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import click

from lineup import paths
from lineup.commands import demo, photos_summary, use
from lineup.errors import UserError
from lineup.layouts import detection, edits, names, placement, plan, record, renames, table
from lineup.layouts.edits import Edits
from lineup.layouts.layout import Source
from lineup.layouts.plan import Plan
from lineup.layouts.roles import Choices
from lineup.storage import files

_DEFAULTS = Choices()


def check_source(source: Path, to: Path) -> None:
    """Raises UserError if the source is no folder of its own."""
    if not source.is_dir():
        if source.exists():
            raise UserError(f"{source}: is not a folder; name the folder that holds the photos")
        siblings = [entry.name for entry in source.parent.iterdir()] if source.parent.is_dir() else []
        close = difflib.get_close_matches(source.name, siblings, n=1)
        fix = f"did you mean '{source.parent / close[0]}'?" if close else "name the folder with your photos"
        raise UserError(f"{source}: does not exist; {fix}")
    inner, outer = source.resolve(), to.resolve()
    if inner == outer:
        raise UserError(f"{source}: is {to} itself, which is laid out already; name another folder")
    if outer in inner.parents:
        raise UserError(f"{source}: is inside {to}, which `lineup photos` writes; move the photos elsewhere")
    if inner in outer.parents:
        raise UserError(f"{source}: holds {to}, too; name the folder that holds nothing but the photos")


@dataclass(frozen=True)
class Reading:
    """How to read a source.

    Attributes:
        layout: its name; None for the first that fits.
        table: names the photos and their labels; then no layout does.
        path_column, label_column: of the table; None for those whose names and contents fit.
    """

    layout: str | None = None
    table: Path | None = None
    path_column: str | None = None
    label_column: str | None = None


def read(source: Path, reading: Reading) -> tuple[str, Source]:
    """Lists the photos of a folder.

    Returns:
        The layout's name, "table" with a table, and what was read.
    Raises:
        UserError: the layout is unknown, or the folder or the table has a fault or no photos.
    """
    if reading.table is not None:
        name = "table"
        listed = table.read_table(source, reading.table, reading.path_column, reading.label_column)
    else:
        name, chosen = detection.choose(source, reading.layout)
        listed = chosen.read(source)
    if not listed.photos:
        others = photos_summary.skipped(listed.skipped)
        but = others and f", but {others}"
        raise UserError(f"{source}: holds no photo{but}; name the folder with your photos")
    return name, listed


def lay_out(
    source: Path,
    listed: Source,
    choices: Choices,
    to: Path,
    placer: placement.Placer,
    edited_queries: int = 0,
) -> list[str]:
    """Lays out the photos as the folder `to`, or adds those that it lacks.

    Args:
        edited_queries: how many queries are edited copies of gallery photos.
    Returns:
        What was done, and what to do next, a line each.
    Raises:
        UserError: the photos can't make a test, or the folder holds other photos.
    """
    root = to.resolve() if to.is_symlink() else to
    files.restore_former(root)
    earlier = renames.follow(_earlier(root, to), listed, source, root)
    planned = plan.make(listed, choices, root, earlier)
    if placer.hard_links and _version(to).exists():
        placer.hard_links = False
        planned.notes.append(
            f"new photos are copied in spite of --hard-links: by {_version(to)}, the next `dvc repro` would "
            "make those of the source read-only"
        )
    new = placement.changes(planned, source, root)
    made = Edits()
    if edited_queries:
        _check_other_queries(listed, planned, to)
        made = _write_with_edits(planned, source, root, new, placer, edited_queries)
    elif new or planned.removed or planned.text_files:
        placement.write(planned, source, root, new, placer)
    before = {entry.path for entry in earlier}
    judge = bool(edited_queries) or photos_summary.needs_judging(planned)
    return [
        *([photos_summary.written(planned, new, before, placer, to)] if new or not edited_queries else ()),
        *photos_summary.splits(planned),
        *(made.summary() if edited_queries else ()),
        *planned.notes,
        *(photos_summary.hints(planned, to) if not earlier and not edited_queries else ()),
        *photos_summary.gone(planned, to),
        *(_settings(bool(earlier)) if to == paths.RAW else ()),
        *photos_summary.next_steps(to, placer, placement.shares_files(planned, source, root), judge),
    ]


def _settings(again: bool) -> list[str]:
    """Fits params.yaml to the photos, and says what became of it; again: photos were laid out before."""
    if not again and paths.PARAMS.exists() and use.unedited_preset() is None:
        return [
            f"{paths.PARAMS} stays as you edited it; `lineup use {use.PHOTOS}` puts settings for photos "
            "in its place"
        ]
    return use.fit_to_photos()


def _earlier(root: Path, to: Path) -> list[record.Entry]:
    """What an earlier run laid out."""
    if _version(to).exists() and not root.exists():
        raise UserError(
            f"{to}: is under version control, but not here; run `dvc pull {to}`, so that its photos stay "
            f"where they are, or remove {_version(to)} to lay them out afresh"
        )
    try:
        return record.read(root)
    except UserError:
        if demo.is_laid_out(root):
            raise UserError(
                f"{to}: holds the demo's photos; remove it (`rm -r {to}`), "
                "as `lineup demo` lays them out again"
            ) from None
        raise


def _version(to: Path) -> Path:
    """The file that `dvc add` writes."""
    return to.with_name(f"{to.name}.dvc")


def _check_other_queries(listed: Source, planned: Plan, to: Path) -> None:
    """Raises UserError if other queries have right answers, which the edits' judgements would override."""
    labelled = any(photo.label and names.role_of(path) == "query" for path, photo in planned.photos.items())
    if labelled or listed.judgements:
        raise UserError(
            f"{to}: has queries whose right answers are known already; leave out --queries-from edits, or "
            "move it away"
        )


def _write_with_edits(
    planned: Plan, source: Path, root: Path, new: list[str], placer: placement.Placer, queries: int
) -> Edits:
    """Writes data/raw, where the edits are made once it has all of its gallery."""
    labels = {path: photo.label or "" for path, photo in planned.photos.items()}
    made = Edits()

    def add_edits(folder: Path) -> None:
        nonlocal made
        made = edits.add(folder, queries, labels)

    placement.write(planned, source, root, new, placer, add_edits)
    return made


@click.command("photos")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    metavar="NAME",
    help="How the photos lie: flat, label_folders, as_is, or a data set's name. Understood by default.",
)
@click.option(
    "--table",
    "table_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV, Parquet or JSON lines with the photos' paths and labels, and perhaps further columns.",
)
@click.option("--path-column", metavar="NAME", help="The table's column of paths, if it is not found.")
@click.option("--label-column", metavar="NAME", help="The table's column of labels; '' for no labels.")
@click.option(
    "--train-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=_DEFAULTS.train_share,
    metavar="SHARE",
    help=f"The share of the labels to train on; 0 if nothing is trained. Default: {_DEFAULTS.train_share}.",
)
@click.option(
    "--queries-per-label",
    type=click.IntRange(min=1),
    default=_DEFAULTS.queries_per_label,
    metavar="N",
    help=f"How many photos of each test label are queries. Default: {_DEFAULTS.queries_per_label}.",
)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=_DEFAULTS.queries,
    metavar="N",
    help=f"Without labels, or with edits: how many queries. Default: {_DEFAULTS.queries}.",
)
@click.option(
    "--queries-from",
    type=click.Choice(["edits"]),
    help="edits: queries are edited copies of gallery photos, whose one right answer is their original.",
)
@click.option(
    "--hard-links",
    is_flag=True,
    help="Where the disk has no reflinks: hard links, which take no space, instead of copies.",
)
@click.option(
    "--to", type=click.Path(path_type=Path), default=paths.RAW, metavar="FOLDER", help="Default: data/raw."
)
def command(
    source: Path,
    layout: str | None,
    table_file: Path | None,
    path_column: str | None,
    label_column: str | None,
    train_share: float,
    queries_per_label: int,
    queries: int,
    queries_from: str | None,
    hard_links: bool,
    to: Path,
) -> None:
    """Lay out the photos of the folder SOURCE as data/raw.

    Photos in a folder for each label are split into training and test by their labels; photos without labels
    are all searched in. Run it again after photos were added: no photo that is there already moves.
    """
    if table_file is None and (path_column, label_column) != (None, None):
        raise click.UsageError("--path-column and --label-column are columns of a table; add --table FILE")
    if table_file is not None and layout is not None:
        raise click.UsageError("--layout and --table exclude each other; leave one of them out")
    check_source(source, to)
    if table_file is not None and not table_file.exists() and (source / table_file).exists():
        table_file = source / table_file
    name, listed = read(source, Reading(layout, table_file, path_column, label_column))
    placer = placement.Placer(hard_links)
    click.echo(photos_summary.understood(name, listed))
    from_edits = queries_from == "edits" or edits.exist(to)
    choices = Choices(train_share, *((0, 0) if from_edits else (queries_per_label, queries)))
    for line in lay_out(source, listed, choices, to, placer, queries if from_edits else 0):
        click.echo(line)
