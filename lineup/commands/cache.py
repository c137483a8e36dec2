"""`lineup cache`: lists the local cache, and removes what no row uses.

In use is what a row names in the working tree, or in the last commit of any branch, remote branch, tag or
experiment. What was used in the last 24 hours stays too: a run may be at work with it, or go on with it after
an interruption. An older commit of a branch computes its vectors again once they are pruned; results never
depend on this cache.
"""

from __future__ import annotations

import datetime
import sys

import click

from lineup import paths
from lineup.commands import cache_usage
from lineup.commands.cache_usage import RECENT_HOURS, Entry
from lineup.storage import files

_HEADER = ("kept", "fingerprint", "what", "images", "MB", "last used", "used by")


def table(entries: list[Entry]) -> str:
    """One line per folder, in columns."""
    rows = [_HEADER, *(_cells(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cells(entry: Entry) -> tuple[str, ...]:
    used = ", ".join(entry.used_by) or (
        f"no row, but in the last {RECENT_HOURS} hours" if entry.recent else "no row"
    )
    return (
        entry.kind,
        entry.folder.name[:12],
        entry.about,
        "" if entry.images is None else f"{entry.images:,}",
        f"{entry.megabytes:,.1f}",
        datetime.datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M"),
        used,
    )


def remove_unused(entries: list[Entry], agreed: bool) -> None:
    """Shows what would be freed, and frees it once it's agreed to."""
    needless = [entry for entry in entries if entry.needless]
    if not needless:
        print("nothing to free: every folder is used by a row, or was used lately")
        return
    print(
        f"no row in any branch or tag uses these; removing them frees {sum(entry.megabytes for entry in needless):,.1f} MB:\n"
    )
    print(table(needless))
    if not agreed and not sys.stdin.isatty():
        print("\nnothing was removed; use --prune --yes to remove them")
        return
    if agreed or input("\nremove them? [y/N] ").strip().lower() in ("y", "yes"):
        print(f"\nremoved {sum(entry.remove() for entry in needless)} folders")
    else:
        print("nothing was removed")


@click.command("cache")
@click.option(
    "--prune", is_flag=True, help="Show what no row in any branch or tag uses, and ask whether to remove it."
)
@click.option("--yes", is_flag=True, help="With --prune: remove without asking.")
def command(prune: bool, yes: bool) -> None:
    """List what .cache keeps, so that nothing is computed twice."""
    if yes and not prune:
        raise click.UsageError("--yes goes with --prune")
    if prune:
        for kind in cache_usage.KINDS:
            files.remove_abandoned(paths.CACHE / kind)  # of a prune that was killed
    entries = cache_usage.entries(paths.CACHE, cache_usage.used_by_rows())
    if prune:
        remove_unused(entries, yes)
    elif entries:
        print(table(entries))
        print(f"\n{sum(entry.megabytes for entry in entries):,.1f} MB in {paths.CACHE}")
    else:
        print(f"{paths.CACHE} is empty; `dvc repro` fills it")
