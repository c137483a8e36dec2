"""score, from rankings to the figures of a row: against a loop over the vectors, and what is left out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import query_lines
from lineup.storage import files, rankings
from stages import retrieve, score
from tests.support.collection import Image, clustered, params, search, write, write_embeddings, write_params

pytestmark = pytest.mark.usefixtures("empty_folder")


def scored(
    images: list[Image], qrels: list[tuple[str, str, int]] | None = None, **settings: Any
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    write_params(params("row", **{"score": {"cutoffs": [1, 3]}, **settings}))
    write(images, qrels or [])
    write_embeddings("row", images)
    search("row")
    score.main(["--row", "row"])
    with paths.row_queries("row").open(encoding="utf-8", newline="") as file:
        return files.read_json(paths.row_metrics("row")), list(csv.DictReader(file))


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def naive_average_precisions(images: list[Image]) -> dict[str, float]:
    """MAP@R's summand by query id, from the vectors, one pair at a time."""
    precisions = {}
    for query in (image for image in images if image.split == "query"):
        others = [image for image in images if image.split == "gallery" and image.id != query.id]
        by_score = sorted((-cosine(image.vector, query.vector), image.id, image.label) for image in others)
        right = [label == query.label for _, _, label in by_score]
        total = sum(right)
        precisions[query.id] = sum(sum(right[: i + 1]) / (i + 1) for i in range(total) if right[i]) / total
    return precisions


def test_equals_a_loop_over_the_vectors() -> None:
    images = clustered(6, 3, 5, noise=1.5)
    row, lines = scored(images)
    expected = naive_average_precisions(images)
    assert 0.2 < np.mean(list(expected.values())) < 0.9
    assert {line["query_id"]: float(line["map_at_r"]) for line in lines} == pytest.approx(expected, abs=1e-6)
    value = row["quality"]["map_at_r"]
    assert value["mean"] == pytest.approx(np.mean(list(expected.values())), abs=1e-6)
    assert value["low"] < value["mean"] < value["high"]


def copied(images: list[Image], seed: int) -> list[Image]:
    """Some images again in the gallery: in their very bytes (of queries), and their pixels in other bytes,
    once or twice.
    """
    copies = []
    for image, kind in zip(images, np.random.default_rng(seed).integers(0, 4, len(images)), strict=True):
        if kind in (1, 3) and image.split == "query":
            copies.append(Image(image.name, "gallery", image.label, image.vector))
        for number in range(kind - 1):
            copies.append(
                Image(f"{image.name} copy {number}", "gallery", image.label, image.vector, shows=image.name)
            )
    return [*images, *copies]


def naive_scores(
    images: list[Image], exclude: str, qrels: list[tuple[str, str, int]]
) -> dict[str, tuple[list[str], int, float | None]]:
    """By query id: the ranking's ids, R, and MAP@R's summand (None where R is 0), photo by photo."""
    judged = {(q, g): relevance for q, g, relevance in qrels}
    scores = {}
    for query in (image for image in images if image.split == "query"):
        others = []
        for image in images:
            itself = image.id == query.id or (
                exclude == "pixels" and (image.shows or image.name) == (query.shows or query.name)
            )
            if image.split == "gallery" and not itself and judged.get((query.name, image.name)) != -1:
                others.append(image)
        others.sort(key=lambda image: (-np.float32(cosine(image.vector, query.vector)).round(6), image.id))
        right = [
            judged.get((query.name, o.name)) == 1 if qrels else o.label is not None and o.label == query.label
            for o in others
        ]
        total = sum(right)
        precisions = [sum(right[: i + 1]) / (i + 1) for i in range(total) if right[i]]
        scores[query.id] = ([o.id for o in others], total, sum(precisions) / total if total else None)
    return scores


@pytest.mark.parametrize("exclude", ["pixels", "bytes"])
@pytest.mark.parametrize("judging", ["labels", "qrels"])
@pytest.mark.parametrize("seed", range(3))
def test_a_copy_of_the_query_in_other_bytes_is_not_its_own_answer(
    exclude: str, judging: str, seed: int
) -> None:
    images = copied(clustered(5, 3, 4, noise=1.5, seed=seed), seed)
    random = np.random.default_rng(seed)
    pairs = [(q.name, g.name) for q in images for g in images if q.split == "query" and g.split == "gallery"]
    qrels = (
        [(*pairs[i], int(random.integers(-1, 2))) for i in random.permutation(len(pairs))[:200]]
        if judging == "qrels"
        else []
    )
    row, lines = scored(images, qrels, relevance={"exclude": exclude})
    expected = naive_scores(images, exclude, qrels)
    other = naive_scores(images, "bytes" if exclude == "pixels" else "pixels", qrels)
    assert expected != other, "the case tells the two meanings apart"
    ranking = rankings.read_ranking(paths.ranking("row"))
    for q, query_id in enumerate(ranking.query_ids.tolist()):
        ids, total, precision = expected[query_id]
        ranked = ranking.gallery_ids[ranking.positions[q][ranking.positions[q] >= 0]].tolist()
        line = next(line for line in lines if line["query_id"] == query_id)
        assert sorted(ranked) == sorted(ids) and int(line["relevant"]) == total
        assert (line["map_at_r"] == "") == (precision is None)
        assert float(line["map_at_r"] or 0) == pytest.approx(precision or 0, abs=1e-6)
    queries = [image for image in images if image.split == "query"]
    gallery = [image for image in images if image.split == "gallery"]
    same_bytes = sum(q.id == g.id for q in queries for g in gallery)
    other_bytes = sum(q.name == g.shows for q in queries for g in gallery)
    assert row["exclude"] == exclude and row["own_picture"] == {
        "same_bytes": same_bytes,
        "other_bytes": other_bytes,
    }
    twice = [q.name for q in queries if sum(q.name == g.shows for g in gallery) > 1]
    assert same_bytes and other_bytes and twice


def test_a_case_worked_by_hand() -> None:
    """q1 finds b, a1, a2; q2 (label b, one right answer) finds it first.

    Q3 has no label, q4 no right answer.
    """
    images = [
        Image("q1", "query", "a", [1, 0]),
        Image("q2", "query", "b", [1, 0.1]),
        Image("q3", "query", None, [1, 0]),
        Image("q4", "query", "c", [1, 0]),
        Image("b", "gallery", "b", [1, 0.01], path='test/gallery/"odd", name.jpg'),
        Image("a1", "gallery", "a", [1, -0.2]),
        Image("a2", "gallery", "a", [1, 0.5]),
        Image("unknown", "gallery", None, [1, 0.9]),
    ]
    row, lines = scored(images)
    by_name = {line["query"]: line for line in lines}
    q1 = by_name["test/query/q1.jpg"]
    assert (q1["label"], q1["relevant"], q1["first_hit"]) == ("a", "2", "2")
    assert (q1["top_answer"], q1["top_label"]) == ('test/gallery/"odd", name.jpg', "b")
    assert (q1["map_at_r"], q1["mrr"], q1["top_1"], q1["recall_3"], q1["precision_3"]) == (
        "0.25",
        "0.5",
        "0",
        "1",
        "0.666667",
    )
    assert by_name["test/query/q2.jpg"]["map_at_r"] == "1"
    # The first answer of q1 is wrong; the second of q2 is.
    assert q1["wrong_score"] == q1["top_score"]
    assert float(by_name["test/query/q2.jpg"]["wrong_score"]) == pytest.approx(cosine([1, 0.1], [1, -0.2]))
    # q4 has no match, q1 and q2 stand in, and nothing is known of q3.
    told = row["identification"]
    assert (told["mated"], told["non_mated"], told["stand_ins"]) == (2, 3, 2)
    assert told["operating_points"] == [] and told["unsupported"] == [0.01, 0.001]
    for left_out in ("q3", "q4"):
        line = by_name[f"test/query/{left_out}.jpg"]
        assert (line["relevant"], line["first_hit"], line["map_at_r"], line["top_1"]) == ("0", "", "", "")
        assert line["top_answer"]  # it was searched all the same
    assert row["quality"]["map_at_r"]["mean"] == row["quality"]["map_at_r"]["mean_over_labels"] == 0.625
    counts = {
        key: row[key]
        for key in ("queries", "scored", "without_label", "without_answer", "labels", "clusters", "gallery")
    }
    assert counts == {
        "queries": 4,
        "scored": 2,
        "without_label": 1,
        "without_answer": 1,
        "labels": 2,
        "clusters": 2,
        "gallery": 4,
    }


@pytest.mark.parametrize("judging", ["labels", "qrels"])
def test_identification_equals_a_loop_over_the_vectors(judging: str) -> None:
    images = [*clustered(12, 3, 4, noise=1.5), Image("strange", "query", "only here", [1.0] * 16)]
    queries, gallery = ([i for i in images if i.split == split] for split in ("query", "gallery"))
    qrels = [(q.name, g.name, int(q.label == g.label)) for q in queries for g in gallery]
    row, _ = scored(images, qrels if judging == "qrels" else [], score={"cutoffs": [1], "fpir": [0.1, 0.01]})
    mated, non_mated = [], []
    for query in queries:
        ranked = sorted(
            ((np.float32(cosine(query.vector, g.vector)), g.label) for g in gallery), reverse=True
        )
        if any(label == query.label for _, label in ranked):
            mated.append((ranked[0][0], ranked[0][1] == query.label))
        non_mated.append(next(score for score, label in ranked if label != query.label))
    told = row["identification"]
    assert (told["mated"], told["non_mated"], told["stand_ins"]) == (36, 37, 36)
    answers = sorted([*mated, *((score, False) for score in non_mated)], reverse=True)
    right = [good for _, good in answers]
    area = sum(sum(right[: i + 1]) / (i + 1) for i in range(len(right)) if right[i]) / len(mated)
    micro = told["micro_average_precision"]
    assert micro["value"] == pytest.approx(area, abs=1e-5) and micro["low"] < area < micro["high"]
    [point] = told["operating_points"]
    assert point["threshold"] == pytest.approx(sorted(non_mated)[-3], abs=1e-5), "3 of 37 are at most 10%"
    assert point["target"] == 0.1 and told["unsupported"] == [0.01]


def test_a_constant_on_one_querys_scores_moves_no_ranking_metric() -> None:
    before, _ = scored(clustered(6, 3, 5, noise=1.5))
    ranking = rankings.read_ranking(paths.ranking("row"))
    ranking.scores[0] += 5
    rankings.write_ranking(paths.ranking("row"), ranking)
    score.main(["--row", "row"])
    after = files.read_json(paths.row_metrics("row"))
    assert after["quality"] == before["quality"]
    micro = [row["identification"]["micro_average_precision"]["value"] for row in (before, after)]
    assert micro[0] != micro[1]


def test_rankings_reach_one_image_beyond_the_relevant_ones() -> None:
    """Five of six gallery images are relevant, and all of them are ranked before the sixth."""
    images = [Image("q", "query", "a", [1, 0]), Image("wrong", "gallery", "b", [0, 1])]
    images += [Image(f"a{n}", "gallery", "a", [1, n / 100]) for n in range(5)]
    _, (line,) = scored(images, retrieve={"depth": 1}, score={"cutoffs": [1]})
    assert line["wrong_score"] == "0"


def test_labels_count_alike_in_the_mean_over_labels() -> None:
    """Three queries of a find theirs, the one of b doesn't."""
    images = [Image(f"q{i}", "query", "a", [1, 0]) for i in range(3)] + [Image("p", "query", "b", [1, 0])]
    images += [Image("a", "gallery", "a", [1, 0]), Image("b", "gallery", "b", [0, 1])]
    row, _ = scored(images)
    assert (row["quality"]["top_1"]["mean"], row["quality"]["top_1"]["mean_over_labels"]) == (0.75, 0.5)


def test_a_query_that_is_in_the_gallery_too_is_not_its_own_answer() -> None:
    images = [
        Image("q", "query", "a", [1, 0]),
        Image("q", "gallery", "a", [1, 0]),
        Image("a", "gallery", "a", [0, 1]),
        Image("b", "gallery", "b", [1, 1]),
    ]
    _, (line,) = scored(images)
    assert (line["relevant"], line["first_hit"], line["top_label"]) == ("1", "2", "b")


def test_judgements_win_over_labels_and_junk_counts_for_nothing() -> None:
    images = [
        Image("q", "query", "a", [1, 0]),
        Image("junk", "gallery", "a", [1, 0]),
        Image("wrong", "gallery", "a", [1, 0.1]),
        Image("right", "gallery", "z", [1, 0.2]),
        Image("unjudged", "gallery", "a", [1, 0.3]),
    ]
    row, (line,) = scored(images, [("q", "junk", -1), ("q", "wrong", 0), ("q", "right", 1)])
    assert row["relevance"] == "qrels"
    assert (line["relevant"], line["first_hit"], line["top_label"]) == ("1", "2", "a")
    assert line["mrr"] == "0.5"


def test_judgements_need_no_labels() -> None:
    images = [Image(image.name, image.split, None, image.vector) for image in clustered(3, 2, 2, noise=0.1)]
    judged = [
        (q.name, g.name, 1)
        for q in images
        for g in images
        if q.split == "query" and g.split == "gallery" and q.name[0] == g.name[0]
    ]
    row, _ = scored(images, judged)
    assert row["quality"]["map_at_r"]["mean"] == 1
    assert row["quality"]["map_at_r"]["mean_over_labels"] is None
    assert (row["labels"], row["clusters"], row["scored"], row["without_label"]) == (0, 6, 6, 0)


def test_without_labels_everything_runs_and_the_row_says_so() -> None:
    images = [Image(image.name, image.split, None, image.vector) for image in clustered(3, 2, 2, noise=0.1)]
    row, lines = scored(images)
    assert (row["unscored"], row["quality"], row["scored"], row["queries"]) == ("no labels", {}, 0, 6)
    assert len(lines) == 6 and all(line["top_answer"] and not line["map_at_r"] for line in lines)


def test_labels_that_the_gallery_lacks_are_counted() -> None:
    row, _ = scored([Image("q", "query", "a", [1, 0]), Image("g", "gallery", "b", [1, 0])])
    assert (row["unscored"], row["without_answer"]) == ("no right answer in the gallery", 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_constant_scorer_does_not_look_good(seed: int) -> None:
    """All vectors equal: the order is that of the hashes, so a right answer comes first as often as by
    chance, 1 in 20.
    """
    images = [
        Image(f"{seed}/{image.name}", image.split, image.label, [1, 1])
        for image in clustered(20, 10, 5, noise=1)
    ]
    row, _ = scored(images, score={"cutoffs": [1, 10]})
    gallery = sorted((image.id, image.label) for image in images if image.split == "gallery")
    assert row["quality"]["top_1"]["mean"] == 0.05  # the one first image is right for its label's queries
    chance = 1 - np.prod([(95 - i) / (100 - i) for i in range(10)])
    first_labels = {label for _, label in gallery[:10]}
    assert row["quality"]["top_10"]["mean"] == pytest.approx(len(first_labels) / 20)
    assert row["quality"]["top_10"]["mean"] == pytest.approx(chance, abs=0.12)
    # The order in which images come plays no part.
    shuffled, _ = scored(images[::-1], score={"cutoffs": [1, 10]})
    assert shuffled["quality"] == row["quality"]


def test_the_same_ranking_gives_the_same_bytes() -> None:
    scored(clustered(5, 3, 4, noise=1))
    before = paths.row_queries("row").read_bytes(), paths.row_metrics("row").read_bytes()
    score.main(["--row", "row"])
    assert (paths.row_queries("row").read_bytes(), paths.row_metrics("row").read_bytes()) == before


def test_costs_come_along() -> None:
    images = clustered(3, 2, 2, noise=1)
    row, _ = scored(images)
    costs = row["costs"]
    assert (costs["dim"], costs["images_per_second"], costs["parameters"], costs["random"]) == (
        16,
        120.5,
        2_223_872,
        False,
    )
    assert costs["index_mb"] == files.read_json(paths.costs("index", "row"))["index_mb"]
    assert costs["query_ms"] == files.read_json(paths.costs("retrieve", "row"))["query_ms"]


def test_a_ranking_of_other_images_is_refused() -> None:
    images = clustered(3, 2, 2, noise=1)
    scored(images)
    write([image for image in images if image.name != "0/3"])
    with pytest.raises(UserError, match=r"data/rankings/row.parquet: ranks other images"):
        score.main(["--row", "row"])


def test_a_corrected_label_is_seen_by_the_next_run() -> None:
    images = clustered(3, 2, 2, noise=0.01)
    row, _ = scored(images)
    assert row["quality"]["top_1"]["mean"] == 1
    write(
        [
            Image(
                i.name,
                i.split,
                "label 1" if i.split == "gallery" and i.label == "label 0" else i.label,
                i.vector,
            )
            for i in images
        ]
    )
    retrieve.main(["--row", "row"])
    score.main(["--row", "row"])
    corrected = files.read_json(paths.row_metrics("row"))
    assert (corrected["scored"], corrected["without_answer"]) == (4, 2)


def test_a_placeholder_under_thousands_of_paths_is_named_by_a_few() -> None:
    assert query_lines._joined(["a", "b"]) == "a | b"
    assert query_lines._joined([str(n) for n in range(2_000)]) == "0 | 1 | 2 | 3 | 4 | and 1,995 more"
