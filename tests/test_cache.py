"""lineup cache: what the side cache holds, and that pruning takes away only what no branch, tag or run uses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lineup import paths
from lineup.commands import group
from lineup.embedding import vector_cache
from lineup.embedding.vector_cache import VectorCache
from lineup.errors import UserError
from lineup.photos import image_cache, thumbnails
from tests.support.project import ROOT

OLD = time.time() - 40 * 24 * 3600
KEYS = {
    name: f"{number}" * 64
    for number, name in enumerate(("main", "branch", "tag", "experiment", "workspace", "nobody"), start=1)
}


def git(*arguments: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "T",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "T",
        "GIT_COMMITTER_EMAIL": "t@example.org",
    }
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True, env={**os.environ, **identity}
    ).stdout


def score(row: str, key: str, training: str | None = None) -> None:
    """A row as `score` leaves it, and params.yaml that has it."""
    paths.row_metrics(row).parent.mkdir(parents=True, exist_ok=True)
    paths.row_metrics(row).write_text(
        json.dumps({"costs": {"kept_under": {"vectors": key, "training": training}}})
    )
    paths.PARAMS.write_text(yaml.safe_dump({"models": {row: {}}, "preprocess": {"shorter_side_px": 512}}))


def keep(key: str, images: int, dim: int = 4, when: float = OLD) -> Path:
    """A folder of vectors as embed leaves it."""
    kept = VectorCache(paths.CACHE / "vectors" / key, dim)
    ids = vector_cache.raw_ids(f"{number:064x}" for number in range(images))
    kept.add(ids, np.ones((images, dim), np.float32))
    kept.add(ids[:1], np.ones((1, dim), np.float32))  # by another process at the same time: still one image
    facts: dict[str, Any] = {"encoder": {"library": "timm", "name": "vit", "image_size": 32}}
    (kept.folder / "ingredients.json").write_text(json.dumps(facts))
    age(kept.folder, when)
    return kept.folder


def age(folder: Path, when: float) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (when, when))


def kept() -> set[str]:
    return {path.name for path in (paths.CACHE / "vectors").iterdir()}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One fingerprint each in main, another branch, a tag, an experiment and the working tree, and one that
    is nobody's.
    """
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    for name, key in KEYS.items():
        keep(key, 3)
        if name not in ("workspace", "nobody"):
            git("checkout", "-q", "--orphan", name)
            score(f"row_{name}", key)
            git("add", "-f", "metrics", "params.yaml")
            git("commit", "-qm", name)
    git("tag", "-a", "v1", "-m", "annotated", "tag")
    git("update-ref", "refs/exps/aa/bb/exp-1", "experiment")
    git("checkout", "-q", "main")
    git("branch", "-D", "tag", "experiment")
    score("row_workspace", KEYS["workspace"])
    return tmp_path


def test_lists_every_folder_with_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    group.run(["cache"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kept", "fingerprint", "what", "images", "MB", "last", "used", "used", "by"]
    for line, (name, key) in zip(lines[1:], KEYS.items(), strict=False):
        assert line.startswith(f"vectors  {key[:12]}  timm vit 32 px  3 ")
        assert line.endswith("no row" if name == "nobody" else f"row_{name}")
    total = sum(path.stat().st_size for path in paths.CACHE.rglob("*") if path.is_file())
    assert lines[-1] == f"{total / 1e6:,.1f} MB in .cache"


def test_prune_shows_first_and_removes_only_what_no_ref_uses(capsys: pytest.CaptureFixture[str]) -> None:
    group.run(["cache", "--prune"])  # no terminal: it can't ask
    shown = capsys.readouterr().out
    assert KEYS["nobody"][:12] in shown and "nothing was removed" in shown
    assert not any(key[:12] in shown for name, key in KEYS.items() if name != "nobody")
    assert kept() == set(KEYS.values())
    group.run(["cache", "--prune", "--yes"])
    assert kept() == set(KEYS.values()) - {KEYS["nobody"]}
    group.run(["cache", "--prune", "--yes"])
    assert "nothing to free" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("", False), ("n", False)])
def test_prune_asks_at_a_terminal(answer: str, removed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    group.run(["cache", "--prune"])
    assert (KEYS["nobody"] not in kept()) == removed


@pytest.mark.parametrize(
    ("name", "deletion"), [("branch", ("branch", "-D", "branch")), ("tag", ("tag", "-d", "v1"))]
)
def test_what_only_a_deleted_ref_used_can_go(name: str, deletion: tuple[str, ...]) -> None:
    git(*deletion)
    group.run(["cache", "--prune", "--yes"])
    assert kept() == set(KEYS.values()) - {KEYS["nobody"], KEYS[name]}


def test_what_was_used_lately_stays_though_git_knows_no_row_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    age(paths.CACHE / "vectors" / KEYS["nobody"], time.time() - 3600)
    group.run(["cache", "--prune", "--yes"])
    assert kept() == set(KEYS.values())
    assert "nothing to free" in capsys.readouterr().out


def test_a_row_taken_out_of_params_uses_nothing() -> None:
    paths.PARAMS.write_text(yaml.safe_dump({"models": {"another": {}}}))
    group.run(["cache", "--prune", "--yes"])
    assert KEYS["workspace"] not in kept()


def test_trainings_and_prepared_images_are_kept_by_the_same_rule(project: Path) -> None:
    code = b"print('another version of this file')\n"
    (project / "lineup/photos").mkdir(parents=True)
    (project / "lineup/photos/decoding.py").write_bytes(code)
    score("trained", KEYS["workspace"], training="c" * 64)
    git("add", "-A", "lineup", "metrics", "params.yaml")
    git("commit", "-qm", "trained")
    used = image_cache.fingerprint(512, [code])
    for kind, name in (
        ("prepared", used),
        ("prepared", "d" * 64),
        ("training", "c" * 64),
        ("training", "e" * 64),
    ):
        folder = paths.CACHE / kind / name
        (folder / "aa").mkdir(parents=True)
        (folder / "aa" / "content").write_bytes(b"content")
        age(folder, OLD)
    group.run(["cache", "--prune", "--yes"])
    assert [path.name for path in (paths.CACHE / "prepared").iterdir()] == [used]
    assert [path.name for path in (paths.CACHE / "training").iterdir()] == ["c" * 64]


def test_outside_git_nothing_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(outside)
    with pytest.raises(UserError, match="can't be told what branches use"):
        group.run(["cache", "--prune", "--yes"])


def test_an_experiment_in_its_own_folder_shares_the_cache_of_its_project() -> None:
    assert paths._local_cache(Path("/p/.dvc/tmp/exps/tmpabc")) == Path("/p/.cache")
    assert paths._local_cache(Path("/p/photos")) == Path(".cache")


def test_it_needs_no_torch() -> None:
    code = "import sys, lineup.commands.cache; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def vectors_of(row: str, number: str) -> str:
    """Kept long ago; and `row` that names them, in the working tree."""
    keep(number * 64, 1)
    score(row, number * 64)
    return number * 64


def test_a_branch_of_another_version_keeps_its_rows() -> None:
    key = vectors_of("newer", "a")
    git("checkout", "-q", "--orphan", "newer")
    paths.PARAMS.write_text(
        yaml.safe_dump({"models": {"newer": {}}, "preprocess": {"shorter_side_px": 512, "sharpen": 1}})
    )
    git("add", "-f", "metrics", "params.yaml")
    git("commit", "-qm", "newer")
    git("checkout", "-q", "main")
    score("row_workspace", KEYS["workspace"])
    group.run(["cache", "--prune", "--yes"])
    assert {key, KEYS["workspace"]} <= kept()


@pytest.mark.parametrize(
    "text",
    [
        "models: {w: {}",
        "preprocess: {max_sid: 3}\nmodels: {row_workspace: {}}",
        "models: [row_workspace]",
        "when: 2024-13-45",
    ],
)
def test_settings_that_are_just_being_edited_keep_every_row_that_is_there(text: str) -> None:
    paths.PARAMS.write_text(text)
    group.run(["cache", "--prune", "--yes"])
    assert KEYS["workspace"] in kept()


def test_older_stashes_and_other_worktrees_keep_their_rows(tmp_path: Path) -> None:
    keys = []
    for number, row in (("a", "stashed_first"), ("b", "stashed_second")):
        keys.append(vectors_of(row, number))
        git("stash", "-q", "--include-untracked", "--", "metrics", "params.yaml")
    git("worktree", "add", "-q", "--detach", str(tmp_path / "elsewhere"), "main")
    os.chdir(tmp_path / "elsewhere")
    score("elsewhere", "c" * 64)
    git("add", "-f", "metrics", "params.yaml")
    git("commit", "-qm", "elsewhere")
    os.chdir(tmp_path)
    keep("c" * 64, 1)
    score("row_workspace", KEYS["workspace"])
    group.run(["cache", "--prune", "--yes"])
    assert {*keys, "c" * 64} <= kept()


def test_what_git_lacks_is_not_guessed() -> None:
    blob = git("rev-parse", "branch:params.yaml").strip()
    (Path(".git/objects") / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UserError, match=f"git lacks the object {blob}"):
        group.run(["cache", "--prune", "--yes"])


def test_thumbnails_of_this_version_stay() -> None:
    this = thumbnails.cache_folder(paths.CACHE)
    for folder in (this, this.with_name("f" * 64)):
        (folder / "aa").mkdir(parents=True)
        (folder / "aa" / "content").write_bytes(b"content")
        age(folder, OLD)
    group.run(["cache", "--prune", "--yes"])
    assert [path.name for path in this.parent.iterdir()] == [this.name]


def test_what_is_used_or_removed_while_prune_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used, gone = keep("a" * 64, 1), keep("b" * 64, 1)

    def answer(_: str) -> str:
        age(used, time.time())
        shutil.rmtree(gone)
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    group.run(["cache", "--prune"])
    assert "removed 1 folders" in capsys.readouterr().out
    assert kept() == {*KEYS.values(), used.name} - {KEYS["nobody"]}


def test_prune_removes_what_a_killed_prune_left() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    left = paths.CACHE / "training" / f".{'a' * 64}.{process.pid}.tmp"
    left.mkdir(parents=True)
    group.run(["cache", "--prune", "--yes"])
    assert not left.exists()


def test_a_tag_of_a_tag_keeps_its_rows() -> None:
    git("tag", "-a", "-m", "nested", "v2", "v1")
    git("tag", "-a", "-m", "of no commit", "v3", git("rev-parse", "main:params.yaml").strip())
    git("tag", "-d", "v1")
    group.run(["cache", "--prune", "--yes"])
    assert kept() == set(KEYS.values()) - {KEYS["nobody"]}


def test_a_number_for_a_row_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    paths.PARAMS.write_text("models: {1: {}, a: {}}")
    group.run(["cache"])
    assert ".cache" in capsys.readouterr().out
