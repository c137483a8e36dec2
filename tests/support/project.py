"""A Lineup project in a folder of its own: this checkout's code, its own params.yaml, data and DVC cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support import forked

ROOT = Path(__file__).resolve().parents[2]
STARTS_PYTHON = ("dvc", "make", "python")  # by its name, so that it may be a fork
CODE = (
    *("lineup", "stages", "dvc.yaml", ".dvcignore", ".gitignore", ".gitattributes", "prices.yaml", "presets"),
    "data/judgements.csv",
)
# How long the stage `latency` measures each row for: by default it embeds for seconds, whatever the row.
SHORT_MEASUREMENT = {
    "stages/latency.py": {"PHOTOS": "12", "PASSES": "1", "ROUNDS_PER_PASS": "1"},
    "lineup/embedding/embedding_speed.py": {"SECONDS_PER_ROUND": "0.02"},
}


def environment(forks: bool = False, **extra: str) -> dict[str, str]:
    """The tests' Python first on PATH; nothing asks a hub; one thread, since the tests' workers share the cores.

    forks: whether `python` and `dvc` are forks of one process, which start in a tenth of the time.
    """
    read_at_start = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    programs = forked.programs(**read_at_start) if forks else None
    folders = [programs, str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **os.environ,
        **read_at_start,
        "PATH": os.pathsep.join(folder for folder in folders if folder),
        "HF_HUB_OFFLINE": "1",
        "DVC_NO_ANALYTICS": "1",
        **extra,
    }


def run(
    *command: str, cwd: Path, check: bool = True, forks: bool = True, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in `cwd`; a failure shows all that it printed."""
    variables = environment(forks and command[0] in STARTS_PYTHON, **extra)
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
    return done


def create(folder: Path, params: dict[str, Any]) -> Path:
    """A git repository with DVC, this checkout's code and `params`; without data. It measures speeds briefly."""
    folder.mkdir(parents=True)
    for name in CODE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy2(source, folder / name)
    for name, constants in SHORT_MEASUREMENT.items():
        _set_constants(folder / name, constants)
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "config", "user.email", "test@example.org", cwd=folder)
    run("git", "config", "user.name", "Test", cwd=folder)
    run("dvc", "init", "-q", cwd=folder)
    shutil.copy2(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots", dirs_exist_ok=True)
    write_params(folder, params)
    return folder


def _set_constants(file: Path, constants: dict[str, str]) -> None:
    code = file.read_text(encoding="utf-8")
    for name, value in constants.items():
        code, count = re.subn(rf"^{name} = \S+", f"{name} = {value}", code, flags=re.MULTILINE)
        assert count == 1, f"{file.name} has no constant {name}"
    file.write_text(code, encoding="utf-8")


def write_params(folder: Path, params: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def read_params(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))


def repro(folder: Path, *arguments: str, forks: bool = True, **extra: str) -> list[str]:
    """`dvc repro`; the stages it executed, in order (not those it found unchanged or took from the cache)."""
    return executed(run("dvc", "repro", *arguments, cwd=folder, check=True, forks=forks, **extra).stdout)


def executed(printed: str) -> list[str]:
    """The stages that DVC says it ran, without `code`, which computes nothing from data."""
    return [
        stage
        for stage in re.findall(r"^Running stage '([^']+)':$", printed, flags=re.MULTILINE)
        if stage != "code"
    ]


def demo_params(*rows: str, image_size: int = 64) -> dict[str, Any]:
    """The demo's settings with some of its rows, at a size that tests have time for.

    torch embeds: to compile a network for another engine takes longer than the rest of a stage.
    """
    params = read_params(ROOT)
    params["embed"]["engine"] = "torch"
    params["models"] = {row: params["models"][row] for row in rows}
    params["refinements"] = {}  # they name rows of the demo that may not be here
    params["near_copies"] = {"rows": []}
    for model in params["models"].values():
        model["encoder"] = {**model["encoder"], "image_size": image_size}
    return params


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
