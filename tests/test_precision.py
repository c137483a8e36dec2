"""Precision as a row's choice: int8 networks, the vectors they give, the errors, and the twins side by side."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

from lineup import machine, paths
from lineup.commands import check
from lineup.comparison.comparison import Pair
from lineup.embedding import quantised_network, query_network
from lineup.encoders import encoder_folder, libraries
from lineup.engines import quantisation
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.export import search_plan
from lineup.photos import calibration_photos, decoding, image_preparation
from lineup.settings.encoder import EncoderSettings
from lineup.settings.params import Params
from lineup.settings.sections import Embed
from lineup.storage import embeddings, parquet
from lineup.summary import precision_twins
from lineup.summary.precision_twins import Alone, Twin
from stages import compare, embed, quantise, score
from tests.support import collection
from tests.support.collection import clustered
from tests.support.photographs import identify, photograph, write_prepared
from tests.support.project import tree
from tests.support.small_encoders import SQUEEZENET

if TYPE_CHECKING:  # pyright checks that the file of each engine keeps its contract
    from lineup.engines import onnxruntime_int8, openvino_int8
    from lineup.engines.quantisation import QuantisingLibrary

    LIBRARIES: tuple[QuantisingLibrary, ...] = (openvino_int8, onnxruntime_int8)

PHOTOS = [photograph(seed) for seed in range(24)]
TEST, TRAIN = PHOTOS[:12], PHOTOS[12:20]


def settings(rows: dict[str, str | None], encoder: dict[str, Any] = SQUEEZENET, **embed: Any) -> Params:
    row = {
        "encoder": encoder,
        "objective": {"name": "none"},
        "search": {"metric": "cosine", "index": "flat"},
    }
    models = {name: {**row, "precision": precision} if precision else row for name, precision in rows.items()}
    content = {"embed": {"device": "cpu", **embed}, "models": models}
    paths.PARAMS.write_text(yaml.safe_dump(content))
    return Params.model_validate(content)


def place(*rows: str, encoder: dict[str, Any] = SQUEEZENET) -> None:
    """Fetched encoders, the same for each row, where `train` would leave them."""
    torch.manual_seed(0)
    fetched = libraries.library(encoder["library"]).fetch(EncoderSettings.model_validate(encoder))
    for row in rows:
        encoder_folder.save(paths.model(row), fetched.module, fetched.config)


def prepare(train: list[bytes]) -> None:
    test = [("gallery" if number % 3 else "query", photo) for number, photo in enumerate(TEST)]
    write_prepared(paths.images("test"), test)
    write_prepared(paths.images("train"), [("train", photo) for photo in train])


def run(row: str) -> dict[str, Any]:
    """Both stages; what `embed` measured."""
    quantise.main(["--row", row])
    embed.main(["--row", row])
    return json.loads(paths.costs("embed", row).read_text())


def vectors(row: str) -> np.ndarray:
    tables = parquet.read_shards(paths.embeddings(row), ["embedding"])
    return np.concatenate([embeddings.vectors_of(table.column("embedding")) for table in tables])


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(autouse=True)
def folder(empty_folder: Path) -> Path:
    return empty_folder


# --- the photos that calibrate


def hashed(seed: int, ids: list[str]) -> list[str]:
    return sorted(ids, key=lambda image_id: hashlib.sha256(f"{seed} {image_id}".encode()).digest())


def test_training_photos_with_the_smallest_hashes_calibrate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_photos, "MOST_PHOTOS", 5)
    prepare(TRAIN)
    ids = [identify(photo) for photo in TRAIN]
    chosen = calibration_photos.choose(0)
    assert (chosen.part, [*chosen.ids]) == ("train", hashed(0, ids)[:5])
    assert [(image_id, identify(image)) for image_id, image in chosen.read()] == [(i, i) for i in chosen.ids]
    assert calibration_photos.choose(1).ids != chosen.ids

    first, last = hashed(0, ids)[0], hashed(0, ids)[-1]
    prepare([photo for photo in TRAIN if identify(photo) != last])
    assert calibration_photos.choose(0) == chosen, "a photo that was not chosen changes nothing"
    prepare([photo for photo in TRAIN if identify(photo) != first])
    assert calibration_photos.choose(0).sha256 != chosen.sha256


def test_without_training_photos_the_gallery_calibrates_and_never_a_query() -> None:
    prepare([])
    gallery = [identify(photo) for number, photo in enumerate(TEST) if number % 3]
    chosen = calibration_photos.choose(0)
    assert (chosen.part, [*chosen.ids]) == ("test", hashed(0, gallery))

    write_prepared(paths.images("test"), [("query", TEST[0])])
    with pytest.raises(UserError, match="no photo to calibrate int8 on; put photos into"):
        calibration_photos.choose(0)


def test_a_shrunk_photo_is_another_calibration_photo() -> None:
    prepare(TRAIN)
    before = calibration_photos.choose(0)
    small = image_preparation.prepare(TRAIN[0], 32).replacement
    assert small
    shrunk = {identify(TRAIN[0]): small}
    write_prepared(paths.images("train"), [("train", photo) for photo in TRAIN], shrunk)
    after = calibration_photos.choose(0)
    assert after.ids == before.ids and after.sha256 != before.sha256


# --- networks in int8


@pytest.mark.slow
@pytest.mark.parametrize("engine", quantisation.ENGINES)
def test_int8_gives_nearly_the_vectors_of_float32_and_the_same_bytes_again(engine: str) -> None:
    settings({"full": None, "small": "int8"}, engine=engine)
    place("full", "small")
    prepare(TRAIN)
    run("full")
    alone = tree(paths.embeddings("full"))
    costs = run("small")
    assert (costs["precision"], costs["engine"].split()[0], costs["computed"]) == ("int8", engine, len(TEST))
    similar = cosines(vectors("small"), vectors("full"))
    assert similar.min() > 0.99 and similar.max() < 0.999999, "nearly, but computed in 8 bits"

    record = json.loads((paths.quantised("small") / quantised_network.RECORD_FILE).read_text())
    assert record["calibration"] == {
        "part": "train",
        "photos": len(TRAIN),
        "sha256": calibration_photos.choose(0).sha256,
    }
    packages = quantisation.library(engine).PACKAGES
    assert {name: record["versions"][name] for name in packages} == {
        name: importlib.metadata.version(name) for name in packages
    }

    written, embedded = tree(paths.quantised("small")), tree(paths.embeddings("small"))
    quantise.main(["--row", "small"])
    assert tree(paths.quantised("small")) == written, "calibrating again gives the same bytes"
    assert run("small")["computed"] == 0
    run("full")
    assert (tree(paths.embeddings("small")), tree(paths.embeddings("full"))) == (embedded, alone)

    query = query_network.load("small", Embed(precision="int8"), 1)
    assert (query.engine.name, query.engine.precision, query.shape) == (engine, "int8", 1)

    prepare(TRAIN[:-1])  # other photos calibrate another network: all vectors are computed again
    again = run("small")
    assert again["computed"] == len(TEST) and again["fingerprint"] != costs["fingerprint"]
    assert run("full")["computed"] == 0


@pytest.mark.slow
def test_a_transformer_takes_other_numbers_of_images_than_it_was_quantised_with() -> None:
    encoder = {"library": "timm", "name": "test_vit", "weights": "none", "allow_random": True}
    settings({"vit": "int8"}, encoder)
    place("vit", encoder=encoder)
    prepare(TRAIN)
    quantise.main(["--row", "vit"])
    own = encoder_folder.load(paths.model("vit"))
    engine = quantisation.candidates("vit", Embed(device="cpu", precision="int8"))[0]
    pixels = torch.stack([own.transform(decoding.decode(photo)) for photo in TEST[:8]])
    several = quantised_network.load(engine, paths.quantised("vit"), own, 8, 1)
    single = quantised_network.load(engine, paths.quantised("vit"), own, 1, 1)
    assert single.shape == 1
    together = np.concatenate(
        [
            several.forward(pixels[start : start + several.shape].contiguous())
            for start in range(0, 8, several.shape)
        ]
    )
    alone = np.concatenate([single.forward(image[None]) for image in pixels])
    assert cosines(together, alone).min() > 0.999
    with torch.inference_mode():
        assert cosines(alone, own.module.eval()(pixels).numpy()).min() > 0.95


# --- faults


def refused(row: str, **embed: Any) -> str:
    with pytest.raises(UserError) as fault:
        quantisation.candidates(row, Embed.model_validate(embed))
    return str(fault.value)


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (
            {"precision": "int8", "engine": "torch"},
            "int8 is unknown to embed.engine: torch; set engine: openvino, onnxruntime or auto",
        ),
        ({"precision": "int8", "device": "cuda"}, "int8 computes on processors only"),
        (
            {"precision": "float16", "engine": "openvino"},
            "embed.engine: openvino computes on a processor in float32 or bfloat16, not in float16; set",
        ),
    ],
)
def test_a_precision_that_the_engine_lacks_is_refused_in_a_sentence(embed: dict[str, str], said: str) -> None:
    fault = refused("mine", **embed)
    assert fault.startswith("params.yaml: models.mine: ") and said in fault and "\n" not in fault


def test_auto_never_chooses_int8_and_takes_the_engine_that_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {engine.precision for engine in quantisation.candidates("a", Embed(device="cpu"))} == {"float32"}
    assert quantisation.candidates("a", Embed(precision="int8"))[0].name == "openvino"

    def without(*missing: str) -> None:
        installed = importlib.metadata.version

        def version(name: str) -> str:
            if name in missing:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    without("nncf")
    assert quantisation.candidates("a", Embed(precision="int8"))[0].name == "onnxruntime"
    without("onnxruntime")
    assert "int8 needs nncf, which is not installed; run `pip install 'lineup[int8]'`" in refused(
        "a", precision="int8"
    )


def test_queries_of_an_int8_row_are_never_embedded_by_another_network() -> None:
    settings({"a": "int8", "b": None})
    place("a", "b")
    with pytest.raises(UserError, match=r"data/quantised/a: does not exist.*run `dvc pull data/quantised/a`"):
        query_network.load("a", Embed(precision="int8"), 1)
    prepare(TRAIN[:2])
    quantise.main(["--row", "b"])
    assert tree(paths.quantised("b")).keys() == {"precision.json"}
    with pytest.raises(UserError, match="data/quantised/b: holds no network in int8; run `dvc repro`"):
        quantised_network.read_record(paths.quantised("b"), paths.model("b"))


def test_export_refuses_an_int8_row_in_a_sentence() -> None:
    params = settings({"a": "int8", "b": None})
    with pytest.raises(UserError, match=r"models.a: is embedded in int8.*export a row in float32"):
        search_plan.check_precision("a", params)
    search_plan.check_precision("b", params)


def test_check_names_a_processor_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = settings({"a": None, "b": "bfloat16", "c": "bfloat16"})
    monkeypatch.setattr(machine, "lacks_bfloat16", lambda: True)
    [line] = check.describe_precisions(mixed)
    assert line.startswith("b, c: this processor has no instructions for bfloat16")
    assert [*check.describe_precisions(settings({"a": None}))] == []
    with pytest.raises(UserError, match=r"params.yaml: models.b: .*engine: torch"):
        list(check.describe_precisions(settings({"b": "int8"}, engine="torch")))


def test_a_row_has_its_own_precision_or_the_default() -> None:
    params = settings({"a": None, "b": "int8"}, precision="bfloat16", batch_size=7)
    assert [params.embed_of(row).precision for row in "ab"] == ["bfloat16", "int8"]
    assert params.embed_of("b").batch_size == 7


# --- twins in the comparison


def compared(precisions: dict[str, str], noise: dict[str, float]) -> str:
    """The page of rows that differ in their precision alone, from random galleries."""
    collection.run({row: clustered(12, 3, 4, noise[row]) for row in precisions})
    content = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    row = next(iter(content["models"].values()))
    content["models"] = {name: {**row, "precision": precision} for name, precision in precisions.items()}
    collection.write_params(content)
    for name, precision in precisions.items():
        file = paths.costs("embed", name)
        file.write_text(json.dumps({**json.loads(file.read_text()), "precision": precision}))
        score.main(["--row", name])
    compare.main([])
    return paths.COMPARISON.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_twin_that_loses_much_is_named_with_its_interval() -> None:
    page = compared(
        {"full": "float32", "half": "bfloat16", "small": "int8"}, {"full": 1.0, "half": 1.0, "small": 3.0}
    )
    mean = {name: row_metrics.read(name).quality["map_at_r"].mean for name in ("full", "half", "small")}
    loss = (mean["full"] - mean["small"]) / mean["full"]
    assert (
        f"**`small` loses {loss:.1%} of map_at_r in int8** against its twin `full`, more than chance" in page
    )
    assert f"{mean['small'] - mean['full']:+.3f} (-" in page
    assert "`half` loses" not in page


def pair(difference: float, p: float) -> Pair:
    return Pair("map_at_r", "a", "b", difference, difference - 0.01, difference + 0.01, p, p)


@pytest.mark.parametrize(
    ("loss", "p", "said"),
    [(0.031, 0.01, "more than chance explains"), (0.031, 0.5, "can't be told yet"), (0.029, 0.01, "")],
)
def test_a_loss_beyond_three_per_cent_is_said(loss: float, p: float, said: str) -> None:
    twin = Twin("small", "int8", "full", "map_at_r", 0.5, pair(-loss / 2, p), loss, 2.0)
    spoken = [str(sentence) for sentence in precision_twins.warnings([twin])]
    assert (len(spoken) == 1 and said in spoken[0]) if said else spoken == []


def test_a_row_without_a_twin_is_named() -> None:
    [sentence] = precision_twins.warnings([Alone("a", "bfloat16"), Alone("b", "bfloat16")])
    assert "have no twin in float32" in str(sentence) and precision_twins.table([Alone("a", "int8")]) is None


ROWS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "search": lambda row: row["search"].update(metric="l2"),
    "encoder": lambda row: row["encoder"].update(image_size=96),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ROWS)
def test_rows_that_differ_in_more_than_precision_are_no_twins(what: str) -> None:
    compared({"full": "float32", "small": "int8"}, {"full": 1.0, "small": 1.0})
    content = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    content = json.loads(json.dumps(content))  # YAML gives both rows the same sections
    ROWS[what](content["models"]["small"])
    rows = {name: row_metrics.read(name) for name in ("full", "small")}
    pairs = [pair(0.1, 0.5)._replace(a="full", b="small")]
    params = Params.model_validate(content)
    assert precision_twins.find(params, rows, pairs, ["map_at_r"]) == [Alone("small", "int8")]
    assert precision_twins.find(params, rows, pairs, []) == []
