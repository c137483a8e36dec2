"""Second test sets: what rows score there, against a naive loop, and what the comparison says of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lineup import cli, paths
from lineup.commands import group
from lineup.encoders import encoder_folder, libraries
from lineup.errors import UserError
from lineup.evaluation import transfer_metrics
from lineup.evaluation.transfer_metrics import TransferMetrics
from lineup.settings import params, trained_rows
from lineup.settings.encoder import EncoderSettings
from lineup.settings.params import Params
from lineup.storage import embeddings, parquet
from lineup.training_effects import transfer, transfer_sentences
from stages import compare, embed, preprocess
from stages import transfer as transfer_stage
from tests.support import collection, project
from tests.support.collection import clustered
from tests.support.photographs import photograph
from tests.support.project import ROOT, run
from tests.support.small_encoders import RESNET, SQUEEZENET

SET, FOLDER = "outside", "data/outside"
LABELS = 4
SECTION = {"sets": {SET: FOLDER}, "rows": {"a": SET, "b": SET}}


def row(encoder: dict[str, Any], **objective: Any) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "objective": objective or {"name": "none"},
        "search": {"metric": "cosine", "index": "flat"},
    }


def put(root: str, photos: Mapping[str, int]) -> None:
    for name, seed in photos.items():
        file = Path(root) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photograph(seed))


def names_and_seeds(count: int) -> dict[str, int]:
    """Names of photos and their seeds; every third is a query."""
    return {f"test/{'gallery' if n % 3 else 'query'}/{n // 3 % LABELS}/{n}.jpg": n for n in range(count)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos as the test of data/raw and as a second test set; all of it prepared, two encoders."""
    folder = tmp_path_factory.mktemp("transfer") / "project"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        models = {"a": row(SQUEEZENET), "b": row(RESNET)}
        project.write_params(folder, {"models": models, "transfer": SECTION})
        put("data/raw", names_and_seeds(24) | {"train/0/copy.jpg": 5})
        put(FOLDER, names_and_seeds(24))
        Path(FOLDER, "train").mkdir()
        Path(FOLDER, "train/broken.jpg").write_text("left alone")
        Path(FOLDER, "test/gallery/0/broken.jpg").write_text("no photo")
        preprocess.main()
        preprocess.main(["--set", SET])
        for name, model in models.items():
            torch.manual_seed(0)
            encoder = model["encoder"]
            fetched = libraries.library(encoder["library"]).fetch(EncoderSettings.model_validate(encoder))
            encoder_folder.save(paths.model(name), fetched.module, fetched.config)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(built, tmp_path / "project"))
    return tmp_path / "project"


def naive_map_at_r(name: str) -> dict[str, float]:
    """Of each query, from the vectors that `embed` wrote of the test of data/raw."""
    queries, gallery = (
        embeddings.read_embeddings(paths.embeddings(name), split) for split in ("query", "gallery")
    )
    images = parquet.read_table(paths.manifest("test")).to_pylist()
    label_of: dict[str, str] = {image["image_id"]: image["label"] for image in images}
    values = {}
    for query_id, vector in zip(queries.ids.tolist(), queries.vectors, strict=True):
        cosines = gallery.vectors @ vector / np.linalg.norm(gallery.vectors, axis=1)
        order = np.argsort(-cosines)
        relevant = [label_of[str(gallery.ids[position])] == label_of[query_id] for position in order]
        count = sum(relevant)
        hits = [sum(relevant[: rank + 1]) / (rank + 1) for rank in range(count) if relevant[rank]]
        values[query_id] = sum(hits) / count
    return values


def lines(name: str) -> list[dict[str, str]]:
    with paths.transfer_queries(name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_figures_are_those_of_a_naive_loop_over_the_vectors_of_embed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        embed.main(["--row", name])
        transfer_stage.main(["--row", name])
        assert "; 0 of 24 vectors computed now" in capsys.readouterr().err, (
            "embed has put them into the cache"
        )
        expected, written = naive_map_at_r(name), lines(name)
        assert {line["query_id"] for line in written} == expected.keys()
        for line in written:
            assert float(line["map_at_r"]) == pytest.approx(expected[line["query_id"]], abs=1e-6)
            assert line["query"].split("/")[2] == line["label"]
        figures = json.loads(paths.transfer_metrics(name).read_text())
        assert figures["map_at_r"] == pytest.approx(np.mean([*expected.values()]), abs=1e-6)
        assert (figures["queries"], figures["scored"], figures["gallery"]) == (8, 8, 16)
        assert figures["training_photos"] == 1
    assert lines("a") != lines("b")


@pytest.mark.slow
def test_only_a_new_photo_is_embedded_and_a_bad_one_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transfer_stage.main(["--row", "b"])
    assert "24 of 24 vectors computed now" in capsys.readouterr().err
    put(FOLDER, {"test/gallery/1/new.jpg": 99, "test/gallery/1/copy.jpg": 99})
    preprocess.main(["--set", SET])
    transfer_stage.main(["--row", "b"])
    printed = capsys.readouterr().err
    assert "; 1 of 25 vectors computed now" in printed
    assert "pairs of equal images: 1" in printed and "all pairs are in" not in printed
    assert "data/transfer_problems/outside/problems.csv names each of these" in printed
    (problem,) = csv.DictReader(paths.transfer_problems(SET).open(encoding="utf-8", newline=""))
    assert problem["path"] == "test/gallery/0/broken.jpg"
    project.write_params(folder, project.read_params(folder) | {"preprocess": {"on_bad_image": "fail"}})
    with pytest.raises(UserError, match=r"data/outside/test/gallery/0/broken.jpg .*on_bad_image"):
        preprocess.main(["--set", SET])


@pytest.mark.slow
def test_a_set_without_right_answers_is_refused(folder: Path) -> None:
    shutil.rmtree(f"{FOLDER}/test/gallery")
    put(FOLDER, {"test/gallery/other/a.jpg": 50})
    preprocess.main(["--set", SET])
    with pytest.raises(UserError, match=r"^data/outside: no query has a right answer .*labels.csv"):
        transfer_stage.main(["--row", "a"])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"sets": {SET: FOLDER}, "rows": {"c": SET}},
            "transfer.rows names 'c', which is not a row of models; known: a, b",
        ),
        ({"sets": {SET: FOLDER}, "rows": {"both": SET}}, "which is a refinement"),
        (
            {"sets": {SET: FOLDER}, "rows": {"a": "outsid"}},
            "transfer.rows.a is 'outsid', which transfer.sets lacks; did you mean 'outside'?",
        ),
        ({"rows": {"a": FOLDER}}, "which transfer.sets lacks; name its folder there"),
        ({"sets": {"Out side": FOLDER}}, "transfer.sets.Out side: a set's name may hold only"),
        ({"folders": {}}, "transfer.folders is unknown"),
    ],
)
def test_a_fault_of_the_section_is_named(empty_folder: Path, section: object, message: str) -> None:
    fusion = {"both": {"from": "a", "with": "b", "method": "reciprocal_rank_fusion"}}
    collection.write_params(collection.params("a", "b", refinements=fusion, transfer=section))
    with pytest.raises(UserError) as raised:
        params.load()
    assert message in str(raised.value)


def test_rows_and_sets_that_are_not_named_are_refused(empty_folder: Path) -> None:
    collection.write_params(collection.params("a", transfer={"sets": {SET: FOLDER}, "rows": {}}))
    with pytest.raises(UserError, match=r"transfer.rows lacks a; add `a: outside` there"):
        transfer_stage.main(["--row", "a"])
    with pytest.raises(UserError, match=r"transfer.sets.outsid is unknown; did you mean 'outside'\?"):
        preprocess.main(["--set", "outsid"])
    with pytest.raises(UserError, match=r"transfer.sets.outside is 'data/outside', which does not exist"):
        preprocess.main(["--set", SET])
    with pytest.raises(UserError, match=r"^--set-of-stage: works in `dvc repro` alone"):
        preprocess.main(["--set-of-stage"])


def check() -> int:
    """The exit code of `lineup check`."""
    try:
        cli.run(lambda: group.run(["check"]))
    except SystemExit as ended:
        return int(str(ended.code))
    return 0


def test_check_counts_the_photos_and_names_the_start_to_add(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = project.demo_params("mobilenet_v2", "arcface", "adapter")
    section = {"sets": {SET: FOLDER, "unused": FOLDER}, "rows": {"adapter": SET, "arcface": SET}}
    project.write_params(empty_folder, settings | {"transfer": section})
    assert check() == 1
    assert "transfer.sets.outside is 'data/outside', which does not exist" in capsys.readouterr().err
    put(FOLDER, names_and_seeds(24))
    assert check() == 0
    printed = capsys.readouterr().out
    assert "data/outside: a second test set of 8 queries and 16 gallery photos" in printed
    assert "add `ROW: unused` there" in printed
    assert "adapter is compared with no start" in printed and "add `mobilenet_v2: outside` there" in printed


@pytest.mark.slow
def test_dvc_has_a_stage_for_each_named_row_and_set_and_none_without(empty_folder: Path) -> None:
    shutil.copy2(ROOT / "dvc.yaml", "dvc.yaml")
    settings = yaml.safe_load((ROOT / "presets" / "photos.yaml").read_text(encoding="utf-8"))
    run("dvc", "init", "-q", "--no-scm", cwd=empty_folder)

    def named(section: dict[str, Any]) -> set[str]:
        project.write_params(empty_folder, settings | {"transfer": section})
        printed = run("dvc", "stage", "list", "--name-only", cwd=empty_folder).stdout.split()
        return {stage for stage in printed if "transfer" in stage}

    assert named({}) == set()
    assert named({"sets": {SET: FOLDER}, "rows": {"a": SET, "b": SET}}) == {
        "preprocess_transfer@outside",
        "transfer@a",
        "transfer@b",
    }


# The comparison, of figures that are written here


def write_elsewhere(name: str, values: Sequence[float], labels: Sequence[str], **figures: Any) -> None:
    """A row's figures on the second test set, one value for each query."""
    written = TransferMetrics.model_validate(
        {
            "row": name,
            "test_set": SET,
            "folder": FOLDER,
            "fingerprint": collection.FINGERPRINT,
            "queries": len(values),
            "scored": len(values),
            "gallery": 100,
            "training_photos": 0,
            "map_at_r": float(np.mean(values)),
            **figures,
        }
    )
    cells = [
        (f"{n:064}", f"test/query/{n}.jpg", label, 3, 1, f"{value:.6f}")
        for n, (value, label) in enumerate(zip(values, labels, strict=True))
    ]
    transfer_metrics.write(written, cells)


def compared(
    elsewhere: Mapping[str, Sequence[float]], home_noise: float = 0.8, **tuned: Any
) -> tuple[str, list[transfer.Transferred]]:
    """The page and the lines of metrics/transfer.csv, of `start` and of `tuned`, which started from it."""
    noises = {"start": 2.5, "tuned": home_noise}
    collection.run({name: clustered(16, 3, 4, noise) for name, noise in noises.items()})
    content = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    start = content["models"]["start"]
    objective = {"name": "arcface", **tuned}
    content["models"] = {"start": start, "tuned": {**start, "objective": objective}}
    content["transfer"] = {"sets": {SET: FOLDER}, "rows": dict.fromkeys(elsewhere, SET)}
    collection.write_params(content)
    for name, values in elsewhere.items():
        write_elsewhere(name, values, [f"label {n % 10}" for n in range(len(values))])
    compare.main([])
    return paths.COMPARISON.read_text(encoding="utf-8"), transfer.read(paths.TRANSFER)


def spread(mean: float, count: int = 40) -> list[float]:
    return (mean + np.random.default_rng(3).uniform(-0.1, 0.1, count)).tolist()


@pytest.mark.slow
def test_a_row_that_is_better_at_home_and_worse_elsewhere_is_warned_of(empty_folder: Path) -> None:
    start = spread(0.6)
    away = np.random.default_rng(5).uniform(-0.15, 0.02, 40)
    page, (line, untrained) = compared({"tuned": (start + away).tolist(), "start": start})
    assert line.start == "start" and line.to_start and line.at_home and untrained.start is None
    assert (line.queries, line.labels) == (40, 10)
    assert line.mean == pytest.approx(np.mean(start + away), abs=2e-6)
    assert line.to_start.value == pytest.approx(away.mean(), abs=2e-6)
    by_label = away.reshape(4, 10).mean(axis=0)
    resampled = by_label[np.random.default_rng(1).integers(10, size=(20_000, 10))].mean(axis=1)
    interval = [line.to_start.low, line.to_start.high]
    assert interval == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.01)
    home = {name: pd.read_csv(paths.row_queries(name))["map_at_r"] for name in ("start", "tuned")}
    assert line.at_home.value == pytest.approx((home["tuned"] - home["start"]).mean(), abs=2e-6)
    assert line.to_start.low is not None and line.to_start.high is not None
    gained = f"`tuned` gained {line.at_home.value:.3f} ("
    lost = (
        f" on data/raw and lost {-away.mean():.3f} ({-line.to_start.high:.3f} to {-line.to_start.low:.3f}, p"
    )
    assert "## What was forgotten" in page and gained in page and lost in page
    assert "blend: 0.5, or an adapter on the encoder, often forgets less" in page


@pytest.mark.slow
def test_a_row_that_loses_nothing_is_not_warned_of(empty_folder: Path) -> None:
    start = spread(0.6)
    page, _ = compared({"start": start, "tuned": [value + 0.01 for value in start]})
    assert "No trained row is worse than its start on a second test set by more than chance." in page


@pytest.mark.slow
def test_a_blended_row_is_advised_of_a_smaller_blend_and_an_adapter_of_neither(empty_folder: Path) -> None:
    start, worse = spread(0.6), spread(0.4)
    page, _ = compared({"start": start, "tuned": worse}, blend=0.7)
    assert "a smaller blend than 0.7, or an adapter" in page
    page, _ = compared({"start": start, "tuned": worse}, name="adapter")
    assert "lost 0.200" in page and "forgets less" not in page


@pytest.mark.slow
def test_few_queries_say_nothing_and_a_missing_start_is_named(empty_folder: Path) -> None:
    page, (line,) = compared({"tuned": spread(0.5, 6)})
    assert line.low is None and line.to_start is None
    assert "`tuned` is compared with no start: in transfer.rows, add `start: outside` there" in page
    assert "has 6 queries of 6 labels, too few" in page


@pytest.mark.slow
def test_without_a_second_test_set_there_is_no_section(empty_folder: Path) -> None:
    page, read = compared({})
    assert read == [] and transfer_sentences.TITLE not in page
    assert transfer_sentences.table([]) is None


@pytest.mark.slow
def test_figures_of_other_photos_or_another_set_are_refused(empty_folder: Path) -> None:
    values = spread(0.5)
    compared({"start": values, "tuned": values})
    write_elsewhere("tuned", values, ["another label"] * 40)
    with pytest.raises(UserError, match=r"transfer/tuned.csv: is of other photos than .*start.csv"):
        compare.main([])
    write_elsewhere("tuned", values, ["label"] * 40, folder="data/former")
    with pytest.raises(UserError, match=r"transfer/tuned.json: is of another row or set; run `dvc repro`"):
        compare.main([])
    paths.transfer_metrics("tuned").write_text("{}")
    with pytest.raises(UserError, match=r"isn't what this version writes; run `dvc repro -f -s transfer@tun"):
        compare.main([])


def test_the_start_of_a_row_must_be_measured_on_the_same_set() -> None:
    tuned = row(SQUEEZENET, name="arcface")
    models = {"start": row(SQUEEZENET), "tuned": tuned, "alone": {**tuned, "encoder": RESNET}}
    sets = {"one": "data/one", "two": "data/two"}

    def missing(**rows: str) -> dict[str, str]:
        transferred = {"sets": sets, "rows": rows}
        return trained_rows.missing_starts(Params.model_validate({"models": models, "transfer": transferred}))

    assert missing(tuned="one", start="one") == {}
    assert "add `start: one` there" in missing(tuned="one")["tuned"]
    assert "set `start: one` there" in missing(tuned="one", start="two")["tuned"]
    assert "objective: {name: none}" in missing(alone="one")["alone"]
