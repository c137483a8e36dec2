"""The stages that need no network start without torch, and hence in under a second."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.project import ROOT

HEAVY = ("torch", "torchvision", "timm", "transformers", "open_clip", "pandas", "scipy", "matplotlib")

LIGHT_STAGES = (
    "index",
    "retrieve",
    "refine",
    "score",
    "slices",
    "compare",
    "map",
    "near_copies",
    "report",
    "preprocess",
)


MODULES = (*(f"stages.{stage}" for stage in LIGHT_STAGES), "lineup.commands.submit", "lineup.commands.judge")

# Each module is imported in a fork of one Python that has imported what all of them need.
IMPORTED_IN_FORKS = """
import importlib, json, os, sys
import numpy, PIL.Image, pyarrow.parquet, pydantic, yaml
heavy, modules = map(json.loads, sys.argv[1:])
for module in modules:
    if not os.fork():
        importlib.import_module(module)
        print(json.dumps([module, [name for name in heavy if name in sys.modules]]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, module
"""


@pytest.fixture(scope="module")
def heavy_imports() -> dict[str, list[str]]:
    """The heavy libraries that each module imports."""
    command = [sys.executable, "-c", IMPORTED_IN_FORKS, json.dumps(HEAVY), json.dumps(MODULES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_stay_out(module: str, heavy_imports: dict[str, list[str]]) -> None:
    assert heavy_imports[module] == []
