"""The report's data and HTML: against hand-worked cases, naive loops, and the comparison's own table."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from lineup import paths
from lineup.comparison import comparison
from lineup.comparison.comparison import Pair
from lineup.comparison.sweeps import Sweep
from lineup.costs import money, speeds
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.evaluation.cost_records import RowCosts
from lineup.photos import prepared_images, thumbnails
from lineup.relevance import judgements
from lineup.relevance.judgements import Judgement
from lineup.relevance.relevance import Relevance
from lineup.report import (
    charts,
    confusions,
    figures_table,
    first_screen,
    html,
    js_data,
    made,
    overview,
    row,
    suspects,
)
from lineup.report import collection as report_collection
from lineup.report.query_figures import QueryFigures
from lineup.settings.prices import Prices
from lineup.slices import slices
from lineup.storage import files, parquet, rankings, schemas
from lineup.summary import tables
from lineup.summary.rich_text import Code, Strong
from lineup.training_effects import transfer
from stages import report
from tests.support import collection, measured, project, reported
from tests.support.collection import Image, clustered


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def two_rows(labels: int = 6, **settings: Any) -> dict[str, list[Image]]:
    return {"sharp": clustered(labels, 3, 4, 0.6), "blurred": clustered(labels, 3, 4, 1.6, seed=1)}


def row_file(name: str) -> dict[str, Any]:
    """What a row's script puts into the page."""
    text = paths.report_row(name).read_text(encoding="ascii")
    match = re.fullmatch(rf'\(window\.LINEUP_ROWS \?\?= \{{\}}\)\["{name}"\] = (.*);\n', text)
    assert match
    return json.loads(match[1])


def page_data() -> dict[str, Any]:
    text = (paths.REPORT_ASSETS / "data.js").read_text(encoding="ascii")
    return {
        key: json.loads(value)
        for key, value in re.findall(
            r'^\(window\.LINEUP \?\?= \{\}\)\["(\w+)"\] = (.*);$', text, re.MULTILINE
        )
    }


@pytest.mark.slow
@given(
    st.text(),
    st.dictionaries(
        st.text(), st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text())
    ),
)
def test_a_literal_is_the_same_data_and_harmless_anywhere(key: str, content: dict[str, Any]) -> None:
    text = js_data.literal([key, content])
    assert json.loads(text) == [key, content]
    assert text.isascii() and not set("<>&") & set(text) and "\n" not in text


def test_row_data_of_a_hand_worked_case() -> None:
    relevance = Relevance(
        "labels",
        np.array(["a", "b", "c"]),
        np.array([b"g%02d" % i for i in range(12)]),
        np.array([0, 1, -1]),
        np.array([0, 1, -1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        np.empty((0, 3), np.int64),
    )
    # The first query finds its only right image last; the second's ranking ends early; the third has no
    # label.
    positions = np.array([[3, 2, 1, 4, 5, 6, 7, 8, 9, 10, 11, 0], [1, 0, *[-1] * 10], [0, 1, *[-1] * 10]])
    scores = np.where(positions >= 0, 1 - np.arange(12, dtype=np.float32) / 100, np.nan).astype(np.float32)
    ranking = rankings.Ranking(relevance.query_ids, relevance.gallery_ids.astype(np.str_), positions, scores)
    data = row.row_data(ranking, positions, relevance, "key", "cosine")
    assert data["marks"] == ["0?00000000", "10", "??"]
    assert data["answers"] == [[3, 2, 1, 4, 5, 6, 7, 8, 9, 10], [1, 0], [0, 1]]
    assert data["scores"][1] == [1.0, 0.99]
    assert data["first"] == {"0": [12, 0, 0.89]}
    # Known and different labels only: not the unlabelled image, not the unlabelled query, no right answer.
    assert data["alike"][:3] == [[0, 3, 1.0], [1, 0, 0.99], [0, 1, 0.98]]
    assert len(data["alike"]) == 11 and all(pair[0] != 2 and pair[1] != 2 for pair in data["alike"])


@pytest.mark.slow
def test_a_row_against_naive_loops(folder: Path) -> None:
    reported.run(two_rows())
    manifest = parquet.read_table(paths.manifest("test")).to_pylist()
    gallery, queries = (
        [image for image in manifest if image["split"] == split] for split in ("gallery", "query")
    )
    by_query = {line["query_id"]: line for line in parquet.read_table(paths.ranking("blurred")).to_pylist()}
    data, labels = row_file("blurred"), {image["image_id"]: image["label"] for image in gallery}
    for q, query in enumerate(queries):
        ids, scores = by_query[query["image_id"]]["gallery_ids"], by_query[query["image_id"]]["scores"]
        assert [gallery[g]["image_id"] for g in data["answers"][q]] == ids[:10]
        assert data["scores"][q] == pytest.approx(scores[:10], rel=1e-4)
        assert data["marks"][q] == "".join("1" if labels[g] == query["label"] else "0" for g in ids[:10])
        first = next(i for i, g in enumerate(ids) if labels[g] == query["label"])
        assert (str(q) in data["first"]) == (first >= 10)
        if first >= 10:
            assert data["first"][str(q)][:2] == [
                first + 1,
                [g["image_id"] for g in gallery].index(ids[first]),
            ]
    wrong = [
        (-score, query["image_id"], g)
        for query in queries
        for g, score in zip(
            by_query[query["image_id"]]["gallery_ids"], by_query[query["image_id"]]["scores"], strict=True
        )
        if labels[g] != query["label"]
    ]
    best = sorted(wrong)[: row.ALIKE_PAIRS_SHOWN]
    assert [(queries[q]["image_id"], gallery[g]["image_id"]) for q, g, _ in data["alike"]] == [
        (q, g) for _, q, g in best
    ]


@pytest.mark.slow
def test_label_figures_against_naive_loops(folder: Path) -> None:
    reported.run(two_rows())
    data = page_data()
    names, weak = data["collection"]["labels"], data["queries"]["weak"]
    lines = list(csv.DictReader(paths.row_queries("blurred").read_text(encoding="utf-8").splitlines()))
    assert [names[label] for label in weak["labels"]] == sorted({line["label"] for line in lines})
    for number, label in enumerate(weak["labels"]):
        own = [line for line in lines if line["label"] == names[label]]
        assert weak["queries"][number] == len(own)
        assert weak["rows"]["blurred"]["mean"][number] == pytest.approx(
            np.mean([float(line["map_at_r"]) for line in own]), abs=1e-4
        )
        wrong = Counter(line["top_label"] for line in own if line["top_label"] != names[label])
        confused = weak["rows"]["blurred"]["confused"][number]
        if not wrong:
            assert confused is None
        else:
            assert confused[1] == max(wrong.values()) == wrong[names[confused[0]]]
            assert confused[2] == sum(times == confused[1] for times in wrong.values()) - 1
    assert any(weak["rows"]["blurred"]["confused"])


@pytest.mark.slow
def test_groups_hold_the_queries_whose_mean_slices_csv_has(folder: Path) -> None:
    # The queries of one label have no right image, so they are in no group.
    images = {
        name: [image for image in own if not (image.label == "label 3" and image.split == "gallery")]
        for name, own in two_rows(12).items()
    }
    names = [image.name for image in images["sharp"]]
    attributes: dict[str, dict[str, object]] = {
        "tone": {name: "dark" if name.endswith("/0") else "light" for name in names},
        "size": {name: float(number % 3) for number, name in enumerate(names)},
    }
    reported.run(images, attributes=attributes)
    shown = page_data()["slices"]
    groups = {(each.model, each.attribute, each.group): each for each in slices.read(paths.SLICES)}
    assert len(groups) == 2 * sum(len(attribute["groups"]) for attribute in shown["attributes"]) == 10
    for name in images:
        table = pd.read_csv(paths.row_queries(name))
        for number, attribute in enumerate(shown["attributes"]):
            assert [of == -1 for of in attribute["of"]] == table["map_at_r"].isna().tolist()
            for group, cell in enumerate(shown["rows"][name][number]):
                own = groups[name, attribute["name"], attribute["groups"][group]]
                values = table["map_at_r"][[of == group for of in attribute["of"]]]
                assert cell[0] == pytest.approx(values.mean(), abs=1e-6) == own.mean
                assert attribute["queries"][group] == len(values) == own.queries
                assert cell[3:5] == [own.to_mean.value, own.to_mean.p_holm]
    paths.ATTRIBUTES.unlink()
    collection.write_attributes(images["sharp"], tone=dict.fromkeys(names, "dark"))
    with pytest.raises(UserError, match=r"slices\.csv: is of other queries than .*; run `dvc repro`"):
        report.main([])


@pytest.mark.slow
def test_what_training_gained_and_lost_is_on_the_page(folder: Path) -> None:
    reported.run(two_rows())
    assert 'id="trained"' not in paths.REPORT.read_text(encoding="utf-8"), "no row was trained"
    there, at_home = (
        slices.Difference(-0.05, -0.08, -0.02, 0.001),
        slices.Difference(0.2, 0.1, 0.3, 0.001),
    )
    figures = (40, 20, 0.3, 0.2, 0.4, there, at_home, 0)
    line = transfer.Transferred("sharp", "blurred", "outside", "data/<b>outside</b>", *figures)
    transfer.write(paths.TRANSFER, [line])
    report.main([])
    page = paths.REPORT.read_text(encoding="utf-8")
    section = page[page.index('<section id="trained"') :].partition("</section>")[0]
    assert "What was forgotten" in section and "<b>" not in section
    assert "data/&lt;b&gt;outside&lt;/b&gt;" in section
    for shown in ("-0.050 (-0.080 to -0.020, p = 0.001)", "+0.200 (+0.100 to +0.300, p = 0.001)"):
        assert shown in section
    paths.SEEN_LABELS.write_text("model\nsharp\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"seen_labels\.csv: isn't what .* run `dvc repro -f -s compare`"):
        report.main([])


def side(labels: list[int]) -> report_collection.Side:
    return report_collection.Side(
        np.array([str(i) for i in range(len(labels))]), [""] * len(labels), np.array(labels)
    )


def figures(first_hit: list[int], top_label: list[str], top_score: list[float]) -> QueryFigures:
    count = len(first_hit)
    return QueryFigures(
        [], np.ones(count, np.int64), np.array(first_hit), np.zeros(count), top_label, np.array(top_score)
    )


def test_confused_labels_of_a_hand_worked_case() -> None:
    test = report_collection.Collection(["cat", "dog", "owl"], side([0, 0, 0, 1, 1, -1, 2]), side([0, 1, 2]))
    #                     cat  cat  cat  dog  dog  ?    owl
    own = figures(
        [2, 3, 1, 1, 2, 2, 0],
        ["dog", "dog", "dog", "dog", "cat", "owl", ""],
        [0.9, 0.5, 0.4, 0.8, 0.9, 0.9, 0.9],
    )
    # The third query's first answer has another label and is relevant: people judged it. The last one has no label.
    assert confusions.heat_map(own, test, 20) == {
        "labels": [0, 1],
        "cells": [[0, 0, 1], [0, 1, 2], [1, 0, 1], [1, 1, 1]],
        "others": 0,
    }
    assert confusions.heat_map(own, test, 1) == {"labels": [], "cells": [], "others": 3}
    # 95% of the right scores, 0.4 and 0.8, are below 0.78.
    assert confusions.near_duplicates(own, test) == [0, 4]
    never = figures([2] * 7, own.top_label, own.top_score.tolist())
    assert confusions.near_duplicates(never, test) == [], "no right answer to compare with"


@pytest.mark.slow
def test_confused_labels_against_pandas(folder: Path) -> None:
    reported.run(two_rows())
    data = page_data()
    names = data["collection"]["labels"]
    table = pd.read_csv(paths.row_queries("blurred"))
    wrong = table[(table.first_hit != 1) & (table.relevant > 0) & (table.label != table.top_label)]
    counts = wrong.groupby(["label", "top_label"]).size()
    shown = data["queries"]["confusions"]["blurred"]
    cells = {(names[a], names[b]): count for a, b, count in shown["cells"]}
    assert {pair: count for pair, count in cells.items() if pair[0] != pair[1]} == counts.to_dict() != {}
    assert shown["others"] == 0 and {names[label] for label in shown["labels"]} == {
        *wrong.label,
        *wrong.top_label,
    }
    for label in shown["labels"]:
        line = [count for a, _, count in shown["cells"] if a == label]
        assert sum(line) == (table.label == names[label]).sum()
    right = table[(table.first_hit == 1) & (table.relevant > 0)].top_score.quantile(0.95)
    assert data["queries"]["rows"]["blurred"]["alike"] == wrong.index[wrong.top_score > right].tolist()


def test_label_suspects_of_a_hand_worked_case() -> None:
    test = report_collection.Collection(["cat", "dog", "owl"], side([0, 0, 1, -1, 0]), side([0, 1, 2]))
    rows = {
        # all say dog of 0 and 4; of 1 they differ; 2 is right; 3 has no label
        "a": figures([2, 2, 1, 0, 3], ["dog", "dog", "dog", "cat", "dog"], [0.2, 0.9, 0.8, 0.7, 0.6]),
        "b": figures([2, 2, 1, 0, 2], ["dog", "owl", "dog", "cat", "dog"], [-90.0, -5.0, -6.0, -80.0, -7.0]),
    }
    # Among a's first scores 4's is the 2nd of 5 from below, among b's the 3rd; 0's is the lowest of both.
    assert suspects.label_suspects(rows, test) == [[4, 1, 0.5, 2], [0, 1, 0.2, 2]]
    # Judged right under another label (qrels): nothing to suspect.
    judged = {"a": figures([1, 2, 1, 0, 3], rows["a"].top_label, [0.2, 0.9, 0.8, 0.7, 0.6]), "b": rows["b"]}
    assert [suspect[0] for suspect in suspects.label_suspects(judged, test)] == [4]
    assert suspects.label_suspects({}, test) == []
    # Two of three are most rows. Of 1, two say owl now; what only most say comes after what all say.
    third = figures([2, 2, 1, 0, 1], ["dog", "owl", "dog", "cat", "cat"], [0.5, 0.6, 0.1, 0.2, 0.3])
    assert suspects.label_suspects({**rows, "c": third}, test) == [
        [0, 1, pytest.approx((0.2 + 0.2 + 0.8) / 3, abs=1e-4), 3],
        [1, 2, 1.0, 2],
        [4, 1, 0.5, 2],
    ]


@pytest.mark.slow
def test_the_best_rows_judge_labels_and_at_least_three(folder: Path) -> None:
    collection.run({name: clustered(4, 2, 3, 0.4 + i / 2, seed=i) for i, name in enumerate("abcde")})
    rows = row_metrics.read_all("abcde")
    names = sorted(rows, key=lambda row: -rows[row].quality["map_at_r"].mean)
    assert names[0] == "a"

    def judged_with(undecided: list[str], **models: str) -> list[str]:
        pairs = [
            pair(a, b, 0.1, 0.1, 0.1, 0.5 if b in undecided else 0.01)
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ]
        of = {name: models.get(name, name) for name in names}
        return suspects.judges(comparison.compare(rows, ["map_at_r"], pairs), of)

    assert judged_with([]) == names[:3]
    assert judged_with([names[4]]) == [*names[:3], names[4]]
    assert judged_with(names[1:]) == names
    # Rows of one model make the same mistakes, so only the best of them judges.
    of_one = dict.fromkeys(names[1:4], "model")
    assert judged_with([], **of_one) == [*names[:2], names[4]]
    assert judged_with(names[1:], **of_one) == [*names[:2], names[4]]


def test_a_pair_of_photos_that_are_queries_and_gallery_images_comes_once() -> None:
    ids = [b"x", b"y", b"z"]
    relevance = Relevance(
        "labels",
        np.array([image_id.decode() for image_id in ids]),
        np.array(ids),
        np.array([0, 1, 2]),
        np.array([0, 1, 2]),
        np.empty((0, 3), np.int64),
    )
    positions = np.array([[1, 2], [0, 2], [0, 1]])
    scores = np.array([[0.9, 0.5], [0.9, 0.7], [0.5, 0.7]])
    assert row.alike_pairs(positions, scores, relevance) == [[0, 1, 0.9], [1, 2, 0.7], [0, 2, 0.5]]


@pytest.mark.slow
def test_a_planted_wrong_label_is_the_first_suspect(folder: Path) -> None:
    images = clustered(6, 3, 4, 0.3)
    planted = [Image(i.name, i.split, "label 5" if i.name == "2/0" else i.label, i.vector) for i in images]
    reported.run(
        {
            "one": planted,
            "two": [
                Image(i.name, i.split, i.label, [1.5 * value + 0.01 for value in i.vector]) for i in planted
            ],
        }
    )
    data = page_data()
    query, answered, *_ = data["queries"]["suspects"][0]
    assert data["collection"]["queries"]["paths"][query] == "test/query/2/0.jpg"
    assert data["collection"]["labels"][answered] == "label 2"
    assert row_file("one")["alike"][0][0] == query


class Cells(HTMLParser):
    """The texts of a page's first table, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = self.done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr" and not self.done:
            self.rows.append([])
        if tag in ("th", "td") and not self.done:
            self.rows[-1].append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in ("th", "td")
        self.done = self.done or tag == "table"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data


@pytest.mark.slow
def test_the_table_has_the_comparisons_figures(folder: Path) -> None:
    reported.run(two_rows())
    parser = Cells()
    parser.feed(paths.REPORT.read_text(encoding="utf-8"))
    header, *lines = parser.rows
    markdown = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in paths.COMPARISON.read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and not line.startswith("| --")
    ]
    # The table of matches stands between them.
    quality, cost = markdown[: len(lines) + 1], markdown[-len(lines) - 1 :]
    expected = [[*a, *b[2:]] for a, b in zip(quality, cost, strict=True)]
    assert header == expected[0]
    standing = header.index(tables.AGAINST_THE_BEST)
    plain = [
        [" ".join(re.sub(r"^[★≈] ", "", cell.replace("\N{MINUS SIGN}", "-")).split()) for cell in line]
        for line in lines
    ]
    (pair,) = [pair for pair in overview.read_pairs(paths.SIGNIFICANCE) if pair.metric == "map_at_r"]
    assert (pair.a, pair.b) == ("sharp", "blurred"), "sharp is the best row"
    for line, cells in zip(plain, expected[1:], strict=True):
        difference, verdict = line.pop(standing), cells.pop(standing)
        if verdict != "best":
            ends = f"({-pair.high:+.3f} to {-pair.low:+.3f})"
            assert difference == verdict.replace(",", f" {ends}")
        assert line == [cell.replace("\\", "") for cell in cells]


@pytest.mark.slow
def test_bars_span_their_column_and_rows_are_sorted_by_their_values(folder: Path) -> None:
    reported.run(two_rows())
    rows = row_metrics.read_all(("sharp", "blurred"))
    compared = comparison.compare(rows, ("map_at_r", "top_1"), overview.read_pairs(paths.SIGNIFICANCE))
    table = figures_table.figures_table(compared)
    (_, sharp), (_, blurred) = table.lines
    worst, best = rows["blurred"].quality["map_at_r"], rows["sharp"].quality["map_at_r"]
    assert worst.low is not None and best.low is not None and best.high is not None
    assert blurred[1].bar and sharp[1].bar
    assert blurred[1].bar.low == 0 and sharp[1].bar.high == 100
    span = best.high - worst.low
    assert sharp[1].bar.low == pytest.approx(100 * (best.low - worst.low) / span, abs=0.06)
    assert sharp[1].bar.mean == pytest.approx(100 * (best.mean - worst.low) / span, abs=0.06)
    assert (sharp[1].value, sharp[2].value) == (best.mean, 0.0)
    assert blurred[2].value == pytest.approx(worst.mean - best.mean, abs=2e-6)
    shown = {column.title: column.shown for column in table.columns}
    assert shown["map_at_r"] and shown["images/s"] and not shown["GFLOPs"] and not shown["dim"]


def row_costs(**known: Any) -> RowCosts:
    fields: dict[str, Any] = {
        **dict.fromkeys(RowCosts.model_fields),
        "transform_ms": 0.0,
        "training_curve": (),
    }
    return RowCosts(**fields | {"random": False, "search_device": "CPU", "search_threads": 2} | known)


def test_costs_of_a_hand_worked_case() -> None:
    costs = row_costs(images_per_second=250.0, query_ms=1.5, parameters=2_500_000, train_minutes=0.0)
    values = {key: cost.of(costs) for key, cost in charts.COSTS.items()}
    assert values == {
        "query_total_ms": 5.5,  # 4 ms of a batch's time, and the search
        "index_mb": None,
        "parameters": 2.5,
        "gflops": None,
        "train_minutes": 0.0,
        "images_per_second": 250.0,
    }
    assert charts.query_total_ms(row_costs(query_ms=1.0)) is None
    assert charts.query_total_ms(row_costs(images_per_second=250.0)) is None


@pytest.mark.slow
def test_a_cost_that_no_row_has_can_not_be_chosen_and_refinements_name_their_rows(folder: Path) -> None:
    reported.run(two_rows())
    rows = row_metrics.read_all(("sharp", "blurred"))
    compared = comparison.compare(rows, (), ())
    curves = charts.read_curves(paths.TOP_K_CURVES)
    data = charts.chart_data(
        compared, [5, 1], curves, [], {"sharp": ("blurred", "blurred")}, [Sweep("n", {2: "sharp"})]
    )
    assert [row["name"] for row in data["rows"]] == ["blurred", "sharp"]
    assert [row["made_of"] for row in data["rows"]] == [[], ["blurred"]]
    assert "train_minutes" not in [cost["key"] for cost in data["costs"]], "nothing was trained"
    assert len(data["rows"][0]["curve"]) == 24
    assert data["sweeps"] == [{"setting": "n", "points": [(2, "sharp")]}]


@pytest.mark.slow
def test_what_a_query_waits_for_and_costs_comes_first_where_it_was_measured(folder: Path) -> None:
    reported.run(two_rows())
    rows = row_metrics.read_all(("sharp", "blurred"))
    latencies = {"sharp": measured.latency("sharp", images_per_second=(50.0,), p50_ms=8.0, p95_ms=9.0)}
    compared_speeds = speeds.comparable(latencies, rows)
    running = money.running_costs(rows, compared_speeds, Prices())
    compared = comparison.compare(rows, (), (), running)
    data = charts.chart_data(compared, [1], {}, [], {})
    assert [cost["key"] for cost in data["costs"]][:2] == ["dollars_month", "p50_ms"]
    assert "query_total_ms" not in {cost["key"] for cost in data["costs"]}, "an estimate beside a measurement"
    by_name = {row["name"]: row for row in data["rows"]}
    assert by_name["blurred"]["latency"] is None and by_name["blurred"]["costs"]["p50_ms"] is None
    p50 = {"decode": 2.0, "embed": 4.0, "search": 2.0, "refine": 0.0, "total": 8.0}
    assert by_name["sharp"]["latency"] == {"p50": p50, "p95": 9.0, "first": 50.0, "queries": 200}
    titles = [column.title for column in figures_table.figures_table(compared).columns]
    assert titles[-5:] == ["Pareto", "$/M photos", "$/M queries", "$ index/month", "$/month"]


def test_a_sentence_shows_what_isnt_markup_as_text() -> None:
    assert html.rich((Strong(("Best: ", Code("a_b"))), ", <b> & *x* ", Code("<i>"))) == (
        "<strong>Best: <code>a_b</code></strong>, &lt;b&gt; &amp; *x* <code>&lt;i&gt;</code>"
    )


@pytest.mark.slow
def test_odd_names_reach_neither_html_nor_scripts_as_they_are(folder: Path) -> None:
    leaks = io.StringIO()
    csv.writer(leaks).writerows(
        [("kind", "path_a", "path_b", "across"), ("same_bytes", *reported.ODD_LABELS[:2], "train-query")]
    )
    page = reported.run(
        {"only": reported.odd(clustered(5, 2, 3, 1.0))}, leaks_csv=leaks.getvalue()
    ).read_text(encoding="utf-8")
    assert "window.attacked" in page and "<script>window" not in page and "<img" not in page
    assert set(page_data()["collection"]["labels"]) == set(reported.ODD_LABELS)


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes_and_a_changed_row_only_its_own(folder: Path) -> None:
    rows = two_rows()
    reported.run(rows)
    before = written_by_stages()
    for name in rows:
        report.main(["--row", name])
    report.main([])
    assert written_by_stages() == before

    collection.write_embeddings("blurred", clustered(6, 3, 4, 1.6, seed=2))
    collection.search("blurred")
    report.main(["--row", "blurred"])
    after = written_by_stages()
    assert {name for name in after if after[name] != before[name]} == {
        "rows/blurred.js",
        "ranks/blurred/0.js",
    }


def written_by_stages() -> dict[str, Any]:
    """The report without what says when it was made."""
    return {name: content for name, content in project.tree(Path("data/report")).items() if name != "made.js"}


def larger_pictures() -> dict[str, bytes]:
    """The larger pictures by id, as the page's scripts read them."""
    pictures: dict[str, bytes] = {}
    for file in sorted(paths.REPORT_PICTURES.iterdir()):
        match = re.fullmatch(
            r"Object\.assign\(\(window\.LINEUP_PICTURES \?\?= \{\}\), (.*)\);\n",
            file.read_text(encoding="ascii"),
        )
        assert match
        for image_id, url in json.loads(match[1]).items():
            assert image_id.startswith(file.stem) and len(file.stem) == 3
            pictures[image_id] = base64.b64decode(url.removeprefix("data:image/webp;base64,"))
    return pictures


@pytest.mark.slow
def test_every_test_image_has_two_pictures_on_white(folder: Path) -> None:
    images = clustered(3, 2, 3, 1.0)
    both = [
        *images,
        Image(images[0].name, "gallery", images[0].label, images[0].vector),
    ]  # a query that is in the gallery too
    reported.run({"only": both})
    pictures = sorted(paths.REPORT_THUMBNAILS.iterdir())
    assert [file.stem for file in pictures] == sorted({image.id for image in both})
    prepared = prepared_images.stream(paths.images("test"))
    written = thumbnails.write(Path("again"), Path("large"), prepared, Path("cache"), 1)
    assert written == len(pictures) == len(both) - 1
    large = larger_pictures()
    assert [*large] == [file.stem for file in pictures]
    for picture in (*pictures, *map(io.BytesIO, large.values())):
        with Pillow.open(picture) as small:
            assert small.format == ("JPEG" if isinstance(picture, Path) else "WEBP")
            assert small.size == (160, 90), "never enlarged"
            left, right = small.getpixel((10, 45)), small.getpixel((150, 45))
            assert isinstance(left, tuple) and isinstance(right, tuple)
            assert min(left) > 245 and min(right) < 200


@pytest.mark.slow
def test_a_new_photo_draws_its_own_thumbnail_only_and_the_cache_changes_no_byte(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = clustered(3, 2, 3, 1.0)
    reported.run({"only": images[:-1]})
    drawn: list[bytes] = []
    draw = thumbnails.draw
    monkeypatch.setattr(thumbnails, "draw", lambda data: drawn.append(data) or draw(data))
    report.main(["--thumbnails"])
    assert drawn == []
    before, before_large = project.tree(paths.REPORT_THUMBNAILS), larger_pictures()

    shards = [parquet.read_table(file) for file in parquet.shards(paths.images("test"))]
    added = {
        "image_id": "f" * 64,
        "split": "query",
        "prepared_id": None,
        "image": reported.picture(images[0], 99),
    }
    rows = [*(row for shard in shards for row in shard.to_pylist()), added]
    batch = pa.RecordBatch.from_pylist(rows, schemas.IMAGES)
    parquet.write_shards(paths.images("test"), schemas.IMAGES, [batch], len(rows), schemas.IMAGES_PER_SHARD)
    cached = sorted(path for path in (paths.CACHE / "thumbnails").rglob("*") if path.is_file())
    cached[0].write_bytes(cached[0].read_bytes()[:-1])  # damaged: drawn again
    report.main(["--thumbnails"])
    assert len(drawn) == 2 and added["image"] in drawn
    after = project.tree(paths.REPORT_THUMBNAILS)
    assert {name: after[name] for name in before} == before and after.keys() - before.keys() == {
        f"{'f' * 64}.jpg"
    }
    assert larger_pictures().items() > before_large.items()
    shutil.rmtree(paths.CACHE / "thumbnails")
    report.main(["--thumbnails"])
    assert project.tree(paths.REPORT_THUMBNAILS) == after


@pytest.mark.slow
def test_without_labels_nothing_is_marked_right_or_wrong(folder: Path) -> None:
    page = reported.run({"only": [Image(i.name, i.split, None, i.vector) for i in clustered(3, 2, 3, 1.0)]})
    text = page.read_text(encoding="utf-8")
    assert "no labels" in text
    assert text.count("data/raw/labels.csv") == text.count("--queries-from edits") == 1, "said once"
    assert text.count("lineup judge --open") == 1
    sections = set(re.findall(r'<section id="(\w+)"', text))
    assert sections == {"table", "queries", "suspects"}
    assert not {"query-k", "query-filter", "against-tiles", "examples", "alike"} & set(
        re.findall(r'id="([\w-]+)"', text)
    )
    assert set("".join(row_file("only")["marks"])) == {"?"}
    assert page_data()["queries"]["weak"]["labels"] == [] == page_data()["queries"]["suspects"]


@pytest.mark.slow
def test_judgements_decide_what_is_right(folder: Path) -> None:
    images = clustered(2, 2, 3, 0.5)
    reported.run({"only": images}, qrels=[("0/0", "1/2", 1), ("0/0", "0/2", -1)])
    ids, data = page_data()["collection"]["queries"]["ids"], row_file("only")
    query = next(image for image in images if image.name == "0/0")
    marks = data["marks"][ids.index(query.id)]
    assert marks.count("1") == 1 and len(marks) == 5, "one right; the junk is not there"
    assert "1" not in "".join(mark for q, mark in enumerate(data["marks"]) if q != ids.index(query.id))
    sides = page_data()["collection"]
    pairs = [(sides["queries"]["label"][q], sides["gallery"]["label"][g]) for q, g, _ in data["alike"]]
    assert pairs and all(a != b for a, b in pairs), (
        "of one label isn't suspect, though nobody judged it right"
    )


@pytest.mark.slow
def test_the_page_says_whether_people_agree(folder: Path) -> None:
    images = clustered(2, 2, 3, 0.5)
    ids = {image.name: image.id for image in images}
    said = [("0/2", "ann", 1), ("0/2", "ben", 0), ("0/3", "ann", 1), ("0/3", "ben", 1)]
    time = "2026-11-27T05:00:00Z"
    lines = [Judgement(ids["0/0"], ids[name], relevance, judge, time) for name, judge, relevance in said]
    judgements.append(paths.JUDGEMENTS, lines)
    text = unescape(reported.run({"only": images}).read_text(encoding="utf-8"))
    assert (
        "2 people judged 2 pairs of 1 query. They differ on 1 of these pairs, which lineup judge --disputed "
        "asks for again (ann and ben agree on 1 of 2 pairs, Cohen's kappa 0.00)." in text
    )


@pytest.mark.slow
def test_what_is_missing_is_named_in_a_sentence(folder: Path) -> None:
    reported.run(two_rows())
    with pytest.raises(UserError, match=r"row 'blured' is unknown; did you mean 'blurred'"):
        report.main(["--row", "blured"])
    lines = paths.row_queries("blurred").read_text(encoding="utf-8").splitlines(keepends=True)
    paths.row_queries("blurred").write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics/queries/blurred.csv: is of other queries"):
        report.main([])
    paths.row_queries("blurred").write_text("query_id\nx\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"isn't what this version writes .*dvc repro -f -s score@blurred"):
        report.main([])
    paths.row_queries("blurred").unlink()
    with pytest.raises(UserError, match=r"metrics/queries/blurred.csv: .*; run `dvc repro`"):
        report.main([])


@pytest.mark.slow
def test_a_photo_is_shrunk_to_both_sizes() -> None:
    noise = Pillow.effect_noise((2000, 1000), 80).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    small, large = thumbnails.draw(buffer.getvalue())
    assert thumbnails.thumbnail(buffer.getvalue()) == small
    sizes = [Pillow.open(io.BytesIO(data)).size for data in (small, large)]
    assert sizes == [(256, 128), (640, 320)]


@pytest.mark.slow
def test_full_rankings_come_in_parts_of_all_queries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row, "QUERIES_PER_PART", 4)
    reported.run({"only": clustered(3, 2, 5, 1.0)})
    parts = [
        json.loads(file.read_text("ascii").partition(" = ")[2].rstrip(";\n"))
        for file in sorted(paths.report_ranks("only").iterdir())
    ]
    assert [len(part["answers"]) for part in parts] == [4, 2]
    key = page_data()["collection"]["key"]
    assert {part["collection"] for part in parts} == {key}
    gallery = page_data()["collection"]["gallery"]["ids"]
    lines = parquet.read_table(paths.ranking("only")).to_pylist()
    for line, answers, scores in zip(
        lines, (a for p in parts for a in p["answers"]), (s for p in parts for s in p["scores"]), strict=True
    ):
        assert [gallery[g] for g in answers] == line["gallery_ids"] and len(answers) == 15
        assert scores == pytest.approx(line["scores"], rel=1e-4)


def pair(
    a: str, b: str, difference: float, low: float, high: float, p: float, metric: str = "map_at_r"
) -> Pair:
    return Pair(metric, a, b, difference, low, high, p, p)


@pytest.mark.slow
def test_the_lead_of_the_best_row_is_over_the_runner_up_and_those_not_told_apart(folder: Path) -> None:
    reported.run(
        {
            "a": clustered(4, 2, 3, 0.4),
            "b": clustered(4, 2, 3, 1.5, seed=1),
            "c": clustered(4, 2, 3, 2.5, seed=2),
        }
    )
    rows = row_metrics.read_all(("a", "b", "c"))
    pairs = [
        pair("a", "b", 9, 9, 9, 0.5, "top_1"),
        pair("b", "a", -0.0474, -0.0583, 0.0004, 0.004),  # the best row second: signs and ends change places
        pair("a", "c", 0.25, 0.2, 0.3, 0.06),
        pair("b", "c", 0.1, 0.1, 0.1, 0.01),
    ]
    compared = comparison.compare(rows, ["map_at_r"], pairs)
    assert [row.name for row in compared.rows] == ["a", "b", "c"]
    assert first_screen.leads(compared) == [
        ("b", "+0.047 (+0.000 to +0.058)", 0.004, False),
        ("c", "+0.250 (+0.200 to +0.300)", 0.06, True),
    ]
    told_apart = [*pairs[:2], pair("a", "c", 0.25, 0.2, 0.3, 0.01), pairs[3]]
    compared = comparison.compare(rows, ["map_at_r"], told_apart)
    assert [lead.row for lead in first_screen.leads(compared)] == ["b"]
    assert first_screen.difference_text(-0.25, math.nan, math.nan) == "−0.250"
    assert first_screen.leads(comparison.compare(rows, [], [])) == []


@pytest.mark.slow
def test_the_page_says_its_data_and_figures(folder: Path) -> None:
    page = reported.run(two_rows()).read_text(encoding="utf-8")
    digest = report_collection.read(report.read_manifest()).data_digest
    project.run("git", "init", "-q", cwd=folder)
    blob = project.run("git", "hash-object", str(paths.METRICS), cwd=folder).stdout.strip()
    assert f"<code>{digest}</code>" in page and f"--find-object={blob[:12]}<" in page
    significance = csv.DictReader(paths.SIGNIFICANCE.open(encoding="utf-8"))
    line = next(line for line in significance if line["metric"] == "map_at_r")
    assert {line["model_a"], line["model_b"]} == {"sharp", "blurred"}
    assert f">+{abs(float(line['difference'])):.3f} (" in page
    assert page_data()["pairs"][0][:3] == ["map_at_r", "sharp", "blurred"]
    # A corrected label is other data, though the photos are the same.
    corrected = [
        Image(i.name, i.split, "label 1" if i.name == "0/0" else i.label, i.vector)
        for i in clustered(6, 3, 4, 0.6)
    ]
    collection.write(corrected)
    images = report_collection.read(report.read_manifest())
    assert images.data_digest != digest and images.key == page_data()["collection"]["key"]


@pytest.mark.slow
def test_when_it_was_made_is_said_beside_the_page_of_that_page_only(folder: Path) -> None:
    def git(*arguments: str) -> str:
        return project.run(
            "git", "-c", "user.name=n", "-c", "user.email=e", *arguments, cwd=folder
        ).stdout.strip()

    moment = datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    reported.run({"only": clustered(3, 2, 3, 1.0)})
    page_id = re.findall(r'data-page="(\w{16})"', paths.REPORT.read_text(encoding="utf-8"))[0]
    assert page_id != "0" * 16 and f'"{page_id}"' in paths.REPORT_MADE.read_text(encoding="utf-8")
    assert '"commit":null' in made.script("x", folder, moment), "not in a repository"

    git("init", "-q")
    assert '"commit":null' in made.script("x", folder, moment), "without a commit"
    git("add", "params.yaml", "metrics")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert made.commit_of(folder) == (commit, [])
    paths.METRICS.write_text("{}", encoding="utf-8")  # what the run itself writes
    Path("params.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert made.commit_of(folder) == (commit, ["params.yaml"])
    written = json.loads(made.script("x", folder, moment).partition(" = ")[2].rstrip(";\n"))
    assert written == {
        "project": folder.name,
        "time": "2026-03-01 10:30 UTC",
        "commit": {"id": commit, "changed": ["params.yaml"]},
    }
    for origin in ("https://example.org/team/shoes.git", "git@example.org:shoes.git", "/srv/git/shoes/"):
        git("config", "remote.origin.url", origin)
        assert made.project_name(folder) == "shoes"


@pytest.mark.slow
def test_the_page_needs_no_rows_file_and_neither_needs_torch(folder: Path) -> None:
    reported.run(two_rows())
    page = paths.REPORT.read_bytes()
    for name in ("sharp", "blurred"):
        paths.report_row(name).unlink()
        paths.ranking(name).unlink()
    report.main([])
    assert paths.REPORT.read_bytes() == page
    code = "import sys; import stages.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=project.ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_a_licence_is_shown_whole(folder: Path) -> None:
    reported.run({"only": clustered(4, 2, 3, 1.0)})
    licence = "other (see model_card) for images (research only)"
    figures = files.read_json(paths.row_metrics("only"))
    figures["costs"]["licence"] = licence
    files.write_json(paths.row_metrics("only"), figures)
    report.main([])
    assert licence in re.sub(r"<[^>]*>", "", paths.REPORT.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_an_approximate_rows_recall_is_explained(folder: Path) -> None:
    reported.run({"only": clustered(4, 2, 3, 1.0)})
    figures = files.read_json(paths.row_metrics("only"))
    figures["costs"]["search"] = {
        "index": "hnsw",
        "storage": "float32",
        "parameters": {},
        "ann_recall": {"10": 0.9},
    }
    files.write_json(paths.row_metrics("only"), figures)
    report.main([])
    assert "ANN recall@10: of the 10 images nearest by exact search" in paths.REPORT.read_text(
        encoding="utf-8"
    )
