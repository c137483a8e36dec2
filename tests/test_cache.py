"""lineup cache: what the local cache holds, and that pruning removes only what was not used for long."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from lineup import paths
from lineup.commands import cache_usage, group
from lineup.embedding import vector_cache
from lineup.embedding.vector_cache import VectorCache
from lineup.photos import image_cache, thumbnails
from lineup.photos.prepared_images import PreparedImage
from lineup.storage import files
from tests.support import odd_images
from tests.support.project import ROOT

DAY = 24 * 3600
PHOTO = odd_images.encoded(odd_images.pattern(), "PNG")
DAYS_UNUSED = {"1" * 64: 0, "2" * 64: 0.9, "3" * 64: 10, "4" * 64: 29, "5" * 64: 31, "6" * 64: 400}


def add_vectors(key: str, images: int, days_unused: float = 0, dim: int = 4) -> Path:
    """A folder of vectors as embed leaves it, last used so many days ago."""
    vectors = VectorCache(paths.CACHE / "vectors" / key, dim)
    ids = vector_cache.raw_ids(f"{number:064x}" for number in range(images))
    vectors.add(ids, np.ones((images, dim), np.float32))
    # By another process at the same time: still one image.
    vectors.add(ids[:1], np.ones((1, dim), np.float32))
    ingredients: dict[str, Any] = {"encoder": {"library": "timm", "name": "vit", "image_size": 32}}
    (vectors.folder / "ingredients.json").write_text(json.dumps(ingredients))
    set_last_use(vectors.folder, days_unused)
    return vectors.folder


def set_last_use(folder: Path, days_ago: float) -> None:
    then = time.time() - days_ago * DAY
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))


def keys_left(kind: str = "vectors") -> set[str]:
    return {path.name for path in (paths.CACHE / kind).iterdir()}


def used_within(days: float) -> set[str]:
    return {key for key, unused in DAYS_UNUSED.items() if unused <= days}


@pytest.fixture(autouse=True)
def project(empty_folder: Path) -> Path:
    """A cache of six fingerprints, each last used another time ago."""
    for key, days in DAYS_UNUSED.items():
        add_vectors(key, 3, days)
    return empty_folder


def test_lists_every_folder(capsys: pytest.CaptureFixture[str]) -> None:
    group.run(["cache"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "fingerprint", "encoder", "images", "MB", "last", "used"]
    for line, key in zip(lines[1:], DAYS_UNUSED, strict=False):
        assert line.startswith(f"vectors  {key[:12]}  timm vit 32 px  3 ")
    total = sum(path.stat().st_size for path in paths.CACHE.rglob("*") if path.is_file())
    assert lines[-1] == f"{total / 1e6:,.1f} MB in .cache"


def test_prune_shows_first_and_removes_what_was_unused_for_30_days(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group.run(["cache", "--prune"])  # There is no terminal to ask at.
    shown = capsys.readouterr().out
    old = DAYS_UNUSED.keys() - used_within(30)
    assert {key for key in DAYS_UNUSED if key[:12] in shown} == old and "nothing was removed" in shown
    assert keys_left() == set(DAYS_UNUSED)
    group.run(["cache", "--prune", "--yes"])
    assert keys_left() == used_within(30)
    group.run(["cache", "--prune", "--yes"])
    assert "nothing to remove" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("", False), ("n", False)])
def test_prune_asks_at_a_terminal(answer: str, removed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    group.run(["cache", "--prune"])
    assert keys_left() == (used_within(30) if removed else set(DAYS_UNUSED))


@pytest.mark.parametrize("days", [5, 9.5, 29.5, 365, 1000])
def test_the_age_can_be_given(days: float) -> None:
    group.run(["cache", "--prune", "--older-than", str(days), "--yes"])
    assert keys_left() == used_within(days)


@pytest.mark.parametrize("limits", [["--older-than", "0"], ["--max-gb", "0"]])
def test_what_was_used_in_the_last_24_hours_always_stays(limits: list[str]) -> None:
    group.run(["cache", "--prune", *limits, "--yes"])
    assert keys_left() == used_within(1)


def test_the_least_recently_used_go_until_the_rest_fits() -> None:
    """Four of the six remain after pruning by age; three of them are to fit."""
    [size] = {entry.megabytes for entry in cache_usage.entries(paths.CACHE)}
    group.run(["cache", "--prune", "--max-gb", str(3.5 * size / 1e3), "--yes"])
    assert keys_left() == used_within(10)


@pytest.mark.parametrize(
    ("max_entries", "expected"), [(None, 2), (6, 2), (5, 2), (4, 2), (3, 3), (2, 4), (0, 4)]
)
def test_age_and_size_against_a_naive_rule(max_entries: int | None, expected: int) -> None:
    listed = cache_usage.entries(paths.CACHE)
    max_gb = None if max_entries is None else max_entries * listed[0].megabytes / 1e3 + 1e-9
    expired = cache_usage.expired(reversed(listed), 30, max_gb)
    oldest_first = sorted(DAYS_UNUSED, key=lambda key: -DAYS_UNUSED[key])
    assert [entry.folder.name for entry in expired] == oldest_first[:expected]


@pytest.mark.parametrize("option", [["--yes"], ["--older-than", "3"], ["--max-gb", "3"]])
def test_limits_without_prune_are_wrong_usage(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        group.run(["cache", *option])
    assert ended.value.code == click.UsageError.exit_code
    assert f"{option[0]} is for --prune" in capsys.readouterr().err


def test_every_kind_is_pruned_by_the_same_rule() -> None:
    for kind in cache_usage.KINDS:
        for name, days in (("d" * 64, 40), ("e" * 64, 2)):
            folder = paths.CACHE / kind / name
            (folder / "aa").mkdir(parents=True)
            (folder / "aa" / "content").write_bytes(b"content")
            set_last_use(folder, days)
    group.run(["cache", "--prune", "--yes"])
    for kind in cache_usage.KINDS:
        assert keys_left(kind) & {"d" * 64, "e" * 64} == {"e" * 64}


def test_using_an_entry_makes_it_recent() -> None:
    """Reading alone does it, too: no file is written where everything is there already."""
    prepared = image_cache.ImageCache.open(paths.CACHE, 512)
    prepared.examine(PHOTO)
    drawn = thumbnails.cache_folder(paths.CACHE)
    thumbnails.write(Path("thumbnails"), Path("pictures"), [PreparedImage("a", "query", PHOTO)], drawn, 1)
    training = paths.CACHE / "training" / "a"
    training.mkdir(parents=True)
    folders = (prepared.store.folder, drawn, training)
    for folder in folders:
        set_last_use(folder, 40)
    image_cache.ImageCache.open(paths.CACHE, 512)
    thumbnails.write(Path("thumbnails"), Path("pictures"), [PreparedImage("a", "query", PHOTO)], drawn, 1)
    files.mark_used(training)
    group.run(["cache", "--prune", "--yes"])
    assert all(folder.exists() for folder in folders)


def test_an_experiment_in_its_own_folder_shares_the_cache_of_its_project() -> None:
    assert paths._local_cache(Path("/p/.dvc/tmp/exps/tmpabc")) == Path("/p/.cache")
    assert paths._local_cache(Path("/p/photos")) == Path(".cache")


def test_it_needs_no_torch() -> None:
    code = "import sys, lineup.commands.cache; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_is_used_or_removed_while_prune_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used, gone = add_vectors("a" * 64, 1, 40), add_vectors("b" * 64, 1, 40)

    def answer(_: str) -> str:
        set_last_use(used, 0)
        shutil.rmtree(gone)
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    group.run(["cache", "--prune"])
    assert "removed 2 folders" in capsys.readouterr().out
    assert keys_left() == {*used_within(30), used.name}


def test_prune_removes_what_a_killed_prune_left() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    left = paths.CACHE / "training" / f".{'a' * 64}.{process.pid}.tmp"
    left.mkdir(parents=True)
    group.run(["cache", "--prune", "--yes"])
    assert not left.exists()


def test_an_empty_cache_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(paths.CACHE)
    group.run(["cache"])
    group.run(["cache", "--prune"])
    assert ".cache is empty" in capsys.readouterr().out
