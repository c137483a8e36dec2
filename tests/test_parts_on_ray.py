"""Parts on a real Ray cluster of this machine: the bytes of one process, whatever its workers do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lineup import cluster
from lineup.errors import UserError
from lineup.search import index_file, part_search, part_workers, parted_build
from lineup.search.part_workers import PartTask
from lineup.settings.search import Index
from tests.test_parts import assert_same_bytes, clustered, gallery, near_ties, prepared, written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_ADDRESS", "local")
        cluster.connect.cache_clear()
        connected = cluster.connect()
        yield connected
    connected.shutdown()
    cluster.connect.cache_clear()


def searched_by_a_worker_that_dies_once(marker: str, *arguments: Any) -> part_search.PartResult:
    part, *_ = arguments
    if part.number == 2 and not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)
    return part_search._search_on_one_processor(*arguments)


def exits(number: int) -> None:
    os._exit(number)


def test_parts_are_searched_and_built_as_by_one_process(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a worker dies: its part is searched again."""
    vectors, queries = near_ties(3_000, 67, 1), prepared("cosine", near_ties(20, 67, 2))
    excluded = np.column_stack([np.repeat(np.arange(20), 40), np.arange(800)])
    file = written(tmp_path, vectors, "cosine", 700)
    alone, _ = part_search.part_by_part(file.parts, queries, 30, excluded)
    ranked, costs = part_search.search(file, queries, 30, excluded)
    assert_same_bytes(ranked, alone)
    assert costs.query_ms > 0 and costs.threads == 1 and costs.device
    marker = tmp_path / "died"
    dying = [
        PartTask(part.number, part.size, lambda part=part: (str(marker), part, part.read()))
        for part in file.parts
    ]
    results = part_workers.run(
        searched_by_a_worker_that_dies_once, dying, len(dying), (queries, 30, excluded, len(dying))
    )
    assert_same_bytes(part_search.merged(results, 20, 30)[0], alone)
    assert marker.exists()

    for number, chosen in enumerate(({"index": "ivf"}, {"index": "flat", "storage": "int8"})):
        images, settings = gallery(clustered(1_000)), Index.model_validate(chosen)
        setup = parted_build.build_file(tmp_path / f"workers{number}", settings, images, 10, "", 300)
        with monkeypatch.context() as patched:
            patched.delenv("RAY_ADDRESS")
            assert (
                parted_build.build_file(tmp_path / f"alone{number}", settings, images, 10, "", 300) == setup
            )
        assert (tmp_path / f"workers{number}").read_bytes() == (tmp_path / f"alone{number}").read_bytes()
        assert len(index_file.open_file(tmp_path / f"workers{number}", "cosine", 1_000, 300).parts) == 4


def test_what_fails_on_a_worker_is_one_sentence(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = clustered(90)
    broken[70] = 0
    with pytest.raises(UserError, match=r"^here: the vector of image 70 is all zero"):
        parted_build.build_file(tmp_path / "x", Index(index="hnsw"), gallery(broken), 10, "", 30)
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(part_workers, "RETRIES", 0)
    with pytest.raises(
        UserError, match=r"^RAY_ADDRESS: part 2 of 3 ended its worker 1 times.*search.part_rows"
    ):
        list(part_workers.run(exits, [PartTask(1, 8, lambda: (1,))], 3))
