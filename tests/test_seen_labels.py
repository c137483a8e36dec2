"""How trained rows do on labels that they were trained on and on others, with pandas as an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lineup import paths
from lineup.evaluation import row_metrics
from lineup.settings import trained_rows
from lineup.settings.params import Params
from lineup.storage import files
from stages import compare, score
from tests.support import collection
from tests.support.collection import clustered

LABELS, QUERIES = 16, 3
TRAINED = {"name": "arcface"}


def run(seen: Sequence[str], objectives: dict[str, Any] | None = None, **other_row: Any) -> str:
    """The page, of a start and of a row that was trained on these labels."""
    collection.run(
        {row: clustered(LABELS, QUERIES, 4, noise) for row, noise in (("start", 2.5), ("tuned", 1.5))}
    )
    content = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    row = content["models"]["start"]
    content["models"] = {"start": row, "tuned": {**row, "objective": TRAINED, **other_row}}
    collection.write_params(content)
    train = {"row": "tuned", "minutes": 1.0, "note": None, "labelled_photos": 99, "labels": [*seen]}
    files.write_json(paths.costs("train", "tuned"), train)
    score.main(["--row", "tuned"])
    compare.main([])
    return paths.COMPARISON.read_text(encoding="utf-8")


def queries(row: str) -> Any:
    """A pandas table, whose stubs know too little of what an index returns."""
    return pd.read_csv(paths.row_queries(row)).set_index("query_id")


def table() -> Any:
    return pd.read_csv(paths.SEEN_LABELS, keep_default_na=True).set_index("group")


def names(*numbers: int) -> list[str]:
    return [f"label {number}" for number in numbers]


@pytest.fixture(autouse=True)
def folder(empty_folder: Path) -> Path:
    return empty_folder


@pytest.mark.slow
def test_means_and_differences_are_those_of_pandas() -> None:
    page = run([*names(*range(0, 16, 2)), "not in the test"])
    tuned, start = queries("tuned"), queries("start")
    group = np.where(tuned["label"].str.split().str[1].astype(int) % 2 == 0, "seen", "unseen")
    lines = table()
    means = tuned["map_at_r"].groupby(group).mean()
    away = (tuned["map_at_r"] - start["map_at_r"]).groupby(group).mean()
    for name in ("seen", "unseen"):
        line = lines.loc[name]
        assert (line["model"], line["start"], line["queries"], line["labels"]) == ("tuned", "start", 24, 8)
        assert line["mean"] == pytest.approx(means[name], abs=1e-6)
        assert line["to_start"] == pytest.approx(away[name], abs=1e-6)
        assert line["low"] < line["mean"] < line["high"]
        assert line["to_start_low"] < line["to_start"] < line["to_start_high"]
        assert 0 < line["to_start_p_holm"] <= 1
        assert f"{away[name]:+.3f} (" in page
    assert "## Seen and unseen labels" in page and "| map_at_r, unseen labels |" in page


@pytest.mark.slow
def test_an_interval_is_that_of_a_naive_bootstrap_of_labels() -> None:
    run(names(*range(0, 16, 2)))
    tuned, start = queries("tuned"), queries("start")
    away = (tuned["map_at_r"] - start["map_at_r"]).groupby(tuned["label"]).mean()
    own = away[[name for name in away.index if int(name.split()[1]) % 2]].to_numpy()
    random = np.random.default_rng(1)
    resampled = own[random.integers(8, size=(20_000, 8))].mean(axis=1)
    expected = np.quantile(resampled, [0.025, 0.975])
    line = table().loc["unseen"]
    assert [line["to_start_low"], line["to_start_high"]] == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_where_no_label_was_seen_the_difference_is_what_generalises() -> None:
    page = run(["another label"])
    assert [*table().index] == ["unseen"]
    assert "No query has a label that a row was trained on" in page
    assert ", seen labels" not in page


@pytest.mark.slow
def test_where_all_labels_were_seen_new_ones_are_unknown() -> None:
    page = run(names(*range(LABELS)))
    assert [*table().index] == ["seen"] and "nothing here says how the rows do on new labels" in page


@pytest.mark.slow
def test_few_queries_say_nothing() -> None:
    page = run(names(0, 1))
    line = table().loc["seen"]
    assert line["queries"] == 6 and np.isnan(line["low"]) and np.isnan(line["to_start_p_holm"])
    assert not np.isnan(line["to_start"])
    assert "Too few queries have seen labels" in page and "map_at_r, seen labels" not in page


@pytest.mark.slow
def test_without_a_start_the_page_says_which_row_would_show_it() -> None:
    page = run(names(*range(0, 16, 2)), encoder={**collection.ENCODER, "image_size": 64})
    assert "`tuned` has no start among the rows" in page
    assert table()["start"].isna().all() and table()["to_start"].isna().all()


def test_without_a_trained_row_there_is_no_section() -> None:
    collection.run({"start": clustered(LABELS, QUERIES, 4, 2.0)})
    assert "Seen and unseen" not in paths.COMPARISON.read_text(encoding="utf-8") and table().empty
    assert row_metrics.read("start").training is None
    assert "training" not in files.read_json(paths.row_metrics("start"))


def test_the_start_is_the_row_with_the_same_search_where_there_are_several() -> None:
    row = collection.params("l2", metric="l2")["models"]["l2"]
    cosine = {**row, "search": {"metric": "cosine", "index": "flat"}}
    models = {"l2": row, "cosine": cosine, "tuned": {**cosine, "objective": TRAINED}}
    assert trained_rows.starts(Params.model_validate({"models": models})) == {"tuned": "cosine"}
