"""Hooks and fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lineup import machine
from tests.support import finished_project

# Seconds of the slowest files. They are started first, so that none runs alone at the end.
SLOWEST_FILES = {
    "test_kill.py": 140,
    "test_cluster_embed.py": 240,
    "test_hub_competition.py": 135,
    "test_pipeline.py": 135,
    "test_branches.py": 110,
    "test_hub_errors.py": 80,
    "test_embed.py": 70,
    "test_serve.py": 70,
    "test_teammates.py": 70,
    "test_disk_full.py": 60,
    "test_engines.py": 60,
    "test_hub_open_clip.py": 60,
    "test_preprocess.py": 40,
    "test_pipeline_approximate.py": 35,
    "test_training_stage.py": 30,
    "test_edits_compared.py": 25,
}

# No test asserts on time.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` means: one more than cores, since tests wait for what they start.

    At most four, since each may hold 2 GB.
    """
    return min(machine.threads() + 1, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: -SLOWEST_FILES.get(item.path.name, 0))  # the order of all others stays


@pytest.fixture(autouse=True, scope="module")
def first_folder() -> Iterator[None]:
    """The working directory is that of the test run again, whatever a file's fixtures leave behind."""
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of `finished_project`. Use `finished_copy` to change something."""
    return finished_project.make(tmp_path_factory)


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    return finished_project.copy(finished, tmp_path / "project")
