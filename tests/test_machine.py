"""Measurements are of this process, not of the one that started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lineup import machine
from tests.support.project import ROOT

CODE = "from lineup import machine; print(machine.peak_memory_mb())"


@pytest.mark.slow
def test_peak_memory_is_that_of_the_process_itself() -> None:
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])  # touched, so that it counts
    assert machine.peak_memory_mb() > 400
    child = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1 < float(child.stdout) < 200
