"""A params.yaml from a stranger: no shell reads any of it, whatever its names hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import project, small_project
from tests.support.project import ROOT, run

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# `export` takes its row from params.yaml itself.
OF_ROWS = {name: stage for name, stage in STAGES.items() if "foreach" in stage and name != "export"}
NAMES = [
    "x; touch RAN #",
    "x\ntouch RAN\n",
    "$(touch RAN)",
    "`touch RAN`",
    "'; touch RAN; '",
    '"; touch RAN; "',
    "${seed}; touch RAN",
]
RECORDER = '#!/bin/sh\nprintf "%s\\n" "$*" >> commands\nexit 1\n'


def settings(*names: str) -> dict[str, Any]:
    """Models and refinements with such names."""
    params = small_project.params()
    (row,) = params["models"].values()
    params["models"] = {name: row for name in names}
    params["refinements"] = {
        f"refined {name}": {"from": name, "with": name, "method": "query_expansion"} for name in names
    }
    params["near_copies"] = {"rows": [*names]}
    params["map"] = {name: {} for name in names}
    params["transfer"] = {"sets": {name: name for name in names}, "rows": {name: name for name in names}}
    return params


@pytest.mark.slow
def test_no_rows_name_is_run_by_a_shell(tmp_path: Path) -> None:
    """Every command of dvc.yaml, as DVC runs it, with a Python that writes down what the shell gave it."""
    folder = project.create(tmp_path / "project", settings(*NAMES))
    commands = {
        name: {"foreach": stage["foreach"], "do": {"cmd": stage["do"]["cmd"]}}
        for name, stage in OF_ROWS.items()
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": commands}, sort_keys=False), encoding="utf-8")
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(RECORDER)
    python.chmod(0o755)
    run(
        "dvc",
        "repro",
        "--keep-going",
        cwd=folder,
        check=False,
        SHELL="/bin/sh",
        PATH=f"{python.parent}:{project.environment()['PATH']}",
    )
    given = (folder / "commands").read_text(encoding="utf-8").splitlines()
    expected = [stage["do"]["cmd"].removeprefix("python ") for stage in OF_ROWS.values() for _ in NAMES]
    assert sorted(given) == sorted(expected)
    assert not (folder / "RAN").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:2])
def test_a_name_that_is_a_command_is_refused(name: str, tmp_path: Path) -> None:
    folder = project.create(tmp_path / "project", small_project.params())
    run("python", "-m", "stages.code", cwd=folder)
    project.write_params(folder, settings(name) | {"near_copies": {"rows": []}, "map": {}, "transfer": {}})
    done = run("dvc", "repro", "--single-item", "--glob", "fetch@*", cwd=folder, check=False)
    assert (
        "error: params.yaml: models." in done.stderr
        and "a row's name may hold only a-z, 0-9 and _" in done.stderr
    )
    assert not (folder / "RAN").exists()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["models", "refinements", "near_copies", "map", "transfer"])
def test_a_name_that_is_a_path_removes_nothing_outside_the_results(where: str, tmp_path: Path) -> None:
    """DVC removes what a stage writes before it runs the stage."""
    path = "x/../../../photos"
    params = settings("row") | {"near_copies": {"rows": [path] if where == "near_copies" else []}}
    params["refinements"] = (
        {path: {"from": "row", "with": "row", "method": "query_expansion"}} if where == "refinements" else {}
    )
    params["map"] = {path: {}} if where == "map" else {}
    params["transfer"] = {"sets": {path: "elsewhere"}} if where == "transfer" else {}
    params["models"] |= {path: params["models"]["row"]} if where == "models" else {}
    folder = project.create(tmp_path / "project", params)
    photo = folder / "photos/a.jpg"
    photo.parent.mkdir()
    photo.write_text("")
    done = run("dvc", "repro", "--keep-going", "--allow-missing", cwd=folder, check=False)
    assert done.returncode and "Running stage" not in done.stdout
    assert photo.exists()
