"""Attributes of photos: those of pixels and EXIF data, those of attributes.csv, and the table of both."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from scipy import ndimage

from lineup import paths
from lineup.errors import UserError
from lineup.photos import (
    attribute_cache,
    attribute_table,
    decoding,
    photo_register,
    pixel_attributes,
    raw_attributes,
    raw_folder,
    registration,
)
from lineup.photos.image_cache import ImageCache
from lineup.photos.pixel_attributes import PixelAttributes
from stages import preprocess
from tests.support import project

Tags = dict[int, object]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def encoded(image: Image.Image, container: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, container, **options)
    return buffer.getvalue()


def attributes_of(image: Image.Image) -> PixelAttributes:
    data = encoded(image)
    return pixel_attributes.examine(data, data)


# Pixels


def test_attributes_equal_those_of_numpy_and_scipy() -> None:
    """At 256 x 256 pixels nothing is resized, so that the definitions can be applied to the picture itself."""
    image = noise(256, 256)
    rgb = np.asarray(image, np.float64)
    grey = np.asarray(image.convert("L"), np.float64)
    rg, yb = rgb[..., 0] - rgb[..., 1], (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
    measured = attributes_of(image)
    assert measured.sharpness == pytest.approx(ndimage.laplace(grey)[1:-1, 1:-1].var(), abs=0.01)
    assert measured.brightness == pytest.approx(grey.mean(), abs=0.01)
    assert measured.contrast == pytest.approx(grey.std(), abs=0.01)
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert measured.colourfulness == pytest.approx(expected, abs=0.01)


def test_attributes_of_pictures_that_can_be_worked_out_by_hand() -> None:
    size = (256, 256)
    assert attributes_of(Image.new("RGB", size, "white")) == (0, 255, 0, 0, None)
    assert attributes_of(Image.new("RGB", size, (255, 0, 0))).colourfulness == round(
        0.3 * math.hypot(255, 127.5), 2
    )
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    # Each pixel's two neighbours in its row are its opposite, those in its column are like it: +-510.
    assert attributes_of(Image.fromarray(stripes)) == (510**2, 127.5, 127.5, 0, None)


def test_the_laplacian_of_a_single_pixel() -> None:
    grey = np.zeros((5, 5), np.int16)
    grey[2, 2] = 1
    assert pixel_attributes.laplacian(grey).tolist() == [[0, 1, 0], [1, -4, 1], [0, 1, 0]]


@pytest.mark.slow
def test_a_blurred_photo_is_less_sharp_at_any_size() -> None:
    """What the size of the file must not decide: a blurred small photo beside a sharp large one."""
    picture = noise(256, 192).resize((1024, 768), Image.Resampling.BICUBIC)
    sharp = {attributes_of(picture.resize(size)).sharpness for size in ((1024, 768), (512, 384))}
    blurred = picture.resize((64, 48)).resize((512, 384), Image.Resampling.BICUBIC)
    assert max(sharp) < 1.5 * min(sharp)
    assert attributes_of(blurred).sharpness < 0.1 * min(sharp)
    enlarged = attributes_of(picture.resize((64, 48)))
    assert enlarged.sharpness < 0.1 * min(sharp), "to a network, a tiny photo is a soft one"


@pytest.mark.slow
def test_a_jpeg_decoded_at_half_its_size_has_about_the_same_attributes() -> None:
    picture = noise(160, 120).resize((1280, 960), Image.Resampling.BICUBIC)
    jpeg = encoded(picture, "JPEG", quality=95, subsampling=0)
    assert pixel_attributes.examine(jpeg, jpeg)[:4] == pytest.approx(attributes_of(picture)[:4], rel=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1), (3, 2), (5000, 50)])
def test_odd_sizes_have_attributes(size: tuple[int, int]) -> None:
    assert all(math.isfinite(value) and value >= 0 for value in attributes_of(noise(*size))[:4])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_mode_that_is_stored_has_attributes(mode: str) -> None:
    measured = attributes_of(noise(40, 30).convert(mode))
    assert 0 < measured.brightness < 255 and measured.contrast > 0


# EXIF


def with_exif(tags: Tags, container: str = "JPEG") -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    return encoded(noise(8, 8), container, exif=exif)


MAKE, MODEL = ExifTags.Base.Make, ExifTags.Base.Model


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_camera_is_read_in_every_format_that_has_exif(container: str) -> None:
    assert (
        pixel_attributes.camera(with_exif({MAKE: "Apple", MODEL: "iPhone 15"}, container))
        == "Apple iPhone 15"
    )


def test_a_camera_is_read_from_heic() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    assert (
        pixel_attributes.camera(with_exif({MAKE: "Apple", MODEL: "iPhone 15"}, "HEIF")) == "Apple iPhone 15"
    )


@pytest.mark.parametrize(
    ("tags", "camera"),
    [
        ({}, None),
        ({MAKE: "Canon", MODEL: "Canon EOS 5D"}, "Canon EOS 5D"),
        ({MAKE: "NIKON CORPORATION"}, "NIKON CORPORATION"),
        ({MODEL: "X100"}, "X100"),
        ({MAKE: "  \n\t ", MODEL: "\x1b[31m"}, "[31m"),
        ({MAKE: "a\x7fb", MODEL: "<script>alert(1)</script>"}, "a b <script>alert(1)</script>"),
        ({MAKE: "x" * 5000, MODEL: "y"}, "x" * 100),
    ],
)
def test_hostile_exif_becomes_one_printable_line_or_nothing(tags: Tags, camera: str | None) -> None:
    assert pixel_attributes.camera(with_exif(tags)) == camera


@given(st.binary(max_size=200), st.integers(0, 60))
def test_damaged_exif_says_nothing_about_a_photo(garbage: bytes, start: int) -> None:
    data = bytearray(with_exif({MAKE: "Apple", MODEL: "iPhone"}))
    data[12 + start : 12 + start + len(garbage)] = garbage
    camera = pixel_attributes.camera(bytes(data))
    assert camera is None or (camera.isprintable() and 0 < len(camera) <= 100)


# attributes.csv


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    for name in (
        "query/Pear/q1.png",
        "query/q2.png",
        "gallery/Pear/g1.png",
        "gallery/Pear/g2.png",
        "gallery/Fig/g3.png",
    ):
        file = folder / "test" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(noise(40, 30, len(list(folder.rglob("*"))))))
    return folder


def table(root: Path, text: str | bytes = "") -> pd.DataFrame:
    """The attributes of the photos in `root`, by file name."""
    if text:
        data = text if isinstance(text, bytes) else text.encode()
        (root / raw_attributes.FILE_NAME).write_bytes(data)
    cache = attribute_cache.AttributeCache.open(
        root.parent / "cache", ImageCache.open(root.parent / "cache", 512)
    )
    with photo_register.temporary() as register:
        raw_folder.read(register, root)
        columns = raw_attributes.read(register, root)
        names = [path for (path,) in register.execute("SELECT path FROM file").fetchall()]
        registration.assemble(
            register, ((name, cache.images.examine((root / name).read_bytes())) for name in names)
        )
        rows = list(attribute_table.rows(register, cache, root, columns))
        ids = {image.image_id: Path(image.paths[0]).name for image in photo_register.images(register, "test")}
        table.problems = register.execute("SELECT path, problem FROM problem").fetchall()  # type: ignore[attr-defined]
    frame = pd.DataFrame(rows, columns=attribute_table.schema(columns).names)
    return frame.set_index(frame.image_id.map(ids)).sort_index()


def problems() -> list[tuple[str, str]]:
    return table.problems  # type: ignore[attr-defined]


def refused(root: Path, text: str | bytes) -> str:
    with pytest.raises(UserError) as refusal:
        table(root, text)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{root}/attributes.csv: line ") and "\n" not in sentence
    return sentence.removeprefix(f"{root}/attributes.csv: ")


def test_without_attributes_csv_there_are_those_of_the_photos(root: Path) -> None:
    measured = table(root)
    assert measured.longest_side_px.tolist() == [40] * 5 and measured.aspect_ratio.tolist() == [1.333] * 5
    assert measured.label_gallery_photos["q1.png"] == 2 and measured.label_gallery_photos["g3.png"] == 1
    assert np.isnan(measured.label_gallery_photos["q2.png"]), "it has no label"
    assert set(measured.format) == {"PNG"} and measured.camera.isna().all()


def test_lines_about_photos_and_labels(root: Path) -> None:
    text = (
        "path,label,vendor,price,mixed\n"
        ",Pear,farm,2.5,x\n"
        "test/query/q2.png,,shop,3,\n"
        "test\\query\\Pear\\q1.png,,market,,7\n"
        ",Unknown,x,1,1\n"
    )
    own = table(root, text)[["vendor", "price", "mixed"]]
    assert own.vendor.fillna("").tolist() == ["farm", "farm", "", "market", "shop"]
    assert own.price.fillna(-1).tolist() == [2.5, 2.5, -1, 2.5, 3]
    assert own.mixed.fillna("").tolist() == ["x", "x", "", "7", ""]
    notes = [problem for path, problem in problems() if path == "attributes.csv"]
    assert any("1 of 2 labels that no photo has" in note and "'Unknown' in line 5" in note for note in notes)


def test_a_photo_that_was_removed_is_noted_and_the_others_count(root: Path) -> None:
    own = table(root, "path,x\ntest/query/gone.png,1\ntest/query/q2.png,2\ntest/query/q3.png,3\n").x
    assert own["q2.png"] == 2
    [note] = [problem for path, problem in problems() if path == "attributes.csv"]
    assert "2 of 3 lines" in note and "line 2: 'test/query/gone.png' is not in" in note


def test_two_files_of_one_image_that_contradict_each_other_say_nothing(root: Path) -> None:
    copy = root / "test/query/copy.png"
    copy.write_bytes((root / "test/query/q2.png").read_bytes())
    text = "path,vendor,colour\ntest/query/q2.png,a,red\ntest/query/copy.png,b,red\n"
    row = table(root, text).loc["copy.png"]
    assert row.vendor is None and row.colour == "red"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000), ("-.5", -0.5), (" 7 ", 7), ("007", 7)],
)
def test_numbers(root: Path, text: str, value: float) -> None:
    own = table(root, f"path,x\ntest/query/q2.png,{text}\ntest/gallery/Fig/g3.png,nan\n").x
    assert own["q2.png"] == value and np.isnan(own["g3.png"])


@pytest.mark.parametrize("text", ["1e999", "inf", "1_000", "0x10", "\u0663", "12 cm"])
def test_what_is_no_finite_number_is_a_text(root: Path, text: str) -> None:
    assert table(root, f"path,x\ntest/query/q2.png,{text}\n").x["q2.png"] == text


def test_a_single_text_among_numbers_is_noted_with_its_line(root: Path) -> None:
    table(root, "path,x\ntest/query/q2.png,1\ntest/query/Pear/q1.png,2\ntest/gallery/Fig/g3.png,n/a\n")
    [note] = [problem for path, problem in problems() if path == "attributes.csv"]
    assert "column 'x'" in note and "'n/a' in line 4" in note and "leave unknown numbers empty" in note


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("photo,x\na,1\n", 1, ["no column 'path' or 'label'", "the header is path, or label"]),
        ("paths,x\na,1\n", 1, ["did you mean 'paths'?"]),
        ("path;x\na;1\n", 1, ["semicolons"]),
        ("path\ntest/query/q2.png\n", 1, ["has no attribute", "add a column"]),
        ("path,x,x\n", 1, ["'x' twice", "remove one"]),
        ("path,x,\n", 1, ["a column without a name"]),
        ("path,sharpness\n", 1, ["'sharpness'", "rename it, as my_sharpness"]),
        ("path,image_id\n", 1, ["rename it"]),
        (
            "path,x\ntest/query/q3.png,1\n",
            2,
            ["'test/query/q3.png' is not in", "did you mean 'test/query/q2.png'?"],
        ),
        ("path,x\n/abs.png,1\n", 2, ["write paths relative to it"]),
        ("path,x\n,1\n", 2, ["has no path", "fill it in or remove the line"]),
        ("path,label,x\n,,1\n", 2, ["has no path nor label"]),
        (
            "path,label,x\ntest/query/q2.png,Pear,1\n",
            2,
            ["'test/query/q2.png' and the label 'Pear'", "leave one"],
        ),
        ("path,x\ntest/query/q2.png,1\ntest/query/q2.png,1\n", 3, ["already in line 2", "remove one"]),
        ("label,x\nPear,1\n Pear ,2\n", 3, ["already in line 2"]),
        ("label,x\nPaer,1\n", 2, ["no photo has the label 'Paer'", "did you mean 'Pear'?"]),
        ("path,x\ntest/query/q2.png,1,2\n", 2, ["3 values, the header 2", "double quotes"]),
        (b"path,x\ntest/query/q2.png,\xff\n", 2, ["not UTF-8"]),
        ('path,x\ntest/query/q2.png,"a\n', 2, ["not valid CSV"]),
    ],
)
def test_every_fault_has_its_line_and_the_nearest_fix(
    root: Path, text: str | bytes, line: int, words: list[str]
) -> None:
    sentence = refused(root, text)
    assert sentence.startswith(f"line {line}: ") and all(word in sentence for word in words), sentence


def test_another_spelling_is_told(root: Path) -> None:
    (root / "Attributes.csv").write_text("path,x\n")
    with pytest.raises(UserError, match=r"rename it to 'attributes\.csv'"):
        table(root)


# The stage


@pytest.mark.slow
def test_the_stage_measures_each_test_photo_once_and_a_lost_cache_changes_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lineup.machine.threads", lambda: 0)
    root.parent.joinpath("data").mkdir()
    root.rename(tmp_path / paths.RAW)
    large = encoded(noise(900, 600), "JPEG", exif=Image.Image.getexif(noise(1, 1)))
    (tmp_path / paths.RAW / "test/gallery/large.jpg").write_bytes(large)
    (tmp_path / paths.RAW / "train/a").mkdir(parents=True)
    (tmp_path / paths.RAW / "train/a/1.png").write_bytes(encoded(noise(9, 9)))
    params = project.demo_params("mobilenet_v2")
    params["preprocess"] = {"shorter_side_px": 512}
    project.write_params(tmp_path, params)
    measured: list[int] = []
    examine = pixel_attributes.examine
    monkeypatch.setattr(pixel_attributes, "examine", lambda *data: measured.append(1) or examine(*data))
    preprocess.main()
    assert len(measured) == 6, "training photos have no attributes"
    first = paths.ATTRIBUTES.read_bytes()
    manifest = pd.read_parquet(paths.manifest("test"))
    frame = pd.read_parquet(paths.ATTRIBUTES)
    assert frame[["image_id", "split"]].equals(manifest[["image_id", "split"]])
    assert frame.longest_side_px.max() == 900
    preprocess.main()
    assert len(measured) == 6 and paths.ATTRIBUTES.read_bytes() == first
    [store] = (paths.CACHE / "attributes").iterdir()
    entries = sorted(file for file in store.rglob("*") if len(file.name) == 64)
    assert len(entries) == 6
    entries[0].write_bytes(entries[1].read_bytes())  # whole, but another photo's
    entries[2].write_bytes(b"damaged")
    entries[3].unlink()
    preprocess.main()
    assert len(measured) == 9 and paths.ATTRIBUTES.read_bytes() == first


def test_prepared_images_do_not_depend_on_the_code_of_attributes() -> None:
    """Their fingerprint is part of a training's: an attribute that is defined anew must not train again."""
    assert Path(pixel_attributes.__file__) not in decoding.CODE
