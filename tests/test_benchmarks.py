"""The benchmarks' command lines: the list, help at once, and a sentence for what is missing.

What they measure is not tested.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import command
from tests.support.project import ROOT, run

NAMES = pytest.mark.parametrize("name", command.names())


@NAMES
def test_help_measures_nothing_and_imports_nothing(name: str) -> None:
    done = run(sys.executable, "-X", "importtime", "-m", f"benchmarks.{name}", "--help", cwd=ROOT)
    assert done.stdout.startswith(command.description(name)) and f"python -m benchmarks.{name}" in done.stdout
    assert "numpy" not in done.stderr and "pydantic" not in done.stderr


@pytest.mark.slow
def test_without_a_name_all_are_listed_with_their_minutes() -> None:
    listed = run("make", "--silent", "bench", cwd=ROOT).stdout
    for name in command.names():
        line = next(line for line in listed.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:3] == [command.minutes(name), "min"]


@pytest.mark.slow
def test_an_unknown_name_or_option_is_reported(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "benchmarks", "embet", cwd=ROOT, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: NAME is 'embet'; did you mean 'embed'?")
    done = run(sys.executable, "-m", "benchmarks", "start_up", "--fast", cwd=ROOT, check=False)
    assert done.returncode == 1 and "unrecognized arguments: --fast" in done.stderr


@pytest.mark.slow
def test_a_missing_package_is_reported(tmp_path: Path) -> None:
    (tmp_path / "hnswlib.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'hnswlib'\", name='hnswlib')"
    )
    done = run(sys.executable, "-m", "benchmarks.search", cwd=ROOT, check=False, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: hnswlib is not installed") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_demo_that_has_not_run_is_reported(tmp_path: Path) -> None:
    """It runs in a copy, because the demo may have run in this checkout."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    done = run(
        sys.executable, "-m", "benchmarks.incremental", cwd=tmp_path, check=False, PYTHONPATH=str(ROOT)
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("run `make demo`") and "Traceback" not in done.stderr
