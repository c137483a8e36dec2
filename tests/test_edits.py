"""edits.py and pixel_edits.py: each kind against an independent computation, and which photos are edited."""

from __future__ import annotations

import hashlib
import io
import math
import shutil
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lineup.layouts import edit_kinds, edits, pixel_edits
from lineup.layouts.edits import Edits
from lineup.photos import decoding
from tests.support.odd_images import encoded, pattern
from tests.support.photographs import photograph

Pixels = npt.NDArray[np.uint8]
SIZES = ((1, 1), (3, 2), (40, 40), (120, 90), (90, 121), (700, 8))


def edit(kind: str, pixels: Pixels, seed: int = 0) -> Pixels:
    return np.asarray(pixel_edits.EDITS[kind](Image.fromarray(pixels), Random(seed)))


def coordinates(height: int, width: int) -> Pixels:
    """Each pixel's red is its column and its green its row."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([columns, rows, np.zeros_like(rows)], axis=2)


def photo(seed: int, width: int = 120, height: int = 90) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(photograph(seed, width, height))))


@pytest.mark.parametrize("seed", range(20))
def test_a_crop_is_a_window_of_the_photo_with_its_proportions(seed: int) -> None:
    pixels = coordinates(150, 200)
    part = edit("crop", pixels, seed)
    left, top = part[0, 0, :2].astype(int)
    height, width = part.shape[:2]
    assert np.array_equal(part, pixels[top : top + height, left : left + width])
    assert 0.48 < height * width / (150 * 200) < 0.8
    assert width / height == pytest.approx(200 / 150, abs=0.02)


def test_crops_lie_anywhere_in_the_photo() -> None:
    corners = [edit("crop", coordinates(200, 200), seed)[0, 0, :2] for seed in range(200)]
    assert (np.min(corners, axis=0) < 5).all() and (np.max(corners, axis=0) > 45).all()


@pytest.mark.parametrize(("width", "height"), [(40, 40), (120, 90), (90, 121), (33, 400), (1000, 600)])
def test_a_rotated_photo_shows_no_empty_corner(width: int, height: int) -> None:
    for seed in range(25):
        part = edit("rotation", np.full((height, width, 3), 255, np.uint8), seed)
        assert part.min() == 255
        scale = part.shape[1] / width
        assert part.shape[0] / height == pytest.approx(scale, abs=2 / min(width, height))
        if width == height:  # Of a square, the side is 1 / (cos + sin) of the photo's.
            assert 1 / (math.cos(math.radians(15)) + math.sin(math.radians(15))) - 0.05 < scale < 0.92


def test_a_rotation_is_by_5_to_15_degrees_to_either_side() -> None:
    """The photo is a slope that rises to the right; the direction in which it rises says how it was turned."""
    slope = np.repeat(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], 300, axis=0).repeat(3, axis=2)
    angles = []
    for seed in range(50):
        down, right = np.gradient(edit("rotation", slope, seed)[..., 0].astype(float))
        angles.append(math.degrees(math.atan2(-down.mean(), right.mean())))
    assert all(4.8 < abs(angle) < 15.2 for angle in angles)
    assert min(angles) < -12 and max(angles) > 12


def test_mirrored_twice_is_the_photo() -> None:
    pixels = photo(1)
    assert np.array_equal(edit("mirror", pixels), pixels[:, ::-1])
    assert np.array_equal(edit("mirror", edit("mirror", pixels)), pixels)


def test_the_jpeg_has_the_quantisation_tables_of_quality_30() -> None:
    """As libjpeg computes them from the tables in annex K of ITU-T T.81: (table * 5000 / 30 + 50) / 100."""
    first_row_of_luminance = np.array([16, 11, 10, 16, 24, 40, 51, 61])
    expected = (first_row_of_luminance * (5000 // 30) + 50) // 100
    pixels = photo(2)
    file = pixel_edits.encode("jpeg", Image.fromarray(pixels), ".jpg", "")
    saved = io.BytesIO()
    Image.fromarray(pixels).save(saved, "JPEG", quality=30)
    with Image.open(io.BytesIO(file)) as image, Image.open(saved) as reference:
        assert isinstance(image, Image.Image) and image.format == "JPEG"
        tables = getattr(image, "quantization")  # noqa: B009, pyright doesn't know it
        assert tables == getattr(reference, "quantization")  # noqa: B009
        assert list(tables[0][:8]) == expected.tolist()


def test_brightness_multiplies_each_value() -> None:
    factors = []
    for seed in range(40):
        grey = edit("brightness", np.full((8, 8, 3), 100, np.uint8), seed)
        assert len(np.unique(grey)) == 1
        factors.append(grey[0, 0, 0] / 100)
    darker, brighter = [f for f in factors if f < 1], [f for f in factors if f > 1]
    assert len(darker) > 10 and len(brighter) > 10
    assert min(darker) >= 0.39 and max(darker) <= 0.7 and min(brighter) >= 1.39 and max(brighter) <= 1.8
    assert edit("brightness", np.full((8, 8, 3), 255, np.uint8), 1).max() <= 255


@pytest.mark.parametrize("seed", range(5))
def test_blur_spreads_a_point_by_a_share_of_the_shorter_side(seed: int) -> None:
    """The spread of the blurred point is its second moment."""
    pixels = np.zeros((400, 500, 3), np.uint8)
    pixels[190:210, 240:260] = 255  # of standard deviation sqrt((20^2 - 1) / 12)
    weights = edit("blur", pixels, seed)[..., 0].astype(float)
    rows = np.arange(400)
    mean = (weights.sum(axis=1) @ rows) / weights.sum()
    variance = (weights.sum(axis=1) @ (rows - mean) ** 2) / weights.sum()
    radius = math.sqrt(variance - (20**2 - 1) / 12)
    assert 0.01 * 400 * 0.9 < radius < 0.02 * 400 * 1.1


@pytest.mark.parametrize("seed", range(12))
def test_text_is_white_with_a_black_outline_and_all_inside(seed: int) -> None:
    grey = np.full((300, 400, 3), 128, np.uint8)
    edited = edit("text", grey, seed)
    changed = (edited != grey).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert edited.shape == grey.shape and edited[changed].min() == 0 and edited[changed].max() == 255
    assert 0.3 < (columns[-1] - columns[0]) / 400 < 1 and (rows[-1] - rows[0]) / 300 < 0.33
    assert rows[0] > 0 and rows[-1] < 299


def test_text_lies_anywhere_and_says_different_things() -> None:
    masks = {
        (edit("text", np.full((200, 300, 3), 128, np.uint8), seed) != 128).tobytes() for seed in range(30)
    }
    assert len(masks) == 30


@pytest.mark.parametrize(("width", "height"), [(384, 192), (96 * 5, 96 * 5), (97, 500)])
def test_a_small_copy_has_its_longer_side_at_96_px(width: int, height: int) -> None:
    pixels = np.asarray(Image.fromarray(photo(3, 8, 8)).resize((width, height), Image.Resampling.BICUBIC))
    small = edit("small", pixels)
    assert max(small.shape[:2]) == 96
    assert small.shape[1] == pytest.approx(96 * width / max(width, height), abs=0.5)
    if width % 96 == 0 and height % 96 == 0:  # Then each pixel is about the mean of a block.
        block = width // small.shape[1]
        means = pixels.reshape(small.shape[0], block, small.shape[1], block, 3).mean(axis=(1, 3))
        assert np.abs(small - means).mean() < 1.5


@pytest.mark.parametrize("kind", edit_kinds.NAMES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_photo_of_any_size_can_be_edited(kind: str, width: int, height: int) -> None:
    pixels = np.asarray(Image.fromarray(pattern()).resize((width, height)))
    for seed in range(4):
        edited = edit(kind, pixels, seed)
        assert 1 <= edited.shape[0] <= height and 1 <= edited.shape[1] <= width and edited.dtype == np.uint8


def test_every_kind_is_described() -> None:
    assert set(pixel_edits.EDITS) == set(edit_kinds.DESCRIPTIONS)


# From here on: which photos are edited, and the files.


@pytest.fixture
def gallery(tmp_path: Path) -> dict[str, Path]:
    return fill(tmp_path / "gallery", range(40))


def fill(folder: Path, seeds: range) -> dict[str, Path]:
    """Photos beyond 96 px; every fifth is a PNG."""
    photos = {}
    for seed in seeds:
        name = f"shelf {seed % 3}/{seed}.jpg" if seed % 5 else f"{seed}.png"
        photos[name] = folder / name
        photos[name].parent.mkdir(parents=True, exist_ok=True)
        data = photograph(seed)
        photos[name].write_bytes(data if seed % 5 else encoded(Image.open(io.BytesIO(data)), "PNG"))
    return photos


def make(gallery: dict[str, Path], folder: Path, queries: int = 80, former: Path | None = None) -> Edits:
    made = edits.make(gallery, folder, former or folder.with_name("none"), queries, shutil.copy2)
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == {edit.query.removeprefix("test/query/edits/") for edit in made.edits}
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def test_each_kind_has_as_many_edits_and_each_is_one_of_its_original(
    gallery: dict[str, Path], tmp_path: Path
) -> None:
    made = make(gallery, tmp_path / "edits", queries=83)
    counts = Counter(edit.kind for edit in made.edits)
    assert list(counts) == list(edit_kinds.NAMES)
    assert list(counts.values()) == [11, 11, 11, 10, 10, 10, 10, 10]
    for kind, original, query in made.edits:
        data = (tmp_path / "edits" / kind / edits.file_name(kind, original)).read_bytes()
        assert query == f"test/query/edits/{kind}/{edits.file_name(kind, original)}"
        edited = pixel_edits.EDITS[kind](
            decoding.decode(gallery[original].read_bytes()),
            Random(int(hashlib.sha256(f"{kind}/{original}".encode()).hexdigest(), 16)),
        )
        result = np.asarray(decoding.decode(data)).astype(int)
        assert result.shape[:2] == (edited.height, edited.width)
        # JPEG at quality 95, 4:4:4, and the edit "jpeg" itself, change the noise of these photos by little.
        assert np.abs(result - np.asarray(edited)).mean() < (9 if kind == "jpeg" else 2)
        lossless = original.endswith(".png") and kind != "jpeg"
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == ("PNG" if lossless else "JPEG")
    assert next(made.summary()) == (
        "83 edited copies of gallery photos are the queries (11 crop, 11 rotation, 11 mirror, 10 jpeg, "
        "10 brightness, 10 blur, 10 text, 10 small)"
    )


def test_the_tables_say_which_photo_is_right_and_which_kind_of_edit_it_is(
    gallery: dict[str, Path], tmp_path: Path
) -> None:
    made = make(gallery, tmp_path / "edits", queries=8)
    [*_, small] = made.edits
    assert small.kind == "small" and small.original in gallery
    assert (small.query, f"test/gallery/{small.original}", 1) in made.judgements()
    assert made.attributes()[small.query] == {"edit": "small"}
    assert made.labels()[small.query] == small.original  # not "edits", the first folder below query/
    assert len(made.judgements()) == len(made.attributes()) == len(made.labels()) == 8


def test_the_same_photos_give_the_same_bytes_in_any_order(gallery: dict[str, Path], tmp_path: Path) -> None:
    make(gallery, tmp_path / "a")
    backwards = dict(sorted(gallery.items(), reverse=True))
    make(backwards, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_added_photos_change_no_edit(gallery: dict[str, Path], tmp_path: Path) -> None:
    first = make(gallery, tmp_path / "first")
    more = gallery | fill(tmp_path / "gallery", range(40, 60))
    second = make(more, tmp_path / "second", former=tmp_path / "first")
    assert second.edits == first.edits and second.existing == len(first.edits)
    assert contents(tmp_path / "second") == contents(tmp_path / "first")
    third = make(more, tmp_path / "third", queries=160, former=tmp_path / "second")
    assert set(third.edits) > set(first.edits) and third.existing == len(first.edits)
    # Without the earlier edits the sample differs, but no edit that is in both.
    anew = make(more, tmp_path / "anew")
    in_both = contents(tmp_path / "anew").keys() & contents(tmp_path / "first").keys()
    assert len(in_both) > len(first.edits) / 2 and set(anew.edits) != set(first.edits)
    assert all(contents(tmp_path / "anew")[name] == contents(tmp_path / "first")[name] for name in in_both)


def test_an_edit_is_made_once_and_again_if_its_original_has_changed(
    gallery: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(gallery, tmp_path / "first")
    changed, *_ = sorted({edit.original for edit in first.edits if edit.original.endswith(".jpg")})
    gallery[changed].write_bytes(photograph(99))
    edited: list[str] = []
    for kind, function in pixel_edits.EDITS.items():
        monkeypatch.setitem(
            pixel_edits.EDITS,
            kind,
            lambda *a, kind=kind, function=function: edited.append(kind) or function(*a),
        )
    second = make(gallery, tmp_path / "second", former=tmp_path / "first")
    assert second.edits == first.edits
    assert sorted(edited) == sorted(edit.kind for edit in first.edits if edit.original == changed)
    before, after = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert {name for name in before if before[name] != after[name]} == {
        edit.query.removeprefix("test/query/edits/") for edit in first.edits if edit.original == changed
    }


def test_an_edit_that_is_damaged_is_made_again(gallery: dict[str, Path], tmp_path: Path) -> None:
    first = make(gallery, tmp_path / "first")
    whole = contents(tmp_path / "first")
    (tmp_path / "first" / next(iter(whole))).write_bytes(b"not an image")
    second = make(gallery, tmp_path / "second", former=tmp_path / "first")
    assert second.existing == len(first.edits) - 1 and contents(tmp_path / "second") == whole


def test_no_photo_is_edited_twice_where_there_are_enough(tmp_path: Path) -> None:
    orders = {
        kind: edits.order(kind, [f"{number}.jpg" for number in range(1000)]) for kind in edit_kinds.NAMES
    }
    taken = [name for names in orders.values() for name in names[:25]]
    assert len(set(taken)) == len(taken) == 200
    assert all(len(names) == len(set(names)) == 1000 for names in orders.values())


def test_a_small_gallery_gives_each_photo_every_edit(tmp_path: Path) -> None:
    gallery = fill(tmp_path / "gallery", range(3))
    made = make(gallery, tmp_path / "edits", queries=200)
    assert Counter(edit.original for edit in made.edits) == dict.fromkeys(gallery, 8)
    assert len(set(made.labels().values())) == 3


def test_photos_that_cannot_be_used_are_named_and_counted(gallery: dict[str, Path], tmp_path: Path) -> None:
    for name, data in (
        ("truncated.jpg", photograph(1)[:500]),
        ("empty.png", b""),
        ("line.png", encoded(np.zeros((1, 101, 3), np.uint8), "PNG")),
        ("text\n.jpg", b"hello"),
    ):
        gallery[name] = tmp_path / name
        gallery[name].write_bytes(data)
    gallery["gone.jpg"] = tmp_path / "gone.jpg"
    made = make(gallery, tmp_path / "edits", queries=8 * len(gallery))
    assert made.unreadable.keys() == {"truncated.jpg", "empty.png", "line.png", "text\n.jpg", "gone.jpg"}
    assert Counter(edit.kind for edit in made.edits) == dict.fromkeys(edit_kinds.NAMES, 40)
    [_, passed_over] = made.summary()
    assert passed_over.startswith(
        "not edited: 5 photos that can't be used: empty.png is empty (0 bytes); gone.jpg "
    )
    assert passed_over.endswith("; and 2 more")


def test_an_edit_that_changes_no_pixel_is_not_made(tmp_path: Path) -> None:
    """It would be its original, which a query never finds."""
    plain = encoded(np.full((50, 60, 3), 255, np.uint8), "PNG")
    (tmp_path / "white.png").write_bytes(plain)
    made = make({"white.png": tmp_path / "white.png"}, tmp_path / "edits")
    kinds = {edit.kind for edit in made.edits}
    assert kinds >= {"crop", "rotation", "text"} and not kinds & {"mirror", "jpeg", "blur", "small"}
    assert made.without_effect == 8 - len(kinds)


def test_exact_copies_are_edited_once(tmp_path: Path) -> None:
    """Else two queries would be the same picture, under two labels."""
    pixels = photo(1)
    gallery = {}
    for name, container in (("a.png", "PNG"), ("b.bmp", "BMP"), ("c.tif", "TIFF")):
        gallery[name] = tmp_path / name
        gallery[name].write_bytes(encoded(pixels, container))
    made = make(gallery, tmp_path / "edits", queries=200)
    assert Counter(edit.kind for edit in made.edits) == dict.fromkeys(edit_kinds.NAMES, 1)


def test_a_name_gets_the_ending_of_its_edit() -> None:
    names = {
        ("crop", "a/b.jpg"): "a/b.jpg",
        ("crop", "a/b.JPEG"): "a/b.JPEG",
        ("crop", "b.PNG"): "b.PNG",
        ("crop", "b.webp"): "b.webp.png",
        ("crop", "b"): "b.png",
        ("jpeg", "b.png"): "b.png.jpg",
        ("jpeg", "b.jpeg"): "b.jpeg",
    }
    assert {key: edits.file_name(*key) for key in names} == names


def test_two_photos_whose_edits_would_have_one_name_give_one_edit(tmp_path: Path) -> None:
    gallery = fill(tmp_path / "gallery", range(1, 2))
    for number, name in enumerate(("b.webp", "b.webp.png")):
        gallery[name] = tmp_path / name
        gallery[name].write_bytes(encoded(photo(50 + number), "PNG"))
    made = make(gallery, tmp_path / "edits", queries=200)
    assert Counter(edit.kind for edit in made.edits)["crop"] == 2
    assert Counter(edit.kind for edit in made.edits)["jpeg"] == 3


def test_an_edit_holds_no_metadata_of_its_original(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "my address"
    (tmp_path / "a.jpg").write_bytes(encoded(photo(1), "JPEG", exif=exif.tobytes(), icc_profile=b"profile"))
    made = make({"a.jpg": tmp_path / "a.jpg"}, tmp_path / "edits")
    assert len(made.edits) == 8
    for data in contents(tmp_path / "edits").values():
        assert b"my address" not in data and b"profile" not in data
        with Image.open(io.BytesIO(data)) as image:
            assert not image.getexif()
