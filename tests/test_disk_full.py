"""A disk that is full, or that fails: one sentence that names the file, nothing lost, and the next run
completes to the same bytes.

On a small disk where one can be mounted; else with a limit to the size of files, which strikes the same
writes.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import project, small_project
from tests.support.project import run, tree
from tests.support.small_project import ROW, abandoned, command, costs, kept_vectors, results

pytestmark = pytest.mark.slow

DISK = 64 * 2**20
FULL = "the disk is full; free some space"
LIMITED = "a file is larger than the disk or `ulimit -f` allows; raise the limit"

# The stage, the folder on a full disk, and the part of the local cache that was removed before, so that it is
# written again.
CASES = [
    ("preprocess", ".cache/prepared", ".cache/prepared"),
    ("preprocess", "data/prepared", None),
    ("train", ".cache/training", ".cache/training"),
    ("train", "data/models", None),
    ("embed", ".cache/vectors", ".cache/vectors"),
    ("embed", "data/embeddings", None),
    ("index", "data/indexes", None),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_project.create(tmp_path_factory.mktemp("full") / "project")
    for stage in ("preprocess", "fetch", "train", "embed", "index"):
        run(*command(stage), cwd=folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


@contextmanager
def small_disk(place: Path, inodes: int = 100_000) -> Iterator[bool]:
    """A disk at `place`, with what was there; False where none can be mounted."""
    aside = Path(shutil.copytree(place, place.with_name(f"{place.name} aside"), symlinks=True))
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},nr_inodes={inodes}", "none", str(place)]
    mounted = (
        shutil.which("mount") is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )
    try:
        if mounted:
            shutil.copytree(aside, place, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def fill(mount: Path, free_bytes: int) -> Path:
    """Leaves `free_bytes` on the disk at `mount`; returns the file whose removal frees the rest."""
    filler = mount / "something else.tmp"
    with filler.open("wb") as file:
        file.write(bytes(shutil.disk_usage(mount).free - free_bytes))
    return filler


def attempt(folder: Path, stage: str, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """largest_file: in bytes."""
    limit: Callable[[], None] | None = None
    if largest_file is not None:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))  # noqa: E731
    return subprocess.run(
        command(stage),
        cwd=folder,
        env=project.environment(forks=True),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )


def sizes(place: Path) -> list[int]:
    return [path.stat().st_size for path in place.rglob("*") if path.is_file()]


def lose(folder: Path, part: str | None) -> None:
    """Empties it, but for the folders."""
    for path in (folder / part).rglob("*") if part else ():
        if path.is_file():
            path.unlink()


def one_sentence(done: subprocess.CompletedProcess[str], place: str, fault: str) -> None:
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1, done.stderr
    assert (
        len(told) == 1 and told[0] == done.stderr.splitlines()[-1] and told[0].startswith(f"error: {place}")
    ), done.stderr
    assert fault in told[0] and "run again: nothing finished is lost" in told[0]
    assert "Traceback" not in done.stderr


def side_cache(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder / ".cache").items() if not name.endswith(".json")}


def all_whole(folder: Path) -> None:
    for path in kept_vectors(folder):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    assert not abandoned(folder)


def completes(folder: Path, stage: str, before: dict[str, str]) -> None:
    run(*command(stage), cwd=folder)
    assert results(folder) == before
    all_whole(folder)


@pytest.mark.parametrize(("stage", "place", "lost"), CASES)
def test_a_small_disk(stage: str, place: str, lost: str | None, folder: Path) -> None:
    before, kept, needed = results(folder), side_cache(folder), sum(sizes(folder / place))
    with small_disk(folder / place) as mounted:
        if not mounted:
            check_limit(stage, place, lost, folder)
            return
        lose(folder, lost)
        # An output that is written whole needs as much again as its largest file has.
        free = max(sizes(folder / place)) // 2 if lost is None else needed // 2
        filler = fill(folder / place, free)
        one_sentence(attempt(folder, stage), place, FULL)
        assert results(folder) == before, "an earlier result was damaged"
        all_whole(folder)
        filler.unlink()
        if lost is None:
            assert side_cache(folder) == kept
        else:
            assert place == ".cache/training" or sizes(folder / place), "nothing that was finished is kept"
        completes(folder, stage, before)
    if place == ".cache/vectors":
        assert costs(folder)["reused"] > 0


@pytest.mark.parametrize(
    ("stage", "place", "lost"), [case for case in CASES if case[0] != "train" and case[1] != ".cache/vectors"]
)
def test_a_limit_to_the_size_of_files(stage: str, place: str, lost: str | None, folder: Path) -> None:
    check_limit(stage, place, lost, folder)


def check_limit(stage: str, place: str, lost: str | None, folder: Path) -> None:
    before, kept, largest = results(folder), side_cache(folder), max(sizes(folder / place))
    lose(folder, lost)
    limit = max(largest // 2, 4096)  # memory that worker processes share is a file of a page
    assert limit < largest
    one_sentence(attempt(folder, stage, limit), place, LIMITED)
    assert results(folder) == before, "an earlier result was damaged"
    all_whole(folder)
    if lost is None:
        assert side_cache(folder) == kept
    completes(folder, stage, before)


def test_the_last_bytes_of_an_index_count_too(folder: Path) -> None:
    """FAISS, writing by itself, took no notice of a disk that was full when it closed the file."""
    index = folder / f"data/indexes/{ROW}.faiss"
    before, size = index.read_bytes(), index.stat().st_size
    one_sentence(attempt(folder, "index", size - 1), "data/indexes", LIMITED)
    assert index.read_bytes() == before


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("preprocess", ".cache"),
        ("preprocess", "data/prepared"),
        ("fetch", "data/weights"),
        ("train", "data/models"),
        ("embed", "data/embeddings"),
        ("index", "data/indexes"),
    ],
)
def test_a_disk_that_is_read_only(stage: str, place: str, folder: Path) -> None:
    before = results(folder)
    with small_disk(folder / place) as mounted:
        if not mounted:
            pytest.skip("no disk can be mounted here")
        subprocess.run(["mount", "-o", "remount,ro", str(folder / place)], check=True)
        one_sentence(attempt(folder, stage), place, "the disk is read-only; mount it for writing")
        assert results(folder) == before, "an earlier result was damaged"
        subprocess.run(["mount", "-o", "remount,rw", str(folder / place)], check=True)
        completes(folder, stage, before)


def test_a_disk_without_inodes_is_not_called_full(folder: Path) -> None:
    place = folder / "data/prepared"
    before, files = results(folder), len(list(place.rglob("*")))
    with small_disk(place, inodes=files + 2) as mounted:
        if not mounted:
            pytest.skip("no disk can be mounted here")
        one_sentence(
            attempt(folder, "preprocess"),
            "data/prepared",
            "the disk has no inode left for another file; remove some files",
        )
        assert results(folder) == before, "an earlier result was damaged"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_a_disk_that_fails_as_it_is_read(folder: Path) -> None:
    """A process's memory can't be read at its start, and the kernel says so in a failing disk's words."""
    facts = folder / f"data/models/{ROW}/encoder.json"
    facts.unlink()
    facts.symlink_to("/proc/self/mem")
    one_sentence(attempt(folder, "embed"), f"data/models/{ROW}/encoder.json", "the disk fails; check it")


def products(folder: Path) -> Path:
    """Photos outside the project; the last one of all is the largest."""
    source = folder.with_name("products")
    for label in range(4):
        (source / f"sku{label}").mkdir(parents=True)
        for number in range(3):
            size = 3 * 2**20 if (label, number) == (3, 2) else 2**20
            (source / f"sku{label}/{number}.jpg").write_bytes(b"\xff\xd8\xff".ljust(size, b"x"))
    return source


def lay_out(folder: Path, source: Path, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    limit = largest_file and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)))
    return subprocess.run(
        [sys.executable, "-m", "lineup", "photos", str(source)],
        cwd=folder,
        env=project.environment(PYTHONPATH=str(project.ROOT)),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit or None,
    )


@pytest.mark.parametrize("update", [False, True])
def test_photos_that_do_not_fit_leave_data_raw_as_it_was(update: bool, tmp_path: Path) -> None:
    """A disk that is too small is noticed before, a limit to the size of files half-way."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    source = products(folder)
    if update:
        done = lay_out(folder, source)
        assert not done.returncode, done.stderr
        for label in range(4):
            (source / f"sku{label}/new.jpg").write_bytes(b"\xff\xd8\xff".ljust(3 * 2**20, b"y"))
    before = tree(folder)
    done = lay_out(folder, source, 2 * 2**20)
    assert done.returncode == 1 and tree(folder) == before
    assert (
        done.stderr.startswith("error: data/raw: a file is larger than the disk")
        and "\n" not in done.stderr[:-1]
    )
    with small_disk(folder / "data") as mounted:
        if mounted:
            filler = fill(folder / "data", 2 * 2**20)
            done = lay_out(folder, source)
            # After the first photo, the sizes of the others are compared with what is free.
            fault = "data/raw: the disk is full" if update else "MB left"
            assert done.returncode == 1 and f"{fault}; free some space" in done.stderr
            filler.unlink()
            assert tree(folder) == before
        done = lay_out(folder, source)
        assert not done.returncode and len([*folder.rglob("*.jpg")]) == 12 + 4 * update
