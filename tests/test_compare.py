"""compare: the page a user decides by, and the files behind it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lineup import paths
from lineup.commands import group
from lineup.comparison import comparison
from lineup.comparison.comparison import Pair
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.evaluation.cost_records import RowCosts
from lineup.evaluation.row_metrics import Judgements, OwnPicture, RowMetrics
from lineup.storage import csv_files, files, parquet, schemas
from lineup.summary import markdown, sentences
from lineup.summary.rich_text import Data
from lineup.summary.tables import Table
from stages import compare, score
from tests.support.collection import (
    Image,
    clustered,
    params,
    run,
    search,
    write,
    write_embeddings,
    write_params,
)

MARKDOWN = MarkdownIt("gfm-like", {"linkify": False})


pytestmark = pytest.mark.usefixtures("empty_folder")


def rows(**noise: float) -> dict[str, list[Image]]:
    return {row: clustered(40, 2, 5, noise=value, seed=i) for i, (row, value) in enumerate(noise.items())}


def page() -> str:
    return paths.COMPARISON.read_text(encoding="utf-8")


def cells(heading: str) -> dict[str, dict[str, str]]:
    """A table of the page as a Markdown reader sees it: {model: {column: cell}}."""
    part = page().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows_, current = [], []
    for kind, inline in ((token.type, token) for token in MARKDOWN.parse(part)):
        if kind == "inline":
            current.append("".join(child.content for child in inline.children or []))
        elif kind == "tr_open":
            current = []
        elif kind == "tr_close":
            rows_.append(current)
        elif kind == "table_close":
            break
    header, *lines = rows_
    return {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_an_unusable_qrels_csv_is_mentioned_where_nothing_is_scored_either() -> None:
    costs = RowCosts(
        images_per_second=None,
        dim=8,
        index_mb=1.0,
        query_ms=1.0,
        parameters=None,
        gflops=None,
        train_minutes=None,
        random=False,
        search_device="CPU",
        search_threads=2,
    )
    row = RowMetrics(
        row="a",
        relevance="none",
        unscored="no labels",
        queries=2,
        scored=0,
        without_label=2,
        without_answer=0,
        labels=0,
        clusters=0,
        gallery=3,
        exclude="pixels",
        own_picture=OwnPicture(same_bytes=0, other_bytes=0),
        depth=3,
        judgements=Judgements(lines=0, left_out=0),
        enlarged=None,
        quality={},
        identification=None,
        costs=costs,
    )
    assert sentences.task(row) == [
        "2 queries, 3 gallery images, no labels: quality can't be measured. data/raw/qrels.csv has no judgement that can be used."
    ]


@pytest.mark.slow
def test_photos_smaller_than_a_network_s_input_are_counted() -> None:
    """They are the user's own, and enlarged by the transform. The collection's images have 8 x 8 pixels."""
    images = rows(a=1.0, b=1.5, c=2.0)
    write_params(params(*images))
    write(images["a"])
    for row, resize_px in (("a", 9), ("b", 9), ("c", 8)):
        write_embeddings(row, images[row], resize_px=resize_px)
        search(row)
        score.main(["--row", row])
    compare.main([])
    assert (
        "- `a`, `b`: 280 of 280 images are smaller than the 9 px that the transform resizes to, and are enlarged\n"
        in page()
    )
    assert "8 px" not in page()


@pytest.mark.slow
def test_the_page_says_from_which_score_on_an_answer_is_a_match() -> None:
    run(rows(bad=4.0, good=0.8), score={"cutoffs": [1], "fpir": [0.1, 0.01]})
    match = cells("Is there a match at all?")
    assert list(match) == ["good", "bad"]
    assert [*match["good"]] == [
        "µAP",
        "recall at 90% precision",
        "score for FPIR 10%",
        "false matches",
        "misses",
    ]
    told = files.read_json(paths.row_metrics("good"))["identification"]
    [point] = told["operating_points"]
    assert match["good"]["score for FPIR 10%"] == f"{point['threshold']:.3f}"
    assert match["good"]["false matches"].startswith(f"{point['fpir']['value']:.1%} (")
    assert match["good"]["misses"].startswith(f"{point['fnir']['value']:.1%} (")
    text = page()
    assert "80 queries have a match in the gallery; 0 have none. So that there are enough" in text
    assert f"`good`, score ≥ {point['threshold']:.3f}: " in text
    assert (
        "No threshold is given for an FPIR of 1%: it takes 300 queries without a match, and there are 80."
        in text
    )


@pytest.mark.slow
def test_the_row_with_the_fewest_misses_is_named_if_it_is_not_the_best() -> None:
    run(rows(bad=2.0, good=0.8), score={"cutoffs": [1], "fpir": [0.1]})
    stored = files.read_json(paths.row_metrics("bad"))
    [point] = stored["identification"]["operating_points"]
    point["fnir"] = {"value": 0.001, "low": 0.0, "high": 0.01}
    files.write_json(paths.row_metrics("bad"), stored)
    compare.main([])
    assert f"Fewest misses: `bad`, score ≥ {point['threshold']:.3f}: " in page()
    assert ", 0.1% (0.0-1.0) misses." in page()


def test_without_labels_there_is_nothing_to_say_about_matches() -> None:
    images = [Image(image.name, image.split, None, image.vector) for image in clustered(3, 2, 2, noise=0.1)]
    run({"a": images})
    assert "match" not in page()


def change_costs(row: str, **costs: Any) -> None:
    content = files.read_json(paths.row_metrics(row))
    files.write_json(paths.row_metrics(row), {**content, "costs": {**content["costs"], **costs}})


def difference(a: str, b: str) -> float:
    mean_of_a, mean_of_b = (row_metrics.read(row).quality["map_at_r"].mean for row in (a, b))
    return mean_of_a - mean_of_b


@pytest.mark.slow
def test_a_row_that_is_ahead_of_the_best_in_another_metric_is_named() -> None:
    run(rows(best=0.8, second=1.6, third=2.4))
    metrics = row_metrics.read_all(("best", "second", "third"))
    names = ("map_at_r", "top_1", "top_5", "top_10")

    def ahead(*pairs: Pair) -> str:
        others = [("second", 0.1, 0.01), ("third", 0.2, 0.01)]
        first = [Pair("map_at_r", "best", row, by, 0.05, 0.3, p, p) for row, by, p in others]
        return markdown.text(sentences.verdict(comparison.compare(metrics, names, [*first, *pairs])))

    headline = "**Best: `best`**, better in map_at_r than every other row by more than chance."
    undecided = Pair("top_1", "best", "second", -0.04, -0.09, 0.01, 0.2, 0.3)
    behind = Pair("top_1", "best", "second", 0.04, 0.01, 0.09, 0.001, 0.003)
    assert ahead() == ahead(undecided) == ahead(behind) == headline
    # Of two that are ahead, the one that is further ahead is named, whatever the order within a pair.
    second = Pair("top_5", "best", "second", -0.031, -0.05, -0.01, 0.01, 0.035)
    third = Pair("top_5", "third", "best", 0.02, 0.01, 0.03, 0.01, 0.03)
    assert ahead(undecided, third, second) == (
        f"{headline} In top_5, 2 rows are better than it, `second` by +0.031 (+0.010 to +0.050, p = 0.035)."
    )
    assert "In top_5, `second` is better than it: +0.031" in ahead(second)
    assert "top_5, `third`" in ahead(third) and "top_10" not in ahead(third)


@pytest.mark.slow
def test_the_best_comes_first_and_the_worse_are_told_apart() -> None:
    run(rows(bad=4.0, good=0.8, middling=1.6))
    quality = cells("Quality")
    assert list(quality) == ["good", "middling", "bad"]
    assert quality["good"]["against the best"] == "best"
    assert quality["bad"]["against the best"] == f"{difference('bad', 'good'):+.3f} worse, p < 0.001"
    figures = json.loads(paths.METRICS.read_text())
    assert list(figures) == ["bad", "good", "middling"]
    for row, line in quality.items():
        assert line["map_at_r"].startswith(f"{figures[row]['map_at_r']:.3f} (")
    assert "**Best: `good`**, better in map_at_r than every other row by more than chance." in page()
    assert "80 queries with 40 labels, each searched in 200 gallery images" in page()


@pytest.mark.slow
def test_rows_that_cannot_be_told_apart_are_marked() -> None:
    """Equal noise, drawn differently: whichever comes first, the other is not called worse."""
    run(rows(one=1.5, other=1.5, bad=5.0))
    quality = cells("Quality")
    first, second, third = quality
    assert {first, second} == {"one", "other"} and third == "bad"
    start = f"{difference(second, first):+.3f} can't tell, p = "
    assert quality[second]["against the best"].startswith(start)
    assert f"**Best: `{first}`**, but not told apart from `{second}`" in page()
    assert "fastest" not in page()  # both run at the same speed
    for row, speed in ((first, 110.0), (second, 90.0)):
        change_costs(row, images_per_second=speed)
    compare.main([])
    assert f"Of these, `{first}` embeds fastest, 110 images/s." in page()
    change_costs(first, device="Another CPU")
    compare.main([])
    assert "fastest" not in page()


@pytest.mark.slow
def test_every_pair_is_in_significance_csv() -> None:
    run(rows(a=1.0, b=1.5, c=4.0))
    lines = read_csv(paths.SIGNIFICANCE)
    by_pair = {(line["metric"], line["model_a"], line["model_b"]): line for line in lines}
    assert len(by_pair) == len(lines) == 3 * 4  # map_at_r, top_1, top_5, top_10
    figures = json.loads(paths.METRICS.read_text())
    for (metric, a, b), line in by_pair.items():
        assert float(line["difference"]) == pytest.approx(figures[a][metric] - figures[b][metric], abs=2e-4)
        assert float(line["low"]) <= float(line["difference"]) <= float(line["high"])
        assert float(line["p"]) <= float(line["p_holm"]) <= 1
    clear = by_pair["map_at_r", "a", "c"]
    assert float(clear["low"]) > 0 and float(clear["p_holm"]) < 0.001


@pytest.mark.slow
def test_equal_rows_have_no_difference() -> None:
    images = clustered(10, 2, 3, noise=1)
    run({"a": images, "b": images})
    (line, *_) = read_csv(paths.SIGNIFICANCE)
    assert (line["difference"], line["p"], line["p_holm"]) == ("0.000000", "1.000000", "1.000000")
    assert cells("Quality")["b"]["against the best"] == "+0.000 can't tell, p = 1.000"


@pytest.mark.slow
def test_the_order_is_stable_whatever_params_yaml_says_first() -> None:
    images = clustered(10, 2, 3, noise=1)
    run({"a": images, "b": images})
    before = page()
    write_params(params("b", "a"))
    compare.main([])
    assert page() == before


@pytest.mark.slow
def test_top_k_curves() -> None:
    run(rows(a=1.5, b=3.0))
    lines = read_csv(paths.TOP_K_CURVES)
    figures = json.loads(paths.METRICS.read_text())
    for row in ("a", "b"):
        curve = [float(line["top_k"]) for line in lines if line["model"] == row]
        assert len(curve) == 100 and curve == sorted(curve)
        assert [curve[k - 1] for k in (1, 5, 10)] == pytest.approx(
            [figures[row][f"top_{k}"] for k in (1, 5, 10)], abs=1e-4
        )


@pytest.mark.slow
def test_random_weights_are_never_called_the_best() -> None:
    run(rows(chance=0.5, trained=2.0, worse=5.0))
    change_costs("chance", random=True)
    compare.main([])
    quality = cells("Quality")
    assert list(quality) == ["chance (random weights)", "trained", "worse"]
    assert quality["chance (random weights)"]["against the best"] == "not a result"
    assert quality["trained"]["against the best"] == "best"
    assert "**Best: `trained`**" in page()
    for row in ("trained", "worse"):
        change_costs(row, random=True)
    compare.main([])
    assert "none of these figures is a result" in page() and "Best:" not in page()


@pytest.mark.slow
def test_one_row_alone_is_not_called_trained_for_that() -> None:
    run(rows(only=1.0))
    assert "`only` is the only row: there is nothing to compare it with" in page()
    assert read_csv(paths.SIGNIFICANCE) == []


@pytest.mark.slow
def test_one_row_beside_random_ones_is_the_only_one_with_trained_weights() -> None:
    run(rows(only=1.0, chance=5.0))
    change_costs("chance", random=True)
    compare.main([])
    assert "`only` is the only row with trained weights: there is nothing to compare it with" in page()


@pytest.mark.slow
def test_without_labels_the_table_says_so() -> None:
    images = [Image(image.name, image.split, None, image.vector) for image in clustered(5, 2, 3, noise=1)]
    run({"a": images, "b": images})
    assert {row: line["quality"] for row, line in cells("Quality").items()} == {
        "a": "no labels",
        "b": "no labels",
    }
    assert cells("Cost")["a"]["dim"] == "16"
    assert "10 queries, 15 gallery images, no labels: quality can't be measured." in page()
    assert "\n`lineup judge` asks you which answers are right" in page()
    assert json.loads(paths.METRICS.read_text())["a"]["index_mb"] > 0
    assert read_csv(paths.TOP_K_CURVES) == []


@pytest.mark.slow
def test_what_was_left_out_is_counted() -> None:
    extra = [Image("x", "query", None, [1] * 16), Image("y", "query", "nowhere else", [1] * 16)]
    run({"a": [*clustered(5, 2, 3, noise=1), *extra]})
    assert "Left out: 1 without a label, 1 without a right answer in the gallery." in page()
    assert "With 5 labels only, intervals and p values are rough." in page()


@pytest.mark.parametrize(
    ("exclude", "sentence"),
    [
        (
            "pixels",
            "Excluded from the answers: the query's own picture, 3 times (2 in other bytes; relevance.exclude: pixels).",
        ),
        (
            "bytes",
            "the query's own file, once; its picture in other bytes is an answer, 2 times (relevance.exclude: bytes).",
        ),
    ],
)
def test_what_counts_as_the_query_itself_is_counted(exclude: str, sentence: str) -> None:
    images = clustered(5, 2, 3, noise=1)
    copies = [
        Image(f"copy {n}", "gallery", images[0].label, images[0].vector, shows=images[0].name)
        for n in range(2)
    ]
    run(
        {"a": [*images, *copies, Image(images[0].name, "gallery", images[0].label, images[0].vector)]},
        relevance={"exclude": exclude},
    )
    assert sentence in page()


@pytest.mark.slow
def test_rows_of_different_exclusions_are_not_compared() -> None:
    run(rows(a=1.0, b=1.0))
    write_params(params("a", "b", relevance={"exclude": "bytes"}))
    score.main(["--row", "b"])
    with pytest.raises(
        UserError, match=r"metrics/rows/b.json: exclude is bytes, but pixels for a; run `dvc repro`"
    ):
        compare.main([])


@pytest.mark.slow
def test_figures_of_an_earlier_version_or_another_row_are_refused() -> None:
    run(rows(a=1.0, b=1.0))
    files.write_json(paths.row_metrics("b"), files.read_json(paths.row_metrics("a")))
    with pytest.raises(
        UserError,
        match=r"metrics/rows/b.json: isn't what this version writes for b; run `dvc repro -f -s score@b`",
    ):
        compare.main([])


def test_queries_that_are_not_scored_are_counted_with_the_others() -> None:
    run({"a": [*clustered(5, 2, 3, noise=1), Image("x", "query", None, [1] * 16)]})
    assert "10 of 11 queries with 5 labels, each searched in 15 gallery images" in page()


@pytest.mark.slow
def test_labels_of_unequal_size_show_their_own_mean() -> None:
    run({"a": clustered(10, 2, 3, noise=1.5)})
    assert "map_at_r by label" not in cells("Quality")["a"]
    images = clustered(10, 2, 3, noise=1.5)
    images = [
        Image(i.name, i.split, "label 0" if i.label in ("label 1", "label 2") else i.label, i.vector)
        for i in images
    ]
    run({"a": images})
    mean_over_labels = files.read_json(paths.row_metrics("a"))["quality"]["map_at_r"]["mean_over_labels"]
    assert cells("Quality")["a"]["map_at_r by label"] == f"{mean_over_labels:.3f}"


@pytest.mark.slow
def test_costs_are_shown_and_so_is_where_they_were_measured() -> None:
    write_params(params("a", "b"))
    run(rows(a=1.0, b=1.0))
    images = rows(a=1.0, b=1.0)
    write_embeddings(
        "b",
        images["b"],
        device="Some GPU",
        licence="odd | [licence](x) <b>",
        images_per_second=None,
        peak_gpu_memory_mb=2000.4,
    )
    search("b")
    score.main(["--row", "b"])
    compare.main([])
    cost = cells("Cost")
    assert (cost["a"]["images/s"], cost["b"]["images/s"]) == ("120.5", "-")
    assert (cost["a"]["memory MB"], cost["b"]["memory MB"]) == ("800", "2,000")
    assert cost["b"]["licence"] == "odd | [licence](x) <b>"
    assert (
        "Measured in different places" in page() and "- `b`: embedded on Some GPU (torch, float32)" in page()
    )
    assert "images_per_second" not in json.loads(paths.METRICS.read_text())["b"]


@pytest.mark.slow
def test_only_the_rows_of_params_yaml_are_read() -> None:
    run(rows(a=1.0, gone=1.0))
    paths.row_metrics("gone").write_text("not even JSON")
    paths.row_metrics("never").write_text("{}")
    write_params(params("a"))
    compare.main([])
    assert list(cells("Quality")) == ["a"]


@pytest.mark.slow
def test_odd_labels_keep_queries_and_columns_apart() -> None:
    odd = ['a,"b"', "new\nline", "carriage\rreturn", " ", "=1+1", "ü😀"]
    images = [
        Image(i.name, i.split, odd[int(str(i.label).split()[1])], i.vector)
        for i in clustered(6, 2, 3, noise=1)
    ]
    run({"a": images, "b": images})
    assert "12 queries with 6 labels" in page()
    assert {line["label"] for line in csv_files.read_csv(paths.row_queries("a"))} == set(odd)
    assert {line["label"] for line in read_csv(paths.row_queries("a"))} == set(odd) - {"=1+1"} | {"'=1+1"}


@pytest.mark.slow
@pytest.mark.parametrize("file", [paths.row_metrics("b"), paths.row_queries("b")])
def test_a_missing_file_is_named_with_the_fix(file: Path) -> None:
    run(rows(a=1.0, b=1.0))
    file.unlink()
    with pytest.raises(UserError, match=rf"^{file}: (is not there|does not exist); run `dvc repro`"):
        compare.main([])


@pytest.mark.slow
def test_rows_of_different_collections_are_not_compared() -> None:
    run(rows(a=1.0, b=1.0))
    before = {name: paths.row_queries(name).read_text() for name in "ab"}
    first, *lines = before["b"].splitlines(keepends=True)
    paths.row_queries("b").write_text("".join([first, *lines[1:], lines[0]]))
    with pytest.raises(
        UserError, match=r"metrics/queries/b.csv: holds other queries than metrics/queries/a.csv"
    ):
        compare.main([])
    paths.row_queries("b").write_text(first.replace("map_at_r", "map"))
    with pytest.raises(UserError, match=r"metrics/queries/b.csv: isn't what this version writes"):
        compare.main([])
    paths.row_queries("b").write_text(before["b"])
    content: dict[str, Any] = files.read_json(paths.row_metrics("b"))
    files.write_json(paths.row_metrics("b"), content | {"gallery": 7})
    with pytest.raises(UserError, match=r"metrics/rows/b.json: gallery is 7, but 200 for a"):
        compare.main([])


def test_show_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"metrics/comparison.md: does not exist; run `dvc repro`"):
        group.run(["show"])
    run(rows(a=1.0))
    capsys.readouterr()
    group.run(["show"])
    assert capsys.readouterr().out.strip() == page().strip()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30))
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    tokens = MARKDOWN.parse(markdown.table(Table(["a", "b"], [[Data(text), "x"]])))
    shown = [
        "".join(child.content for child in token.children or []) for token in tokens if token.type == "inline"
    ]
    assert shown == ["a", "b", " ".join(text.split()), "x"]


def test_columns_are_aligned() -> None:
    table = markdown.table(Table(["model", "x"], [["a", "1"], ["a longer one", "12,345"]])).splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[2] == "| a            |      1 |"


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "possible"), [(5, False), (6, True)])
def test_where_labels_are_too_few_for_any_difference_it_says_so(labels: int, possible: bool) -> None:
    """The clearest difference: one row always right, the other never."""
    right = clustered(labels, 2, 3, noise=0)
    others = dict(
        zip(
            dict.fromkeys(i.label for i in right),
            [right[-1].vector, *(i.vector for i in right[::5])],
            strict=False,
        )
    )
    wrong = [
        Image(i.name, i.split, i.label, others[i.label] if i.split == "query" else i.vector) for i in right
    ]
    run({"right": right, "wrong": wrong})
    assert ("no difference can reach p < 0.05" in page()) != possible
    assert (float(read_csv(paths.SIGNIFICANCE)[0]["p_holm"]) < 0.05) == possible


@pytest.mark.parametrize(("judged", "labelled"), [(1, True), (0, True), (0, False)])
def test_judgements_that_preprocess_left_out_are_counted_beside_the_figures(
    judged: int, labelled: bool
) -> None:
    images = [i if labelled else Image(i.name, i.split, None, i.vector) for i in clustered(5, 2, 3, noise=1)]
    run({"a": images}, [("0/0", "0/2", 1)][:judged])
    assert "judgement" not in page() and files.read_json(paths.row_metrics("a"))["judgements"] is None
    pairs = [list(pair.values()) for pair in parquet.read_table(paths.QRELS).to_pylist()]
    parquet.write_rows(paths.QRELS, schemas.QRELS, pairs, {"judgements": str(2 + judged), "left_out": "2"})
    score.main(["--row", "a"])
    compare.main([])
    assert files.read_json(paths.row_metrics("a"))["judgements"] == {"lines": 2 + judged, "left_out": 2}
    assert f"{2 + judged} judgements, about photos that can't be read." in page()
    assert (
        "data/raw/qrels.csv has no judgement that can be used, so images with the query's label are right"
        in page()
    ) == (labelled and not judged)
    assert ("quality can't be measured" in page()) == ("lineup judge" in page()) == (not labelled)
