"""Approximate indexes through `dvc repro`: a row of models and a refinement beside their exact twin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import project
from tests.support.project import demo_params, repro, run

pytestmark = pytest.mark.slow


def test_exact_and_approximate_stand_side_by_side(tmp_path: Path) -> None:
    params = demo_params("mobilenet_v2", "raw_pixels_l2")
    params["models"]["raw_pixels_l2"]["search"] |= {"index": "hnsw", "storage": "float16"}
    row = {
        "from": "mobilenet_v2",
        "with": "mobilenet_v2",
        "method": "approximate",
        "index": "ivf",
        "recall_target": 0.5,
    }
    params["refinements"] = {"mobilenet_v2_ivf": row}
    folder = project.create(tmp_path / "project", params)
    run("python", "-m", "lineup", "demo", "--identities", "30", cwd=folder)
    repro(folder)
    metrics = json.loads((folder / "metrics" / "metrics.json").read_text())
    assert (
        0.4 < metrics["mobilenet_v2_ivf"]["ann_recall_100"] <= 1
        and 0.9 < metrics["raw_pixels_l2"]["ann_recall_100"] <= 1
    )
    assert not any(name.startswith("ann_recall") for name in metrics["mobilenet_v2"])
    assert metrics["mobilenet_v2_ivf"]["images_per_second"] == metrics["mobilenet_v2"]["images_per_second"]
    assert metrics["mobilenet_v2_ivf"]["train_minutes"] == metrics["mobilenet_v2"]["train_minutes"]
    told = (folder / "metrics" / "comparison.md").read_text(encoding="utf-8")
    assert (
        "| ANN recall@100 |" in told
        and " exact |" in told
        and "ivf nprobe=" in told
        and "hnsw float16 efSearch=" in told
    )
    assert repro(folder) == []

    # Another target builds the index again, and computes nothing before it.
    row["recall_target"] = 0.99
    params["models"]["raw_pixels_l2"]["search"]["recall_target"] = 0.8
    project.write_params(folder, params)
    executed = repro(folder)
    assert {"refine@mobilenet_v2_ivf", "index@raw_pixels_l2", "retrieve@raw_pixels_l2"} <= {*executed}
    assert not [
        stage for stage in executed if stage.split("@")[0] in ("preprocess", "fetch", "train", "embed")
    ]
    assert (
        json.loads((folder / "metrics" / "metrics.json").read_text())["mobilenet_v2_ivf"]["ann_recall_100"]
        > 0.9
    )
