"""`dvc plots` with the templates under .dvc/plots, through the real CLI, on two branches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lineup import paths
from lineup.storage import files
from stages import compare, score
from tests.support import collection
from tests.support.collection import clustered
from tests.support.project import ROOT, run

pytestmark = pytest.mark.slow

PLOTS = {
    paths.TOP_K_CURVES.as_posix(): {"template": "curves_by_model_log_x", "x": "k", "y": "top_k"},
    paths.IDENTIFICATION_CURVES.as_posix(): {"template": "curves_by_model_log_x", "x": "fpir", "y": "fnir"},
    paths.ACCURACY_COST.as_posix(): {"template": "accuracy_cost", "x": "images_per_second", "y": "map_at_r"},
    paths.TRAINING_CURVES.as_posix(): {"template": "curves_by_model", "x": "epoch", "y": "map_at_r"},
    paths.SWEEPS.as_posix(): {"template": "sweeps", "x": "value", "y": "map_at_r"},
}
# What has the colour of a line, and the lines of each plot.
COLOURS = {name: ("model", {"sharp", "blurred", "dull"}) for name in PLOTS} | {
    paths.TRAINING_CURVES.as_posix(): ("model", {"sharp"}),
    paths.SWEEPS.as_posix(): ("sweep", {"encoder.image_size of sharp"}),
}
CURVE = [
    {"epoch": e, "map_at_r": m, "loss": loss, "learning_rate": 0.1}
    for e, m, loss in ((0, 0.2, None), (1, 0.5, 3.0))
]


@pytest.fixture
def folder(empty_folder: Path) -> Path:
    """On `main` three rows at three sizes, one of them fine-tuned; on `try` the other one is better."""
    for command in (
        "git init -q -b main",
        "git config user.email t@example.org",
        "git config user.name T",
        "dvc init -q",
    ):
        run(*command.split(), cwd=empty_folder)
    shutil.copytree(ROOT / ".dvc" / "plots", empty_folder / ".dvc" / "plots")
    Path("dvc.yaml").write_text(
        yaml.safe_dump({"plots": [{name: settings} for name, settings in PLOTS.items()]}), encoding="utf-8"
    )
    Path(".gitignore").write_text("/data/\n", encoding="utf-8")
    noise = {"sharp": 0.6, "blurred": 2.0, "dull": 3.0}
    collection.run({row: clustered(6, 3, 4, noise[row]) for row in noise})
    models = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))["models"]
    sizes = {
        row: {**models[row], "encoder": {**models[row]["encoder"], "image_size": 64 + 32 * position}}
        for position, row in enumerate(noise)
    }
    collection.write_params({"models": sizes})
    files.write_json(
        paths.costs("train", "sharp"), {"row": "sharp", "minutes": 1.0, "note": None, "curve": CURVE}
    )
    commit(empty_folder, "sharp")
    run("git", "checkout", "-qb", "try", cwd=empty_folder)
    collection.write_embeddings("blurred", clustered(6, 3, 4, 1.0), images_per_second=300.0)
    collection.search("blurred")
    commit(empty_folder, "blurred")
    return empty_folder


def commit(folder: Path, row: str) -> None:
    score.main(["--row", row])
    compare.main([])
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", row, cwd=folder)


def test_plots_diff_shows_every_model_of_both_branches(folder: Path) -> None:
    shown = json.loads(run("dvc", "plots", "diff", "main", "try", "--json", cwd=folder).stdout)
    assert "errors" not in shown
    assert set(shown["data"]) == set(PLOTS)
    for name, settings in PLOTS.items():
        (plot,) = shown["data"][name]
        assert plot["revisions"] == ["main", "try"]
        content: dict[str, Any] = plot["content"]
        template = json.dumps(content)
        assert "DVC_METRIC" not in template, "an anchor was not filled"
        assert (
            content["encoding"]["x"]["field"] == settings["x"] and f'"field": "{settings["y"]}"' in template
        )
        colour, drawn = COLOURS[name]
        assert content["encoding"]["color"]["field"] == colour
        assert "layer" in content or content["mark"]["point"], (
            "a line alone doesn't show a curve of one point"
        )
        values = content["data"]["values"]
        assert {(value["rev"], value[colour]) for value in values} == {
            (rev, line) for rev in ("main", "try") for line in drawn
        }
    speeds = {
        (value["rev"], value["model"]): float(value["images_per_second"])
        for value in shown["data"][paths.ACCURACY_COST.as_posix()][0]["content"]["data"]["values"]
    }
    assert (
        speeds["try", "blurred"] == 300.0 != speeds["main", "blurred"]
        and speeds["try", "sharp"] == speeds["main", "sharp"]
    )


def test_plots_show_writes_a_page(folder: Path) -> None:
    run("dvc", "plots", "show", "-o", "plots", cwd=folder)
    page = (folder / "plots" / "index.html").read_text(encoding="utf-8")
    assert page.count("vegaEmbed(") == len(PLOTS)
