"""What the benchmarks share on the command line.

`--help` answers before anything heavy is imported, and a package that is not installed is reported in one
sentence.
"""

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
    """The names of all benchmarks, sorted."""
    return sorted(
        path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "__main__", "command")
    )


def description(name: str) -> str:
    """The docstring of a benchmark, which is read without importing it."""
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""


def minutes(name: str) -> str:
    """The minutes that a benchmark takes on two cores, as its docstring states them: "12"."""
    stated = re.search(r"^Takes about (\d+) minutes?\b", description(name), flags=re.MULTILINE)
    assert stated, f"benchmarks/{name}.py does not state how long it takes"
    return stated[1]


def begin() -> None:
    """Prepares `python -m benchmarks.NAME`: answers --help at once, and reports what is not installed."""
    launch.begin()
    default_hook = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in _OURS:
            fix = "make bench NAME=... installs it, or pip install -c constraints.txt -e '.[test,bench]'"
            print(f"error: {error.name} is not installed, which this benchmark needs; {fix}", file=sys.stderr)
        else:
            default_hook(kind, error, trace)

    sys.excepthook = report
    if {"-h", "--help"} & {*sys.argv[1:]}:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1].removeprefix("benchmarks.")
        if module in names():
            print(description(module))
            sys.exit()


def parser(name: str) -> argparse.ArgumentParser:
    """A parser that refuses unknown options; `begin` has answered --help already."""
    return argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", add_help=False)


def one_of(*known: str) -> Callable[[str], str]:
    """An argument's type that accepts these words only.

    argparse's own `choices` would refuse a list as the default of an argument that may be repeated.
    """

    def check(word: str) -> str:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is unknown; known: {', '.join(known)}")
        return word

    return check
