"""The stages that need no network start without torch, and hence in under a second."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.project import ROOT

HEAVY = ("torch", "torchvision", "timm", "transformers", "open_clip", "pandas", "scipy", "matplotlib")


@pytest.mark.parametrize("stage", ["index", "retrieve", "refine", "score", "compare", "submit"])
def test_heavy_libraries_stay_out(stage: str) -> None:
    code = f"import sys, stages.{stage}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
