"""Memory that a training frees and takes again."""

from __future__ import annotations

import platform
import sys

import pytest

from tests.support.project import ROOT, run

_PAGE_FAULTS = """
import resource
from lineup.training.allocation import keep_freed_memory
assert keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(100_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_taken_again_without_new_pages() -> None:
    first, *later = map(int, run(sys.executable, "-c", _PAGE_FAULTS, cwd=ROOT).stdout.split())
    assert first > 1_000 and max(later) < first / 100
