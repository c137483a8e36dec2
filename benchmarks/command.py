"""What the benchmarks share on the command line: help before anything heavy is imported, and a sentence for what is lacking."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from lineup import launch

FOLDER = Path(__file__).resolve().parent
_OURS = ("lineup", "stages", "tests", "benchmarks")


def names() -> list[str]:
    """Of all benchmarks."""
    return sorted(
        path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "__main__", "command")
    )


def description(name: str) -> str:
    """A benchmark's docstring, without importing it."""
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""


def minutes(name: str) -> str:
    """What it takes on two cores, as its docstring says: "12"."""
    said = re.search(r"^Takes about (\d+) minutes?\b", description(name), flags=re.MULTILINE)
    assert said, f"benchmarks/{name}.py says nowhere what it takes"
    return said[1]


def begin() -> None:
    """Of `python -m benchmarks.NAME`: help is answered at once, and what isn't installed is told."""
    launch.begin()
    untold = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in _OURS:
            fix = "make bench NAME=... installs it, or pip install -c constraints.txt -e '.[test,bench]'"
            print(f"error: {error.name} is not installed, which this benchmark needs; {fix}", file=sys.stderr)
        else:
            untold(kind, error, trace)

    sys.excepthook = tell
    if {"-h", "--help"} & {*sys.argv[1:]}:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1].removeprefix("benchmarks.")
        if module in names():
            print(description(module))
            sys.exit()


def parser(name: str) -> argparse.ArgumentParser:
    """Options that aren't there are refused; --help was answered by `begin`."""
    return argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", add_help=False)


def one_of(*known: str) -> Callable[[str], str]:
    """The type of an argument that may be given several times; argparse's choices would refuse a list as default."""

    def check(word: str) -> str:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is unknown; known: {', '.join(known)}")
        return word

    return check
