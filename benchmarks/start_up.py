"""How long each stage's imports take, and which libraries they are: what every run of it pays before it does anything.

Run: python -m benchmarks.start_up
Takes about 2 minutes on two cores.
Each import in a fresh interpreter, the stages take turns, medians count; "of it" are seconds that a library takes with all it imports.
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
    """Library -> seconds, of those in NAMED that the stage imports."""
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
    return {found[2]: int(found[1]) / 1e6 for found in lines if found and found[2] in NAMED}


def main() -> None:
    command.parser("start_up").parse_args()
    stages = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
    print(
        f"{machine.cpu_name()}, {machine.threads()} threads, Python {sys.version.split()[0]}, medians of {RUNS}"
    )
    times: dict[str, list[float]] = {stage: [] for stage in ["", *stages]}
    for _ in range(RUNS):
        for stage, measured in times.items():
            measured.append(seconds(f"import stages.{stage}" if stage else ""))
    print(
        f"{'stage':12} {'s':>6}   of it, largest first\n{'(python)':12} {statistics.median(times['']):6.2f}"
    )
    for stage in stages:
        largest = sorted(parts(stage).items(), key=lambda part: -part[1])[:4]
        print(
            f"{stage:12} {statistics.median(times[stage]):6.2f}   {', '.join(f'{name} {s:.2f}' for name, s in largest)}",
            flush=True,
        )


if __name__ == "__main__":
    cli.run(main)
