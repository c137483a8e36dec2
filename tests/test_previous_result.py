"""embed reuses the vectors of the row's last result out of DVC's cache.

Through the real dvc, between two clones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lineup import paths
from lineup.embedding import dvc_cache
from lineup.embedding.vector_cache import VectorCache
from lineup.encoders import encoder_folder, libraries
from lineup.settings.encoder import EncoderSettings
from tests.support.photographs import photograph, write_prepared
from tests.support.project import ROOT, run, tree
from tests.support.small_encoders import SQUEEZENET

PHOTOS = [photograph(seed) for seed in range(21)]
STAGES = {
    "stages": {
        "embed": {
            "foreach": ["a"],
            "do": {
                "cmd": "python -m stages.embed --row ${item}",
                "deps": ["data/models/${item}", "data/prepared/test/images"],
                "outs": ["data/embeddings/${item}", "data/costs/${item}/embed.json"],
            },
        }
    }
}


def dvc(folder: Path, *arguments: str) -> None:
    run("dvc", *arguments, cwd=folder, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")


def place(folder: Path, photos: list[bytes], seed: int = 0) -> None:
    """What preprocess and train leave."""
    write_prepared(folder / paths.images("test"), [("gallery", photo) for photo in photos])
    torch.manual_seed(seed)
    fetched = libraries.library("torchvision").fetch(EncoderSettings.model_validate(SQUEEZENET))
    encoder_folder.save(
        folder / paths.model("a"), fetched.module, fetched.config.model_copy(update={"resize_px": 64})
    )


def repro(folder: Path) -> dict[str, Any]:
    dvc(folder, "repro", "-q")
    return json.loads((folder / paths.costs("embed", "a")).read_text())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has embedded 20 photos and pushed the result."""
    folder = tmp_path_factory.mktemp("first") / "project"
    folder.mkdir()
    row = {
        "encoder": SQUEEZENET,
        "objective": {"name": "none"},
        "search": {"metric": "cosine", "index": "flat"},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump({"embed": {"batch_size": 8}, "models": {"a": row}}))
    (folder / "dvc.yaml").write_text(yaml.safe_dump(STAGES))
    (folder / ".gitignore").write_text("/data/\n/.cache/\n")
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "config", "user.email", "test@example.org", cwd=folder)
    run("git", "config", "user.name", "Test", cwd=folder)
    dvc(folder, "init", "-q")
    dvc(folder, "config", "core.analytics", "false")
    dvc(folder, "remote", "add", "-q", "-d", "team", str(folder.parent / "remote"))
    place(folder, PHOTOS[:20])
    assert repro(folder)["computed"] == 20
    dvc(folder, "push", "-q")
    run("git", "add", ".", cwd=folder)
    run("git", "commit", "-qm", "20 photos", cwd=folder)
    return folder


@pytest.fixture
def clone(first: Path, tmp_path: Path) -> Iterator[Path]:
    """A teammate's clone after `dvc pull`: no local cache; then one photo more."""
    folder = tmp_path / "clone"
    run("git", "clone", "-q", str(first), str(folder), cwd=tmp_path)
    dvc(folder, "pull", "-q")
    place(folder, PHOTOS)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def undisturbed(first: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The embeddings of all 21 photos, computed at once."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy2(first / "params.yaml", folder)
    place(folder, PHOTOS)
    run("python", "-m", "stages.embed", "--row", "a", cwd=folder, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    return tree(folder / paths.embeddings("a"))


pytestmark = pytest.mark.slow


def test_a_clone_computes_only_the_new_photo(clone: Path, first: Path, undisturbed: dict[str, bytes]) -> None:
    costs = repro(clone)
    assert (costs["computed"], costs["reused"]) == (1, 20)
    assert tree(clone / paths.embeddings("a")) == undisturbed
    earlier = json.loads((first / paths.costs("embed", "a")).read_text())
    measured = ("images_per_second", "measured_images", "device", "peak_memory_mb")
    assert {fact: costs[fact] for fact in measured} == {fact: earlier[fact] for fact in measured}, (
        "the earlier measurement stands"
    )


def test_nothing_is_reused_of_another_network(clone: Path) -> None:
    place(clone, PHOTOS, seed=1)
    assert repro(clone)["computed"] == 21


@pytest.mark.parametrize("damage", ["vectors", "listing", "all objects", "lock"])
def test_what_is_damaged_or_missing_is_computed_again(
    clone: Path, damage: str, undisturbed: dict[str, bytes]
) -> None:
    objects = clone / ".dvc/cache/files/md5"
    lock = yaml.safe_load((clone / "dvc.lock").read_text())
    outs = {out["path"]: out["md5"] for out in lock["stages"]["embed@a"]["outs"]}
    listing = objects / outs["data/embeddings/a"][:2] / outs["data/embeddings/a"][2:]
    vectors = json.loads(listing.read_text())[0]["md5"]
    if damage == "all objects":
        shutil.rmtree(objects)
    elif damage == "lock":
        (clone / "dvc.lock").write_text("stages: {embed@a: {outs: broken}}")
    else:
        file = listing if damage == "listing" else objects / vectors[:2] / vectors[2:]
        file.chmod(0o644)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    # not by dvc, which would stop at a broken lock itself
    run("python", "-m", "stages.embed", "--row", "a", cwd=clone, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    assert json.loads((clone / paths.costs("embed", "a")).read_text())["computed"] == 21
    assert tree(clone / paths.embeddings("a")) == undisturbed


def test_outside_a_repository_there_is_no_last_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text(
        yaml.safe_dump(
            {"stages": {"embed@a": {"outs": [{"path": "data/embeddings/a", "md5": "0" * 32 + ".dir"}]}}}
        )
    )
    cache = VectorCache(tmp_path / "cache", 3)
    assert dvc_cache.restore("a", "f" * 64, cache) == 0
    assert dvc_cache.costs("a", "f" * 64) is None
