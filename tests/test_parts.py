"""A gallery searched in parts against the same gallery in one piece: the same bytes, ties included."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup.errors import UserError
from lineup.search import (
    approximate,
    faiss_file,
    faiss_search,
    flat_index,
    ground_truth,
    index_file,
    part_search,
    parted_build,
    parted_index,
)
from lineup.search.hits import Hits
from lineup.search.index_file import IndexFile
from lineup.search.vectors import Metric
from lineup.settings.search import Index
from tests.support.galleries import gallery, prepared

METRICS: tuple[Metric, ...] = ("cosine", "l2")
NONE = np.empty((0, 2), np.int64)


@pytest.fixture(scope="module", autouse=True)
def matrix_product() -> Iterator[None]:
    """FAISS takes its matrix product, whose last bits vary, only from some size on; here always."""
    before, faiss.cvar.distance_compute_blas_threshold = faiss.cvar.distance_compute_blas_threshold, 1
    yield
    faiss.cvar.distance_compute_blas_threshold = before


def written(folder: Path, vectors: np.ndarray, metric: Metric, part_rows: int | None) -> IndexFile:
    path, of = folder / "x.faiss", gallery(vectors, metric)
    flat_index.build_file(path, metric, of.dim, of.size, of.batches(), "here")
    return index_file.open_file(path, metric, of.size, part_rows)


def near_ties(rows: int, dim: int, seed: int) -> np.ndarray:
    """Vectors so close to each other that the last bits decide their order, many of them twice."""
    random = np.random.default_rng(seed)
    vectors = (random.standard_normal(dim) + 1e-6 * random.standard_normal((rows, dim))).astype(np.float32)
    return vectors[random.integers(0, rows, rows)]


def assert_same_bytes(one: Hits, other: Hits) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.sampled_from(METRICS),
    st.integers(1, 60),
    st.integers(1, 70),
    st.integers(1, 65),
    st.integers(0, 2**32 - 1),
)
def test_parts_of_any_size_give_the_bytes_of_one_piece(
    tmp_path_factory: pytest.TempPathFactory, metric: Metric, images: int, rows: int, k: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(-1, 2, (images, 3)).astype(np.float32) + np.array(
        [5, 0, 0], np.float32
    )  # many equal ones
    queries = prepared(
        metric, np.concatenate([vectors[:2], random.standard_normal((3, 3)).astype(np.float32)])
    )
    excluded = np.column_stack([random.integers(0, len(queries), 9), random.integers(0, images, 9)])
    file = written(tmp_path_factory.mktemp("parts"), vectors, metric, rows)
    assert len(file.parts) == -(-images // rows) and max(part.images for part in file.parts) <= rows
    whole = faiss_search.nearest(file.index, queries, k, excluded)  # type: ignore[arg-type]
    assert_same_bytes(part_search.part_by_part(file.parts, queries, k, excluded)[0], whole)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [1_999, 700, 333])
def test_where_the_last_bits_decide_parts_give_the_same_bytes(
    metric: Metric, rows: int, tmp_path: Path
) -> None:
    """Neither the shape of FAISS's matrix product nor the threads count."""
    vectors, queries = near_ties(2_000, 131, 1), prepared(metric, near_ties(30, 131, 2))
    file = written(tmp_path, vectors, metric, rows)
    whole = faiss_search.nearest(file.index, queries, 40, NONE)  # type: ignore[arg-type]
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        parts, _ = part_search.part_by_part(file.parts, queries, 40, NONE)
    finally:
        faiss.omp_set_num_threads(before)
    assert_same_bytes(parts, whole)


APPROXIMATE = [
    {"index": "hnsw", "recall_target": 0.9},
    {"index": "ivf", "recall_target": 0.9},
    {"index": "ivfpq", "recall_target": 0.9, "storage": "int8"},
    {"index": "flat", "storage": "int8"},
    {"index": "flat", "storage": "float16"},
]


def clustered(rows: int, seed: int = 0, dim: int = 32) -> np.ndarray:
    centres = np.random.default_rng(99).standard_normal((40, dim))
    random = np.random.default_rng(seed)
    return (centres[random.integers(0, 40, rows)] + 0.5 * random.standard_normal((rows, dim))).astype(
        np.float32
    )


@pytest.fixture(scope="module", params=range(len(APPROXIMATE)), ids=lambda number: str(APPROXIMATE[number]))
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, np.ndarray]:
    """An index in four parts of 1,250 images: its settings, its file, and the vectors."""
    chosen, path = APPROXIMATE[request.param], tmp_path_factory.mktemp("built") / "x.faiss"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(approximate, "PQ_TRAINING_IMAGES", 1_000)
        vectors = clustered(5_000)
        setup = parted_build.build_file(path, Index(**chosen), gallery(vectors), 10, "here", 1_300)
    assert setup.parameters["parts"] == 4
    return chosen, path, vectors


@pytest.mark.slow
def test_approximate_parts_find_what_their_target_promises(
    built: tuple[dict[str, Any], Path, np.ndarray],
) -> None:
    _, path, vectors = built
    queries = prepared("cosine", clustered(100, seed=1))
    excluded = np.column_stack([np.arange(100), np.arange(0, 5_000, 50)])
    file = index_file.open_file(path, "cosine", 5_000, 1_300)
    ranked, costs = part_search.part_by_part(file.parts, queries, 10, excluded)
    truth = [
        [g for g in np.argsort(-(prepared("cosine", vectors) @ query)) if g != 50 * q][:10]
        for q, query in enumerate(queries)
    ]
    assert (
        np.mean([len({*a} & {*b}) / 10 for a, b in zip(ranked.positions.tolist(), truth, strict=True)]) > 0.85
    )
    assert ground_truth.recalls(ranked.positions, queries, excluded, gallery(vectors), [10])["10"] > 0.85
    assert costs.query_ms > 0
    # A service searches the parts in the mapped file, and ranks the same.
    assert_same_bytes(parted_index.nearest(file.index, queries, 10, excluded), ranked)
    stored = parted_index.vectors_at(file.index, np.arange(5_000).reshape(2, 2_500)).reshape(5_000, -1)
    np.testing.assert_allclose(stored, prepared("cosine", vectors), atol=0.1)
    pairs = parted_index.pairwise(file.index, queries, ranked.positions)
    assert pairs.tobytes() == ranked.scores.tobytes()
    assert parted_index.query_ms(file.index, queries, 10) > 0


def test_each_part_is_the_index_of_its_images_alone(
    built: tuple[dict[str, Any], Path, np.ndarray], tmp_path: Path
) -> None:
    """Byte for byte, and a ZIP archive that any tool opens; but codes of a flat index are learned once."""
    chosen, path, vectors = built
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"part_{number:05}.faiss" for number in range(4)]
        archive.extractall(tmp_path)
    last = faiss.read_index(str(tmp_path / "part_00003.faiss"))
    assert last.ntotal == 1_250
    queries = prepared("cosine", clustered(20, seed=2))
    if chosen["index"] == "flat":
        whole = approximate.build(Index(**chosen), gallery(vectors), 10, "").index
        parts = index_file.load(path, "cosine", 5_000)
        assert_same_bytes(
            parted_index.nearest(parts, queries, 30, NONE),
            faiss_search.nearest(whole, queries, 30, NONE),
        )
    else:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(approximate, "PQ_TRAINING_IMAGES", 1_000)
            alone = approximate.build(Index(**chosen), gallery(vectors[3_750:]), 10, "")
        faiss_file.save(tmp_path / "alone", alone.index)
        assert (tmp_path / "alone").read_bytes() == (tmp_path / "part_00003.faiss").read_bytes()


@pytest.mark.slow
def test_parts_follow_from_the_images_alone_whatever_the_batches(tmp_path: Path) -> None:
    vectors = clustered(1_000)
    for name, batch in (("a", 1_000), ("b", 7), ("c", 251)):
        parted_build.build_file(
            tmp_path / name, Index(index="ivf"), gallery(vectors, batch=batch), 10, "", 250
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    # A gallery that is not larger than a part is one FAISS index, as without the setting.
    parted_build.build_file(tmp_path / "one", Index(index="ivf"), gallery(vectors), 10, "", 1_000)
    faiss_file.save(tmp_path / "plain", approximate.build(Index(index="ivf"), gallery(vectors), 10, "").index)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize(
    "chosen", [{"index": "hnsw"}, {"index": "ivf"}, {"index": "flat", "storage": "int8"}]
)
def test_parts_of_one_image(chosen: dict[str, Any], tmp_path: Path) -> None:
    vectors = clustered(5)
    parted_build.build_file(tmp_path / "x", Index(**chosen), gallery(vectors, "l2", 2), 10, "", 1)
    file = index_file.open_file(tmp_path / "x", "l2", 5, 1)
    ranked, _ = part_search.part_by_part(file.parts, vectors, 9, NONE)
    assert ranked.positions.shape == (5, 5) and ranked.positions[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.faiss"
    with pytest.raises(UserError, match=r"x.faiss: does not exist; run `dvc repro`"):
        index_file.open_file(path, "l2", 5, 2)
    with pytest.raises(UserError, match=r"here.part_rows: ivfpq is trained on 9,984 .*a part has 3,000; set"):
        parted_build.build_file(path, Index(index="ivfpq"), gallery(clustered(12_000)), 10, "here", 3_000)
    assert not path.exists()
    parted_build.build_file(path, Index(index="hnsw"), gallery(clustered(90)), 10, "", 30)
    with pytest.raises(UserError, match=r"x.faiss: was built for another metric than l2"):
        index_file.load(path, "l2", 90)
    with pytest.raises(
        UserError, match=r"x.faiss: the gallery has changed since it was built, from 90 images to 91"
    ):
        index_file.load(path, "cosine", 91)
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:60] + bytes(40) + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"x.faiss: is not a FAISS index; run `dvc repro`"):
            index_file.load(path, "cosine", 90)
    file = written(tmp_path, clustered(50), "cosine", 20)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"x.faiss: has changed while it was read; run `dvc repro`"):
        part_search.part_by_part(file.parts, clustered(1), 3, NONE)


def test_a_zero_vector_in_a_later_part_is_named(tmp_path: Path) -> None:
    vectors = clustered(90)
    vectors[70] = 0
    with pytest.raises(UserError, match="here: the vector of image 70 is all zero"):
        parted_build.build_file(tmp_path / "x", Index(index="hnsw"), gallery(vectors), 10, "", 30)
