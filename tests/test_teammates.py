"""Sharing through a DVC remote, with the real CLI: a plain folder and an S3-compatible server on 127.0.0.1."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import project, s3_server
from tests.support.project import read_params, repro, run, tree, write_params

pytestmark = pytest.mark.slow

PULL = ("--pull", "--allow-missing")
# By another search metric.
# `quantise` reads the whole row, and writes the same as before.
CHANGED = {f"{stage}@raw_pixels_l2" for stage in ("quantise", "index", "retrieve", "latency", "score")}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of moto's S3 server."""
    with s3_server.running() as address:
        yield address


@pytest.fixture(params=["folder", "s3"])
def team(
    request: pytest.FixtureRequest, finished_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """The first project with everything pushed, and a teammate's clone of it."""
    mine = finished_copy
    shutil.copy2(project.ROOT / "Makefile", mine / "Makefile")
    if request.param == "folder":
        set_remote(mine, str(tmp_path / "remote"))
    else:
        address = request.getfixturevalue("s3")
        for name, value in s3_server.CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        bucket = s3_server.new_bucket(address)
        set_remote(mine, f"s3://{bucket}/lineup")
        run("dvc", "remote", "modify", "team", "endpointurl", address, cwd=mine)
    commit(mine, "a remote")
    run("dvc", "push", "--run-cache", cwd=mine)
    run("git", "clone", "-q", str(mine), str(tmp_path / "theirs"), cwd=tmp_path)
    run("git", "config", "user.email", "test@example.org", cwd=tmp_path / "theirs")
    run("git", "config", "user.name", "Test", cwd=tmp_path / "theirs")
    return mine, tmp_path / "theirs"


def set_remote(folder: Path, url: str) -> None:
    """As README says: `make remote URL=...`, with the tests' own Python instead of a new .venv."""
    run("make", "remote", f"URL={url}", "BIN=.", cwd=folder)


def commit(folder: Path, message: str) -> None:
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", message, cwd=folder)


def cached_files(folder: Path) -> set[str]:
    """Hashes of the objects in a project's DVC cache."""
    return {
        f"{path.parent.name}{path.name}"
        for path in (folder / ".dvc" / "cache" / "files").rglob("*")
        if path.is_file()
    }


def locked(folder: Path, out: str) -> str:
    """The hash that dvc.lock has for an out."""
    lock = (folder / "dvc.lock").read_text(encoding="utf-8")
    found = re.search(rf"path: {re.escape(out)}\n(?:\s+hash: md5\n)?\s+md5: (\S+)", lock)
    assert found, f"{out} is not in dvc.lock"
    return found[1]


def test_a_clone_runs_nothing_and_a_changed_row_runs_alone(team: tuple[Path, Path]) -> None:
    mine, theirs = team
    assert repro(theirs, *PULL) == []

    params = read_params(theirs)
    params["models"]["raw_pixels_l2"]["search"]["metric"] = "cosine"
    write_params(theirs, params)
    assert {*repro(theirs, *PULL)} == CHANGED | {"slices", "compare", "report_row@raw_pixels_l2", "report"}
    other = locked(theirs, "data/embeddings/mobilenet_v2").removesuffix(".dir")
    assert not any(name.startswith(other) for name in cached_files(theirs)), (
        "another row's embeddings were downloaded"
    )
    assert not (theirs / "data/embeddings/mobilenet_v2").exists()

    # What they computed comes back to the first project through the run-cache, without a commit.
    run("dvc", "push", "--run-cache", cwd=theirs)
    run("dvc", "fetch", "--run-cache", cwd=mine)
    write_params(mine, params)
    # The cheap stages whose results are in git run again: DVC keeps no copy of those.
    assert repro(mine, "--pull") == ["score@raw_pixels_l2", "slices", "compare"]
    assert tree(mine / "metrics") == tree(theirs / "metrics")


def test_a_corrupt_remote_object_is_found_and_computed_again(finished_copy: Path, tmp_path: Path) -> None:
    mine = finished_copy
    shutil.copy2(project.ROOT / "Makefile", mine / "Makefile")
    set_remote(mine, str(tmp_path / "remote"))
    commit(mine, "a remote")
    run("dvc", "push", cwd=mine)
    embeddings = locked(mine, "data/embeddings/raw_pixels_l2").removesuffix(".dir")
    shard = re.search(
        r'"md5": "(\w+)"', (mine / f".dvc/cache/files/md5/{embeddings[:2]}/{embeddings[2:]}.dir").read_text()
    )
    assert shard
    corrupt = tmp_path / "remote" / "files" / "md5" / shard[1][:2] / shard[1][2:]
    corrupt.chmod(0o644)
    corrupt.write_bytes(b"not what was pushed")

    run("git", "clone", "-q", str(mine), str(tmp_path / "theirs"), cwd=tmp_path)
    theirs = tmp_path / "theirs"
    params = read_params(theirs)
    params["models"]["raw_pixels_l2"]["search"]["metric"] = "cosine"
    write_params(theirs, params)
    # DVC finds the damage, names the folder, and uses nothing of it; it can be computed again from what is
    # whole.
    done = run("dvc", "repro", *PULL, cwd=theirs, check=False)
    assert done.returncode and "data/embeddings/raw_pixels_l2" in done.stderr
    of_row = (f"data/{kind}/raw_pixels_l2" for kind in ("models", "weights", "quantised"))
    run("dvc", "pull", "data/code", "data/prepared/test/images", *of_row, cwd=theirs)
    assert repro(theirs, "--force", "--single-item", "embed@raw_pixels_l2") == ["embed@raw_pixels_l2"]
    # `quantise` may have run before the pull failed.
    assert {*repro(theirs, *PULL)} >= CHANGED - {"quantise@raw_pixels_l2"}
    assert tree(theirs / "data/embeddings/raw_pixels_l2") == tree(mine / "data/embeddings/raw_pixels_l2")
