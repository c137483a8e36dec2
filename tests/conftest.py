"""Hooks for all tests."""

from __future__ import annotations

import pytest

# Seconds of the slowest files on two idle cores. They are started first, so that none runs alone at the end.
SLOWEST_FILES = {
    "test_hub_competition.py": 365,
    "test_pipeline.py": 270,
    "test_branches.py": 240,
    "test_kill.py": 210,
    "test_teammates.py": 150,
    "test_disk_full.py": 110,
    "test_hub_errors.py": 105,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: -SLOWEST_FILES.get(item.path.name, 0))  # the order of all others stays
