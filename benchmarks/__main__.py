"""Lists the benchmarks, or runs one of them.

`python -m benchmarks` lists them, `python -m benchmarks NAME [options]` runs one, and the name `all` runs
all.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks import command
from lineup.errors import suggest


def listing() -> str:
    """One line for each benchmark: its name, the minutes that it takes, and what it measures."""
    lines = [
        (name, command.minutes(name), command.description(name).partition("\n")[0])
        for name in command.names()
    ]
    total = sum(int(minutes) for _, minutes, _ in lines)
    rows = [f"{name:20} {minutes:>4} min   {what}" for name, minutes, what in lines]
    how = (
        "make bench NAME=embed runs one, with OPTIONS=--help for its options; NAME=all runs all. "
        "The minutes are those of two cores."
    )
    return "\n".join([*rows, f"{'all':20} {total:>4} min", "", how])


def run(name: str, options: list[str]) -> int:
    """Runs one benchmark, and returns its exit code."""
    print(f"== {name}", file=sys.stderr, flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode


def main(argv: list[str]) -> int:
    """Runs what argv names: a benchmark or `all`, then its options. Returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(listing())
        return 0
    name, *options = argv
    if name != "all" and name not in command.names():
        print(f"error: NAME is '{name}'{suggest(name, [*command.names(), 'all'])}", file=sys.stderr)
        return 1
    failed = [name for name in (command.names() if name == "all" else [name]) if run(name, options)]
    if failed:
        print(f"error: not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
