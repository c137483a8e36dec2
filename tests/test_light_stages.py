"""The stages that need no network start without torch, and hence in under a second."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "module",
    [*(f"stages.{stage}" for stage in LIGHT_STAGES), "lineup.commands.submit", "lineup.commands.judge"],
)
def test_heavy_libraries_stay_out(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
