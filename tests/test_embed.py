"""embed: the same bytes whatever the history, batch size and threads; only missing vectors are computed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from lineup import paths, source_code, stage_code
from lineup.embedding import cache_key, inference, missing_photos, vector_cache
from lineup.encoders import encoder_config, encoder_folder, libraries, measurement
from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import EncoderConfig, read_config
from lineup.engines import conversion
from lineup.engines.engine import Engine
from lineup.errors import UserError
from lineup.photos import decoding, image_preparation
from lineup.settings import prepared_size
from lineup.settings.encoder import EncoderSettings
from lineup.storage import embeddings, files, parquet, schemas
from stages import embed
from tests.support import project as scratch
from tests.support.photographs import identify, photograph, write_prepared
from tests.support.project import tree
from tests.support.small_encoders import SQUEEZENET

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = [photograph(seed) for seed in range(37)]


def place(row: str, spec: dict[str, Any] = SQUEEZENET, seed: int = 0, **facts: Any) -> Encoder:
    """A fetched encoder where `train` would leave it."""
    torch.manual_seed(seed)
    fetched = libraries.library(spec["library"]).fetch(EncoderSettings.model_validate(spec))
    encoder_folder.save(
        paths.model(row), fetched.module, fetched.config.model_copy(update={"resize_px": 64, **facts})
    )
    return encoder_folder.load(paths.model(row))


def settings(
    rows: tuple[str, ...] = ("a", "b"), encoder: dict[str, Any] = SQUEEZENET, **embed_settings: Any
) -> None:
    row = {
        "encoder": encoder,
        "objective": {"name": "none"},
        "search": {"metric": "cosine", "index": "flat"},
    }
    section = {"batch_size": 8, "engine": "torch", **embed_settings}
    paths.PARAMS.write_text(yaml.safe_dump({"embed": section, "models": dict.fromkeys(rows, row)}))


def prepare(photos: list[bytes], **options: Any) -> list[str]:
    """Every third photo is a query."""
    return write_prepared(
        paths.images("test"),
        [("gallery" if number % 3 else "query", photo) for number, photo in enumerate(photos)],
        **options,
    )


def run(row: str = "a") -> dict[str, Any]:
    """Runs the stage; its costs."""
    embed.main(["--row", row])
    return json.loads(paths.costs("embed", row).read_text())


def result(row: str = "a") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(paths.embeddings(row).iterdir())}


def forget() -> None:
    for path in paths.CACHE.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.fixture(autouse=True)
def project(empty_folder: Path) -> Path:
    settings()
    return empty_folder


# --- what is written


@pytest.mark.slow
def test_rows_are_those_of_the_images_with_their_own_vectors() -> None:
    settings(engine="auto")
    encoder = place("a")
    ids = prepare(PHOTOS[:11])
    costs = run()
    table = pq.read_table(paths.embeddings("a"))
    assert table.schema.names == ["image_id", "split", "prepared_id", "embedding"]
    assert table.column("image_id").to_pylist() == ids == sorted(ids)
    splits = {
        identify(photo): "gallery" if number % 3 else "query" for number, photo in enumerate(PHOTOS[:11])
    }
    assert table.column("split").to_pylist() == [splits[image_id] for image_id in ids]
    by_id = {identify(photo): photo for photo in PHOTOS}
    with torch.inference_mode():
        alone = [
            encoder.module(encoder.transform(Image.open(io.BytesIO(by_id[image_id]))).unsqueeze(0))[0].numpy()
            for image_id in ids
        ]
    assert (
        np.abs(embeddings.vectors_of(table.column("embedding").combine_chunks()) - np.stack(alone)).max()
        <= 1e-5
    )
    metadata = pq.read_schema(parquet.shards(paths.embeddings("a"))[0]).metadata
    assert metadata[b"model"] == b"a"
    assert metadata[b"dim"] == b"512"
    assert metadata[b"fingerprint"].decode() in [path.name for path in (paths.CACHE / "vectors").iterdir()]
    assert (costs["computed"], costs["reused"], costs["dim"], costs["random"], costs["precision"]) == (
        11,
        0,
        512,
        True,
        "float32",
    )
    assert costs["engine"] == f"openvino {version('openvino')}"
    assert costs["images_per_second"] > 0
    assert costs["peak_memory_mb"] > 0
    assert costs["source"]["weights"] == "none"


@pytest.mark.slow
def test_an_image_in_both_splits_is_computed_once() -> None:
    place("a")
    write_prepared(
        paths.images("test"), [(split, photo) for photo in PHOTOS[:9] for split in ("gallery", "query")]
    )
    costs = run()
    assert (costs["computed"], costs["reused"]) == (9, 0)
    table = pq.read_table(paths.embeddings("a"))
    vectors = embeddings.vectors_of(table.column("embedding").combine_chunks())
    assert table.column("split").to_pylist() == ["gallery", "query"] * 9
    assert np.array_equal(vectors[::2], vectors[1::2])


def test_photos_that_were_shrunk_too_far_are_not_embedded() -> None:
    place("a", resize_px=257)
    prepare(PHOTOS[:3])
    with pytest.raises(
        UserError, match=r"shorter_side_px is 512, but models\.a resizes photos to 257 px .* set .* to 514$"
    ):
        run()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (12, 1)])
def test_a_wide_photo_has_the_vector_of_its_original(shape: tuple[int, int]) -> None:
    """By the demo's network.

    Shrunk by the longer side, as it was, the cosine fell to 0.9 at 4:1 and to 0.6 at 12:1.
    """
    spec = EncoderSettings.model_validate(
        scratch.demo_params("mobilenet_v2", image_size=64)["models"]["mobilenet_v2"]["encoder"]
    )
    fetched = libraries.library(spec.library).fetch(spec)
    transform = libraries.library(spec.library).transform(fetched.config)
    stored_px = prepared_size.required_px(measurement.resize_px(transform, 64))
    original = photograph(7, 160 * shape[0], 160 * shape[1])
    replacement = image_preparation.prepare(original, stored_px).replacement
    assert replacement is not None
    with torch.inference_mode():
        vectors = fetched.module.eval()(
            torch.stack([transform(decoding.decode(data)) for data in (original, replacement)])
        )
    assert torch.nn.functional.cosine_similarity(*vectors, dim=0) >= 0.99


def test_no_images_give_an_empty_table() -> None:
    place("a")
    write_prepared(paths.images("test"), [])
    assert run()["images_per_second"] is None
    assert embeddings.read_embeddings(paths.embeddings("a"), "query").vectors.shape == (0, 512)


# --- the same bytes


def by_torch(
    encoder: Encoder, photos: Iterable[tuple[str, bytes]], batch_size: int, threads: int
) -> Iterator[inference.Batch]:
    network = conversion.prepare(
        Engine("torch", "float32", torch.device("cpu")), encoder, batch_size=batch_size, threads=threads
    )
    return inference.vectors(network, photos, batch_size, threads)


def embedded(encoder: Encoder, photos: list[bytes], batch_size: int, threads: int) -> dict[str, bytes]:
    named = [(identify(photo), photo) for photo in photos]
    done = by_torch(encoder, named, batch_size, threads)
    return {
        image_id: vector.tobytes()
        for batch in done
        for image_id, vector in zip(batch.ids, batch.vectors, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name", "image_size"),
    [
        ("torchvision", "mobilenet_v2", 128),
        ("torchvision", "resnet50", 224),
        ("timm", "tf_efficientnet_lite0", 128),
        ("timm", "vit_tiny_patch16_224", None),
    ],
)
def test_neither_batch_size_nor_order_nor_threads_change_a_byte(
    library: str, name: str, image_size: int | None
) -> None:
    """By torch; test_engines.py has smaller networks, by every engine."""
    encoder = place(
        "a",
        {"library": library, "name": name, "weights": "none", "allow_random": True, "image_size": image_size},
    )
    photos = PHOTOS[:20]
    own_threads = torch.get_num_threads()
    reference = embedded(encoder, photos, 16, threads=1)
    try:
        torch.set_num_threads(2)
        for batch_size, threads in ((32, 1), (1, 2), (16, 3)):
            assert embedded(encoder, photos, batch_size, threads) == reference
    finally:
        torch.set_num_threads(own_threads)
    assert embedded(encoder, photos[::-1], 16, threads=2) == reference
    assert embedded(encoder, photos[7:8], 16, threads=1) == {
        identify(photos[7]): reference[identify(photos[7])]
    }


@pytest.mark.slow
def test_full_incremental_and_repeated_runs_give_the_same_bytes() -> None:
    place("a")
    prepare(PHOTOS)
    assert run()["computed"] == 37
    full = result()
    assert run()["computed"] == 0
    assert result() == full
    forget()
    for several in (PHOTOS[30:], PHOTOS[12:], PHOTOS):
        prepare(several)
        costs = run()
    assert (costs["computed"], costs["reused"]) == (12, 25)
    assert result() == full
    forget()
    settings(batch_size=16)
    run()
    assert result() == full


@pytest.mark.slow
def test_fewer_photos_need_no_network() -> None:
    place("a")
    prepare(PHOTOS)
    run()
    prepare(PHOTOS[:20])
    assert run()["computed"] == 0
    fewer = result()
    forget()
    run()
    assert result() == fewer


@pytest.mark.slow
def test_a_killed_run_is_resumed_where_it_stopped() -> None:
    encoder = SQUEEZENET | {"name": "mobilenet_v2"}
    settings(encoder=encoder, engine="auto")
    place("a", encoder)
    prepare(PHOTOS)
    run()
    full = result()
    forget()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.embed", "--row", "a"], env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(paths.CACHE.rglob("*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = sum(
        pq_rows for pq_rows in (len(load_file(path)["ids"]) for path in paths.CACHE.rglob("*.safetensors"))
    )
    assert finished >= 8
    costs = run()
    assert (costs["computed"], costs["reused"]) == (37 - finished, finished)
    assert result() == full


# --- what decides a vector, and what doesn't


def change_a_weight() -> None:
    module = encoder_folder.load(paths.model("a")).module
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] += 1e-3
    encoder_folder.save(paths.model("a"), module, read_config(paths.model("a")))


def facts(row: str) -> dict[str, Any]:
    return json.loads((paths.model(row) / "encoder.json").read_text())


def change_facts(change: Callable[[dict[str, Any]], Any]) -> None:
    told = facts("a")
    change(told)
    files.write_json(paths.model("a") / "encoder.json", told)


def weights_come_from(source: str) -> None:
    change_facts(lambda told: told["source"].update(weights=source))
    settings(encoder=SQUEEZENET | {"weights": source})


DECIDES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "weights": lambda _: change_a_weight(),
    "crop": lambda _: change_facts(lambda told: told["transform"].update(crop=60)),
    "interpolation": lambda _: change_facts(lambda told: told["transform"].update(interpolation="bicubic")),
    "mean": lambda _: change_facts(lambda told: told["transform"].update(mean=[0.5, 0.5, 0.5])),
    "pooling": lambda _: change_facts(lambda told: told.update(pooling="cls")),
    "precision": lambda _: settings(precision="bfloat16"),
    "engine": lambda _: settings(engine="onnxruntime"),
    "a library's version": lambda patch: patch.setattr(libraries, "versions", lambda *_: {"torch": "9.9"}),
    "code of the transform": lambda patch: patch.setattr(cache_key, "code_digest", lambda *_: "another"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", DECIDES)
def test_what_decides_a_vector_makes_it_computed_again(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place("a")
    prepare(PHOTOS[:9])
    run()
    before = pq.read_schema(parquet.shards(paths.embeddings("a"))[0]).metadata[b"fingerprint"]
    DECIDES[what](monkeypatch)
    assert run()["computed"] == 9
    assert pq.read_schema(parquet.shards(paths.embeddings("a"))[0]).metadata[b"fingerprint"] != before


IRRELEVANT: dict[str, Callable[[], object]] = {
    "batch size": lambda: settings(batch_size=3),
    "order of photos": lambda: prepare(PHOTOS[:9][::-1]),
    "splits": lambda: write_prepared(paths.images("test"), [("gallery", photo) for photo in PHOTOS[:9]]),
    "where the weights came from": lambda: weights_come_from("file:elsewhere.safetensors"),
    "licence": lambda: change_facts(lambda told: told.update(licence="mit")),
    "versions at fetch": lambda: change_facts(lambda told: told["versions"].update(torch="0.1")),
    "comments": lambda: paths.PARAMS.write_text("# a comment\n" + paths.PARAMS.read_text()),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", IRRELEVANT)
def test_what_does_not_matter_computes_nothing(what: str) -> None:
    place("a")
    prepare(PHOTOS[:9])
    first = run()
    IRRELEVANT[what]()
    costs = run()
    assert (costs["computed"], costs["reused"]) == (0, 9)
    assert costs["images_per_second"] == first["images_per_second"], "the earlier measurement stands"


def shrunk(photo: bytes, side: int) -> bytes:
    made = image_preparation.prepare(photo, side).replacement
    assert made is not None
    return made


@pytest.mark.slow
def test_a_photo_that_is_shrunk_to_another_size_is_computed_again_and_no_other() -> None:
    """An image_id is that of the file as it was; a vector is that of what is stored in its place."""
    place("a")
    changed = {identify(photo): photo for photo in (PHOTOS[2], PHOTOS[5])}
    seen = {}
    for side, computed in ((None, 9), (24, 2), (40, 2), (24, 0), (None, 0)):
        prepare(
            PHOTOS[:9],
            shrunk={image_id: shrunk(photo, side) for image_id, photo in changed.items()} if side else None,
        )
        costs = run()
        assert (costs["computed"], costs["reused"]) == (computed, 9 - computed)
        seen.setdefault(side, set()).add(str(tree(paths.embeddings("a"))))
        fresh = shutil.move(paths.CACHE, Path("kept"))
        assert run()["computed"] == 9
        seen[side].add(str(tree(paths.embeddings("a"))))
        shutil.rmtree(paths.CACHE)
        shutil.move(fresh, paths.CACHE)
    assert [len(results) for results in seen.values()] == [1, 1, 1]
    assert len(set().union(*seen.values())) == 3


@pytest.mark.slow
def test_another_row_with_the_same_encoder_reuses_its_vectors() -> None:
    place("a")
    place("b")
    prepare(PHOTOS[:9])
    first = run("a")
    costs = run("b")
    assert (costs["computed"], costs["images_per_second"]) == (0, first["images_per_second"])
    one, other = (embeddings.read_embeddings(paths.embeddings(row), "gallery") for row in ("a", "b"))
    assert np.array_equal(one.vectors, other.vectors)


@pytest.mark.slow
def test_a_few_new_photos_do_not_replace_the_measurement_of_many() -> None:
    place("a")
    prepare(PHOTOS[:30])
    first = run()
    prepare(PHOTOS)
    costs = run()
    assert costs["computed"] == 7
    assert costs["images_per_second"] == first["images_per_second"]
    assert costs["measured_images"] == 30  # too few to leave out the first batch


# --- which engine computes


class Unconvertible(nn.Module):
    """No engine but torch knows its operation."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.special.i1e(pixels.mean(dim=(2, 3)) + 1).repeat(1, 171)[:, :512]


def load_unconvertible(monkeypatch: pytest.MonkeyPatch) -> None:
    load = encoder_folder.load
    monkeypatch.setattr(
        encoder_folder, "load", lambda folder: dataclasses.replace(load(folder), module=Unconvertible())
    )


@pytest.mark.slow
def test_torch_computes_what_no_other_engine_can(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings(engine="auto")
    place("a")
    prepare(PHOTOS[:9])
    load_unconvertible(monkeypatch)
    assert run()["engine"] == f"torch {version('torch')}"
    printed = capfd.readouterr()
    told = [line for line in printed.err.splitlines() if "can't compute" in line]
    assert [line.split(" (")[0] for line in told] == [
        f"embed: {engine} can't compute data/models/a" for engine in ("openvino", "onnxruntime")
    ]
    assert all("aten::special_i1e" in line for line in told)
    settings(engine="torch")
    assert run()["computed"] == 0, "whether it was asked for or found to be the one, they are torch's vectors"


def test_an_engine_that_is_named_and_can_not_compute_a_row_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    place("a")
    prepare(PHOTOS[:9])
    load_unconvertible(monkeypatch)
    settings(engine="openvino")
    told = r"^params\.yaml: embed\.engine: openvino can't compute data/models/a \(.+\); set engine: auto or torch$"
    with pytest.raises(UserError, match=told):
        run()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino", "onnxruntime"])
def test_each_engine_s_vectors_are_kept_apart_and_repeat(engine: str) -> None:
    settings(engine="auto")
    place("a")
    prepare(PHOTOS[:20])
    run()
    settings(engine=engine)
    assert run()["computed"] == (0 if engine == "openvino" else 20)
    full = result()
    forget()
    prepare(PHOTOS[9:15])
    run()
    prepare(PHOTOS[:20])
    assert run()["computed"] == 14
    assert result() == full


# --- faults


class Broken(nn.Module):
    """Gives `value` for an image that is all white."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        bright = pixels.mean(dim=(1, 2, 3)) > 0.999
        return torch.where(bright[:, None], torch.tensor(self.value), torch.ones(len(pixels), 4))


@pytest.mark.parametrize(
    ("value", "told"), [(float("nan"), "not finite"), (float("inf"), "not finite"), (0.0, "only zeros")]
)
def test_a_vector_that_is_none_names_its_image(value: float, told: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(buffer, "PNG")
    bright = buffer.getvalue()
    encoder = Encoder(
        Broken(value),
        lambda image: torch.from_numpy(np.asarray(image)[:4, :4] / 255.0).permute(2, 0, 1).float(),
        EncoderConfig.model_construct(image_size=4),
    )
    photos = [(identify(photo), photo) for photo in (*PHOTOS[:11], bright)]
    done = by_torch(encoder, photos, 8, 1)
    assert next(done).ids == [image_id for image_id, _ in photos[:8]]
    with pytest.raises(UserError, match=f"image_id {identify(bright)} gets a vector of .*{told}"):
        next(done)


@pytest.mark.slow
def test_batches_before_a_fault_are_kept() -> None:
    place("a")
    photos = sorted((photo for photo in PHOTOS[:30]), key=identify)
    bad = next(
        data
        for data in (b"no image %d" % number for number in range(10_000))
        if identify(data) > identify(photos[20])
    )
    prepare([*photos, bad])
    with pytest.raises(UserError, match=identify(bad)):
        run()
    prepare(photos)
    costs = run()
    assert costs["reused"] >= 16
    assert costs["computed"] == 30 - costs["reused"]


def test_a_named_image_has_its_path() -> None:
    row = {
        "image_id": ["ab" * 32],
        "split": ["query"],
        "label": [None],
        "paths": [["test/query/ä b.jpg"]],
        "pixels_id": [""],
        "width": [1],
        "height": [1],
        "format": ["JPEG"],
    }
    parquet.write_table(paths.manifest("test"), pa.table(row, schema=schemas.MANIFEST))
    assert inference._named("ab" * 32) == f"data/raw/test/query/ä b.jpg (image_id {'ab' * 32})"
    assert inference._named("cd" * 32) == f"image_id {'cd' * 32}"


def test_an_image_that_can_t_be_decoded_is_named() -> None:
    place("a")
    prepare([*PHOTOS[:3], b"no image"])
    with pytest.raises(UserError, match=identify(b"no image")):
        run()


@pytest.mark.slow
def test_code_that_dvc_embeds_again_for_decides_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    place("a")
    digested: list[str] = []
    monkeypatch.setattr(
        cache_key,
        "code_digest",
        lambda *files: digested.extend(str(file.relative_to(ROOT)) for file in files) or "",
    )
    cache_key.vector_key_parts(paths.model("a"), Engine("openvino", "float32", torch.device("cpu")))
    monkeypatch.chdir(ROOT)
    modules = stage_code.STAGES["embed"].modules() | {"lineup.encoders.torchvision"}
    of_stage = {source_code.file_of(module).as_posix() for module in modules}
    names = ("cache_key", "computation", "job", "measurement", "missing_photos")
    orchestration = {"stages/embed.py", *(f"lineup/embedding/{name}.py" for name in names)}
    others = {
        "lineup/encoders/adapter.py",  # in the fingerprint of rows with an adapter
        "lineup/encoders/origin.py",
        *(f"lineup/engines/{name}.py" for name in ("onnxruntime", "torch")),
    }
    of_int8 = {  # which has a digest of its own
        "lineup/embedding/quantised_network.py",
        "lineup/photos/calibration_photos.py",
        "lineup/photos/prepared_images.py",
        *(f"lineup/engines/{name}.py" for name in ("onnxruntime_int8", "openvino_int8", "quantisation")),
    }
    assert {*digested} == of_stage - orchestration - others - of_int8


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", None])
def test_a_measurement_that_is_damaged_in_any_way_counts_as_none(content: bytes | None) -> None:
    place("a")
    prepare(PHOTOS[:9])
    run()
    [file] = (paths.CACHE / "vectors").glob("*/measurement.json")
    if content is None:  # one bit, which leaves it well-formed
        content = file.read_bytes().replace(b'"measured_images": 9', b'"measured_images": 8')
        assert content != file.read_bytes()
    file.write_bytes(content)
    assert run()["images_per_second"] is None
    prepare(PHOTOS[:20])
    assert run()["measured_images"] == 11


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda: (paths.model("a") / encoder_config.CONFIG_FILE).write_text("{"),
            "data/models/a/encoder.json: is damaged; run `dvc checkout",
        ),
        (
            lambda: (paths.model("a") / encoder_folder.WEIGHTS_FILE).unlink(),
            "data/models/a: model.safetensors does not exist",
        ),
        (
            lambda: next(paths.images("test").iterdir()).write_bytes(b"PAR1"),
            "data/prepared/test/images/all.parquet: is damaged; run `dvc",
        ),
    ],
    ids=["facts", "weights", "images"],
)
def test_damaged_input_is_told(damage: Callable[[], None], told: str) -> None:
    place("a")
    prepare(PHOTOS[:9])
    damage()
    with pytest.raises(UserError, match=told):
        run()


def test_damaged_weights_are_told() -> None:
    place("a")
    prepare(PHOTOS[:3])
    file = paths.model("a") / "model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)
    with pytest.raises(UserError, match=r"data/models/a: model\.safetensors is damaged"):
        run()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told() -> None:
    place("a")
    prepare(PHOTOS[:3])
    settings(device="cuda")
    with pytest.raises(UserError, match=r"embed\.device is cuda, but torch finds no CUDA GPU"):
        run()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_nearly_the_processor_s_vectors() -> None:
    place("a")
    prepare(PHOTOS)
    run()
    gpu = embeddings.read_embeddings(paths.embeddings("a"), "gallery").vectors
    settings(device="cpu")
    run()
    cpu = embeddings.read_embeddings(paths.embeddings("a"), "gallery").vectors
    assert nn.functional.cosine_similarity(torch.from_numpy(gpu), torch.from_numpy(cpu)).min() >= 0.9999


def test_missing_inputs_are_told() -> None:
    with pytest.raises(UserError, match=r"data/models/a/encoder\.json: does not exist"):
        run()
    place("a")
    with pytest.raises(UserError, match="data/prepared/test/images: does not exist"):
        run()


def test_memory_ahead_of_the_network_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are read as they are needed: what is given out, what is under way, and one part more."""
    monkeypatch.setattr("lineup.engines.torch.CPU_SHAPE", 2)
    monkeypatch.setattr(inference, "IMAGES_PER_TASK", 2)
    read: list[str] = []

    def photos() -> Iterator[tuple[str, bytes]]:
        for photo in PHOTOS:
            read.append(identify(photo))
            yield read[-1], photo

    done = by_torch(place("a"), photos(), 4, 2)
    assert next(done).ids == read[:4]
    assert len(read) <= 4 + 2 * (2 + 2 + 1)  # two threads more than processors


def test_only_row_groups_with_missing_images_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = place("a")
    prepare(PHOTOS[:6])
    cache = vector_cache.VectorCache(Path("cache"), encoder.dim)
    assert len(list(missing_photos.read(paths.images("test"), cache))) == 6
    ids = vector_cache.raw_ids(sorted(identify(photo) for photo in PHOTOS[:6]))
    cache.add(ids, np.ones((6, encoder.dim), np.float32))
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("image bytes were read"))
    assert list(missing_photos.read(paths.images("test"), cache)) == []
