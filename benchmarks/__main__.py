"""`python -m benchmarks` lists the benchmarks, `python -m benchmarks NAME [options]` runs one, NAME all runs all."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import command
from lineup.errors import suggest


def listing() -> str:
    """A line for each, with what it measures and the minutes that it takes."""
    lines = [
        (name, command.minutes(name), command.description(name).partition("\n")[0])
        for name in command.names()
    ]
    total = sum(int(minutes) for _, minutes, _ in lines)
    rows = [f"{name:20} {minutes:>4} min   {what}" for name, minutes, what in lines]
    how = "make bench NAME=embed runs one, and OPTIONS=--help says what it knows; NAME=all runs all. Minutes are those of two cores."
    return "\n".join([*rows, f"{'all':20} {total:>4} min", "", how])


def run(name: str, options: list[str]) -> int:
    """Its exit code."""
    print(f"== {name}", file=sys.stderr, flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode


def main(argv: list[str]) -> int:
    """argv: a benchmark's name, or all, and its options. The exit code."""
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
