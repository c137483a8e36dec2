"""Slices: how queries are grouped, how good each row is in each group, and what the comparison says of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import row_metrics, significance
from lineup.slices import slice_groups, slices
from lineup.slices.slice_groups import Grouping
from lineup.slices.slices import Slice
from stages import compare
from stages import slices as stage
from tests.support.collection import Image, clustered, run, write_attributes

VALUES = st.lists(
    st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e9, 1e9)), min_size=1, max_size=80
)


@pytest.fixture(autouse=True)
def inside(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))


def numbers(values: Sequence[float | None]) -> Grouping:
    return slice_groups.group("x", pa.chunked_array([pa.array(values, pa.float64())]))


def texts(values: Sequence[str | None]) -> Grouping:
    return slice_groups.group("x", pa.chunked_array([pa.array(values, pa.string())]))


def sizes(grouping: Grouping) -> dict[str, int]:
    return dict(
        zip(
            grouping.groups, np.bincount(grouping.codes, minlength=len(grouping.groups)).tolist(), strict=True
        )
    )


# Groups


def test_numbers_without_ties_are_cut_as_pandas_does() -> None:
    values = np.random.default_rng(0).normal(size=403)
    expected = np.asarray(pd.qcut(pd.Series(values), 4, labels=False))
    assert np.array_equal(numbers(values.tolist()).codes, expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([*range(1, 9)], {"1 to 2": 2, "3 to 4": 2, "5 to 6": 2, "7 to 8": 2}),
        ([5, 3, 3, 1], {"1": 1, "3": 2, "5": 1}),
        ([7.5] * 9, {"7.5": 9}),
        ([0] * 90 + [*range(1, 11)], {"0": 90, "1 to 10": 10}),
        ([*range(1, 11)] + [50] * 90, {"1 to 10": 10, "50": 90}),
        ([*range(1, 11)] + [50] * 80 + [*range(91, 101)], {"1 to 10": 10, "50": 80, "91 to 100": 10}),
        ([None, 2, 2, 3], {"2": 2, "3": 1, "(unknown)": 1}),
        ([None, None], {"(unknown)": 2}),
        (
            [1000, 1299, 4032, 12.34567, 0.00012],
            {"0.00012": 1, "12.3": 1, "1,000": 1, "1,299": 1, "4,032": 1},
        ),
        ([1000.001, 1000.002], {"1,000.001": 1, "1,000.002": 1}),
        ([-1.5, 0, 1e300], {"-1.5": 1, "0": 1, "1.00e+300": 1}),
    ],
)
def test_ties_stay_together_and_few_values_are_groups(
    values: list[float | None], expected: dict[str, int]
) -> None:
    assert list(sizes(numbers(values)).items()) == list(expected.items())


@pytest.mark.slow
@given(VALUES)
def test_every_query_is_in_one_group_and_equal_values_in_the_same(values: list[float | None]) -> None:
    grouping = numbers(values)
    assert all(count > 0 for count in sizes(grouping).values()) and len(set(grouping.groups)) == len(
        grouping.groups
    )
    groups: dict[float | None, set[int]] = {}
    for value, code in zip(values, grouping.codes.tolist(), strict=True):
        groups.setdefault(value, set()).add(code)
    assert all(len(codes) == 1 for codes in groups.values())
    known = sorted((value, *groups[value]) for value in groups if value is not None)
    assert all(a[1] <= b[1] for a, b in pairwise(known)), "groups are in the order of the numbers"


@pytest.mark.slow
@given(st.lists(st.integers(0, 30), min_size=8, max_size=200))
def test_no_group_of_numbers_is_larger_than_half_unless_it_is_one_value(values: list[int]) -> None:
    grouping = numbers([float(value) for value in values])
    for code, count in enumerate(np.bincount(grouping.codes)):
        assert count <= len(values) / 2 + 1 or len(set(np.array(values)[grouping.codes == code])) == 1


def test_rare_texts_are_put_together_and_frequent_ones_come_first() -> None:
    values = ["b"] * 12 + ["a"] * 12 + ["c"] * 30 + ["rare"] * 3 + ["=1+1"] * 2 + [None]
    assert list(sizes(texts(values)).items()) == [
        ("c", 30),
        ("a", 12),
        ("b", 12),
        ("(other: 2 values)", 5),
        ("(unknown)", 1),
    ]
    assert sizes(texts(["a"] * 12 + ["alone"])) == {"a": 12, "alone": 1}, "one rare text keeps its name"


def test_only_the_most_frequent_texts_are_groups() -> None:
    values = [f"{number:02}" for number in range(25) for _ in range(10 + (number == 24))]
    names = list(sizes(texts(values)))
    assert len(names) == slice_groups.MOST_TEXTS + 1
    assert names[0] == "24" and names[1] == "00" and names[-1] == "(other: 5 values)"


def test_hostile_texts_are_printable_and_short() -> None:
    [name] = texts(["\x1b[31m" + "x" * 500] * 3).groups
    assert name.isprintable() and len(name) == 100


def test_attributes_of_other_queries_are_refused() -> None:
    table = pa.table({"image_id": ["a"], "split": ["query"], "x": [1.0]})
    [grouping] = slice_groups.of_queries(table, ["a"])
    assert grouping.attribute == "x"
    for query_ids, split in ((["b"], "query"), (["a"], "gallery")):
        other = table.set_column(1, "split", pa.array([split]))
        with pytest.raises(UserError, match=r"attributes\.parquet: is of other queries .* run `dvc repro`"):
            list(slice_groups.of_queries(other, query_ids))


# Statistics


def random_task(
    count: int = 120, rows: int = 3, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray, Grouping]:
    random = np.random.default_rng(seed)
    values = {f"row{row}": np.round(random.random(count), 6) for row in range(rows)}
    codes = random.integers(3, size=count)
    return (
        values,
        significance.cluster_codes(random.integers(40, size=count)),
        Grouping("x", ("a", "b", "c"), codes),
    )


def computed(
    values: dict[str, np.ndarray], clusters: np.ndarray, *groupings: Grouping, best: str | None = "row0"
) -> list[Slice]:
    return slices.compute(values, clusters, groupings, metric="map_at_r", best=best, samples=200, seed=0)


def test_means_and_differences_are_those_of_pandas() -> None:
    values, clusters, grouping = random_task()
    frame = pd.DataFrame(values)
    means = pd.DataFrame(frame.groupby(grouping.codes).mean())
    counts = pd.DataFrame(pd.Series(clusters).groupby(grouping.codes).agg(["size", "nunique"]))
    lines = computed(values, clusters, grouping)
    assert len(lines) == 9
    for line in lines:
        code = grouping.groups.index(line.group)
        assert line.mean == pytest.approx(means.loc[code, line.model])
        assert line.to_mean.value == pytest.approx(means.loc[code, line.model] - frame[line.model].mean())
        assert (line.queries, line.labels) == tuple(counts.loc[code])
        if line.model == "row0":
            assert line.to_best is None
        else:
            assert line.to_best and line.to_best.value == pytest.approx(line.mean - means.loc[code, "row0"])


def test_slices_of_a_partition_average_to_the_whole() -> None:
    values, clusters, grouping = random_task(seed=1)
    for row, own in values.items():
        lines = [line for line in computed(values, clusters, grouping) if line.model == row]
        assert sum(line.queries for line in lines) == len(own)
        assert sum(line.queries * line.mean for line in lines) / len(own) == pytest.approx(own.mean())
        assert sum(line.queries * line.to_mean.value for line in lines) == pytest.approx(0, abs=1e-9)


def test_intervals_equal_those_of_a_naive_loop() -> None:
    values, clusters, grouping = random_task(60, seed=2)
    columns, codes = np.column_stack(list(values.values())), grouping.codes
    intervals = significance.bootstrap_group_intervals(columns, codes, clusters, 50, 7)
    random, means, differences = np.random.default_rng(7), [], []
    members = [np.flatnonzero(clusters == cluster) for cluster in range(clusters.max() + 1)]
    for picked in random.integers(len(members), size=(50, len(members))):
        drawn = np.concatenate([members[cluster] for cluster in picked])
        of_groups = np.array([columns[drawn[codes[drawn] == code]].mean(axis=0) for code in range(3)])
        means.append(of_groups)
        differences.append(of_groups - columns[drawn].mean(axis=0))
    for ends, resampled in ((intervals[:2], means), (intervals[2:], differences)):
        assert np.allclose(ends, np.quantile(resampled, [0.025, 0.975], axis=0), atol=1e-6)


def test_a_single_group_has_the_interval_of_all_queries_and_no_difference() -> None:
    values, clusters, _ = random_task(60)
    columns = np.column_stack(list(values.values()))
    intervals = significance.bootstrap_group_intervals(columns, np.zeros(60, np.int64), clusters, 300, 3)
    low, high = significance.bootstrap_interval(columns, clusters, 300, 3)
    assert np.allclose(intervals.mean_low[0], low) and np.allclose(intervals.mean_high[0], high)
    assert np.allclose(intervals.difference_low, 0) and np.allclose(intervals.difference_high, 0)


def test_contrasts_worked_out_by_hand() -> None:
    """Values 1, 1, 0, 0, the first three in group 0: their mean is 2/3, that of all 1/2."""
    contrasts = significance.group_contrasts(np.array([[1.0], [1], [0], [0]]), np.array([0, 0, 0, 1]))
    assert contrasts[:, 0, 0].tolist() == pytest.approx([1 / 6, 1 / 6, -1 / 6, 1 / 2])
    assert contrasts.mean(axis=0)[:, 0].tolist() == pytest.approx([2 / 3 - 1 / 2, 0 - 1 / 2])


def test_groups_that_make_no_difference_are_told_apart_as_rarely_as_promised() -> None:
    """Groups cut across labels whose queries are alike: 300 tasks, of which about 5% have p < 0.05."""
    random, p = np.random.default_rng(5), []
    for _ in range(300):
        clusters = random.integers(30, size=90)
        clusters = significance.cluster_codes(clusters)
        of_label = random.random(clusters.max() + 1)
        values = (0.5 * of_label[clusters] + 0.5 * random.random(90))[:, None]
        groups = (random.random(90) < 0.3).astype(np.int64)
        contrasts = significance.group_contrasts(values, groups)
        p.append(significance.randomisation_test(contrasts[:, 1], clusters, 400, 0)[0])
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_a_planted_weakness_is_told_and_nothing_else() -> None:
    random = np.random.default_rng(4)
    codes = np.repeat([0, 1, 2], 50)
    steady, weak = random.normal(0.6, 0.1, 150), random.normal(0.7, 0.1, 150)
    weak[codes == 1] -= 0.4
    lines = computed(
        {"weak": weak, "steady": steady}, np.arange(150), Grouping("x", ("a", "b", "c"), codes), best="weak"
    )
    below = {
        (line.model, line.group)
        for line in lines
        if line.to_mean.p_holm and line.to_mean.p_holm < 0.05 and line.to_mean.value < 0
    }
    assert below == {("weak", "b")}
    ahead = {line.group: line.to_best for line in lines if line.model == "steady"}
    assert ahead["b"] and ahead["b"].p_holm and ahead["b"].p_holm < 0.05 and 0.2 < ahead["b"].value < 0.4
    assert ahead["b"].low and ahead["b"].low > 0.2 and ahead["b"].high and ahead["b"].high < 0.4


def test_small_groups_say_so_and_count_for_no_correction() -> None:
    values, clusters, _ = random_task(100)
    codes = np.repeat([0, 1, 2], [50, 45, 5])
    with_small = computed(values, clusters, Grouping("x", ("a", "b", "c"), codes))
    small = [line for line in with_small if line.group == "c"]
    assert {line.note for line in small} == {"too few queries to tell"} and small[0].queries == 5
    assert all(line.low is None and line.to_mean[1:] == (None, None, None) for line in small)
    assert all(line.to_mean.p_holm is not None for line in with_small if line.group != "c")
    few_labels = computed(
        values,
        np.where(codes == 1, clusters % 3, clusters + 3),
        Grouping("x", ("a", "b"), np.minimum(codes, 1) ^ (codes == 2)),
    )
    assert {line.note for line in few_labels if line.group == "b"} <= {"", "too few labels to tell"}


def test_an_attribute_of_a_single_large_group_says_nothing() -> None:
    values, clusters, _ = random_task(100)
    assert computed(values, clusters, Grouping("x", ("a", "b"), np.repeat([0, 1], [95, 5]))) == []
    assert computed(values, clusters) == []


def test_holm_adjusts_for_the_slices_of_a_row_and_for_all_of_other_rows() -> None:
    values, clusters, grouping = random_task(seed=9)
    alone = computed({"row0": values["row0"]}, clusters, grouping)
    together = [line for line in computed(values, clusters, grouping) if line.model == "row0"]
    assert [line.to_mean for line in alone] == [line.to_mean for line in together], "other rows don't matter"
    raw = significance.randomisation_test(
        np.column_stack(
            [
                np.where(grouping.codes == g, values[row] - values["row0"], 0)
                for g in range(3)
                for row in ("row1", "row2")
            ]
        ),
        clusters,
        slices.FEWEST_FLIPS,
        0,
    )
    adjusted = [line.to_best.p_holm for line in computed(values, clusters, grouping) if line.to_best]
    assert adjusted == pytest.approx(significance.holm(raw), abs=0.15)


# The stage and the comparison


def rows(noise: dict[str, float], count: int = 40) -> dict[str, list[Image]]:
    return {row: clustered(count, 2, 5, noise=value, seed=i) for i, (row, value) in enumerate(noise.items())}


def page() -> str:
    return paths.COMPARISON.read_text(encoding="utf-8")


def write_slices(images: Sequence[Image], **columns: dict[str, object]) -> list[Slice]:
    write_attributes(images, **columns)
    stage.main([])
    compare.main([])
    return slices.read(paths.SLICES)


def with_weak_queries(images: list[Image], noise: float) -> list[Image]:
    """The same images; the first query of each label is found with more noise."""
    random = np.random.default_rng(1)
    weak = [
        replace(image, vector=np.asarray(image.vector) + noise * random.standard_normal(len(image.vector)))
        if image.name.endswith("/0")
        else image
        for image in images
    ]
    assert sum(a is not b for a, b in zip(weak, images, strict=True)) == 40
    return weak


def tones(images: Sequence[Image]) -> dict[str, object]:
    return {image.name: "dark" if image.name.endswith("/0") else "light" for image in images}


@pytest.mark.slow
def test_the_comparison_names_where_the_best_row_fails_and_another_does_not() -> None:
    images = rows({"best": 0.2, "steady": 0.9})
    images["best"] = with_weak_queries(images["best"], 9.0)
    run(images)
    assert "Where it fails" not in page() and slices.read(paths.SLICES) == []
    name = "t`one_*"
    lines = write_slices(images["best"], **{name: tones(images["best"])})
    assert {(line.model, line.attribute, line.group, line.queries) for line in lines} == {
        (row, name, group, 40) for row in images for group in ("dark", "light")
    }
    part = page().split("## Where it fails\n")[1].split("\n## ")[0]
    first, second = (block.splitlines() for block in part.strip().split("\n\n")[1:4:2])
    assert "`best` is below its mean by more than chance in one group of queries:" in part
    assert (
        len(first) == 1
        and first[0].startswith("- t\\`one\\_\\* dark: 0.")
        and "below its mean of 0." in first[0]
    )
    assert "Another row beats `best` in map_at_r by more than chance in one group of queries:" in part
    assert len(second) == 1 and " dark: `steady` 0." in second[0] and second[0].endswith("; 40 queries")
    [dark] = [line for line in lines if (line.model, line.group) == ("best", "dark")]
    metrics = row_metrics.read("best").quality["map_at_r"]
    assert dark.mean - dark.to_mean.value == pytest.approx(metrics.mean, abs=2e-6)


@pytest.mark.slow
def test_where_nothing_can_be_told_the_comparison_says_so() -> None:
    images = rows({"a": 1.0, "b": 1.0})
    run(images)
    random = np.random.default_rng(0)
    write_slices(images["a"], price={image.name: float(random.random()) for image in images["a"]})
    best = json.loads(paths.METRICS.read_text())
    name = max(best, key=lambda row: best[row]["map_at_r"])
    assert f"`{name}` is below its mean by more than chance in no group of queries." in page()
    assert f"No other row beats `{name}` in map_at_r by more than chance in a group of queries." in page()


@pytest.mark.slow
def test_only_the_three_largest_differences_are_named() -> None:
    images = rows({"best": 0.2, "steady": 0.9})
    images["best"] = with_weak_queries(images["best"], 9.0)
    run(images)
    tone = tones(images["best"])
    lines = write_slices(images["best"], a=tone, b=tone, c=tone, d=tone)
    assert len(lines) == 16
    assert page().count(" below its mean of ") == 3 and page().count(" above 0.") == 3
    assert page().count("in 4 groups of queries, of which these are the 3 with the largest difference:") == 2


@pytest.mark.slow
def test_the_table_survives_writing_and_reading_and_is_the_same_every_time() -> None:
    images = rows({"a": 0.8, "b": 1.5}, count=15)
    run(images)
    values = ['=cmd|" /C calc"!A0', "a,b\n", "'x"]
    kinds = {image.name: values[number % 3] for number, image in enumerate(images["a"])}
    sizes = {image.name: float(number % 7 or 3) for number, image in enumerate(images["a"])}
    write_attributes(images["a"], kind=kinds, size=sizes)
    stage.main([])
    first = paths.SLICES.read_bytes()
    stage.main([])
    assert paths.SLICES.read_bytes() == first
    lines = slices.read(paths.SLICES)
    assert {line.group for line in lines if line.attribute == "kind"} == {
        '=cmd|" /C calc"!A0',
        "a,b\\n",
        "'x",
    }
    slices.write(paths.SLICES, lines)
    assert paths.SLICES.read_bytes() == first
    frame = pd.read_csv(paths.SLICES)
    assert list(frame.columns) == list(slices.HEADER) and frame.to_best.isna().sum() == len(frame) / 2


def test_without_labels_the_table_has_its_header_alone() -> None:
    unlabelled = {
        row: [replace(image, label=None) for image in images] for row, images in rows({"a": 1.0}, 5).items()
    }
    run(unlabelled)
    write_slices(unlabelled["a"], tone={image.name: image.split for image in unlabelled["a"]})
    assert paths.SLICES.read_text() == ",".join(slices.HEADER) + "\n"
    assert "Where it fails" not in page()


@pytest.mark.slow
def test_queries_without_a_right_answer_are_in_no_group() -> None:
    images = rows({"a": 1.0}, count=20)["a"]
    alone = [image for image in images if not (image.label == "label 3" and image.split == "gallery")]
    run({"a": alone})
    lines = write_slices(alone, tone=tones(alone))
    assert {line.group: line.queries for line in lines} == {"dark": 19, "light": 19}


@pytest.mark.parametrize("damage", ["model,attribute\na,b\n", None])
def test_a_damaged_table_is_told(damage: str | None) -> None:
    images = rows({"a": 1.0}, count=10)
    run(images)
    write_slices(images["a"], tone=tones(images["a"]))
    paths.SLICES.write_text(damage or paths.SLICES.read_text().replace("0.", "x."))
    with pytest.raises(
        UserError,
        match=r"metrics/slices\.csv: isn't what this version writes .* run `dvc repro -f -s slices`",
    ):
        compare.main([])
