"""lineup_row.py, which an exported folder holds, against Lineup's own decoding and its own searches."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lineup import paths
from lineup.export import folder, gallery_files, search_plan
from lineup.export.handed_over import lineup_row
from lineup.photos import decoding, image_preparation
from lineup.relevance import prepared_relevance
from lineup.search.vectors import prepare_vectors
from lineup.serving import gallery_photos
from lineup.settings import params as settings_file
from lineup.storage import csv_files, embeddings, files
from tests.support import odd_images
from tests.support.odd_images import Odd
from tests.test_refine_stage import ROWS, prepared, refined

SMALL_PX = 20  # the shorter side of the corpus is 32 px, so that most photos are shrunk


@pytest.mark.parametrize("odd", odd_images.good(), ids=lambda odd: odd.name[:40])
def test_a_photo_is_decoded_and_shrunk_as_the_pipeline_does(odd: Odd) -> None:
    decoded = lineup_row.decode(odd.data)
    assert decoded.rgb.tobytes() == decoding.decode(odd.data).tobytes()
    for shorter_side_px in (SMALL_PX, 512):
        stored = image_preparation.prepare(odd.data, shorter_side_px).replacement or odd.data
        shrunk, expected = lineup_row.shrink(decoded, shorter_side_px), decoding.decode(stored)
        assert shrunk.size == expected.size and shrunk.tobytes() == expected.tobytes()


@pytest.mark.parametrize("odd", odd_images.bad(), ids=lambda odd: odd.name)
def test_what_the_pipeline_refuses_is_refused(odd: Odd) -> None:
    with pytest.raises(lineup_row.BadPhoto):
        lineup_row.decode(odd.data)


def test_a_large_photo_keeps_the_traces_of_its_compression() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 131, 3), np.uint8)
    for container, same in (("JPEG", False), ("PNG", True)):
        data = odd_images.encoded(noise, container)
        decoded = lineup_row.decode(data)
        shrunk = lineup_row.shrink(decoded, 40)
        replacement = image_preparation.prepare(data, 40).replacement
        assert replacement is not None
        assert shrunk.tobytes() == Image.open(io.BytesIO(replacement)).convert("RGB").tobytes()
        resized = decoded.rgb.resize(shrunk.size, Image.Resampling.LANCZOS)
        assert (shrunk.tobytes() == resized.tobytes()) == same


def written(row: str, target: Path) -> search_plan.SearchPlan:
    """An exported folder of a row without its networks: queries come as vectors."""
    params = settings_file.load()
    plan = search_plan.make(row, params, gallery_photos.read("pixels"))
    target.mkdir()
    plan.write(target)
    gallery_files.write(target, plan.opened.photos, plan)
    encoders = {model: {"metric": plan.metric(model), "fingerprint": "f"} for model in plan.models}
    files.write_json(target / "settings.json", folder.settings(plan, encoders, None, 25))
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_every_refinement_answers_as_the_search_page(empty_folder: Path, tmp_path: Path, metric: str) -> None:
    """The search page leaves nothing out here, as a query of a service is no photo of the collection."""
    prepared(ROWS, metric=metric)
    for row in ROWS:
        refined(row)
    for row in ("a", *ROWS):
        plan = written(row, tmp_path / row)
        service = lineup_row.Row(tmp_path / row)
        queries = {model: embeddings.read_embeddings(paths.embeddings(model), "query") for model in "ab"}
        for number in range(len(queries["a"].ids)):
            raw = {model: queries[model].vectors[number] for model in plan.models}
            expected = plan.opened.nearest(
                lambda encoder, raw=raw: prepare_vectors(
                    encoder.metric, ["q"], raw[encoder.name][None], "query"
                ),
                25,
            )
            hits = service.search_vectors(raw, 25)
            assert [hit.rank for hit in hits] == [*range(1, len(expected) + 1)]
            assert [hit.score for hit in hits] == pytest.approx(
                [hit.score for hit in expected], rel=1e-5, abs=1e-5
            ), row
            assert sorted(hit.image_id for hit in hits) == sorted(hit.photo.image_id for hit in expected)
            gaps = np.diff([hit.score for hit in expected])
            if (np.abs(gaps) > 1e-5).all():
                assert [hit.image_id for hit in hits] == [hit.photo.image_id for hit in expected], row
            assert [hit.path for hit in service.search_vectors(raw, 3)] == [hit.path for hit in hits[:3]]


def test_a_threshold_leaves_out_weak_answers(empty_folder: Path, tmp_path: Path) -> None:
    prepared({})
    plan = written("a", tmp_path / "a")
    service = lineup_row.Row(tmp_path / "a")
    service.settings["threshold"] = {"score": 0.5}
    vector = embeddings.read_embeddings(paths.embeddings("a"), "query").vectors[0]
    every = service.search_vectors({"a": vector}, 25)
    above = service.search_vectors({"a": vector}, 25, "default")
    assert above == [hit for hit in every if hit.score >= 0.5] and 0 < len(above) < len(every)
    assert service.search_vectors({"a": vector}, 25, 1.1) == []
    assert plan.spaces == ["a"]


@pytest.mark.slow
def test_the_gallery_table_has_the_searched_vectors_and_names(empty_folder: Path, tmp_path: Path) -> None:
    prepared(ROWS)
    for row in ("fused", "whitened"):
        refined(row)
    for row, columns in {"a": ["vector"], "fused": ["vector_a", "vector_b"], "whitened": ["vector"]}.items():
        written(row, tmp_path / row)
        table = pq.read_table(tmp_path / row / "gallery.parquet")
        assert table.column_names == ["image_id", "path", "label", *columns]
        photos = gallery_photos.read("pixels")
        assert table.column("image_id").to_pylist() == photos.ids.to_pylist()
        assert table.column("label").to_pylist() == photos.table.column("label").to_pylist()
        for column in columns:
            vectors = np.array(table.column(column).to_pylist(), np.float32)
            assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    service = lineup_row.Row(tmp_path / "whitened")
    table = pq.read_table(tmp_path / "whitened" / "gallery.parquet")
    stored = np.array(table.column("vector").to_pylist(), np.float32)
    assert service._index_of("whitened").vectors(np.arange(25)) == pytest.approx(stored, abs=1e-6)
    with pytest.raises(ValueError, match="a, b"):
        lineup_row.Row(tmp_path / "fused").embed([])


@pytest.mark.slow
def test_the_depth_is_that_of_the_pipeline(empty_folder: Path, tmp_path: Path) -> None:
    """What a fusion gives depends on how deep the fused rankings are."""
    prepared(ROWS, retrieve={"depth": 7}, score={"cutoffs": [1]})
    refined("fused")
    plan = written("fused", tmp_path / "fused")
    assert plan.rows["fused"]["depth"] == prepared_relevance.load_relevance("pixels").required_depth(7, 1)


def test_names_that_a_spreadsheet_would_compute_come_back_as_they_are(
    empty_folder: Path, tmp_path: Path
) -> None:
    for name in ("=1+1", "'=1", "-x", " @x", "'quoted", "''", "\tx", "plain", "＝1"):
        file = tmp_path / "gallery.csv"
        csv_files.write_csv(file, ["image_id", "path", "label"], [["a", name, name]])
        service = lineup_row.Row.__new__(lineup_row.Row)
        service.folder = tmp_path
        assert service._gallery == (["a"], [name], [name])
