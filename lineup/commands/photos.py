"""`lineup photos`: lays out a folder of photos as data/raw, and says what it understood and did."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path, PurePosixPath

import click

from lineup import paths
from lineup.errors import UserError, printable
from lineup.layouts import detection, edits, names, placement, plan, record
from lineup.layouts.edits import Edits
from lineup.layouts.layout import Source
from lineup.layouts.plan import Plan
from lineup.layouts.roles import Choices
from lineup.storage import files

_DEFAULTS = Choices()
_MAX_SHOWN, _MAX_NAME_CHARACTERS = 3, 60
_ALTERNATIVES = {
    "label_folders": " (if the folders mean no label, use --layout flat)",
    "flat": " (if its folders are labels, use --layout label_folders)",
}
_SPLITS = {"train": "train", "query": "queries", "gallery": "gallery"}


def read(source: Path, layout: str | None) -> tuple[str, Source]:
    """Lists the photos of a folder, as the layout of this name or the first that fits understands them.

    Returns:
        The layout's name and what it read.
    Raises:
        UserError: there are no photos.
    """
    name, chosen = detection.choose(source, layout)
    listed = chosen.read(source)
    if not listed.photos:
        others = f": {_others(listed.skipped)}" if listed.skipped else ""
        raise UserError(f"{source}: holds no photos{others}; name the folder that holds them")
    return name, listed


def check_source(source: Path, to: Path) -> None:
    """Raises UserError if the source is no folder of its own."""
    if not source.is_dir():
        if source.exists():
            raise UserError(f"{source}: is not a folder; name the folder that holds the photos")
        siblings = [entry.name for entry in source.parent.iterdir()] if source.parent.is_dir() else []
        close = difflib.get_close_matches(source.name, siblings, n=1)
        hint = (
            f"did you mean '{source.parent / close[0]}'?"
            if close
            else "name the folder that holds the photos"
        )
        raise UserError(f"{source}: does not exist; {hint}")
    inside, outside = source.resolve(), to.resolve()
    if inside == outside:
        raise UserError(f"{source}: is {to} itself, which is laid out already; name another folder")
    if outside in inside.parents:
        raise UserError(f"{source}: is inside {to}, which `lineup photos` writes; move the photos elsewhere")
    if inside in outside.parents:
        raise UserError(f"{source}: holds {to}, too; name the folder that holds nothing but the photos")


def lay_out(
    source: Path, listed: Source, choices: Choices, to: Path, hard_links: bool, edited_queries: int = 0
) -> list[str]:
    """Lays out the photos as the folder `to`.

    Args:
        edited_queries: how many queries are edited copies of gallery photos.
    Returns:
        What was done, a line each.
    Raises:
        UserError: the photos can't make a test, or the folder holds other photos.
    """
    root = to.resolve() if to.is_symlink() else to
    files.restore_former(root)
    earlier = record.read(root)
    planned = plan.make(listed, choices, root, earlier)
    new, placer = placement.changes(planned, source, root), placement.Placer(hard_links)
    made: list[Edits] = []
    if edited_queries:
        _check_edits(listed, planned, to)
        finish = lambda folder: made.append(edits.add(folder, edited_queries))  # noqa: E731
        placement.write(planned, source, root, new, placer, finish)
    elif new or planned.removed or planned.text_files:
        placement.write(planned, source, root, new, placer)
    return [
        _done(planned, new, {entry.path for entry in earlier}, placer, to),
        *summary(planned),
        *(f"  {line}" for each in made for line in each.summary()),
        *planned.notes,
        *_gone(planned, to),
    ]


def _check_edits(listed: Source, planned: Plan, to: Path) -> None:
    """Raises UserError if other queries have right answers, which the edits' qrels.csv would override."""
    labelled = any(photo.label and names.role_of(path) == "query" for path, photo in planned.photos.items())
    if labelled or listed.judgements:
        raise UserError(
            f"{to}: has queries whose right answers are known already; leave out --queries-from edits, or "
            "name another folder with --to"
        )


def _done(planned: Plan, new: Sequence[str], before: Set[str], placer: placement.Placer, to: Path) -> str:
    """What was written, in one line."""
    added = sum(path not in before for path in new)
    counts = {
        "added" if before else "laid out": added,
        "replaced, as they have changed": len(new) - added,
        "with another label than before": planned.relabelled,
    }
    parts = [f"{count:,} photos {what}" for what, count in counts.items() if count]
    ways = ", ".join(f"{count:,} {way}" for way, count in sorted(placer.counts.items()))
    if parts:
        return f"{to}: {'; '.join(parts)}" + (f" ({ways})" if ways else "")
    if planned.text_files:
        return f"{to}: {', '.join(sorted(planned.text_files))} brought up to date"
    return f"{to}: nothing to do; all {len(planned.photos):,} photos are there"


def _gone(planned: Plan, to: Path) -> list[str]:
    if not planned.gone:
        return []
    shown = ", ".join(printable(entry.source, _MAX_NAME_CHARACTERS) for entry in planned.gone[:_MAX_SHOWN])
    more = ", …" if len(planned.gone) > _MAX_SHOWN else ""
    return [
        f"{len(planned.gone):,} photos of {to} are not in the source any more, and stay ({shown}{more}); to remove "
        f"them, move {to} away and run this again"
    ]


def summary(planned: Plan) -> list[str]:
    """A line for each split of data/raw."""
    photos: Counter[str] = Counter()
    labels: dict[str, set[str]] = {}
    for path, photo in planned.photos.items():
        split = names.role_of(path) or ""
        photos[split] += 1
        if photo.label:
            labels.setdefault(split, set()).add(photo.label)
    return [
        f"  {title:<8} {photos[split]:>7,} photos"
        + (f" of {len(labels[split]):,} labels" if split in labels else "")
        for split, title in _SPLITS.items()
        if photos[split]
    ]


def _others(skipped: Sequence[str]) -> str:
    """How many files were left out, by their endings: "12 files that are no photos (8 .txt, 4 .nef)"."""
    endings = Counter(PurePosixPath(name).suffix.lower() or "without an ending" for name in skipped)
    shown = ", ".join(
        f"{count:,} {printable(ending, _MAX_NAME_CHARACTERS)}"
        for ending, count in endings.most_common(_MAX_SHOWN)
    )
    more = ", …" if len(endings) > _MAX_SHOWN else ""
    return f"{len(skipped):,} {'file that is no photo' if len(skipped) == 1 else 'files that are no photos'} ({shown}{more})"


@click.command("photos")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--layout", metavar="NAME", help="How the photos lie, if it is not understood.")
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
    help=f"Without labels, or with --queries-from: how many queries. Default: {_DEFAULTS.queries}.",
)
@click.option(
    "--queries-from",
    type=click.Choice(["edits"]),
    help="edits: the queries are edited copies of gallery photos, and each has its original as right answer.",
)
@click.option(
    "--hard-links",
    is_flag=True,
    help="Where no reflinks can be made: hard links, which take no disk, instead of copies.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=paths.RAW,
    metavar="FOLDER",
    help=f"Default: {paths.RAW}.",
)
def command(
    source: Path,
    layout: str | None,
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
    check_source(source, to)
    name, listed = read(source, layout)
    click.echo(f"{listed.summary}{_ALTERNATIVES.get(name, '')}")
    from_edits = queries_from == "edits" or (to / edits.FOLDER).is_dir()
    choices = Choices(train_share, *((0, 0) if from_edits else (queries_per_label, queries)))
    for line in lay_out(source, listed, choices, to, hard_links, queries if from_edits else 0):
        click.echo(line)
    if listed.skipped:
        click.echo(f"left out: {_others(listed.skipped)}")
    click.echo("next: run `lineup check`, then `dvc repro`")
    click.echo(_version_control(to, hard_links))


def _version_control(to: Path, hard_links: bool) -> str:
    if not hard_links:
        return f"to share the photos, or to keep their versions: `dvc add {to}`"
    return (
        f"to share the photos, or to keep their versions: `dvc add --no-relink {to}`; without --no-relink, DVC would "
        "make your own photos read-only and part of its cache"
    )
