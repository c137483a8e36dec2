"""Photos that `lineup photos` laid out, under version control: a teammate, new photos, branches, S3, a run."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import project, s3_server, small_project
from tests.support.project import demo_params, repro, run, tree

pytestmark = pytest.mark.slow


def add_products(source: Path, labels: range, photos: range = range(4)) -> None:
    """Photos of random colours."""
    for label in labels:
        (source / f"sku{label}").mkdir(parents=True, exist_ok=True)
        for number in photos:
            rng = np.random.default_rng([label, number])
            colours = np.clip(rng.integers(0, 255, 3) + rng.integers(-60, 60, (40, 40, 3)), 0, 255)
            Image.fromarray(colours.astype(np.uint8)).save(source / f"sku{label}/{number}.png")


def lineup_photos(folder: Path, source: Path, *options: str) -> str:
    return run("python", "-m", "lineup", "photos", str(source), *options, cwd=folder).stdout


def commit(folder: Path, message: str) -> None:
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", message, cwd=folder)


def states(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """What `lineup photos` and DVC must not change: inode, permissions, modification time, content."""
    return {
        name: ((file := (folder / name).stat()).st_ino, file.st_mode, file.st_mtime_ns, content)
        for name, content in tree(folder).items()
    }


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A project with a remote, and without photos."""
    folder = project.create(tmp_path / "mine", small_project.params())
    run("dvc", "remote", "add", "-q", "-d", "team", str(tmp_path / "remote"), cwd=folder)
    commit(folder, "a project")
    return folder


def test_a_teammate_new_photos_and_a_branch_with_others(mine: Path, tmp_path: Path) -> None:
    source, theirs = tmp_path / "products", tmp_path / "theirs"
    add_products(source, range(8))
    before = states(source)
    assert "`dvc add data/raw`" in lineup_photos(mine, source)
    run("dvc", "add", "-q", "data/raw", cwd=mine)
    commit(mine, "our photos")
    run("dvc", "push", "-q", cwd=mine)
    assert states(source) == before, "the source was touched"
    assert "data/raw.dvc" in run("git", "ls-files", "data", cwd=mine).stdout.split()
    assert not run("git", "status", "--porcelain", "--untracked-files=all", cwd=mine).stdout
    first = tree(mine / "data/raw")

    run("git", "clone", "-q", str(mine), str(theirs), cwd=tmp_path)
    run("git", "config", "user.email", "test@example.org", cwd=theirs)
    run("git", "config", "user.name", "Test", cwd=theirs)
    run("dvc", "pull", "-q", "data/raw", cwd=theirs)
    assert tree(theirs / "data/raw") == first

    # They add photos on a branch; what DVC wrote is read-only, and stays so.
    run("git", "checkout", "-q", "-b", "more", cwd=theirs)
    more = tmp_path / "more"
    add_products(more, range(9), range(5))
    assert "13 photos added" in lineup_photos(theirs, more)
    run("dvc", "add", "-q", "data/raw", cwd=theirs)
    commit(theirs, "more photos")
    larger = tree(theirs / "data/raw")
    photos = {name: content for name, content in first.items() if name != "sources.csv"}
    assert photos.items() < larger.items() and len(larger) == len(first) + 13
    run("dvc", "push", "-q", cwd=theirs)

    run("git", "fetch", "-q", str(theirs), "more:more", cwd=mine)
    run("git", "checkout", "-q", "more", cwd=mine)
    run("dvc", "pull", "-q", "data/raw", cwd=mine)
    assert tree(mine / "data/raw") == larger
    run("git", "checkout", "-q", "main", cwd=mine)
    run("dvc", "checkout", "-q", "data/raw", cwd=mine)
    assert tree(mine / "data/raw") == first
    assert "nothing to do" in lineup_photos(mine, source)
    assert states(source) == before, "the source was touched"


def test_with_no_relink_dvc_leaves_hard_linked_photos_alone(mine: Path, tmp_path: Path) -> None:
    source = tmp_path / "products"
    add_products(source, range(4), range(2))
    before = states(source)
    assert "`dvc add --no-relink data/raw`" in lineup_photos(mine, source, "--hard-links")
    run("dvc", "add", "-q", "--no-relink", "data/raw", cwd=mine)
    assert states(source) == before
    assert run("dvc", "status", "-q", "data/raw.dvc", cwd=mine).returncode == 0
    add_products(source, range(4, 6), range(2))
    before = states(source)
    assert "in spite of --hard-links: by data/raw.dvc" in lineup_photos(mine, source, "--hard-links")
    run("dvc", "add", "-q", "data/raw", cwd=mine)
    assert states(source) == before
    # This is what the advice is for. When DVC stops doing it, hard links can become the default.
    run("git", "clean", "-fdxq", "data", cwd=mine)
    run("rm", "-rf", ".dvc/cache", cwd=mine)
    lineup_photos(mine, source, "--hard-links")
    run("dvc", "add", "-q", "data/raw", cwd=mine)
    assert not any(stat.S_IMODE(mode) & stat.S_IWUSR for _, mode, _, _ in states(source).values())


def test_photos_on_s3(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "products"
    add_products(source, range(6))
    with s3_server.running() as address:
        for name, value in {**s3_server.CREDENTIALS, "AWS_ENDPOINT_URL": address}.items():
            monkeypatch.setenv(name, value)
        bucket = s3_server.new_bucket(address)
        for name, content in tree(source).items():
            s3_server.put(address, f"{bucket}/products/{name}", content)
        run("dvc", "import-url", "-q", f"s3://{bucket}/products", "products", cwd=mine)
    lineup_photos(mine, Path("products"))
    lineup_photos(mine, source, "--to", "local")
    assert tree(mine / "data/raw") == tree(mine / "local")
    assert {"products.dvc", ".gitignore"} <= {
        line[3:] for line in run("git", "status", "--porcelain", cwd=mine).stdout.splitlines()
    }


def test_two_commands_lead_from_label_folders_to_the_table(tmp_path: Path) -> None:
    folder = project.create(tmp_path / "project", demo_params("mobilenet_v2", image_size=32))
    add_products(tmp_path / "products", range(12))
    lineup_photos(folder, tmp_path / "products")
    assert "compare" in repro(folder)
    table = (folder / "metrics/comparison.md").read_text(encoding="utf-8")
    assert "mobilenet_v2" in table and "map_at_r" in table
    assert repro(folder) == []
