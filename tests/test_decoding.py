"""images.py: pixels of odd files, what is kept and what is converted, and the reader of prepared images."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, JpegImagePlugin

from lineup.errors import UserError
from lineup.photos import decoding, image_opening, image_preparation, pixel_identity, prepared_images
from lineup.storage import parquet, schemas
from tests.support import odd_images
from tests.support.odd_images import Odd, encoded, pattern
from tests.support.project import ROOT

GOOD = odd_images.good()
BAD = odd_images.bad()
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decoding.decode(data))


def test_the_corpus_is_large_and_its_names_differ() -> None:
    assert len({odd.name for odd in GOOD}) == len(GOOD) >= 30
    assert len({odd.name for odd in BAD}) == len(BAD) >= 20


@pytest.mark.parametrize("odd", GOOD, ids=lambda odd: odd.name[:40])
def test_an_odd_image_shows_as_its_owner_sees_it(odd: Odd) -> None:
    decoded = decoding.decode(odd.data)
    assert decoded.mode == "RGB"
    found = np.asarray(decoded)
    assert odd.expected is not None
    assert found.shape == odd.expected.shape
    away = np.abs(found.astype(int) - odd.expected.astype(int))
    # JPEG rings at the edges between the quarters; a wrong colour or place would move whole quarters.
    assert np.mean(away <= odd.tolerance) >= (0.9 if odd.tolerance > 1 else 1), away.max()


@pytest.mark.parametrize("odd", BAD, ids=lambda odd: odd.name)
def test_a_broken_image_is_refused_with_its_reason(odd: Odd) -> None:
    with pytest.raises(image_opening.BadImage, match=odd.problem):
        decoding.decode(odd.data)
    with pytest.raises(image_opening.BadImage, match=odd.problem) as error:
        image_preparation.prepare(odd.data, 512)
    assert "0x" not in str(error.value) and "<" not in str(
        error.value
    )  # no address: the same words in every run


def test_half_a_picture_is_refused_even_if_a_library_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(NOISE, "JPEG")
    with pytest.raises(image_opening.BadImage, match="truncated"):
        decoding.decode(data[: len(data) // 2])


@pytest.mark.parametrize("odd", GOOD, ids=lambda odd: odd.name[:40])
def test_what_the_owner_should_know_of_an_odd_image_is_noted(odd: Odd) -> None:
    note = image_preparation.prepare(odd.data, 512).note
    assert odd.note in note and bool(note) == bool(odd.note)


FLAT = np.full((64, 64), 128, np.uint8)  # what a decoder fills in for lacking pixels


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True}], ids=str
)
@pytest.mark.parametrize("shown", [NOISE, pattern(), FLAT], ids=["noise", "pattern", "flat"])
def test_a_cut_jpeg_is_read_only_where_no_pixel_is_lacking(
    shown: np.ndarray, options: dict[str, object]
) -> None:
    whole = encoded(shown, "JPEG", **options)
    expected, read = pixels(whole), []
    for lacking in range(1, 60):
        try:
            assert np.array_equal(pixels(whole[:-lacking]), expected), f"{lacking} bytes"
            read.append(lacking)
        except image_opening.BadImage as error:
            assert str(error) == "is truncated"
    assert {1, 2} <= set(read)  # the end marker
    assert len(read) <= 3 or shown is FLAT  # and perhaps a byte that only fills up the last one


def test_a_jpeg_that_lacks_its_last_scan_whole_is_truncated() -> None:
    progressive = encoded(NOISE, "JPEG", progressive=True)
    with pytest.raises(image_opening.BadImage, match="is truncated"):
        decoding.decode(progressive[: progressive.rindex(b"\xff\xda")])
    assert image_preparation.prepare(progressive[:-2], 512).note


def test_a_jpeg_without_its_end_is_stored_whole() -> None:
    made = image_preparation.prepare(encoded(NOISE, "JPEG")[:-2], 512)
    assert made.replacement is not None and made.replacement.startswith(b"\x89PNG")


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan, which refines, is there again and again."""
    whole = encoded(pattern(), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xc4") : -2]
    return whole[:-2] + last * (count - whole.count(b"\xff\xda")) + whole[-2:]


def test_a_jpeg_of_a_thousand_scans_is_refused_before_it_is_decoded() -> None:
    """Each takes the decoder through all pixels again: 564 kB took 47 seconds."""
    assert decoding.decode(with_scans(100)).size == (48, 32)
    for count in (101, 1000):
        with pytest.raises(image_opening.BadImage, match=r"more than 100 scans.*save it again"):
            decoding.decode(with_scans(count))


def test_scans_of_thumbnails_and_behind_the_picture_do_not_count() -> None:
    jpeg = encoded(pattern(), "JPEG", exif=b"Exif\0\0" + b"\xff\xda" * 200)
    assert decoding.decode(jpeg + b"\xff\xda" * 200).size == (48, 32)


@pytest.mark.parametrize("bare", [True, False])
def test_a_jpeg_2000_of_a_hundred_million_packets_is_refused_before_it_is_decoded(bare: bool) -> None:
    """39 kB took 35 seconds: an empty packet need not even be in the file."""
    whole = bytearray(
        encoded(np.zeros((600, 800, 3), np.uint8), "JPEG2000", no_jp2=bare, precinct_size=(64, 64))
    )
    assert decoding.decode(bytes(whole)).size == (800, 600)
    layers = whole.index(b"\xff\x52") + 6
    whole[layers : layers + 2] = struct.pack(">H", 65_535)
    with pytest.raises(image_opening.BadImage, match=r"more than 20 million packets.*fewer layers"):
        decoding.decode(bytes(whole))


BRANDS = ("heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "heif", "mif1", "msf1")


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    image_opening._heif.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it weren't installed
    yield
    image_opening._heif.cache_clear()


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("major", [True, False])
def test_every_kind_of_heic_is_named_with_the_way_to_read_it(
    brand: str, major: bool, without_heif: None
) -> None:
    brands = brand.encode() + b"\0\0\0\0miaf" if major else b"xxxx\0\0\0\0miaf" + brand.encode()
    photo = struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(64)
    with pytest.raises(
        image_opening.BadImage, match=r"is HEIC.*`pip install pillow-heif`.*`dvc repro -f preprocess`"
    ):
        decoding.decode(photo)


def test_avif_in_the_container_of_heic_is_read(without_heif: None) -> None:
    avif = encoded(pattern(), "AVIF", quality=98, subsampling="4:4:4")
    assert avif[8:12] == b"avif" and avif[16:20] == b"avif"
    assert decoding.decode(avif[:8] + b"mif1" + avif[12:]).size == (48, 32)


def test_a_video_is_no_heic() -> None:
    with pytest.raises(image_opening.BadImage, match="is not an image"):
        decoding.decode(b"\0\0\0\x14ftypisom\0\0\0\0mp42" + bytes(64))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_of_an_iphone_shows_upright(orientation: int) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    shown = pattern(64, 96)
    stored = odd_images.turned(shown, orientation).copy()
    photo = encoded(stored, "HEIF", quality=98, chroma=444, exif=odd_images._exif(orientation))
    made = image_preparation.prepare(photo, 512)
    assert (made.format, made.width, made.height, made.note) == ("HEIC", 96, 64, "")
    assert made.replacement is not None and np.array_equal(pixels(made.replacement), pixels(photo))
    assert np.mean(np.abs(pixels(photo).astype(int) - shown) <= 12) > 0.9
    shrunk = image_preparation.prepare(photo, 32).replacement
    assert shrunk is not None and shrunk.startswith(b"\xff\xd8")


PEAK = """
import sys
from lineup import machine
from lineup.photos import image_opening, image_preparation
from PIL import Image
Image.init()
data = sys.stdin.buffer.read()
before = machine.peak_memory_mb()
image_preparation.prepare(data, 512)
print((machine.peak_memory_mb() - before) * 1e6, image_opening.working_memory(data))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("container", "mode", "bytes_per_pixel"),
    [("PNG", "RGBA", 9), ("JPEG", "RGB", 8), ("WEBP", "RGBA", 18), ("JPEG2000", "RGB", 20)],
)
def test_a_picture_is_not_held_several_times(container: str, mode: str, bytes_per_pixel: int) -> None:
    """Pillow's own pixels take 4 bytes, those on white another 4; the other formats' decoders hold more."""
    side = 3000
    data = encoded(Image.new(mode, (side, side), (200, 30, 40, 128)[: len(mode)]), container)
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, input=data, capture_output=True, check=True)
    taken, estimated = map(float, done.stdout.split())
    assert taken < (bytes_per_pixel + 0.7) * side**2
    assert taken < 1.04 * estimated


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data())
def test_any_damage_gives_a_picture_or_a_reason(data: st.DataObject) -> None:
    odd = data.draw(st.sampled_from([odd for odd in GOOD if len(odd.data) < 20_000]))
    damaged = bytearray(odd.data[: data.draw(st.integers(0, len(odd.data)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=8)):
        if damaged:
            damaged[place] = data.draw(st.integers(0, 255))
    try:
        assert decoding.decode(bytes(damaged)).mode == "RGB"
    except image_opening.BadImage as error:
        assert str(error)


@pytest.mark.parametrize("odd", GOOD, ids=lambda odd: odd.name[:40])
def test_a_change_of_container_changes_no_pixel(odd: Odd) -> None:
    made = image_preparation.prepare(odd.data, 3000)
    stored = odd.data if made.replacement is None else made.replacement
    assert np.array_equal(pixels(stored), pixels(odd.data))
    assert made.format == odd.format
    assert odd.expected is not None
    assert (made.height, made.width) == odd.expected.shape[:2]


KEPT = (
    "turned 6.jpg",
    "turned.png",
    "rgba.png",
    "palette with alphas.png",
    "clear colour.png",
    "grey.jpg",
    "one bit.png",
    "plain.webp",
)
CONVERTED = (
    "turned.tif",
    "cmyk.jpg",
    "ycck.jpg",
    "moving.gif",
    "moving.webp",
    "moving.png",
    "two views.mpo",
    "plain.bmp",
    "grey 16.png",
)


@pytest.mark.parametrize("name", KEPT)
def test_what_every_reader_understands_keeps_its_bytes(name: str) -> None:
    assert (
        image_preparation.prepare(next(odd.data for odd in GOOD if odd.name == name), 512).replacement is None
    )


@pytest.mark.parametrize("name", CONVERTED)
def test_what_readers_differ_about_becomes_png(name: str) -> None:
    made = image_preparation.prepare(next(odd.data for odd in GOOD if odd.name == name), 512)
    assert made.replacement is not None and made.replacement.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("container", "options", "stored"),
    [
        ("JPEG", {"quality": 95}, "JPEG"),
        ("WEBP", {}, "JPEG"),
        ("PNG", {}, "PNG"),
        ("WEBP", {"lossless": True}, "PNG"),
        ("TIFF", {}, "PNG"),
    ],
)
def test_a_large_image_is_shrunk_once(container: str, options: dict[str, object], stored: str) -> None:
    made = image_preparation.prepare(encoded(pattern(300, 200), container, **options), 68)
    assert (made.width, made.height) == (200, 300)  # what the owner has, not what is stored
    assert made.replacement is not None
    with Image.open(io.BytesIO(made.replacement)) as image:
        assert image.format == stored and image.size == (68, 102)  # the shorter side is what counts
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4
    small = pixels(made.replacement)
    for place in ((10, 10), (10, 57), (91, 10), (91, 57)):  # the middle of each quarter
        y, x = place
        assert (
            np.abs(small[y, x].astype(int) - pattern(300, 200)[round(y * 2.94), round(x * 2.94)]).max() <= 8
        )


def test_a_turned_image_is_shrunk_by_its_upright_side() -> None:
    upright = pattern(120, 240)
    data = encoded(odd_images.turned(upright, 6).copy(), "PNG", exif=odd_images._exif(6))
    made = image_preparation.prepare(data, 30)
    assert (made.width, made.height) == (240, 120)
    assert made.replacement is not None and decoding.decode(made.replacement).size == (60, 30)


def test_shrinking_averages_what_falls_together() -> None:
    """A fine chessboard becomes grey; a filter without anti-aliasing would pick black or white."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    made = image_preparation.prepare(encoded(board, "PNG"), 32)
    assert made.replacement is not None
    assert np.abs(pixels(made.replacement)[4:-4, 4:-4].astype(int) - 127).max() <= 3


@pytest.mark.parametrize(("width", "height"), [(120, 120), (120, 160), (480, 120), (120, 1440), (121, 123)])
def test_the_shorter_side_is_what_a_photo_is_shrunk_by(width: int, height: int) -> None:
    made = image_preparation.prepare(encoded(np.zeros((height, width, 3), np.uint8), "PNG"), 60)
    assert made.replacement is not None
    stored = decoding.decode(made.replacement).size
    assert 60 <= min(stored) <= 63
    assert stored[0] / stored[1] == pytest.approx(width / height, rel=0.5 / max(stored))


@pytest.mark.parametrize("resize_px", [224, 256, 518, 592])
def test_shrinking_does_not_shift_the_crop_of_a_network(resize_px: int) -> None:
    """A transform resizes the longer side to a whole number of pixels: shrunk photos should give the same
    number.
    """
    sizes = [(longer, 1_700) for longer in range(1_700, 2_700)]
    shrunk = [image_preparation.shrunk_size(*size, 2 * resize_px) for size in sizes]
    same = [
        int(resize_px * w / h) == int(resize_px * longer / 1_700)
        for (longer, _), (w, h) in zip(sizes, shrunk, strict=True)
    ]
    assert np.mean(same) > 0.98  # 0.75 where only the shorter side is chosen


def test_a_thin_photo_is_never_shrunk_below_its_shorter_side() -> None:
    assert (
        image_preparation.prepare(encoded(np.zeros((3000, 30, 3), np.uint8), "PNG"), 512).replacement is None
    )


def test_a_photo_too_long_for_a_jpeg_is_stored_as_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        image_preparation, "JPEG_MAX_SIDE_PX", 3_320
    )  # a photo beyond the real limit would be 66,000 pixels long
    for longer_side_px, kind in ((3_900, b"\xff\xd8\xff"), (3_999, b"\x89PNG")):
        made = image_preparation.prepare(encoded(np.zeros((40, longer_side_px, 3), np.uint8), "JPEG2000"), 33)
        assert made.replacement is not None and made.replacement.startswith(kind)
        assert min(decoding.decode(made.replacement).size) in (33, 34, 35)


def test_the_pixels_of_every_format_are_counted_by_the_header() -> None:
    heif = pytest.importorskip("pillow_heif")
    heic = io.BytesIO()
    heif.from_pillow(Image.fromarray(pattern(64, 96))).save(heic)
    assert (
        image_opening.pixel_count(heic.getvalue())
        == image_opening.pixel_count(encoded(pattern(64, 96), "PNG"))
        == 64 * 96
    )
    with pytest.raises(image_opening.BadImage, match="is not an image"):
        image_opening.pixel_count(b"notes")


def test_pixels_id_is_of_size_and_upright_pixels() -> None:
    shown = pattern()
    expected = hashlib.sha256(b"48 x 32 RGB\n" + shown.tobytes()).hexdigest()
    same = [
        odd
        for odd in GOOD
        if odd.tolerance == 0 and odd.expected is not None and np.array_equal(odd.expected, shown)
    ]
    assert len(same) > 10
    assert {image_preparation.prepare(odd.data, 512).pixels_id for odd in same} == {expected}
    flat = np.zeros((2, 8, 3), np.uint8)
    assert (
        image_preparation.prepare(encoded(flat, "PNG"), 512).pixels_id
        != image_preparation.prepare(encoded(flat.reshape(4, 4, 3), "PNG"), 512).pixels_id
    )


@pytest.mark.parametrize("height", [1, 63, 64, 65, 150])
def test_pixels_id_of_tall_pictures_is_of_every_row(height: int) -> None:
    tall = np.random.default_rng(height).integers(0, 256, (height, 3, 3), dtype=np.uint8)
    expected = hashlib.sha256(b"3 x %d RGB\n" % height + tall.tobytes()).hexdigest()
    assert pixel_identity.pixels_id(Image.fromarray(tall)) == expected


def test_prepared_reads_what_was_written(tmp_path: Path) -> None:
    rows = [
        (f"{number:064x}", split, None, bytes([number]))
        for number in range(5)
        for split in ("gallery", "query")
    ]
    columns = [
        pa.array(column, kind.type)
        for column, kind in zip(zip(*rows, strict=True), schemas.IMAGES, strict=True)
    ]
    parquet.write_shards(
        tmp_path / "images", schemas.IMAGES, [pa.record_batch(columns, schema=schemas.IMAGES)], len(rows), 4
    )
    assert list(prepared_images.stream(tmp_path / "images", batch_rows=3)) == [
        (image_id, split, data) for image_id, split, _, data in rows
    ]
    with pytest.raises(UserError, match="does not exist"):
        list(prepared_images.stream(tmp_path / "elsewhere"))
