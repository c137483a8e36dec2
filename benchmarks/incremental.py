"""What a change costs, compared with the least that it could cost: five ratios in one run.

Run: python -m benchmarks.incremental     (after `make demo`)
Takes about 12 minutes on two cores, 2 GB of memory and 5 GB of the temporary folder.
It works on copies in a temporary folder. The copies start as finished, whatever has changed in the checkout
since the demo ran: `dvc commit` records their results as they are.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from benchmarks import command, vector_cache
from lineup import cli, machine, paths
from lineup.errors import UserError
from lineup.storage import files, parquet, schemas

ROOT = Path(__file__).resolve().parent.parent
# The rows that change, and their changed setting: a row that takes little time, and one that trains.
CHANGES = {"raw_pixels_l2": ("encoder", "image_size", 136), "triplet": ("objective", "learning_rate", 0.0065)}
FIRST = {"encoder": "fetch", "objective": "train"}  # the first stage that DVC runs after such a change
ROW = "raw_pixels_l2"
STAGES = ("fetch", "train", "embed", "index", "retrieve", "score", "report")
REPEATS = 3
PHOTOS_PER_NEW_ONE = 100
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "DVC_NO_ANALYTICS": "1",
}


def run(folder: Path, *command: str, **extra: str) -> tuple[float, str]:
    """Runs a command. Returns its seconds and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | extra, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return time.perf_counter() - start, done.stdout


def repro(folder: Path) -> tuple[float, list[str]]:
    """Runs `dvc repro`. Returns its seconds and the stages that ran."""
    seconds, printed = run(folder, "dvc", "repro")
    return seconds, re.findall(r"^Running stage '([^']+)':$", printed, flags=re.MULTILINE)


def finished_copy(to: Path) -> Path:
    """Copies the checkout with its results, all of them up to date, and with an empty local cache."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    shutil.copytree(ROOT / "data", to / "data", symlinks=True)
    run(to, "git", "init", "-q")
    try:
        run(to, "dvc", "commit", "--force")
    except SystemExit as error:
        raise UserError(
            f"{ROOT}: the demo has not run to its end ({str(error).splitlines()[-1]}); run `make demo`"
        ) from None
    commit(to, "first")
    if ran := repro(to)[1]:
        raise UserError(
            f"{ROOT}: the demo has not run to its end ({', '.join(ran)} had to run); run `make demo`"
        )
    return to


def commit(folder: Path, tag: str) -> None:
    run(folder, "git", "add", "-A")
    run(
        folder,
        "git",
        "-c",
        "user.name=benchmark",
        "-c",
        "user.email=benchmark@example.org",
        "commit",
        "-qm",
        tag,
    )
    run(folder, "git", "tag", tag)


def idle(folder: Path, to: Path) -> Path:
    """Copies a project, with stages that do nothing."""
    shutil.copytree(folder, to, symlinks=True)
    file = to / "dvc.yaml"
    file.write_text(
        re.sub(r"^( +cmd:) .*$", r"\1 'true'", file.read_text(encoding="utf-8"), flags=re.MULTILINE),
        encoding="utf-8",
    )
    run(to, "dvc", "commit", "--force")
    repro(to)
    return to


def no_op(real: Path, nothing: Path) -> Iterator[str]:
    """Measures both projects in turns, so that a slower moment of the machine affects both."""
    times: dict[Path, list[float]] = {real: [], nothing: []}
    for _ in range(REPEATS):
        for folder, seconds in times.items():
            took, ran = repro(folder)
            assert not ran, ran
            seconds.append(took)
    ours, least = (statistics.median(seconds) for seconds in times.values())
    yield ratio("no-op `dvc repro`: to the same dvc.yaml whose stages do nothing", ours / least, 1.2)
    yield f"   {ours:.2f} s and {least:.2f} s, medians of {REPEATS}"


def change(folder: Path, row: str) -> None:
    part, name, value = CHANGES[row]
    file = folder / paths.PARAMS
    params = yaml.safe_load(file.read_text(encoding="utf-8"))
    params["models"][row][part] = {**params["models"][row][part], name: value}
    file.write_text(yaml.dump(params, sort_keys=False), encoding="utf-8")


def changed_row(row: str, real: Path, alone: Path) -> Iterator[str]:
    """Compares `dvc repro` with the commands of the stages that it runs, one after another, by hand."""
    for folder in (real, alone):
        change(folder, row)
    stages = STAGES[STAGES.index(FIRST[CHANGES[row][0]]) :]
    commands = [[f"stages.{stage}", "--row", row] for stage in stages] + [
        ["stages.slices"],
        ["stages.compare"],
        ["stages.report"],
    ]
    seconds = {" ".join(command): run(alone, sys.executable, "-m", *command)[0] for command in commands}
    whole, ran = repro(real)
    own = {f"{'report_row' if stage == 'report' else stage}@{row}" for stage in stages} | {
        "slices",
        "compare",
        "report",
    }
    assert set(ran) == own, ran
    commit(real, f"{row}-changed")
    rows = len(yaml.safe_load((real / paths.PARAMS).read_text(encoding="utf-8"))["models"])
    least = sum(seconds.values())
    yield ratio(
        f"one changed row of {rows}, {row}: `dvc repro` to its stages, slices, compare and report by hand",
        whole / least,
        1.15,
    )
    parts = (f"{name.split()[0].removeprefix('stages.')} {took:.1f}" for name, took in seconds.items())
    yield f"   {whole:.1f} s and {least:.1f} s: {', '.join(parts)}"


def earlier_commit(real: Path) -> Iterator[str]:
    """Goes back and forth between the two commits that `changed_row` left.

    The last time, DVC's cache has lost the row's vectors.
    """
    passes, log, changed = 0, [], f"{ROW}-changed"
    for tag, lost in (("first", False), (changed, False), ("first", False), (changed, True)):
        run(real, "git", "checkout", "-q", tag)
        if lost:
            forget_vectors(real)
        _, ran = repro(real)
        computed = embed_costs(real, ROW)["computed"] if f"embed@{ROW}" in ran else 0
        passes += computed
        log.append(f"{tag}{', vectors lost' if lost else ''}: {len(ran)} stages ran, {computed} computed")
    yield f"{verdict(passes == 0)} returning to an earlier commit: {passes} forward passes (target 0)"
    yield f"   {'; '.join(log)}"


def forget_vectors(folder: Path) -> None:
    """Removes the row's embeddings and the run cache from DVC's cache."""
    lock = yaml.load((folder / "dvc.lock").read_text(encoding="utf-8"), yaml.CSafeLoader)
    (embeddings,) = (
        out["md5"]
        for out in lock["stages"][f"embed@{ROW}"]["outs"]
        if out["path"] == paths.embeddings(ROW).as_posix()
    )
    (folder / ".dvc/cache/files/md5" / embeddings[:2] / embeddings[2:]).unlink()
    shutil.rmtree(folder / ".dvc/cache/runs")


def embed_costs(folder: Path, row: str) -> dict[str, Any]:
    return files.read_json(folder / paths.costs("embed", row))


def some_photos(source: Path, folder: Path, keep: Callable[[int], bool]) -> int:
    """Writes those prepared test images whose number `keep` accepts. Returns how many they are."""
    schema = next(parquet.read_shards(source)).schema
    numbers = iter(range(10**9))
    batches = [
        rows.filter(pa.array([keep(next(numbers)) for _ in range(rows.num_rows)]))
        for rows in parquet.read_shards(source)
    ]
    count = sum(rows.num_rows for rows in batches)
    parquet.write_shards(folder / paths.images("test"), schema, batches, count, schemas.IMAGES_PER_SHARD)
    return count


def new_photos(real: Path, folder: Path) -> Iterator[str]:
    """Compares embedding a few new photos with embedding all, both without the stage's start-up.

    The start-up is the same stage with one photo: it imports libraries, loads weights and computes one batch.
    """
    row = "mobilenet_v2"
    for name in (paths.PARAMS, paths.model(row), paths.weights(row)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (real / name).is_dir() else shutil.copy2)(real / name, folder / name)
    source = real / paths.images("test")

    def embed(keep: Callable[[int], bool]) -> tuple[float, int, int]:
        count = some_photos(source, folder, keep)
        seconds, _ = run(folder, sys.executable, "-m", "stages.embed", "--row", row, PYTHONPATH=str(ROOT))
        return seconds, embed_costs(folder, row)["computed"], count

    start_up, full, more = [], [], []
    for _ in range(3):
        for times, keep in (
            (start_up, lambda number: number == 0),
            (full, lambda number: number % PHOTOS_PER_NEW_ONE > 0),
            (more, lambda number: True),
        ):
            if times is not more:
                shutil.rmtree(folder / ".cache", ignore_errors=True)
            times.append(embed(keep))
    (start, *_), (whole, _, before), (one, computed, after) = (
        statistics.median_low(times) for times in (start_up, full, more)
    )
    assert computed == after - before, (computed, after, before)
    yield ratio(
        f"{computed} new photos beside {before:,}: embed less its start-up, to a full embed",
        (one - start) / whole,
        0.05,
    )
    yield f"   {one:.2f} s, start-up {start:.2f} s, full {whole:.2f} s, medians of 3"


def ratio(what: str, measured: float, target: float) -> str:
    return f"{verdict(measured <= target)} {what}: {measured:.3f} (target {target})"


def verdict(reached: bool) -> str:
    return "reached:" if reached else "MISSED: "


def machine_and_versions() -> str:
    versions = " ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("dvc", "torch", "numpy", "pyarrow", "faiss-cpu")
    )
    return f"{machine.cpu_name()}, {machine.threads()} threads; Python {platform.python_version()} {versions}"


def main() -> None:
    command.parser("incremental").parse_args()
    if not (ROOT / paths.images("test")).is_dir():
        raise UserError(
            f"{ROOT / paths.images('test')}: does not exist, and this benchmark changes the demo's results; "
            "run `make demo`"
        )
    print(machine_and_versions(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        real = finished_copy(scratch / "real")
        nothing, alone = (
            idle(real, scratch / "idle"),
            Path(shutil.copytree(real, scratch / "alone", symlinks=True)),
        )
        figures = (
            lambda: no_op(real, nothing),
            *(partial(changed_row, row, real, alone) for row in CHANGES),
            lambda: new_photos(alone, scratch / "embed"),
            lambda: earlier_commit(real),
        )
        for figure in figures:
            for line in figure():
                print(line, flush=True)
    measured = vector_cache.measure()
    reached = verdict(measured["seconds"] < vector_cache.MOST_SECONDS)
    print(f"{reached} local cache: {vector_cache.summary(measured)} (target: seconds, not minutes)")


if __name__ == "__main__":
    cli.run(main)
