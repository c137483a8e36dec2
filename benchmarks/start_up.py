"""How long each stage's imports take before it does anything, and which libraries take that time.

Run: python -m benchmarks.start_up
Takes about 2 minutes on two cores.
Each import runs in a fresh interpreter. The stages take turns, and medians count. The seconds of a library
include all that it imports.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import command
from lineup import cli, machine

ROOT = Path(__file__).resolve().parent.parent
RUNS = 5
NAMED = (
    "torch",
    "torchvision",
    "faiss",
    "pyarrow",
    "pydantic",
    "scipy",
    "pandas",
    "numpy",
    "PIL",
    "yaml",
    "fastapi",
    "jinja2",
)


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - start


def parts(stage: str) -> dict[str, float]:
    """The seconds of each library in NAMED that the stage imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import stages.{stage}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = (
        re.match(r"import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)$", line) for line in done.stderr.splitlines()
    )
    return {line[2]: int(line[1]) / 1e6 for line in lines if line and line[2] in NAMED}


def main() -> None:
    command.parser("start_up").parse_args()
    stages = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
    python = f"Python {sys.version.split()[0]}"
    print(f"{machine.cpu_name()}, {machine.threads()} threads, {python}, medians of {RUNS}")
    times: dict[str, list[float]] = {stage: [] for stage in ["", *stages]}
    for _ in range(RUNS):
        for stage, measured in times.items():
            measured.append(seconds(f"import stages.{stage}" if stage else ""))
    print(
        f"{'stage':12} {'s':>6}   of it, largest first\n{'(python)':12} {statistics.median(times['']):6.2f}"
    )
    for stage in stages:
        largest = sorted(parts(stage).items(), key=lambda part: -part[1])[:4]
        libraries = ", ".join(f"{name} {library_seconds:.2f}" for name, library_seconds in largest)
        print(f"{stage:12} {statistics.median(times[stage]):6.2f}   {libraries}", flush=True)


if __name__ == "__main__":
    cli.run(main)
