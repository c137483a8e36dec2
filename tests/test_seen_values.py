"""Queries with a value of an attribute that no training photo has, with pandas as an oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from lineup import paths
from lineup.errors import UserError
from lineup.photos import attribute_table, photo_register, raw_attributes, raw_folder
from lineup.storage import parquet, schemas
from lineup.training_effects import seen_value_sentences, seen_values
from lineup.training_effects.seen_values import OfValues
from stages import compare, slices
from tests.support import collection
from tests.support.collection import Image, clustered

LABELS, QUERIES = 16, 3


@pytest.fixture(autouse=True)
def folder(empty_folder: Path) -> Path:
    return empty_folder


def write_raw(attributes: str) -> None:
    """Empty files of three labels, two of which have training photos, and attributes.csv."""
    for name in (
        *("train/cup/1.jpg", "train/cup/2.jpg", "train/hat/3.jpg"),
        *("test/query/cup/4.jpg", "test/query/pen/5.jpg", "test/query/hat/6.jpg", "test/gallery/cup/7.jpg"),
    ):
        file = paths.RAW / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (paths.RAW / "attributes.csv").write_text(attributes, encoding="utf-8")


def metadata() -> dict[str, Any] | None:
    with photo_register.temporary() as register:
        raw_folder.read(register, paths.RAW)
        columns = raw_attributes.read(register, paths.RAW)
        register.execute(
            "INSERT INTO photo SELECT path, split, label, path, path, 8, 8, 'JPEG', NULL FROM file"
        )
        written = attribute_table.metadata(register, columns)
    return None if written is None else json.loads(written[schemas.TRAINING_VALUES])


def test_values_of_training_photos_come_from_their_paths_and_labels() -> None:
    write_raw(
        "path,label,vendor,colour,price,shelf\n"
        ",cup,Apple,red,1,\n"
        ",pen,Google,,2,\n"
        ",hat,Google,green,3,\n"
        "train/hat/3.jpg,,Samsung,red,3,\n"  # its own line counts before its label's
        "test/query/pen/5.jpg,,,blue,2,top\n"
    )
    # Of queries: Apple (cup), Google (pen, hat); red, blue, green. No training photo has a shelf; prices are numbers.
    assert metadata() == {"vendor": ["Apple"], "colour": ["red"]}


def test_without_texts_of_training_photos_nothing_is_written() -> None:
    write_raw("path,price,shelf\ntrain/cup/1.jpg,3,\ntest/query/cup/4.jpg,4,top\n")
    assert metadata() is None


def run(
    of_query: Mapping[str, str | None], training: list[str], noise: float = 1.5
) -> tuple[str, list[OfValues]]:
    """The page and the figures of `tuned`, which started from `start`.

    Args:
        of_query: the vendor of each query, by its name.
        training: the vendors of queries that training photos have, too.
    """
    images = {row: clustered(LABELS, QUERIES, 4, level) for row, level in (("start", 2.5), ("tuned", noise))}
    collection.run(images)
    content = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    row = content["models"]["start"]
    content["models"] = {"start": row, "tuned": {**row, "objective": {"name": "arcface"}}}
    collection.write_params(content)
    write_attributes(images["start"], of_query, training)
    slices.main([])
    compare.main([])
    return paths.COMPARISON.read_text(encoding="utf-8"), seen_values.read(paths.SEEN_VALUES)


def write_attributes(images: list[Image], of_query: Mapping[str, str | None], training: list[str]) -> None:
    collection.write_attributes(images, vendor=of_query)
    table = parquet.read_table(paths.ATTRIBUTES)
    values = {schemas.TRAINING_VALUES: json.dumps({"vendor": training})}
    parquet.write_table(paths.ATTRIBUTES, table, values)


def names() -> list[str]:
    return [f"{label}/{photo}" for label in range(LABELS) for photo in range(QUERIES)]


@pytest.mark.slow
def test_means_and_differences_are_those_of_pandas() -> None:
    vendors = {name: ("Apple", "Google", None)[n % 3] for n, name in enumerate(names())}
    page, computed = run(vendors, ["Apple"])
    queries = {row: pd.read_csv(paths.row_queries(row)).set_index("query_id") for row in ("start", "tuned")}
    vendor_of = {Image(name, "query", None, []).id: vendor for name, vendor in vendors.items()}
    vendor = np.array([str(vendor_of[query_id]) for query_id in queries["tuned"].index])
    assert [(each.attribute, each.figures.group) for each in computed] == [
        ("vendor", "seen"),
        ("vendor", "unseen"),
    ]
    for (_, figures), name in zip(computed, ("Apple", "Google"), strict=True):
        tuned, start = (queries[row]["map_at_r"][vendor == name] for row in ("tuned", "start"))
        assert (figures.model, figures.start, figures.queries) == ("tuned", "start", LABELS)
        assert figures.mean == pytest.approx(tuned.mean(), abs=2e-6)
        assert figures.to_start and figures.to_start.value == pytest.approx((tuned - start).mean(), abs=2e-6)
        assert figures.to_start.p_holm and figures.to_start.low and figures.low
        assert f"{figures.to_start.value:+.3f} (" in page
    assert "## Seen and unseen values of attributes" in page and "| map_at_r, unseen values |" in page
    assert "| vendor " in page


@pytest.mark.slow
def test_a_loss_on_unseen_values_is_named() -> None:
    page, (unseen,) = run(dict.fromkeys(names(), "<b>Google"), ["Apple"], noise=6)
    lost = unseen.figures.to_start
    assert lost and lost.p_holm is not None and lost.p_holm < 0.05
    assert f"`tuned` lost {-lost.value:.3f} (" in page and "queries with an unseen value of vendor." in page


@pytest.mark.slow
def test_an_attribute_without_unseen_or_with_few_queries_is_not_shown() -> None:
    page, computed = run(dict.fromkeys(names(), "Apple"), ["Apple"])
    assert computed == [] and seen_value_sentences.TITLE not in page
    few = {name: "Google" if n < 5 else "Apple" for n, name in enumerate(names())}
    page, computed = run(few, ["Apple"])
    assert [each.figures.queries for each in computed] == [43, 5]
    assert seen_value_sentences.TITLE not in page


@pytest.mark.slow
def test_a_damaged_table_is_refused() -> None:
    run({}, [])
    paths.SEEN_VALUES.write_text("attribute,model\nvendor,tuned\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"seen_values.csv: isn't what .* run `dvc repro -f -s slices`"):
        compare.main([])


def test_a_query_that_is_also_in_the_gallery_counts_by_its_own_value() -> None:
    columns = {"image_id": ["1", "1", "2"], "split": ["gallery", "query", "query"], "kind": ["a", "b", None]}
    table = pa.table(columns).replace_schema_metadata({schemas.TRAINING_VALUES: json.dumps({"kind": ["a"]})})
    (grouping,) = seen_values.of_queries(table, ["2", "1"])
    assert grouping.unseen.tolist() == [False, True] and not grouping.seen.any()
