"""SIGKILL at random points, to a stage or to DVC: the next `dvc repro` ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from tests.support import project, small_project
from tests.support.project import repro, run
from tests.support.small_project import ROW, abandoned, command, costs, kept_vectors, results

pytestmark = pytest.mark.slow

WANTED = {"preprocess": 7, "train": 5, "embed": 5, "index": 4}  # kills of the stage itself
TARGETS = {stage: stage if stage == "preprocess" else f"{stage}@{ROW}" for stage in WANTED}
MOST_TRIES = 40  # a process may end before it is hit
# Not a fork, in which `remembered_lock` writes dvc.lock too fast to be hit.
REAL_DVC = (sys.executable, "-m", "dvc")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos and settings; nothing ran yet."""
    return small_project.create(tmp_path_factory.mktemp("kill") / "project")


@pytest.fixture(scope="module")
def undisturbed(untouched: Path) -> dict[str, str]:
    folder = Path(shutil.copytree(untouched, untouched.parent / "undisturbed", symlinks=True))
    repro(folder)
    return results(folder)


@pytest.fixture
def folder(untouched: Path, tmp_path: Path) -> Iterator[Path]:
    folder = Path(shutil.copytree(untouched, tmp_path / "project", symlinks=True))
    yield folder
    for process in at_work(folder):
        process.kill()


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts a command. Where it is `python`, or runs that, it gets a fork, which ends with whoever asked for it.

    Its output goes to a file: a process that outlives its parent can still write there.
    """
    with (folder.parent / "output.txt").open("ab") as output:
        return subprocess.Popen(
            arguments,
            cwd=folder,
            env=project.environment(forks=True),  # as many threads as `repro`, which decide trained weights
            stdout=output,
            stderr=output,
        )


def at_work(folder: Path) -> list[psutil.Process]:
    """Processes in a project's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def files(folder: Path) -> set[tuple[str, int]]:
    """What a stage has written so far, half-written files too."""
    written = set()
    for part in ("data", ".cache"):
        for parent, folders, names in os.walk(folder / part):
            if "raw" in folders:
                folders.remove("raw")  # photos, which no stage writes
            for path in (os.path.join(parent, name) for name in [*folders, *names]):  # noqa: PTH118
                with contextlib.suppress(FileNotFoundError):  # renamed just now
                    written.add((path, os.stat(path).st_mtime_ns))  # noqa: PTH116
    return written


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Whether it was still running."""
    if process.poll() is None:
        process.kill()
    return process.wait() == -signal.SIGKILL


def kill_after_a_sign(folder: Path, process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Kills it as soon as it has written something after its start, or a few more things."""
    seen, signs = files(folder), chance.choice([1, 1, 2, 5])
    while process.poll() is None and signs:
        now = files(folder)
        if now != seen:
            seen, signs = now, signs - 1
        time.sleep(0.001)
    time.sleep(chance.random() * 0.01)
    return kill(process)


def kill_some_time(process: subprocess.Popen[bytes], chance: random.Random, seconds: float) -> bool:
    """Kills it anywhere within the time that a whole run takes."""
    deadline = time.monotonic() + chance.random() * seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return kill(process)


def all_whole(folder: Path, undisturbed: dict[str, str]) -> None:
    """Whatever has its final name has its final content."""
    for name, digest in results(folder).items():
        assert undisturbed[name] == digest, name
    for path in kept_vectors(folder):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem


def test_stages_killed_at_random_points(folder: Path, undisturbed: dict[str, str]) -> None:
    chance, killed = random.Random(6), Counter[str]()
    for stage, wanted in WANTED.items():
        if stage == "train":
            repro(folder, f"fetch@{ROW}")
        seconds = 5.0 if stage == "train" else 1.0
        for attempt in range(MOST_TRIES):
            if killed[stage] == wanted:
                break
            process = start(folder, *command(stage))
            by_sign = attempt % 3 != 2
            killed[stage] += (
                kill_after_a_sign(folder, process, chance)
                if by_sign
                else kill_some_time(process, chance, seconds)
            )
            psutil.wait_procs(at_work(folder))
            all_whole(folder, undisturbed)
        held = vectors_held(folder) if stage == "embed" else 0
        assert repro(folder, TARGETS[stage])[-1] == TARGETS[stage]
        all_whole(folder, undisturbed)
        assert not abandoned(folder)
        if stage == "embed":
            assert costs(folder)["reused"] == held > 0
            assert costs(folder)["computed"] == vectors_held(folder) - held
    repro(folder)
    assert results(folder) == undisturbed
    assert killed == WANTED and killed.total() >= 20
    assert repro(folder) == []


def vectors_held(folder: Path) -> int:
    """Images whose batches were finished by runs that were killed."""
    ids: set[bytes] = set()
    for path in kept_vectors(folder):
        with safe_open(path, framework="numpy") as piece:
            ids.update(bytes(row) for row in piece.get_tensor("ids"))
    return len(ids)


def stage_of(dvc: subprocess.Popen[bytes], stage: str) -> psutil.Process | None:
    """The process of a stage that DVC has started, once there is one; None if DVC ends without it."""
    while dvc.poll() is None:
        try:
            for process in psutil.Process(dvc.pid).children(recursive=True):
                if f"stages.{stage}" in process.cmdline() and "-c" not in process.cmdline():
                    return process
        except psutil.Error:
            continue
        time.sleep(0.002)
    return None


def remove_unreadable_locks(folder: Path) -> None:
    """Does what docs/workflows.md advises after DVC was killed while it wrote its file of locks."""
    locks = folder / ".dvc/tmp/rwlock"
    try:
        json.loads(locks.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        locks.unlink()


def test_a_stage_that_a_killed_dvc_left_running_beside_a_new_repro(
    folder: Path, undisturbed: dict[str, str]
) -> None:
    chance, left = random.Random(7), 0
    for stage in WANTED:
        dvc = start(folder, *REAL_DVC, "repro")
        child = stage_of(dvc, stage)
        time.sleep(chance.random() * 0.2)
        if kill(dvc) and child:
            left += child.is_running()
        remove_unreadable_locks(folder)
    # The next one starts beside what is left of the last one, needs no repair, and ends as if it had been
    # alone.
    assert "compare" in repro(folder)
    psutil.wait_procs(at_work(folder), timeout=60)
    assert not at_work(folder)
    assert left >= 2, "DVC was never hit while a stage ran"
    assert results(folder) == undisturbed
    assert repro(folder) == []
    assert not abandoned(folder)


def test_dvc_killed_with_all_that_it_started(folder: Path, undisturbed: dict[str, str]) -> None:
    """As a machine that loses power: nothing is left running, at any point of DVC's own work either."""
    chance, killed = random.Random(8), 0
    for _ in range(MOST_TRIES):
        if killed == 3:
            break
        killed += kill_some_time(start(folder, *REAL_DVC, "repro"), chance, 6.0)
        for process in at_work(folder):
            process.kill()
        remove_unreadable_locks(folder)
    repro(folder)
    assert killed == 3
    assert results(folder) == undisturbed
    assert not abandoned(folder)


def test_locks_of_a_killed_dvc(folder: Path) -> None:
    """DVC takes those of a process that is gone off itself.

    If it was hit while writing them, one file has to go.
    """
    locks = folder / ".dvc/tmp/rwlock"
    gone = subprocess.Popen(["true"])
    gone.wait()
    held = {
        "write": {str(folder / "data/prepared/leaks.csv"): {"pid": gone.pid, "cmd": "dvc repro"}},
        "read": {},
    }
    locks.parent.mkdir(exist_ok=True)
    locks.write_text(json.dumps(held))
    assert repro(folder, "preprocess") == ["preprocess"]

    os.utime(folder / "data/raw/test/query")
    (folder / "data/prepared/leaks.csv").unlink()
    locks.write_text(json.dumps(held)[:30])
    done = run("dvc", "repro", "preprocess", cwd=folder, check=False)
    assert done.returncode and "Unable to read RWLock-file" in done.stderr and "rwlock" in done.stderr
    locks.unlink()
    repro(folder, "preprocess")
    assert (folder / "data/prepared/leaks.csv").exists()
