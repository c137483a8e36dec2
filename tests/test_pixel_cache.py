"""The cache of decoded pixels: rows that see photos the same way decode them once, and no vector depends on
it.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lineup import paths
from lineup.commands import cache_usage
from lineup.embedding import computation, pixel_cache
from lineup.embedding.pixel_cache import PixelCache, Pixels
from lineup.encoders import encoder_folder, libraries
from lineup.encoders.encoder_config import EncoderConfig
from lineup.engines.lookup_transform import LookUp, fused
from lineup.photos import decoding
from lineup.settings.encoder import EncoderSettings
from stages import embed
from tests.support.photographs import photograph, write_prepared
from tests.support.project import ROOT
from tests.support.small_encoders import SQUEEZENET

PHOTOS = [photograph(seed) for seed in range(24)]
MEASURED = 8  # photos at the beginning of a run, whose pixels are not kept
BYTES = 64 * 64 * 3
FILE = BYTES + 40  # with its digest, height and width


def place(row: str, seed: int = 0, **spec: Any) -> None:
    torch.manual_seed(seed)
    fetched = libraries.library(SQUEEZENET["library"]).fetch(
        EncoderSettings.model_validate(SQUEEZENET | spec)
    )
    encoder_folder.save(paths.model(row), fetched.module, fetched.config.model_copy(update={"resize_px": 64}))


def settings(encoder: dict[str, Any] = SQUEEZENET, **embed_settings: Any) -> None:
    row = {"encoder": encoder, "objective": {"name": "none"}, "search": {"metric": "cosine", "index": "flat"}}
    paths.PARAMS.write_text(yaml.safe_dump({"embed": embed_settings, "models": dict.fromkeys("abc", row)}))


def run(row: str) -> dict[str, Any]:
    embed.main(["--row", row])
    return json.loads(paths.costs("embed", row).read_text())


def result(row: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(paths.embeddings(row).iterdir())]


def kept() -> dict[str, int]:
    """Files of pixels by fingerprint."""
    folder = paths.CACHE / "pixels"
    return {one.name: len([*one.glob("??/*")]) for one in folder.iterdir()} if folder.exists() else {}


@pytest.fixture(autouse=True)
def project(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    compute = computation.compute
    monkeypatch.setattr(computation, "compute", lambda *arguments: compute(*arguments, measured=MEASURED))
    monkeypatch.setattr(pixel_cache, "SPARED_BYTES", 0)  # the tests' own disk may be nearly full
    settings()
    write_prepared(paths.images("test"), [("gallery", photo) for photo in PHOTOS])
    return empty_folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What images.decode was given."""
    told: list[bytes] = []
    decode = decoding.decode

    def note(data: bytes) -> Image.Image:
        told.append(data)
        return decode(data)

    monkeypatch.setattr(decoding, "decode", note)
    return told


def newly_decoded(decoded: list[bytes], row: str) -> int:
    """How many photos a row decodes."""
    decoded.clear()
    run(row)
    return len(set(decoded))


# --- rows


@pytest.mark.slow
def test_a_row_with_other_weights_decodes_only_what_is_measured(decoded: list[bytes]) -> None:
    place("a", seed=0)
    place("b", seed=1)
    assert newly_decoded(decoded, "a") == len(PHOTOS)
    assert [*kept().values()] == [len(PHOTOS) - MEASURED]
    assert newly_decoded(decoded, "b") == MEASURED
    assert [*kept().values()] == [len(PHOTOS) - MEASURED]


@pytest.mark.slow
def test_vectors_are_the_same_bytes_with_kept_pixels_or_none(decoded: list[bytes]) -> None:
    place("a", seed=0)
    place("b", seed=1)
    run("a")
    assert newly_decoded(decoded, "b") == MEASURED
    taken = result("b")
    for path in (paths.CACHE / "vectors").rglob("*.safetensors"):
        path.unlink()
    settings(pixel_cache_gb=0)
    assert newly_decoded(decoded, "b") == len(PHOTOS)
    assert result("b") == taken


@pytest.mark.slow
def test_another_image_size_has_pixels_of_its_own() -> None:
    place("a")
    place("b", image_size=96)
    of_a = run("a")["pixels"]
    settings(SQUEEZENET | {"image_size": 96})
    assert run("b")["pixels"] != of_a
    assert [*kept().values()] == [len(PHOTOS) - MEASURED] * 2


@pytest.mark.slow
def test_zero_gigabytes_keep_nothing() -> None:
    settings(pixel_cache_gb=0)
    place("a")
    assert run("a")["computed"] == len(PHOTOS)
    assert kept() == {}


@pytest.mark.slow
def test_few_photos_keep_nothing() -> None:
    write_prepared(paths.images("test"), [("gallery", photo) for photo in PHOTOS[:MEASURED]])
    place("a")
    assert run("a")["computed"] == MEASURED
    assert kept() == {}


@pytest.mark.slow
def test_the_speed_is_that_of_photos_that_are_decoded() -> None:
    place("a")
    run("a")
    [measurement] = (paths.CACHE / "vectors").glob("*/measurement.json")
    assert json.loads(measurement.read_text())["measurement"]["measured_images"] == MEASURED


@pytest.mark.slow
def test_a_kept_photo_that_is_damaged_is_decoded_again(decoded: list[bytes]) -> None:
    place("a", seed=0)
    place("b", seed=1)
    run("a")
    files = sorted((paths.CACHE / "pixels").glob("*/??/*"))
    flipped = bytearray(files[0].read_bytes())
    flipped[-1] ^= 1
    files[0].write_bytes(flipped)
    files[1].write_bytes(b"")
    files[2].write_bytes(files[2].read_bytes()[:100])
    assert newly_decoded(decoded, "b") == MEASURED + 3
    assert all(len(file.read_bytes()) == FILE for file in files)


@pytest.mark.slow
def test_the_list_of_the_local_cache_describes_the_pixels() -> None:
    place("a")
    run("a")
    [entry] = [one for one in cache_usage.entries(paths.CACHE) if one.kind == "pixels"]
    assert (entry.description, entry.images) == ("torchvision 64 px", len(PHOTOS) - MEASURED)


# --- transforms


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        SQUEEZENET,
        {"library": "timm", "name": "resnet10t", "weights": "none", "allow_random": True, "image_size": 64},
        {"library": "open_clip", "name": "RN50", "weights": "none", "allow_random": True},
    ],
    ids=lambda spec: spec["library"],
)
def test_pixels_follow_from_the_part_of_the_config_that_is_in_their_key(spec: dict[str, Any]) -> None:
    library = libraries.library(spec["library"])
    config = library.fetch(EncoderSettings.model_validate(spec)).config
    photo = decoding.decode(PHOTOS[0])
    whole = library.transform(config)(photo)
    look_up = fused(library.transform(EncoderConfig.model_construct(transform=config.transform)))
    assert isinstance(look_up, LookUp)
    assert torch.equal(look_up.to_tensor(look_up.pixels(photo)), whole)


# --- the cache itself


def pixels(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)


def never() -> Pixels:
    raise AssertionError("was kept")


def opened(tmp_path: Path, name: str = "one", max_bytes: float = 1e6, required: int = 0) -> PixelCache:
    return PixelCache(tmp_path / "pixels" / name, {"encoder": {}}, max_bytes, required)


def test_pixels_come_back_as_they_were(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    assert np.array_equal(cache.take(b"x", lambda: pixels(1)), pixels(1))
    assert np.array_equal(cache.take(b"x", never), pixels(1))
    assert np.array_equal(opened(tmp_path).take(b"x", never), pixels(1))
    assert np.array_equal(cache.take(b"y", lambda: pixels(2)), pixels(2))


def test_what_has_no_room_is_made_each_time(tmp_path: Path) -> None:
    cache = opened(tmp_path, max_bytes=2 * 8 * 6 * 3)
    for name in (b"x", b"y", b"z"):
        cache.take(name, lambda: pixels(1))
    cache.take(b"x", never)
    cache.take(b"y", never)
    with pytest.raises(AssertionError):
        cache.take(b"z", never)


def test_a_disk_that_is_nearly_full_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "SPARED_BYTES", 2**62)
    cache = opened(tmp_path)
    cache.take(b"x", lambda: pixels(1))
    with pytest.raises(AssertionError):
        cache.take(b"x", never)


def test_a_disk_that_is_full_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = opened(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    assert np.array_equal(cache.take(b"x", lambda: pixels(1)), pixels(1))
    monkeypatch.undo()
    assert not [path for path in cache.folder.rglob("*") if path.is_file() and path.suffix != ".json"]
    with pytest.raises(AssertionError):
        cache.take(b"x", never)


def test_pixels_that_were_not_used_for_a_day_make_room_the_oldest_first(tmp_path: Path) -> None:
    size = 8 * 6 * 3
    for age, name in enumerate(("today", "yesterday", "before")):
        opened(tmp_path, name).take(b"x", lambda: pixels(1))
        then = time.time() - 30 * 3600 * age
        os.utime(tmp_path / "pixels" / name / "ingredients.json", (then, then))
    opened(tmp_path, "new", max_bytes=4 * (size + 40), required=size)
    assert {path.name for path in (tmp_path / "pixels").iterdir()} == {"today", "yesterday", "before", "new"}
    opened(tmp_path, "new", max_bytes=3 * (size + 40), required=size)
    assert {path.name for path in (tmp_path / "pixels").iterdir()} == {"today", "yesterday", "new"}
    opened(tmp_path, "new", max_bytes=10, required=10 * size)
    assert {path.name for path in (tmp_path / "pixels").iterdir()} == {"today", "new"}


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.take(b"x", lambda: pixels(1))
    [file] = cache.folder.glob("??/*")
    left = file.with_name(f".{file.name}.999999999.tmp")
    left.write_bytes(b"half")
    opened(tmp_path)
    assert not left.exists()
    assert file.exists()


@pytest.mark.slow
def test_processes_and_threads_share_pixels_and_may_take_them_away(tmp_path: Path) -> None:
    """Two processes, as two runs side by side, one of which removes the other's folder now and then."""
    script = """if True:
        import sys, threading
        from pathlib import Path
        import numpy as np
        from lineup.embedding import pixel_cache
        pixel_cache.IN_USE_SECONDS = 0
        folder, own = Path(sys.argv[1]), sys.argv[2]
        def pixels(seed):
            return np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
        def work(cache):
            for seed in range(60):
                assert np.array_equal(cache.take(b"%d" % seed, lambda: pixels(seed)), pixels(seed))
        for round in range(20):
            name = own if round % 5 == 4 else "shared"
            cache = pixel_cache.PixelCache(folder / name, {}, 20_000, 60 * 144)
            threads = [threading.Thread(target=work, args=[cache]) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path / "pixels")]
    running = [
        subprocess.Popen([*command, own], env=environment, stderr=subprocess.PIPE, text=True)
        for own in ("a", "b")
    ]
    told = [process.communicate(timeout=120)[1] for process in running]
    assert told == ["", ""]
    assert not [path for path in (tmp_path / "pixels").rglob("*.tmp")]
