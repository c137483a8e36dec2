"""refine@row from the rows' files: what it reads, hands on and measures; and what params.yaml may say of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lineup import cli, paths
from lineup.errors import UserError
from lineup.refinements import local_scaling, whitening
from lineup.search import approximate
from lineup.search.vectors import Vectors, prepare_vectors
from lineup.serving import gallery_photos, row_search
from lineup.settings import params
from lineup.storage import embeddings, files, rankings
from stages import refine
from tests.support import collection
from tests.support.collection import Image, clustered
from tests.support.project import ROOT, environment

ROWS = {
    "fused": {"from": "a", "with": "b", "method": "reciprocal_rank_fusion"},
    "blended": {"from": "a", "with": "b", "method": "score_fusion"},
    "expanded": {"from": "a", "with": "a", "method": "query_expansion", "n": 2},
    "reranked": {"from": "a", "with": "a", "method": "k_reciprocal", "k1": 4, "k2": 2},
    "whitened": {"from": "a", "with": "a", "method": "whitening", "dim": 6},
    "approximated": {
        "from": "a",
        "with": "a",
        "method": "approximate",
        "index": "hnsw",
        "recall_target": 1.0,
    },
    "normalised": {
        "from": "a",
        "with": "a",
        "method": "score_normalisation",
        "first_rank": 2,
        "last_rank": 6,
    },
    "scaled": {"from": "a", "with": "a", "method": "local_scaling", "k": 4},
    "shortened": {"from": "a", "with": "a", "method": "truncate", "dim": 5},
    "bytes": {"from": "a", "with": "a", "method": "quantise", "to": "int8", "rescore": 2},
    "bits": {"from": "a", "with": "a", "method": "quantise", "to": "binary"},
    # chains
    "shortened_bits": {"from": "shortened", "with": "shortened", "method": "quantise", "to": "binary"},
    "three": {"from": "fused", "with": "whitened", "method": "reciprocal_rank_fusion"},
    "fused_reranked": {"from": "fused", "with": "b", "method": "k_reciprocal", "k1": 4, "k2": 2},
    "whitened_approximated": {
        "from": "whitened",
        "with": "whitened",
        "method": "approximate",
        "index": "ivf",
        "recall_target": 1.0,
    },
    "whitened_expanded": {"from": "whitened", "with": "whitened", "method": "query_expansion", "n": 2},
    "fused_normalised": {"from": "fused", "with": "fused", "method": "score_normalisation", "first_rank": 4},
    "whitened_scaled": {"from": "whitened", "with": "whitened", "method": "local_scaling", "k": 3},
    "both_reranked": {"from": "reranked", "with": "fused_reranked", "method": "score_fusion"},
}


@pytest.fixture
def place(empty_folder: Path) -> Path:
    return empty_folder


def prepared(
    rows: dict[str, Any], qrels: Sequence[tuple[str, str, int]] = (), metric: str = "cosine", **settings: Any
) -> None:
    """Two models, a and b, of the same images, searched; and settings with `rows` refined of them."""
    collection.write_params(collection.params("a", "b", metric=metric, refinements=rows, **settings))
    images = {
        row: clustered(labels=6, queries=1, gallery=4, noise=0.8, dim=8, seed=seed)
        for seed, row in enumerate("ab")
    }
    images = {
        row: [*some, Image("0/0", "gallery", "label 0", some[0].vector)] for row, some in images.items()
    }  # a query, in the gallery too
    collection.write(images["a"], qrels)
    for row, some in images.items():
        collection.write_embeddings(row, some)
        collection.search(row)


def refined(row: str) -> rankings.Ranking:
    refine.main(["--row", row])
    return rankings.read_ranking(paths.ranking(row))


def ids(ranking: rankings.Ranking, q: int) -> list[str]:
    return ranking.gallery_ids[ranking.positions[q][ranking.positions[q] >= 0]].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_every_method_and_chain_ranks_the_same_images_as_the_models(place: Path, metric: str) -> None:
    prepared(ROWS, metric=metric)
    model = rankings.read_ranking(paths.ranking("a"))
    for row in ROWS:
        ranking = refined(row)
        assert ranking.query_ids.tolist() == model.query_ids.tolist()
        for q, query_id in enumerate(ranking.query_ids):
            found = ids(ranking, q)
            # The whole gallery of 25 is ranked; a query that is in it doesn't find itself.
            assert sorted(found) == sorted(ids(model, q)) and query_id not in found
            scores = ranking.scores[q][ranking.positions[q] >= 0]
            for rank in range(len(found) - 1):
                assert scores[rank] > scores[rank + 1] or (
                    scores[rank] == scores[rank + 1] and found[rank] < found[rank + 1]
                )
        costs = files.read_json(paths.costs("refine", row))
        assert (
            costs["seconds"] > 0
            and costs["query_ms"] > 0
            and costs["peak_memory_mb"] > 0
            and costs["device"]
            and costs["k"] == 25
        )


@pytest.mark.slow
def test_a_copy_of_the_query_in_other_bytes_leaves_every_refinement_as_it_was(place: Path) -> None:
    """It is neither ranked nor averaged with the query, nor a neighbour by which others are re-ranked."""

    def ranked(copies: bool) -> dict[str, dict[str, float]]:
        collection.write_params(collection.params("a", "b", refinements=ROWS))
        images = clustered(labels=6, queries=1, gallery=4, noise=0.8, dim=8)
        for seed, model in enumerate("ab"):
            images = clustered(labels=6, queries=1, gallery=4, noise=0.8, dim=8, seed=seed)
            if copies:
                images += [
                    Image(f"copy {n}", "gallery", "label 0", images[0].vector, shows=images[0].name)
                    for n in range(2)
                ]
            collection.write(images)
            collection.write_embeddings(model, images)
            collection.search(model)
        found = {}
        for row in ROWS:
            ranking = refined(row)
            own = ranking.query_ids.tolist().index(images[0].id)
            found[row] = dict(zip(ids(ranking, own), ranking.scores[own].tolist(), strict=False))
        return found

    plain, copied = ranked(copies=False), ranked(copies=True)
    for row in ROWS:
        if row.startswith("whitened") or row in ("three", "both_reranked", "scaled"):
            # Learned on the gallery, or the depth counts: other scores.
            assert plain[row].keys() == copied[row].keys(), row
        else:
            assert list(copied[row]) == list(plain[row]) and copied[row] == pytest.approx(
                plain[row], abs=1e-6
            ), row


@pytest.mark.slow
def test_junk_stays_out_and_rankings_are_as_deep_as_asked(place: Path) -> None:
    junk = [("1/0", "1/1", -1), ("1/0", "1/2", 1), ("2/0", "2/1", 1)]
    prepared(ROWS, qrels=junk, retrieve={"depth": 7}, score={"cutoffs": [1]})
    names = {image.name: image.id for image in clustered(6, 1, 4, 0)}
    for row in ROWS:
        ranking = refined(row)
        assert ranking.positions.shape[1] == 7
        place_of_query = ranking.query_ids.tolist().index(names["1/0"])
        assert names["1/1"] not in ids(ranking, place_of_query)


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes_for_any_number_of_threads(place: Path) -> None:
    prepared(ROWS)
    for row in ROWS:
        refined(row)

    def results() -> dict[str, bytes]:
        folders = (Path("data/rankings"), Path("data/embeddings"), Path("data/refinements"))
        written = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
        assert {"projection.safetensors", "index.faiss"} < {file.name for file in written}
        return {str(file): file.read_bytes() for file in written}

    first = results()
    code = "import sys; from stages import refine; [refine.main(['--row', row]) for row in sys.argv[1:]]"
    for threads in ("1", "2"):
        extra = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-c", code, *ROWS],
            env=environment(forks=False, **extra),
            check=True,
            capture_output=True,
        )
        assert results() == first


@pytest.mark.slow
def test_whitening_hands_on_its_vectors_and_says_what_it_learned_on(place: Path) -> None:
    prepared(ROWS)
    refined("whitened")
    assert (
        "learned on the 25 images of the gallery"
        in files.read_json(paths.costs("refine", "whitened"))["note"]
    )
    original, white = (
        embeddings.read_embeddings(paths.embeddings(row), "gallery") for row in ("a", "whitened")
    )
    assert white.ids.tolist() == original.ids.tolist() and white.vectors.shape == (25, 6)
    np.testing.assert_allclose(np.cov(white.vectors.T, bias=True), np.eye(6), atol=1e-4)
    assert embeddings.read_embeddings(paths.embeddings("whitened"), "query").vectors.shape == (6, 6)


@pytest.mark.slow
def test_the_way_of_a_query_into_the_whitened_space_is_part_of_its_cost(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = whitening.Projection.transform

    def slow(projection: whitening.Projection, vectors: Vectors) -> Vectors:
        if len(vectors) == 1:
            time.sleep(0.02)
        return transform(projection, vectors)

    monkeypatch.setattr(whitening.Projection, "transform", slow)
    prepared(ROWS)
    refined("whitened")
    costs = files.read_json(paths.costs("refine", "whitened"))
    assert costs["query_ms"] > costs["transform_ms"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_an_approximate_search_tells_how_much_of_the_exact_one_it_finds(place: Path, metric: str) -> None:
    row = {"from": "a", "with": "a", "method": "approximate", "index": "ivf", "recall_target": 0.3}
    prepared({"ann": row}, metric=metric, retrieve={"depth": 8}, score={"cutoffs": [1, 5]})
    images = clustered(labels=30, queries=1, gallery=10, noise=0.8, dim=8)  # 7 lists
    collection.write(images)
    collection.write_embeddings("a", images)
    exact_ranking, found = collection.search("a"), refined("ann")
    costs = files.read_json(paths.costs("refine", "ann"))
    assert (costs["dim"], costs["search"]["index"], costs["search"]["storage"]) == (8, "ivf", "float32")
    assert costs["search"]["ann_recall_tuned"] >= 0.3 and costs["search"]["parameters"]["nprobe"] < 7
    assert costs["ann_recall"].keys() == {"1", "5", "8"}
    for k, told in costs["ann_recall"].items():
        shares = [
            len({*ids(exact_ranking, q)[: int(k)]} & {*ids(found, q)[: int(k)]}) / int(k) for q in range(30)
        ]
        assert told == pytest.approx(np.mean(shares), abs=1e-4)
    assert 0 < costs["ann_recall"]["8"] < 1
    # What both found has the same score: it is the exact one of the pair.
    scores = {
        (q, g): s
        for q in range(30)
        for g, s in zip(ids(exact_ranking, q), exact_ranking.scores[q], strict=False)
    }
    for q in range(30):
        for g, score in zip(ids(found, q), found.scores[q], strict=False):
            assert scores.get((q, g), score) == score
    # The index is what the same settings give a row of models.
    content = collection.params("a", metric=metric, retrieve={"depth": 8}, score={"cutoffs": [1, 5]})
    content["models"]["a"]["search"] |= {"index": "ivf", "recall_target": 0.3}
    collection.write_params(content)
    twin = collection.search("a")
    assert [ids(twin, q) for q in range(30)] == [ids(found, q) for q in range(30)]
    assert files.read_json(paths.costs("retrieve", "a"))["ann_recall"] == costs["ann_recall"]
    built = files.read_json(paths.costs("index", "a"))
    assert built["search"] == costs["search"] and built["index_mb"] == costs["index_mb"]


@pytest.mark.slow
@pytest.mark.parametrize("row", ["ann", "model", "reranked"])
def test_asked_by_hand_an_approximate_row_answers_as_in_the_pipeline(place: Path, row: str) -> None:
    """Also what is re-ranked with the vectors of a model whose index is approximate."""
    own = {"index": "ivf", "recall_target": 0.3}
    content = collection.params("a", "model", retrieve={"depth": 8}, score={"cutoffs": [1, 5]})
    content["models"] = {
        name: {**part, "search": {**part["search"]}} for name, part in content["models"].items()
    }
    content["models"]["model"]["search"] |= own
    content["refinements"] = {
        "ann": {"from": "a", "with": "a", "method": "approximate", **own},
        "reranked": {"from": "model", "with": "model", "method": "k_reciprocal", "k1": 4, "k2": 2},
    }
    collection.write_params(content)
    images = clustered(labels=30, queries=1, gallery=10, noise=0.8, dim=8)
    collection.write(images)
    for model in ("a", "model"):
        collection.write_embeddings(model, images)
        collection.search(model)
    ranking = rankings.read_ranking(paths.ranking(row)) if row == "model" else refined(row)
    vectors = embeddings.read_embeddings(paths.embeddings("a"), "query")
    opened = row_search.open_row(row, params.load(), gallery_photos.read("pixels"))
    for q in range(30):
        vector = prepare_vectors("cosine", vectors.ids[q : q + 1], vectors.vectors[q : q + 1], "here")
        results = opened.nearest(lambda encoder, vector=vector: vector, ranking.positions.shape[1])
        assert [result.photo.image_id for result in results] == ids(ranking, q)
        assert [result.score for result in results] == ranking.scores[q][: len(results)].tolist()


@pytest.mark.slow
def test_other_methods_hand_on_folders_without_results_whatever_lay_there(place: Path) -> None:
    prepared(ROWS)
    for folder in (paths.embeddings("fused"), paths.refinement("fused")):
        folder.mkdir(parents=True)
        (folder / "all.parquet").write_text("of a run with other settings")
    refined("fused")
    for folder in (paths.embeddings("fused"), paths.refinement("fused")):
        assert [file.name for file in folder.iterdir()] == [files.NOTHING_FILE]


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", ["whitened", "approximated", "whitened_approximated", "scaled", "whitened_scaled"]
)
def test_a_row_that_has_learned_is_opened_without_learning_again(
    place: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(ROWS)
    refined("whitened")
    ranking = refined(row)

    def learns(*_: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(whitening, "learn", learns)
    monkeypatch.setattr(local_scaling, "learn", learns)
    monkeypatch.setattr(approximate, "build", learns)
    opened = row_search.open_row(row, params.load(), gallery_photos.read("pixels"))
    vectors = embeddings.read_embeddings(paths.embeddings("a"), "query")
    for q in range(6):
        vector = prepare_vectors("cosine", vectors.ids[q : q + 1], vectors.vectors[q : q + 1], "here")
        excluded = [p for p in [opened.photos.position(ranking.query_ids[q])] if p is not None]
        results = opened.nearest(lambda encoder, vector=vector: vector, 25, excluded)
        assert [result.photo.image_id for result in results] == ids(ranking, q)
        assert [result.score for result in results] == ranking.scores[q][: len(results)].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("row", ["whitened", "approximated", "scaled"])
def test_what_another_row_learned_or_was_learned_from_other_vectors_is_refused(place: Path, row: str) -> None:
    prepared({**ROWS, "other": {**ROWS[row], "from": "b", "with": "b"}})
    refined(row)
    refined("other")
    photos = gallery_photos.read("pixels")
    row_search.open_row(row, params.load(), photos)
    shutil.rmtree(paths.refinement(row))
    with pytest.raises(UserError, match=rf"data/refinements/{row}/learned_from.json: .*; run `dvc repro`"):
        row_search.open_row(row, params.load(), photos)
    shutil.copytree(paths.refinement("other"), paths.refinement(row))
    with pytest.raises(
        UserError,
        match=rf"data/refinements/{row}: was not learned by {row} .*run `dvc repro -f -s refine@{row}`",
    ):
        row_search.open_row(row, params.load(), photos)


def test_fusion_of_a_row_with_itself_keeps_its_ranking(place: Path) -> None:
    prepared({"twice": {"from": "a", "with": "a", "method": "reciprocal_rank_fusion"}})
    twice, model = refined("twice"), rankings.read_ranking(paths.ranking("a"))
    assert [ids(twice, q) for q in range(6)] == [ids(model, q) for q in range(6)]


@pytest.mark.parametrize(
    ("row", "name"),
    [("expanded", "n"), ("reranked", "k1"), ("reranked", "candidates"), ("normalised", "last_rank")],
)
def test_looking_further_than_the_rankings_go_is_told(place: Path, row: str, name: str) -> None:
    prepared({row: {**ROWS[row], name: 9}}, retrieve={"depth": 8}, score={"cutoffs": [1]})
    with pytest.raises(
        UserError,
        match=rf"refinements.{row}.{name} is 9, but rankings are 8 deep; set retrieve.depth to 9 or more",
    ):
        refined(row)


@pytest.mark.slow
def test_rankings_and_vectors_of_other_images_are_told(place: Path) -> None:
    prepared(ROWS)
    images = clustered(6, 1, 4, 0.8, dim=8)
    collection.write_embeddings("a", images[:-1])
    with pytest.raises(UserError, match="embeddings/a: holds other images than"):
        refined("expanded")
    collection.write([*images, Image("new", "query", None, [0.0] * 8)])
    with pytest.raises(UserError, match=r"rankings/a.parquet: ranks other images than"):
        refined("fused")
    collection.write(images)
    paths.ranking("a").unlink()
    with pytest.raises(UserError, match=r"rankings/a.parquet: does not exist; run `dvc repro`"):
        refined("fused")


@pytest.mark.slow
def test_a_model_is_no_refinement_and_the_other_way_round(place: Path) -> None:
    prepared(ROWS)
    with pytest.raises(UserError, match=r"params.yaml: refinements.fusd is unknown; did you mean 'fused'"):
        cli.start("refine", ["--row", "fusd"], rows="refinements")
    with pytest.raises(UserError, match=r"fused is a row of refinements; use a row of models here"):
        cli.start("embed", ["--row", "fused"])
    assert (
        cli.start("score", ["--row", "fused"], rows="all")[0] == "fused"
        and cli.start("score", ["--row", "a"], rows="all")[0] == "a"
    )
    collection.write_params(collection.params("a"))
    with pytest.raises(UserError, match=r"refinements.fused is unknown; there are none"):
        cli.start("refine", ["--row", "fused"], rows="refinements")


# params.yaml


def checked(place: Path, **rows: Any) -> params.Params:
    content = collection.params("a", "b", refinements=rows)
    (place / "p.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return params.load(place / "p.yaml")


def test_defaults_and_keys_that_are_words_of_python(place: Path) -> None:
    row = checked(place, r={"from": "a", "with": "b", "method": "k_reciprocal", "lambda": 0.5}).refinements[
        "r"
    ]
    assert (row.first, row.second, row.lambda_, row.k1) == ("a", "b", 0.5, 20)  # pyright: ignore


CHAIN = {"from": "a", "with": "b", "method": "reciprocal_rank_fusion"}


@pytest.mark.slow
def test_a_thousand_refinements_of_refinements_are_checked_in_one_pass(place: Path) -> None:
    """Each of the two before it: as many ways down as Fibonacci's numbers, and a chain deeper than Python's
    stack.
    """
    rows = {
        f"r{n}": {**CHAIN, "from": f"r{n - 1}" if n else "a", "with": f"r{n - 2}" if n > 1 else "b"}
        for n in range(1_200)
    }
    assert len(checked(place, **rows).refinements) == len(rows)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"r": {**CHAIN, "from": "aa"}}, "refinements.r.from is 'aa'; did you mean 'a'?"),
        ({"r": {**CHAIN, "with": "zzz"}}, "refinements.r.with is 'zzz'; known: a, b"),
        ({"r": {**CHAIN, "wiht": "b"}}, "refinements.r.wiht is unknown; did you mean 'with'?"),
        ({"r": {"from": "a", "method": "score_fusion"}}, "refinements.r.with is missing"),
        (
            {"r": {**CHAIN, "method": "rrf"}},
            "refinements.r.method is 'rrf'; known: approximate, k_reciprocal, ",
        ),
        ({"r": {"from": "a", "with": "a"}}, "refinements.r.method is missing"),
        ({"a": CHAIN}, "refinements.a is also a row of models; rename one"),
        ({"R-1": CHAIN}, "refinements.R-1: a row's name may hold only a-z, 0-9 and _"),
        ({"r": {**CHAIN, "from": "r"}}, "refinements.r is made of itself (r -> r)"),
        (
            {"x": {**CHAIN, "from": "y"}, "y": {**CHAIN, "with": "z"}, "z": {**CHAIN, "with": "y"}},
            "refinements.y is made of itself (y -> z -> y)",
        ),
        (
            {"r": {"from": "a", "with": "b", "method": "whitening", "dim": 4}},
            "refinements.r: whitening is of one row; set with: a",
        ),
        (
            {"f": CHAIN, "r": {"from": "f", "with": "f", "method": "query_expansion"}},
            "refinements.r.with is 'f', a reciprocal_rank_fusion, which has no vectors for query_expansion; "
            "name a model or a refinement that makes vectors, perhaps 'b'",
        ),
        (
            {"r": {**CHAIN, "method": "score_fusion", "weight": 1.5}},
            "refinements.r.weight is 1.5: input should be less than or equal to 1",
        ),
        (
            {"r": {**CHAIN, "method": "score_fusion", "normalisation": "zz"}},
            "refinements.r.normalisation is 'zz'; did you mean 'z'?",
        ),
        (
            {"r": {**CHAIN, "method": "k_reciprocal", "lambda": -1}},
            "refinements.r.lambda is -1: input should be greater than or equal to 0",
        ),
        (
            {"r": {**CHAIN, "method": "k_reciprocal", "lamda": 1}},
            "refinements.r.lamda is unknown; did you mean 'lambda'?",
        ),
        (
            {"r": {**CHAIN, "method": "approximate", "index": "hnsw"}},
            "refinements.r: approximate is of one row; set with: a",
        ),
        (
            {"r": {"from": "a", "with": "a", "method": "approximate", "index": "hsnw"}},
            "refinements.r.index is 'hsnw'; did you mean 'hnsw'?",
        ),
        ({"r": {"from": "a", "with": "a", "method": "approximate"}}, "refinements.r.index is missing"),
        (
            {"r": {"from": "a", "with": "a", "method": "approximate", "index": "flat"}},
            "refinements.r: index: flat with storage: float32 is exact; set index to hnsw, ivf, ivfpq or auto, or set another storage",
        ),
        (
            {
                "r": {
                    "from": "a",
                    "with": "a",
                    "method": "approximate",
                    "index": "flat",
                    "storage": "int8",
                    "recall_target": 0.9,
                }
            },
            "refinements.r: recall_target is for hnsw, ivf, ivfpq and auto; index: flat compares every vector, remove it",
        ),
        (
            {"r": {**CHAIN, "method": "query_expansion", "n": 0}},
            "refinements.r.n is 0: input should be greater than or equal to 1",
        ),
        (
            {"r": {"from": "a", "with": "a", "method": "score_normalisation", "last_rank": 5}},
            "refinements.r: last_rank is 5, before first_rank 11; set it to more",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_the_nearest_fix(
    place: Path, rows: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as error:
        checked(place, **rows)
    assert told in str(error.value) and "\n" not in str(error.value)
