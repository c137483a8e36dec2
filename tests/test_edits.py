"""edits.py and pixel_edits.py: each kind against an independent computation, and which photos are edited."""

from __future__ import annotations

import csv
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
from click.testing import CliRunner, Result
from PIL import Image

from lineup.commands import photos
from lineup.errors import UserError
from lineup.layouts import edit_files, edit_kinds, edits, pixel_edits
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


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(40, 40), (120, 90), (90, 121), (33, 400), (1000, 600)])
def test_a_rotated_photo_shows_no_empty_corner(width: int, height: int) -> None:
    for seed in range(25):
        part = edit("rotation", np.full((height, width, 3), 255, np.uint8), seed)
        assert part.min() == 255
        scale = part.shape[1] / width
        assert part.shape[0] / height == pytest.approx(scale, abs=2 / min(width, height))
        if width == height:  # Of a square, the side is 1 / (cos + sin) of the photo's.
            assert 1 / (math.cos(math.radians(15)) + math.sin(math.radians(15))) - 0.05 < scale < 0.92


@pytest.mark.slow
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
def root(tmp_path: Path) -> Path:
    """data/raw with 40 photos in its gallery."""
    return fill(tmp_path / "raw", range(40))


def fill(root: Path, seeds: range) -> Path:
    """Photos beyond 96 px; every fifth is a PNG."""
    for seed in seeds:
        data = photograph(seed)
        if seed % 5:
            put(root, f"shelf {seed % 3}/{seed}.jpg", data)
        else:
            put(root, f"{seed}.png", encoded(Image.open(io.BytesIO(data)), "PNG"))
    return root


def put(root: Path, name: str, data: bytes) -> None:
    file = root / "test/gallery" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def make(root: Path, queries: int = 80) -> Edits:
    made = edits.make(root, queries)
    assert contents(root).keys() == {edit.path for edit in made.edits}
    return made


def contents(root: Path) -> dict[str, bytes]:
    files = (root / "test/query/edits").rglob("*")
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files if file.is_file()}


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def gallery(root: Path) -> set[str]:
    files = (root / "test/gallery").rglob("*")
    return {file.relative_to(root).as_posix() for file in files if file.is_file()}


@pytest.mark.slow
def test_each_kind_has_as_many_edits_and_each_is_one_of_its_original(root: Path) -> None:
    made = make(root, queries=83)
    counts = Counter(edit.kind for edit in made.edits)
    assert list(counts) == list(edit_kinds.NAMES)
    assert list(counts.values()) == [11, 11, 11, 10, 10, 10, 10, 10]
    for kind, original, path in made.edits:
        name = original.removeprefix("test/gallery/")
        data = (root / path).read_bytes()
        assert path.startswith(f"test/query/edits/{kind}/{name}")
        edited = pixel_edits.EDITS[kind](
            decoding.decode((root / original).read_bytes()),
            Random(int(hashlib.sha256(f"{kind}/{name}".encode()).hexdigest(), 16)),
        )
        result = np.asarray(decoding.decode(data)).astype(int)
        assert result.shape[:2] == (edited.height, edited.width)
        # JPEG at quality 95, 4:4:4, and the edit "jpeg" itself, change the noise of these photos by little.
        assert np.abs(result - np.asarray(edited)).mean() < (9 if kind == "jpeg" else 2)
        lossless = original.endswith(".png") and kind != "jpeg"
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == ("PNG" if lossless else "JPEG")
    assert [*made.summary()] == [
        "  edits         83 queries: 11 crop, 11 rotation, 11 mirror, 10 jpeg, 10 brightness, 10 blur, 10 text, "
        "10 small"
    ]


@pytest.mark.slow
def test_the_tables_say_which_photo_is_right_and_which_kind_of_edit_it_is(root: Path) -> None:
    (root / "labels.csv").write_text("path,label,note\ntest/gallery/0.png,mine,x\n", encoding="utf-8")
    made = edits.add(root, 8, {})
    small = made.edits[-1]
    name = small.original.removeprefix("test/gallery/")
    assert small.kind == "small" and small.original in gallery(root)
    line = {"query": small.path, "gallery": small.original, "relevance": "1"}
    assert line in table(root / "qrels.csv") and len(table(root / "qrels.csv")) == 8
    assert {"path": small.path, "edit": "small"} in table(root / "attributes.csv")
    labels = table(root / "labels.csv")
    assert {"path": "test/gallery/0.png", "label": "mine", "note": "x"} in labels
    assert {
        "path": small.path,
        "label": name,
        "note": "",
    } in labels  # not "edits", the first folder below query/


@pytest.mark.slow
def test_the_tables_lose_edits_that_are_gone(root: Path) -> None:
    before = edits.add(root, 80, {})
    gone = before.edits[0].original
    (root / gone).unlink()
    after = edits.add(root, 80, {})
    assert after.removed == {edit.path for edit in before.edits if edit.original == gone}
    for name in ("qrels.csv", "labels.csv", "attributes.csv"):
        assert {row.get("path", row.get("query")) for row in table(root / name)} == contents(root).keys()
    assert len(contents(root)) == 80
    assert gone not in {row["gallery"] for row in table(root / "qrels.csv")}


@pytest.mark.slow
def test_the_same_photos_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    make(root)
    make(fill(tmp_path / "other", range(40)))
    assert contents(root) == contents(tmp_path / "other")


@pytest.mark.slow
def test_added_photos_change_no_edit(root: Path, tmp_path: Path) -> None:
    first, before = make(root), contents(root)
    fill(root, range(40, 60))
    second = make(root)
    assert second.edits == first.edits and second.existing == len(first.edits)
    assert contents(root) == before
    assert make(root, queries=8).edits == first.edits  # Fewer are asked for, perhaps by default.
    third = make(root, queries=160)
    assert {*third.edits} > {*first.edits} and third.existing == len(first.edits)
    # Without the earlier edits the sample differs, but no edit that is in both.
    anew = make(fill(tmp_path / "other", range(60)))
    in_both = contents(tmp_path / "other").keys() & before.keys()
    assert len(in_both) > len(first.edits) / 2 and {*anew.edits} != {*first.edits}
    assert all(contents(tmp_path / "other")[name] == before[name] for name in in_both)


@pytest.mark.slow
def test_an_edit_is_made_once_and_again_if_its_original_has_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, before = make(root), contents(root)
    changed, *_ = sorted({edit.original for edit in first.edits if edit.original.endswith(".jpg")})
    (root / changed).write_bytes(photograph(99))
    edited: list[str] = []
    for kind, function in pixel_edits.EDITS.items():
        monkeypatch.setitem(
            pixel_edits.EDITS,
            kind,
            lambda *a, kind=kind, function=function: edited.append(kind) or function(*a),
        )
    assert make(root).edits == first.edits
    of_changed = [edit for edit in first.edits if edit.original == changed]
    assert sorted(edited) == sorted(edit.kind for edit in of_changed)
    after = contents(root)
    assert {name for name in before if before[name] != after[name]} == {edit.path for edit in of_changed}


@pytest.mark.slow
def test_an_edit_that_is_damaged_is_made_again(root: Path) -> None:
    first, before = make(root), contents(root)
    (root / min(before)).write_bytes(b"not an image")
    assert make(root).existing == len(first.edits) - 1 and contents(root) == before


@pytest.mark.slow
def test_other_files_beside_the_edits_stay(root: Path) -> None:
    """A label may be called "edits", and somebody may have put a photo among the edits."""
    others = {"test/query/edits/1.jpg": photograph(1), "test/query/edits/crop/mine.jpg": photograph(2)}
    for path, data in others.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    edits.make(root, 8)
    (root / "test/gallery/0.png").unlink()
    made = edits.make(root, 80)
    assert contents(root).keys() == {*others, *(edit.path for edit in made.edits)}
    assert {path: (root / path).read_bytes() for path in others} == others


def test_no_photo_is_edited_twice_where_there_are_enough() -> None:
    names = [f"test/gallery/{number}.jpg" for number in range(1000)]
    orders = {kind: edits.order(kind, names) for kind in edit_kinds.NAMES}
    taken = [name for ordered in orders.values() for name in ordered[:25]]
    assert len({*taken}) == len(taken) == 200
    assert all(sorted(ordered) == sorted(names) for ordered in orders.values())


def test_a_small_gallery_gives_each_photo_every_edit(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", range(3))
    made = edits.add(root, 200, {})
    assert Counter(edit.original for edit in made.edits) == dict.fromkeys(gallery(root), 8)
    assert len({row["label"] for row in table(root / "labels.csv")}) == 3  # clusters of the intervals


@pytest.mark.slow
def test_photos_that_cannot_be_used_are_named_and_counted(root: Path) -> None:
    for name, data in (
        ("truncated.jpg", photograph(1)[:500]),
        ("empty.png", b""),
        ("line.png", encoded(np.zeros((1, 101, 3), np.uint8), "PNG")),
        ("text\n.jpg", b"hello"),
    ):
        put(root, name, data)
    (root / "test/gallery/gone.jpg").symlink_to("nowhere.jpg")
    made = make(root, queries=8 * 45)
    bad = {"truncated.jpg", "empty.png", "line.png", "text\n.jpg", "gone.jpg"}
    assert made.unreadable.keys() == {f"test/gallery/{name}" for name in bad}
    assert Counter(edit.kind for edit in made.edits) == dict.fromkeys(edit_kinds.NAMES, 40)
    [_, passed_over] = made.summary()
    assert passed_over.startswith(
        "not edited, as they can't be used: 5 photos: test/gallery/empty.png is empty (0 bytes); test/gallery/gone.jpg "
    )
    assert passed_over.endswith("; and 2 more") and "\n" not in passed_over


def test_a_gallery_without_a_usable_photo_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "raw", "empty.png", b"")
    with pytest.raises(UserError, match=r"no photo can be edited: 1 photo: test/gallery/empty.png is empty"):
        edits.add(tmp_path / "raw", 200, {})


def test_an_edit_that_changes_no_pixel_is_not_made(tmp_path: Path) -> None:
    """It would be its original, which a query never finds."""
    put(tmp_path / "raw", "white.png", encoded(np.full((50, 60, 3), 255, np.uint8), "PNG"))
    made = make(tmp_path / "raw")
    kinds = {edit.kind for edit in made.edits}
    assert kinds >= {"crop", "rotation", "text"} and not kinds & {"mirror", "jpeg", "blur", "small"}
    assert made.without_effect == 8 - len(kinds)


@pytest.mark.slow
def test_exact_copies_are_edited_once(tmp_path: Path) -> None:
    """Else two queries would be the same picture, under two labels."""
    for name, container in (("a.png", "PNG"), ("b.bmp", "BMP"), ("c.tif", "TIFF")):
        put(tmp_path / "raw", name, encoded(photo(1), container))
    made = make(tmp_path / "raw")
    assert Counter(edit.kind for edit in made.edits) == dict.fromkeys(edit_kinds.NAMES, 1)


def test_an_edit_has_its_original_s_name_with_an_ending_that_fits() -> None:
    names = {
        ("crop", "a/b.jpg"): "a/b.jpg",
        ("crop", "a/b.JPEG"): "a/b.JPEG",
        ("crop", "b.PNG"): "b.PNG",
        ("crop", "b.webp"): "b.webp.png",
        ("crop", "b"): "b.png",
        ("jpeg", "b.png"): "b.png.jpg",
        ("jpeg", "b.jpeg"): "b.jpeg",
    }
    for (kind, name), expected in names.items():
        assert edit_files.path(kind, f"test/gallery/{name}") == f"test/query/edits/{kind}/{expected}"


def test_two_photos_whose_edits_would_have_one_name_give_one_edit(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", range(1, 2))
    for number, name in enumerate(("b.webp", "b.webp.png")):
        put(root, name, encoded(photo(50 + number), "PNG"))
    counts = Counter(edit.kind for edit in make(root).edits)
    assert counts["crop"] == 2 and counts["jpeg"] == 3


def test_an_edit_holds_no_metadata_of_its_original(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "my address"
    put(tmp_path / "raw", "a.jpg", encoded(photo(1), "JPEG", exif=exif.tobytes(), icc_profile=b"profile"))
    make(tmp_path / "raw")
    assert len(contents(tmp_path / "raw")) == 8
    for data in contents(tmp_path / "raw").values():
        assert b"my address" not in data and b"profile" not in data
        with Image.open(io.BytesIO(data)) as image:
            assert not image.getexif()


# From here on: the command.


def lineup_photos(*arguments: str) -> Result:
    return CliRunner().invoke(photos.command, [*arguments])


@pytest.fixture
def pile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, range(20))
    return (tmp_path / "test/gallery").rename(tmp_path / "pile")


@pytest.mark.slow
def test_a_pile_becomes_a_gallery_and_edits(pile: Path) -> None:
    done = lineup_photos(str(pile), "--layout", "flat", "--queries-from", "edits", "--queries", "40")
    assert done.exit_code == 0, done.output
    assert "  edits         40 queries: 5 crop, 5 rotation, " in done.output
    assert "`lineup judge --open` serves a page for it at http://127.0.0.1:8100/" in done.output
    raw = Path("data/raw")
    assert len(gallery(raw)) == 20 and len(contents(raw)) == 40
    assert {*map(str, Path("data/raw/test/query").iterdir())} == {"data/raw/test/query/edits"}
    before = {file: file.read_bytes() for file in raw.rglob("*") if file.is_file()}
    # Photos are added, and the option is left out: the queries stay what they are.
    put(pile.parent, "more.jpg", photograph(77))
    (pile.parent / "test/gallery/more.jpg").rename(pile / "more.jpg")
    done = lineup_photos(str(pile), "--layout", "flat", "--queries", "40")
    assert done.exit_code == 0 and "40 of them were there already" in done.output
    assert (raw / "test/gallery/more.jpg").is_file()
    changed = {file for file, data in before.items() if file.read_bytes() != data}
    assert changed == {raw / "sources.csv"}
    assert len(contents(raw)) == 40


@pytest.mark.slow
def test_edits_join_queries_without_labels_but_not_those_with(pile: Path) -> None:
    assert lineup_photos(str(pile), "--layout", "flat", "--queries", "3").exit_code == 0
    done = lineup_photos(str(pile), "--layout", "flat", "--queries-from", "edits", "--queries", "8")
    assert done.exit_code == 0, done.output
    assert len([file for file in Path("data/raw/test/query").rglob("*") if file.is_file()]) == 3 + 8
    shutil.rmtree("data")
    for number in range(12):  # 3 labels
        name = f"{number % 3}/{number}.jpg"
        put(Path("labelled"), name, photograph(number))
    source = "labelled/test/gallery"
    assert lineup_photos(source, "--train-share", "0").exit_code == 0
    before = {file: file.read_bytes() for file in Path("data").rglob("*") if file.is_file()}
    done = lineup_photos(source, "--train-share", "0", "--queries-from", "edits")
    assert isinstance(done.exception, UserError) and "leave out --queries-from edits" in str(done.exception)
    assert {file: file.read_bytes() for file in Path("data").rglob("*") if file.is_file()} == before
    done = lineup_photos(
        source, "--train-share", "0", "--queries-from", "edits", "--queries", "8", "--to", "raw"
    )
    assert done.exit_code == 0 and len(gallery(Path("raw"))) == 12 and len(contents(Path("raw"))) == 8
    assert {row["label"] for row in table(Path("raw/labels.csv"))} <= {"0", "1", "2"}  # the originals' labels


def test_data_raw_is_as_it_was_where_no_photo_can_be_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path, name, b"no image")
    done = lineup_photos("test/gallery", "--queries-from", "edits")
    assert isinstance(done.exception, UserError) and "no photo can be edited: 2 photos" in str(done.exception)
    assert not Path("data/raw").exists()
