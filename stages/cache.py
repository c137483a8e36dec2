"""Lists the side cache, and takes away what no row uses: `python -m stages.cache [--prune [--yes]]`.

In use is what a row names in the working tree, or in the last commit of any branch, remote branch, tag or experiment.
What was used in the last 24 hours stays too: a run may be at work with it, or go on with it after an interruption.
An older commit of a branch computes its vectors again once they are pruned; results never depend on this cache.
"""

from __future__ import annotations

import argparse
import datetime
import sys

from stages.lib import cache_contents, cli, paths, tables
from stages.lib.cache_contents import RECENT_HOURS, Entry

_HEADER = ("kept", "fingerprint", "what", "images", "MB", "last used", "used by")


def table(entries: list[Entry]) -> str:
    """One line per folder, in columns."""
    rows = [_HEADER, *(_cells(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _cells(entry: Entry) -> tuple[str, ...]:
    used = ", ".join(entry.used_by) or (f"no row, but in the last {RECENT_HOURS} hours" if entry.recent else "no row")
    return (
        entry.kind,
        entry.folder.name[:12],
        entry.about,
        "" if entry.images is None else f"{entry.images:,}",
        f"{entry.megabytes:,.1f}",
        datetime.datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M"),
        used,
    )


def prune(entries: list[Entry], agreed: bool) -> None:
    """Shows what would be freed, and frees it once it's agreed to."""
    needless = [entry for entry in entries if entry.needless]
    if not needless:
        print("nothing to free: every folder is used by a row, or was used lately")
        return
    print(f"no row in any branch or tag uses these; removing them frees {sum(entry.megabytes for entry in needless):,.1f} MB:\n")
    print(table(needless))
    if not agreed and not sys.stdin.isatty():
        print("\nnothing was removed; say --prune --yes to remove them")
        return
    if agreed or input("\nremove them? [y/N] ").strip().lower() in ("y", "yes"):
        print(f"\nremoved {sum(entry.remove() for entry in needless)} folders")
    else:
        print("nothing was removed")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.cache", description="What .cache keeps, so that nothing is computed twice.")
    parser.add_argument("--prune", action="store_true", help="show what no row in any branch or tag uses, and ask whether to remove it")
    parser.add_argument("--yes", action="store_true", help="with --prune: remove without asking")
    arguments = parser.parse_args(argv)
    if arguments.yes and not arguments.prune:
        parser.error("--yes goes with --prune")
    if arguments.prune:
        for kind in cache_contents.KINDS:
            tables.remove_abandoned(paths.CACHE / kind)  # of a prune that was killed
    entries = cache_contents.entries(paths.CACHE, cache_contents.used_by_rows())
    if arguments.prune:
        prune(entries, arguments.yes)
    elif entries:
        print(table(entries))
        print(f"\n{sum(entry.megabytes for entry in entries):,.1f} MB in {paths.CACHE}")
    else:
        print(f"{paths.CACHE} holds nothing yet; `dvc repro` fills it")


if __name__ == "__main__":
    cli.run(main)
