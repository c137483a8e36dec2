"""Comparing branches and running experiments, with the real CLI of git and DVC."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support import project, small_project
from tests.support.project import executed, read_params, repro, run, write_params

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(finished_copy: Path) -> Path:
    return finished_copy


def test_metrics_diff_shows_the_changed_row_only(folder: Path) -> None:
    run("git", "checkout", "-qb", "try-larger", cwd=folder)
    params = read_params(folder)
    params["models"]["mobilenet_v2"]["encoder"]["image_size"] = 64
    write_params(folder, params)
    repro(folder)
    run("git", "commit", "-qam", "larger images", cwd=folder)
    diff = json.loads(run("dvc", "metrics", "diff", "main", "--json", cwd=folder).stdout)[
        "metrics/metrics.json"
    ]
    assert {key.split(".")[0] for key in diff} == {"mobilenet_v2"}
    assert "mobilenet_v2.map_at_r" in diff
    told = {
        run("dvc", "metrics", "diff", "main", cwd=folder, PYTHONHASHSEED=seed).stdout for seed in ("1", "2")
    }
    assert len(told) == 1, "the order changes from run to run"
    names = [line.split()[1] for line in told.pop().splitlines()[1:]]
    assert names == sorted(diff)


def test_an_experiment_sets_one_value_of_one_row(folder: Path) -> None:
    done = run("dvc", "exp", "run", "-S", "models.raw_pixels_l2.search.metric=cosine", cwd=folder)
    # `quantise` reads the whole row, and writes the same as before.
    stages = ("quantise", "index", "retrieve", "latency", "score", "report_row")
    row = [f"{stage}@raw_pixels_l2" for stage in stages]
    assert set(executed(done.stdout)) == {*row, "slices", "compare", "report"}
    assert read_params(folder)["models"]["raw_pixels_l2"]["search"]["metric"] == "cosine"


def test_experiments_run_from_the_queue_side_by_side(folder: Path) -> None:
    """Each runs in a workspace of its own without data/raw, which is neither in git nor in DVC: hence
    --allow-missing.
    """
    for size in (48, 64):
        run(
            "dvc",
            "exp",
            "run",
            "--queue",
            "--allow-missing",
            "-S",
            f"models.raw_pixels_l2.encoder.image_size={size}",
            cwd=folder,
        )
    run("dvc", "exp", "run", "--run-all", "-j", "2", cwd=folder)
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=folder).stdout)
    experiments = [experiment for rev in shown for experiment in rev.get("experiments") or []]
    assert [experiment["executor"]["state"] for experiment in experiments] == ["success"] * 2
    # A failed experiment is shown with the figures of the commit it started from; these have their own.
    found = {}
    for experiment in experiments:
        data = experiment["revs"][0]["data"]
        size = data["params"]["params.yaml"]["data"]["models"]["raw_pixels_l2"]["encoder"]["image_size"]
        found[size] = data["metrics"]["metrics/metrics.json"]["data"]
    before = json.loads((folder / "metrics" / "metrics.json").read_text(encoding="utf-8"))
    assert set(found) == {48, 64}
    assert all(metrics["mobilenet_v2"] == before["mobilenet_v2"] for metrics in found.values())
    assert len({metrics["raw_pixels_l2"]["map_at_r"] for metrics in (before, *found.values())}) == 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a row that is really trained."""
    params = small_project.params()
    row = params["models"].pop(small_project.ROW)
    params["models"]["arcface"] = {**row, "objective": {"name": "arcface", "margin": 0.5}}
    folder = project.create(tmp_path_factory.mktemp("trained") / "project", params)
    run("python", "-m", "lineup", "demo", "--identities", "8", cwd=folder)
    repro(folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "result", cwd=folder)
    return folder


def weights_in(folder: Path, revision: str) -> str:
    """The hash by which a commit's dvc.lock names the trained model."""
    lock = run("git", "show", f"{revision}:dvc.lock", cwd=folder).stdout
    return re.findall(r"path: data/models/arcface\n\s+hash: md5\n\s+md5: (\S+)", lock)[0]


def test_a_margin_is_tried_at_once_and_from_the_queue(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "project", symlinks=True))
    done = run(
        "dvc", "exp", "run", "--name", "at-once", "-S", "models.arcface.objective.margin=0.3", cwd=folder
    )
    stages = ("train", "quantise", "embed", "index", "retrieve", "latency", "score", "report_row")
    row = [f"{stage}@arcface" for stage in stages]
    assert set(executed(done.stdout)) == {*row, "slices", "compare", "report"}
    facts = json.loads((folder / "data/models/arcface/encoder.json").read_text(encoding="utf-8"))
    assert facts["trained"]["objective"]["margin"] == 0.3

    for name, margin in (("queued-a", 0.2), ("queued-b", 0.4)):
        setting = f"models.arcface.objective.margin={margin}"
        run("dvc", "exp", "run", "--queue", "--allow-missing", "--name", name, "-S", setting, cwd=folder)
    run("dvc", "exp", "run", "--run-all", "-j", "2", cwd=folder)
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=folder).stdout)
    experiments = {
        experiment["name"]: experiment for rev in shown for experiment in rev.get("experiments") or []
    }
    assert {
        name: experiment["executor"]["state"]
        for name, experiment in experiments.items()
        if experiment["executor"]
    } == {
        "queued-a": "success",
        "queued-b": "success",
    }
    assert set(experiments) == {"at-once", "queued-a", "queued-b"}
    revisions = ["HEAD", *(experiment["revs"][0]["rev"] for experiment in experiments.values())]
    assert len({weights_in(folder, revision) for revision in revisions}) == 4, (
        "some trained nothing of their own"
    )
