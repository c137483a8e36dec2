"""Figures from partial judgements: metrics and their ranges, what overrides what, and the comparison."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import Judged, nDCG

import stages.report
import stages.slices
from lineup import paths
from lineup.commands import changes, submit
from lineup.comparison import snapshot
from lineup.comparison.pairs import compare_pairs
from lineup.errors import UserError
from lineup.evaluation import bounds, metrics, query_tables
from lineup.evaluation.thresholds import Threshold
from lineup.relevance import judgements
from lineup.relevance.judged_relevance import JudgedRelevance, with_people
from lineup.relevance.judgements import Judgement
from lineup.relevance.prepared_relevance import load_relevance
from lineup.relevance.relevance import Relevance, gallery_positions
from lineup.settings.params import load
from lineup.storage import files, rankings
from stages import compare, score
from tests.support.collection import Image, clustered, params, search, write, write_embeddings, write_params
from tests.support.project import repro, run, tree

pytestmark = pytest.mark.usefixtures("empty_folder")

CUTOFFS = [1, 3, 5]
TIME = "2026-11-27T05:00:00Z"
Pairs = Mapping[tuple[str, str], int | None]


def judge(pairs: Pairs, judge: str = "ann") -> None:
    """Adds judgements of (query name, gallery name)."""
    images = {name: Image(name, "", None, ()).id for pair in pairs for name in pair}
    lines = [Judgement(images[q], images[g], relevance, judge, TIME) for (q, g), relevance in pairs.items()]
    judgements.append(paths.JUDGEMENTS, lines)


def prepare(rows: Mapping[str, Sequence[Image]], qrels: Sequence[tuple[str, str, int]] = ()) -> None:
    write_params(params(*rows, score={"cutoffs": CUTOFFS, "bootstrap_samples": 200}))
    write(next(iter(rows.values())), qrels)
    for row, images in rows.items():
        write_embeddings(row, images)
        search(row)


def run_stages(*rows: str) -> None:
    for row in rows:
        score.main(["--row", row])
    stages.slices.main([])
    compare.main([])


def unlabelled(images: Sequence[Image]) -> list[Image]:
    return [replace(image, label=None) for image in images]


def relevance_now() -> Relevance:
    return with_people(load_relevance("pixels"), judgements.resolved(judgements.read(paths.JUDGEMENTS)))


def row_json(row: str) -> dict[str, Any]:
    return files.read_json(paths.row_metrics(row))


def lines_of(row: str) -> dict[str, dict[str, str]]:
    with paths.row_queries(row).open(encoding="utf-8", newline="") as file:
        return {line["query"]: line for line in csv.DictReader(file)}


# A query at angle 0 and gallery images in the order of their names.
ORDERED = [Image("q", "query", None, [1, 0])] + [
    Image(f"g{n}", "gallery", None, [np.cos(n / 10), np.sin(n / 10)]) for n in range(1, 8)
]


def test_figures_of_a_judged_query_by_hand() -> None:
    """Answers: right, wrong, not judged, right, wrong, then two that nobody judged."""
    prepare({"row": ORDERED})
    judge({("q", "g1"): 1, ("q", "g2"): 0, ("q", "g3"): None, ("q", "g4"): 1, ("q", "g5"): 0})
    run_stages("row")
    row = row_json("row")
    mean = {name: average["mean"] for name, average in row["quality"].items()}
    ranges = {name: (own["least"], own["most"]) for name, own in row["partial"]["ranges"].items()}
    assert (mean["precision_1"], mean["precision_3"], mean["precision_5"]) == (1, 0.333333, 0.4)
    assert mean["mrr"] == mean["top_5"] == 1
    assert mean["map_at_r"] == 0.5, "R is 2, and the second answer is wrong"
    assert mean["recall_3"] == 0.5
    assert ranges.keys() == {"precision_3", "precision_5", "ndcg_3", "ndcg_5"}
    assert ranges["precision_3"] == (0.333333, 0.666667) and ranges["precision_5"] == (0.4, 0.6)
    ideal_2, ideal_3 = 1 + 1 / np.log2(3), 1 + 1 / np.log2(3) + 0.5
    assert ranges["ndcg_3"] == pytest.approx((1 / ideal_2, 1.5 / ideal_3), abs=1e-6)
    gained = 1 + 1 / np.log2(5)
    assert ranges["ndcg_5"] == pytest.approx((gained / ideal_2, (gained + 0.5) / ideal_3), abs=1e-6)
    assert row["partial"]["judged_at"] == {"1": 1.0, "3": 0.666667, "5": 0.8}
    assert row["people"] == {
        **{"pairs": 4, "queries": 1, "left_out": 0, "judges": 1, "without_right": 0, "disagreements": 0},
        "agreements": [],
    }
    assert row["identification"] is None and row["unscored"] is None
    with pytest.raises(UserError, match="some answers were not judged, so the row has no threshold"):
        Threshold(fpir=0.01).of_row("row")
    figures = files.read_json(paths.METRICS)["row"]
    assert figures["precision_1"] == 1 and "map_at_r" not in figures, "the first metric that is exact"


def test_junk_is_removed_and_the_images_behind_it_move_up() -> None:
    prepare({"row": ORDERED})
    judge({("q", "g1"): -1, ("q", "g2"): 1, ("q", "g3"): 0, ("q", "g4"): 0})
    run_stages("row")
    row, line = row_json("row"), next(iter(lines_of("row").values()))
    assert line["first_hit"] == "1" and line["top_answer"].endswith("g2.jpg")
    assert row["quality"]["precision_3"]["mean"] == 0.333333 and "precision_3" not in row["partial"]["ranges"]
    assert row["partial"]["judged_at"]["5"] == 0.6
    stages.report.main(["--row", "row"])
    script = paths.report_row("row").read_text(encoding="utf-8")
    data = json.loads(
        script.partition("=")[2].partition("=")[2].rstrip(";\n") or script[script.index("{") :].rstrip(";\n")
    )
    assert data["marks"] == ["100???"]


def test_images_behind_a_ranking_that_junk_made_shorter_are_unknown() -> None:
    """retrieve cut it at five images; without junk it has four, and the fifth could be anything."""
    prepare({"row": ORDERED})
    write_params(params("row", score={"cutoffs": CUTOFFS}, retrieve={"depth": 5}))
    search("row")
    judge({("q", f"g{n}"): relevance for n, relevance in [(1, 1), (2, -1), (3, 0), (4, 0), (5, 0)]})
    score.main(["--row", "row"])
    row = row_json("row")
    assert row["depth"] == 5
    assert row["partial"]["ranges"]["precision_5"]["least"] == 0.2
    assert row["partial"]["ranges"]["precision_5"]["most"] == 0.4
    assert row["partial"]["judged_at"]["5"] == 0.8


def test_a_judgement_overrides_a_label_and_what_is_known_stays_exact() -> None:
    images = clustered(6, 2, 4, noise=1.0)
    prepare({"row": images})
    score.main(["--row", "row"])
    queries_before = lines_of("row")
    ranking = rankings.read_ranking(paths.ranking("row"))
    relevance = load_relevance("pixels")
    right = relevance.is_relevant(gallery_positions(ranking, relevance, ""))
    query, rank = map(int, next(zip(*np.nonzero(~right), strict=True)))
    pair = str(ranking.query_ids[query]), str(ranking.gallery_ids[ranking.positions[query, rank]])
    judgements.append(paths.JUDGEMENTS, [Judgement(*pair, 1, "ann", TIME)])
    score.main(["--row", "row"])
    after, queries_after = row_json("row"), lines_of("row")
    assert "partial" not in after and after["identification"] is not None
    assert after["people"]["pairs"] == 1
    changed = {name for name, line in queries_after.items() if line != queries_before[name]}
    assert {queries_after[name]["query_id"] for name in changed} == {pair[0]}
    right[query, rank] = True
    hits = right[query, :5].tolist()
    expected = sum(sum(hits[: i + 1]) / (i + 1) for i in range(5) if hits[i]) / 5
    line = queries_after[changed.pop()]
    assert line["relevant"] == "5" and float(line["map_at_r"]) == pytest.approx(expected, abs=1e-6)


def test_judgements_override_qrels_csv_but_not_its_junk() -> None:
    prepare({"row": ORDERED}, [("q", "g1", 1), ("q", "g2", 0), ("q", "g3", -1)])
    judge({("q", "g1"): 0, ("q", "g4"): 1, ("q", "g3"): 1})
    relevance = relevance_now()
    assert isinstance(relevance, JudgedRelevance)
    assert relevance.num_relevant().tolist() == [1] and relevance.num_unknown().tolist() == [0]
    score.main(["--row", "row"])
    line = next(iter(lines_of("row").values()))
    assert line["first_hit"] == "3" and row_json("row")["people"]["left_out"] == 1


@pytest.mark.slow
def test_judgements_of_other_photos_change_no_figure_and_are_counted() -> None:
    images = clustered(4, 2, 3, noise=1.0)
    prepare({"row": images})
    run_stages("row")
    before = tree(Path("metrics"))
    judge({("not", "here"): 1, (images[0].name, "nor here"): 0})
    run_stages("row")
    after = tree(Path("metrics"))
    same = {name for name in before if before[name] == after[name]}
    assert before.keys() == after.keys() and before.keys() - same == {"rows/row.json", "comparison.md"}
    assert "Judgements of 2 pairs are about photos that no row can show." in paths.COMPARISON.read_text()
    assert row_json("row")["people"]["left_out"] == 2


@pytest.mark.slow
def test_without_judgements_the_files_are_those_of_a_project_that_lacks_the_file() -> None:
    prepare({"row": clustered(4, 2, 3, noise=1.0)})
    run_stages("row")
    before = tree(Path("metrics"))
    judge({})
    assert paths.JUDGEMENTS.exists()
    run_stages("row")
    assert tree(Path("metrics")) == before
    judge({("q", "g"): None})
    run_stages("row")
    assert tree(Path("metrics")) == before, "who can't tell has not judged"


def test_unknown_and_judged_wrong_are_not_the_same() -> None:
    """Labels decide where both photos have one; the other photos are unknown until somebody judges them."""
    images = [replace(image, label=label) for image, label in zip(ORDERED, "aab..ab.", strict=True)]
    images = [image if image.label != "." else replace(image, label=None) for image in images]
    prepare({"row": images})
    judge({("q", "g6"): 0})
    relevance = relevance_now()
    assert isinstance(relevance, JudgedRelevance)
    positions = gallery_positions(rankings.read_ranking(paths.ranking("row")), relevance, "")
    assert relevance.is_relevant(positions).tolist() == [[True, False, False, False, True, False, False]]
    assert relevance.is_known_at(positions).tolist() == [[True, True, False, False, True, True, False]]
    assert relevance.num_unknown().tolist() == [3] and relevance.num_relevant().tolist() == [2]
    judge({("q", f"g{n}"): 0 for n in (3, 4, 7)})
    complete = relevance_now()
    assert complete.num_relevant().tolist() == [2] and complete.is_known().all()
    assert isinstance(complete, JudgedRelevance) and complete.num_unknown().tolist() == [0]


def completions(relevant: np.ndarray, known: np.ndarray, k: int) -> list[np.ndarray]:
    """Every way in which the unknown ones of the first k answers can be right or wrong: bool [1, K] each."""
    unknown = np.flatnonzero(~known[:k])
    ways = []
    for values in itertools.product([False, True], repeat=len(unknown)):
        way = relevant & known
        way[unknown] = values
        ways.append(way[None])
    return ways


@pytest.mark.slow
@given(st.integers(0, 10_000))
def test_ranges_are_those_of_every_completion(seed: int) -> None:
    random = np.random.default_rng(seed)
    depth, k, elsewhere = int(random.integers(1, 8)), int(random.integers(1, 7)), int(random.integers(0, 4))
    known = random.random(depth) < 0.6
    relevant = (random.random(depth) < 0.4) & known
    num_relevant = int(relevant.sum()) + elsewhere
    own = bounds.per_query(relevant[None], known[None], np.array([num_relevant]), [k])
    for name, metric in {
        f"top_{k}": metrics.top_k_accuracy,
        f"precision_{k}": metrics.precision_at_k,
        f"ndcg_{k}": metrics.ndcg_at_k,
    }.items():
        values = []
        for way in completions(relevant, known, k):
            total = np.array([num_relevant + int((way & ~known).sum())])
            values.append(float(np.nan_to_num(metric(way, total, k))[0]))
        assert own[name].least[0] == pytest.approx(min(values))
        assert own[name].most[0] == pytest.approx(max(values))
    ranks = [metrics.mrr(way, np.array([1]))[0] for way in completions(relevant, known, depth)]
    assert (own["mrr"].least[0], own["mrr"].most[0]) == pytest.approx((min(ranks), max(ranks)))


@pytest.mark.slow
@given(st.integers(0, 10_000))
def test_judged_at_k_and_ndcg_are_those_of_ir_measures(seed: int) -> None:
    """Unjudged answers are wrong to trec_eval, and its ideal ranking is of the relevant images that it knows."""
    random = np.random.default_rng(seed)
    queries, depth, k = 3, int(random.integers(1, 8)), int(random.integers(1, 6))
    has_image = np.arange(depth) < random.integers(1, depth + 1, queries)[:, None]
    known = (random.random((queries, depth)) < 0.6) | ~has_image
    relevant = (random.random((queries, depth)) < 0.4) & known & has_image
    elsewhere = random.integers(0, 3, queries)
    qrels = [
        ir_measures.Qrel(str(q), f"d{i}", int(relevant[q, i]))
        for q, i in np.argwhere(known & has_image).tolist()
    ] + [ir_measures.Qrel(str(q), f"e{i}", 1) for q in range(queries) for i in range(int(elsewhere[q]))]
    run = [
        ir_measures.ScoredDoc(str(q), f"d{i}", float(depth - i)) for q, i in np.argwhere(has_image).tolist()
    ]
    shares = bounds.judged_at_k(known, has_image, k)
    num_relevant = relevant.sum(axis=1) + elsewhere
    values = np.nan_to_num(metrics.ndcg_at_k(relevant, num_relevant, k))
    for measured in ir_measures.iter_calc([Judged @ k, nDCG @ k], qrels, run):
        own = shares if str(measured.measure).startswith("Judged") else values
        assert own[int(measured.query_id)] == pytest.approx(measured.value)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_range_holds_the_figure_of_all_labels(share: float) -> None:
    """A random share of a labelled collection's pairs is judged as its labels say."""
    images = clustered(8, 4, 6, noise=1.6)
    prepare({"row": images})
    score.main(["--row", "row"])
    full = {line["query_id"]: line for line in lines_of("row").values()}
    write(unlabelled(images))
    random, relevance = np.random.default_rng(1), load_relevance("pixels")
    ids = relevance.query_ids.tolist(), relevance.gallery_ids.astype(np.str_).tolist()
    label = {image.id: image.label for image in images}
    judgements.append(
        paths.JUDGEMENTS,
        [
            Judgement(q, g, int(label[q] == label[g]), "ann", TIME)
            for q, g in itertools.product(*ids)
            if random.random() < share or (share and g == ids[1][0])  # so that each query is judged
        ],
    )
    score.main(["--row", "row"])
    row = row_json("row")
    if not share:
        assert row["unscored"] == "no labels" and "people" not in row
        return
    assert row["scored"] == row["people"]["queries"] == len(full)
    own = {line["query_id"]: line for line in lines_of("row").values()}
    widths = {}
    for name in ("mrr", *(f"{kind}_{k}" for kind in ("top", "precision") for k in CUTOFFS)):
        least = {q: float(line[name]) for q, line in own.items()}
        most = {q: float(line.get(f"{name}_most") or line[name]) for q, line in own.items()}
        assert all(least[q] <= float(full[q][name]) <= most[q] for q in full), name
        mean = np.mean([float(line[name]) for line in full.values()])
        stored = row.get("partial", {"ranges": {}})["ranges"].get(name)
        if stored:
            assert stored["least"] <= mean + 1e-6 and mean <= stored["most"] + 1e-6
            assert stored["low"] <= stored["least"] and stored["most"] <= stored["high"]
        widths[name] = sum(most.values()) - sum(least.values())
    assert (max(widths.values()) == 0) == (share == 1.0)
    if share == 1.0:
        assert "partial" not in row, "every pair is judged"
        for name in ("map_at_r", "recall_5", "ndcg_5"):
            assert {q: line[name] for q, line in own.items()} == {q: full[q][name] for q in full}


def pool(rows: Sequence[str], depth: int, num_queries: int) -> dict[str, set[str]]:
    """The union of all rows' first answers, by query id."""
    read = [rankings.read_ranking(paths.ranking(row)) for row in rows]
    return {
        str(query): {str(own.gallery_ids[p]) for own in read for p in own.positions[q, :depth] if p >= 0}
        for q, query in enumerate(read[0].query_ids[:num_queries])
    }


def judge_as_labels_say(images: Sequence[Image], pooled: Mapping[str, set[str]], name: str) -> None:
    label = {image.id: image.label for image in images}
    lines = [
        Judgement(q, g, int(label[q] == label[g]), name, TIME)
        for q, answers in pooled.items()
        for g in answers
    ]
    judgements.append(paths.JUDGEMENTS, lines)


ROWS = {"good": 1.0, "fair": 1.5, "poor": 4.0}


@pytest.fixture
def flat() -> list[Image]:
    """Three rows over photos without labels; the images still have them, for who judges."""
    rows = {row: clustered(30, 2, 6, noise=noise, seed=n) for n, (row, noise) in enumerate(ROWS.items())}
    prepare({row: unlabelled(images) for row, images in rows.items()})
    return rows["good"]


def cells() -> dict[str, list[str]]:
    """The table of quality: the header under "model", and the cells of each row."""
    table = paths.COMPARISON.read_text(encoding="utf-8").split("## Quality\n\n")[1].split("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {line[0].strip("`"): line[1:] for line in lines if not line[0].startswith("--")}


@pytest.mark.slow
def test_photos_without_labels_get_a_table_from_judgements_alone(flat: list[Image]) -> None:
    run_stages(*ROWS)
    assert "no labels" in paths.COMPARISON.read_text(encoding="utf-8")
    pooled = pool([*ROWS], 5, 40)
    judge_as_labels_say(flat, pooled, "ann")
    first = dict(list(pooled.items())[:10])
    judge_as_labels_say(flat, first, "ben")
    query, answers = next(iter(first.items()))
    judgements.append(paths.JUDGEMENTS, [Judgement(query, min(answers), -1, "ben", "2026-11-27T06:00:00Z")])
    judgements.append(paths.JUDGEMENTS, [Judgement(query, min(answers), 1, "cat", TIME)])
    run_stages(*ROWS)
    page, table = paths.COMPARISON.read_text(encoding="utf-8"), cells()
    assert list(table) == ["row", "good", "fair", "poor"]
    assert table["row"][0] == "precision_5" and table["row"][-1] == "judged@5"
    assert [table[row][-1] for row in ROWS] == ["1.000"] * 3
    assert re.match(r"-0\.\d{3} worse, p < ", table["poor"][1])
    pairs = sum(map(len, pooled.values()))
    assert f"3 people judged {pairs:,} pairs of 40 queries. They differ on 1 of these pairs, which" in page
    assert re.search(r"\(ann and ben agree on \d+ of \d+ pairs, Cohen's kappa 0\.\d\d; ann and cat", page)
    assert (
        "40 of 60 queries, each searched in 180 gallery images; people judged which images are right" in page
    )
    assert "Left out: 20 that nobody judged." in page
    assert "asks first for the queries on which rows differ, so these figures may not hold" in page
    assert (
        "precision_5: share of the first 5 answers that are right. It decides the order: every row's" in page
    )
    assert "Is there a match at all?" not in page
    with paths.TOP_K_CURVES.open(encoding="utf-8") as file:
        assert max(int(line["k"]) for line in csv.DictReader(file)) == 5, "not beyond what was judged"
    figures = files.read_json(paths.METRICS)
    assert figures["good"]["precision_5"] > figures["poor"]["precision_5"]
    assert figures["good"]["judged_5"] == 1 and "map_at_r" not in figures["good"]


@pytest.mark.slow
def test_a_new_row_is_not_called_worse_for_answers_that_nobody_judged(flat: list[Image]) -> None:
    """The best row's answers are those that were not judged: it may be anything, until they are."""
    judge_as_labels_say(flat, pool(["fair", "poor"], 5, 40), "ann")
    run_stages(*ROWS)
    table, page = cells(), paths.COMPARISON.read_text(encoding="utf-8")
    assert re.fullmatch(r"0\.\d{3} to 0\.\d{3} \(\.\d{3}-\.\d{3}\)", table["good"][0])
    assert table["good"][1] == "best" or table["good"][1].startswith("can't tell")
    assert float(table["good"][-1]) < 1 == float(table["fair"][-1])
    assert "Not all answers that precision_5 needs are judged: `lineup judge` asks for the rest." in page
    assert "It decides the order: no metric is exact yet" in page
    assert len(paths.SLICES.read_text(encoding="utf-8").splitlines()) == 1, "a range can't be sliced"
    figures = files.read_json(paths.METRICS)["good"]
    assert figures["precision_5"] < figures["precision_5_most"] and figures["judged_5"] < 1
    judge_as_labels_say(flat, pool(["good"], 5, 40), "ann")
    run_stages(*ROWS)
    exact = cells()["good"]
    low, high = map(float, table["good"][0].split(" (")[0].split(" to "))
    assert low <= float(exact[0].split()[0]) <= high and exact[1] == "best" and exact[-1] == "1.000"


def test_pairs_of_uncertain_rows_take_the_least_favourable_case() -> None:
    """Naively: the difference at both of its ends, and the larger p; 1 where the ends differ in sign."""
    random = np.random.default_rng(0)
    tables = {}
    for row, mean in {"a": 0.8, "b": 0.5, "c": 0.49}.items():
        least = np.round(np.clip(mean + 0.1 * random.standard_normal(60), 0, 1), 6)
        columns = {
            "query_id": [str(q) for q in range(60)],
            "label": [""] * 60,
            "relevant": np.ones(60),
            "first_hit": np.ones(60),
            "map_at_r": least,
            "precision_5": least,
        }
        if row != "a":
            columns["precision_5_most"] = least + np.where(np.arange(60) % 2, 0.1, 0.0)
        tables[row] = pa.table(columns)
    pairs = {(pair.a, pair.b): pair for pair in compare_pairs(tables, ["precision_5"], 200, 0)}
    for (a, b), pair in pairs.items():
        (a_least, a_most), (b_least, b_most) = (
            query_tables.ends(tables[row], "precision_5") for row in (a, b)
        )
        ends = (a_least - b_most).mean(), (a_most - b_least).mean()
        assert pair.difference == pytest.approx(sum(ends) / 2)
        assert pair.low < ends[0] and pair.high > ends[1]
        assert (pair.p == 1) == (ends[0] < 0 < ends[1])
    assert pairs["a", "b"].p < 0.01 and pairs["b", "c"].p == 1


@pytest.mark.slow
def test_a_judged_query_to_which_nothing_right_is_known_counts_as_zero() -> None:
    other = [Image("q2", "query", None, [0, 1])]
    prepare({"row": [*ORDERED, *other]})
    judge({("q", "g1"): 1, ("q2", "g7"): 0})
    run_stages("row")
    row, lines = row_json("row"), lines_of("row")
    assert row["scored"] == 2 and row["quality"]["top_1"]["mean"] == 0.5
    assert [line["relevant"] for line in lines.values()].count("0") == 1
    assert "No right image is known for 1 of these queries, which count as 0." in paths.COMPARISON.read_text()
    judge({("q2", f"g{n}"): 0 for n in range(1, 7)})
    score.main(["--row", "row"])
    assert row_json("row")["scored"] == 1, "now it is known that the gallery holds nothing right"


@pytest.mark.slow
def test_a_submission_and_the_difference_to_an_earlier_commit_take_judgements(flat: list[Image]) -> None:
    judge_as_labels_say(flat, pool([*ROWS], 5, 20), "ann")
    run_stages(*ROWS)
    shutil.copytree("metrics", "earlier")
    judge_as_labels_say(flat, pool([*ROWS], 5, 40), "ben")
    run_stages(*ROWS)

    def before(path: Path) -> bytes | None:
        earlier = Path("earlier", *path.parts[1:])
        return earlier.read_bytes() if path.parts[0] == "metrics" and earlier.exists() else None

    new = snapshot.read(lambda path: path.read_bytes() if path.exists() else None, "now")
    old = snapshot.read(before, "earlier", new.metric if new else None)
    assert new and old and new.metric == old.metric == "precision_5"
    assert 0 < int(old.setup["judged pairs"] or 0) < int(new.setup["judged pairs"] or 0)
    assert changes.not_tested(old, new) == ""
    partly = dataclasses.replace(new, inexact=frozenset({"fair", "new"}))
    assert changes.not_tested(old, partly).startswith("Not tested: `fair`. Not all answers that precision_5")
    junk = rankings.read_ranking(paths.ranking("good"))
    pair = str(junk.query_ids[0]), str(junk.gallery_ids[junk.positions[0, 0]])
    answers = submit.submission("good", 3, "list", None, "path", load())
    judgements.append(paths.JUDGEMENTS, [Judgement(*pair, -1, "ann", "2026-11-27T07:00:00Z")])
    judgements.append(paths.JUDGEMENTS, [Judgement(*pair, -1, "ben", "2026-11-27T07:00:00Z")])
    without = submit.submission("good", 3, "list", None, "path", load())
    names = {image.id: f"{image.name}.jpg" for image in flat}
    changed = [
        (a["gallery_images"], b["gallery_images"])
        for a, b in zip(json.loads(answers), json.loads(without), strict=True)
        if a != b
    ]
    assert len(changed) == 1 and changed[0][0][1:] == changed[0][1][:2]
    assert names[pair[1]] == changed[0][0][0]


@pytest.mark.slow
def test_a_judgement_scores_and_compares_again_and_nothing_before_that(finished_copy: Path) -> None:
    file = finished_copy / paths.JUDGEMENTS
    read = rankings.read_ranking(finished_copy / paths.ranking("mobilenet_v2"))
    relevant = int(read.positions[0, 0])
    pair = str(read.query_ids[0]), str(read.gallery_ids[relevant])
    judgements.append(file, [Judgement(*pair, 0, "ann", TIME)])
    ran = {stage.split("@")[0] for stage in repro(finished_copy)}
    assert ran == {"score", "slices", "compare", "report_row", "report"}
    assert repro(finished_copy) == []
    status = run("git", "status", "--porcelain", cwd=finished_copy).stdout
    assert " M data/judgements.csv" in status and " M metrics/rows/mobilenet_v2.json" in status
    row = files.read_json(finished_copy / paths.row_metrics("mobilenet_v2"))
    assert row["people"]["pairs"] == 1 and "partial" not in row
