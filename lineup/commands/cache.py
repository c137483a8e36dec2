"""`lineup cache`: lists the local cache, and removes what has not been used for a long time.

Results never depend on this cache. What is removed is computed again when a run needs it.
"""

from __future__ import annotations

import datetime
import sys

import click

from lineup import paths
from lineup.commands import cache_usage
from lineup.commands.cache_usage import Entry
from lineup.storage import files

MAX_AGE_DAYS = 30
_HEADER = ("kind", "fingerprint", "encoder", "images", "MB", "last used")
_FINGERPRINT_DIGITS = 12


def table(entries: list[Entry]) -> str:
    """One line per entry, in columns."""
    rows = [_HEADER, *(_cells(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cells(entry: Entry) -> tuple[str, ...]:
    return (
        entry.kind,
        entry.folder.name[:_FINGERPRINT_DIGITS],
        entry.description,
        "" if entry.images is None else f"{entry.images:,}",
        f"{entry.megabytes:,.1f}",
        datetime.datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M"),
    )


def prune(entries: list[Entry], max_age_days: float, max_gb: float | None, confirmed: bool) -> None:
    """Shows what pruning would remove, and removes it once the user confirms.

    Args:
        entries: of the whole cache.
        max_age_days, max_gb: see `cache_usage.expired`.
        confirmed: remove without asking.
    """
    expired = cache_usage.expired(entries, max_age_days, max_gb)
    if not expired:
        print("nothing to remove: every entry is in use, or recent and within the limits")
        return
    megabytes = sum(entry.megabytes for entry in expired)
    print(f"removing these frees {megabytes:,.1f} MB; a run that needs one of them computes it again:\n")
    print(table(expired))
    if not confirmed and not sys.stdin.isatty():
        print("\nnothing was removed; use --prune --yes to remove them")
        return
    if confirmed or input("\nremove them? [y/N] ").strip().lower() in ("y", "yes"):
        print(f"\nremoved {sum(entry.remove() for entry in expired)} folders")
    else:
        print("nothing was removed")


@click.command("cache")
@click.option("--prune", "pruning", is_flag=True, help="Show what is old, and ask whether to remove it.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help=f"With --prune: remove what was last used more than DAYS ago. Default: {MAX_AGE_DAYS}.",
)
@click.option(
    "--max-gb",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="With --prune: also remove the least recently used until the rest takes at most GB.",
)
@click.option("--yes", is_flag=True, help="With --prune: remove without asking.")
def command(pruning: bool, older_than: float | None, max_gb: float | None, yes: bool) -> None:
    """List the local cache (.cache), which saves computing anything twice.

    Pruning never removes what was used in the last 24 hours.
    """
    for option, given in (
        ("--yes", yes),
        ("--older-than", older_than is not None),
        ("--max-gb", max_gb is not None),
    ):
        if given and not pruning:
            raise click.UsageError(f"{option} is for --prune alone")
    if pruning:
        for kind in cache_usage.KINDS:
            files.remove_abandoned(paths.CACHE / kind)  # Finishes a removal that was killed.
    entries = cache_usage.entries(paths.CACHE)
    if pruning:
        prune(entries, MAX_AGE_DAYS if older_than is None else older_than, max_gb, yes)
    elif entries:
        print(table(entries))
        print(f"\n{sum(entry.megabytes for entry in entries):,.1f} MB in {paths.CACHE}")
    else:
        print(f"{paths.CACHE} is empty; `dvc repro` fills it")
