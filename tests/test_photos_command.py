"""`lineup photos`: who goes where, under which name, and that data/raw is never half-done."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lineup.commands import group
from lineup.errors import UserError
from lineup.layouts import detection, listing, names, placement, plan, roles
from lineup.layouts.layout import Judgement, Source, SourcePhoto
from lineup.layouts.roles import Choices
from lineup.photos import photo_register, raw_folder
from tests.support.project import tree

RAW = Path("data/raw")
SPLITS = ("train", "test/query", "test/gallery")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "products"


def add(source: Path, files: Iterable[str]) -> None:
    """Files that begin as a JPEG does; each has other bytes."""
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"\xff\xd8\xff" + name.encode(errors="surrogateescape"))


def pile(labels: int, photos: int) -> list[str]:
    return [f"sku{label}/{number}.jpg" for label in range(labels) for number in range(photos)]


def lay_out(source: Path, *options: str) -> None:
    group.run(["photos", str(source), *options])


def photos(folder: Path = RAW) -> dict[str, bytes]:
    return {name: data for name, data in tree(folder).items() if name.startswith(("train/", "test/"))}


def count(folder: Path = RAW) -> Counter[str]:
    return Counter(next(split for split in SPLITS if name.startswith(split)) for name in photos(folder))


def labels_read(folder: Path = RAW) -> dict[str, str | None]:
    """The label of each file, as preprocess reads them."""
    with photo_register.temporary() as register:
        raw_folder.read(register, folder)
        return dict(register.execute("SELECT path, label FROM file"))


def record(folder: Path = RAW) -> list[dict[str, str]]:
    with (folder / "sources.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Label folders


@pytest.mark.slow
def test_label_folders_are_split_by_label_and_each_test_label_has_its_queries(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, [*pile(40, 5), "single/a.jpg", "loose.jpg", "readme.txt", ".DS_Store", "sku1/.hidden.jpg"])
    before = tree(source)
    lay_out(source)
    by_split = {
        split: Counter(name.split("/")[-2] for name in photos() if name.startswith(f"{split}/sku"))
        for split in SPLITS
    }
    assert by_split["test/query"].keys() == by_split["test/gallery"].keys()
    assert not by_split["train"].keys() & by_split["test/query"].keys()
    assert len(by_split["train"]) + len(by_split["test/query"]) == 40 and 10 < len(by_split["train"]) < 30
    assert {*by_split["test/query"].values()} == {1} and {*by_split["test/gallery"].values()} == {4}
    assert {*by_split["train"].values()} == {5}
    # A label with one photo and a photo without a label are distractors.
    assert {"test/gallery/single/a.jpg", "test/gallery/loose.jpg"} < photos().keys()
    assert sum(count().values()) == 202 and tree(source) == before
    # Every photo is what its source was, under its own name and label.
    assert all(photos()[row["path"]] == before[row["source"]] for row in record())
    assert {row["path"] for row in record()} == photos().keys()
    assert labels_read() == {row["path"]: row["label"] or None for row in record()}
    printed = capsys.readouterr().out
    assert "41 labels with 201 photos, and 1 loose photo" in printed and "--layout flat" in printed
    assert "left out: 1 other file (1 .txt), 1 hidden photo\n" in printed and "202 photos laid out" in printed
    assert "`lineup check`, then `dvc repro`" in printed and "`dvc add data/raw`" in printed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--train-share", "0"), {"test/query": 12, "test/gallery": 36}),
        (("--train-share", "0", "--queries-per-label", "3"), {"test/query": 36, "test/gallery": 12}),
        (("--train-share", "0", "--queries-per-label", "9"), {"test/query": 36, "test/gallery": 12}),
        # Two labels are left for the test, whatever the hashes say.
        (("--train-share", "0.999"), {"train": 40, "test/query": 2, "test/gallery": 6}),
    ],
)
def test_shares_of_label_folders(options: tuple[str, ...], expected: dict[str, int], source: Path) -> None:
    add(source, pile(12, 4))
    lay_out(source, *options)
    assert count() == expected


@pytest.mark.parametrize("labels", [2, 3])
def test_too_few_labels_to_train_on_are_all_for_the_test(
    labels: int, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, pile(labels, 5))
    lay_out(source)
    assert count() == {"test/query": labels, "test/gallery": 4 * labels}
    assert f"too few labels have several photos ({labels}) to train on some" in capsys.readouterr().out


def test_the_share_of_labels_is_that_of_their_hashes() -> None:
    """A slow, independent version: the hash as a number between 0 and 1."""
    sample = [SourcePhoto(name, name.partition("/")[0]) for name in pile(500, 2)]
    for share in (0.2, 0.5, 0.9):
        assigned = roles.assign(sample, Choices(train_share=share)).roles
        trained = {photo.label for photo in sample if assigned[photo.name] == ("train",)}
        expected = {
            photo.label for photo in sample if int(roles.digest(f"label {photo.label}"), 16) / 2**256 < share
        }
        assert trained == expected and abs(len(trained) / 500 - share) < 0.07


# Stability


@pytest.mark.slow
def test_adding_photos_moves_no_old_one(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1,000 photos, then 100 more: in old labels, in new ones, loose, and a second one of a single label."""
    old = [*pile(99, 10), *(f"single{number}/0.jpg" for number in range(10))]
    new = [
        f"{label}/new{number}.jpg" for label in ("sku1", "sku2", "single1", "a", "b") for number in range(19)
    ]
    new += [f"loose{number}.jpg" for number in range(5)]
    add(source, old)
    lay_out(source)
    before = photos()
    times = {name: (RAW / name).stat().st_mtime_ns for name in before}
    add(source, new)
    lay_out(source)
    assert len(before) == 1000 and len(photos()) == 1100
    assert before.items() < photos().items(), "an old photo has moved"
    assert times == {name: (RAW / name).stat().st_mtime_ns for name in before}
    assert "100 photos added" in capsys.readouterr().out
    # A label stays on its side, and no label gets a query too many.
    sides: dict[str, set[str]] = {}
    queries: Counter[str] = Counter()
    for name, label in labels_read().items():
        if label:
            sides.setdefault(label, set()).add(name.partition("/")[0])
            queries[label] += name.startswith("test/query/")
    assert {len(each) for each in sides.values()} == {1} and max(queries.values()) == 1
    lay_out(source, "--queries-per-label", "2")
    tested = sum("test" in side for side in sides.values()) - 9  # without those of one photo
    assert photos().keys() == {row["path"] for row in record()} and len(photos()) == 1100
    assert f"{tested} of 111 labels have fewer queries than asked for" in capsys.readouterr().out
    # single1 had a distractor; now one of its new photos searches for it.
    assert queries["single1"] == 1 and "test/gallery/single1/0.jpg" in photos()


def test_flat_queries_stay_as_the_pile_grows(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(source, (f"{number}.jpg" for number in range(60)))
    lay_out(source, "--queries", "20")
    before = photos()
    add(source, (f"new{number}.jpg" for number in range(20)))
    lay_out(source, "--queries", "20")
    assert before.items() < photos().items()
    assert count() == {"test/query": 20, "test/gallery": 80}
    before = photos()
    capsys.readouterr()
    lay_out(source, "--queries", "21")
    assert photos() == before and "there are fewer queries than asked for" in capsys.readouterr().out


def test_a_second_run_changes_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(source, [*pile(10, 3), "odd:/../x.jpg", "=a/1.jpg", "=a/2.jpg"])
    lay_out(source)
    before = {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in RAW.rglob("*")}
    capsys.readouterr()
    lay_out(source)
    assert before == {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in RAW.rglob("*")}
    assert "nothing to do" in capsys.readouterr().out


def test_a_fresh_layout_is_the_same_whatever_the_order_of_the_disk(source: Path, tmp_path: Path) -> None:
    files = [*pile(30, 4), *(f"sku1/{side}/x.jpg" for side in "abc")]
    add(source, files)
    add(tmp_path / "other", reversed(files))
    lay_out(source)
    lay_out(tmp_path / "other", "--to", "other")
    assert tree(RAW) == tree(Path("other"))


def test_the_order_of_photos_does_not_decide() -> None:
    sample = [SourcePhoto(name, name.partition("/")[0]) for name in pile(30, 4)]
    sample += [SourcePhoto(f"{number}/same.jpg", "same") for number in range(5)]
    other = [sample[at] for at in np.random.default_rng(0).permutation(len(sample))]
    assigned = roles.assign(sample, Choices()).roles
    assert assigned == roles.assign(other, Choices()).roles
    assert names.paths(sample, assigned) == names.paths(other, assigned)


# Flat piles


def test_a_pile_without_labels_is_the_gallery_and_a_sample_of_it_the_queries(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, (f"IMG_{number}.jpg" for number in range(30)))
    lay_out(source, "--queries", "7")
    assert count() == {"test/query": 7, "test/gallery": 30}
    gallery = {
        name.removeprefix("test/gallery/"): data for name, data in photos().items() if "gallery" in name
    }
    for name, data in photos().items():
        assert gallery[name.rpartition("/")[2]] == data
    assert {*labels_read().values()} == {None}
    printed = capsys.readouterr().out
    assert "a pile without labels: 30 photos\n" in printed and "30 photos laid out (37 files" in printed


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["2023/a.jpg", "2024/b.jpg"], "flat"),
        (["2023-05/a.jpg", "20240517/b.jpg"], "flat"),
        (["100APPLE/a.jpg", "101APPLE/b.jpg"], "flat"),
        (["a.jpg", "b.jpg", "sku1/a.jpg"], "flat"),
        (["one/a.jpg", "one/b.jpg"], "flat"),
        (["2023/a.jpg", "red/b.jpg"], "label_folders"),
        (["20235/a.jpg", "20236/b.jpg"], "label_folders"),
        (["sku1/a.jpg", "sku2/b.jpg", "loose.jpg"], "label_folders"),
        (["sku1/front/a.jpg", "sku2/front/b.jpg"], "label_folders"),
        (["test/query/a.jpg", "test/gallery/b.jpg", "train/x/c.jpg"], "as_is"),
    ],
)
def test_layouts_are_told_apart(files: list[str], layout: str, source: Path) -> None:
    add(source, files)
    assert detection.choose(source, None)[0] == layout


def test_the_user_may_name_the_layout(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(source, (f"{year}/{number}.jpg" for year in range(2001, 2009) for number in range(4)))
    lay_out(source)
    assert (
        "32 photos in 8 folders (if the folders are labels: --layout label_folders)"
        in capsys.readouterr().out
    )
    lay_out(source, "--layout", "label-folders", "--to", "labelled")
    assert {*labels_read(Path("labelled")).values()} == {str(year) for year in range(2001, 2009)}
    # Equal names from several folders are told apart.
    assert len({name for name in photos() if name.startswith("test/gallery/")}) == 32


# Names


@pytest.mark.parametrize(
    "label",
    [
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "x" * 300,
        "thumbs.db",
        "new\nline",
        "=1+1",
        "'quoted",
        "-5",
        "a,b",
        "ü",
        "CON",
    ],
)
def test_every_label_survives(label: str, source: Path) -> None:
    """Such labels come from a table; preprocess must read the very same."""
    sample = [SourcePhoto(f"{at}.jpg", label if at < 4 else f"other{at % 4}") for at in range(24)]
    add(source, (photo.name for photo in sample))
    planned = plan.make(Source(sample), Choices(train_share=0), RAW, [])
    placement.write(planned, source, RAW, planned.photos, placement.Placer())
    labels = labels_read()
    assert Counter(labels.values())[label] == 4 and len(labels) == 24
    for path, photo in planned.photos.items():
        assert labels[path] == photo.label and Path(path).resolve().is_relative_to(Path().resolve())


def test_labels_that_differ_in_capitals_have_folders_of_their_own(source: Path) -> None:
    sample = [SourcePhoto(f"{label}{at}.jpg", label) for label in ("Ab", "aB", "c") for at in range(3)]
    add(source, (photo.name for photo in sample))
    planned = plan.make(Source(sample), Choices(train_share=0), RAW, [])
    folders = {path.split("/")[2].casefold() for path in planned.photos}
    assert len(folders) == 3
    placement.write(planned, source, RAW, planned.photos, placement.Placer())
    assert Counter(labels_read().values()) == {"Ab": 3, "aB": 3, "c": 3}


def test_files_of_one_name_and_odd_names_stay_apart(source: Path) -> None:
    odd = ["sku0/a/x.jpg", "sku0/b/x.jpg", "sku0/b/X.jpg", "sku1/new\nline.jpg", f"sku1/{'y' * 245}.jpg"]
    odd += [os.fsdecode(b"sku1/\xff.jpg"), "sku1/ space.jpg", "sku1/no suffix", "loose"]
    add(source, [*odd, *pile(8, 3)[6:]])
    lay_out(source)
    assert len(photos()) == len(odd) + 18 == len(labels_read())
    assert Counter(photos().values()) == Counter(tree(source).values())
    assert all(name.isprintable() for name in photos())


def test_a_new_file_of_an_old_name_does_not_replace_it(source: Path) -> None:
    add(source, pile(6, 3))
    lay_out(source)
    before = photos()
    add(source, [f"sku{label}/sub/0.jpg" for label in range(6)])
    lay_out(source)
    assert before.items() < photos().items() and len(photos()) == 24


# Layouts that prescribe more


def test_photos_that_lie_right_are_taken_as_they_are(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["test/query/q.jpg", "test/gallery/x/g1.jpg", "test/gallery/g2.jpg", "train/x/deep/t.jpg"]
    add(source, files)
    (source / "labels.csv").write_text("path,label\ntest/query/q.jpg,x\ntest/gallery/x/g1.jpg,\n")
    (source / "qrels.csv").write_text("query,gallery,relevance\ntest/query/q.jpg,test/gallery/g2.jpg,-1\n")
    (source / "attributes.csv").write_text("label,colour\nx,red\n")
    lay_out(source)
    assert photos().keys() == {*files} and labels_read() == labels_read(source)
    assert (RAW / "qrels.csv").read_text() == (source / "qrels.csv").read_text()
    assert (RAW / "attributes.csv").read_text() == (source / "attributes.csv").read_text()
    capsys.readouterr()
    lay_out(source)
    assert "nothing to do" in (printed := capsys.readouterr().out) and "fewer queries" not in printed


def test_prescribed_roles_judgements_crops_and_attributes(source: Path) -> None:
    source.mkdir()
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    # The camera lay on its side: what is stored has other axes than what is shown.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(rgb)).save(source / "turned.png", exif=exif)
    add(source, ["g.jpg", "both.jpg"])
    listed = Source(
        [
            SourcePhoto(
                "turned.png",
                "x",
                ("query",),
                crop=(3, 2, 13.2, 8),
                attributes={"price": "=1", "format": "A4"},
            ),
            SourcePhoto("g.jpg", "x", ("gallery",), attributes={"price": "2"}),
            SourcePhoto("both.jpg", None, ("query", "gallery")),
        ],
        {"qrels.csv": [Judgement("turned.png", "both.jpg", 1), Judgement("both.jpg", "g.jpg", -1)]},
    )
    planned = plan.make(listed, Choices(), RAW, [])
    placement.write(planned, source, RAW, placement.changes(planned, source, RAW), placement.Placer())
    with Image.open(RAW / "test/query/x/turned.png") as cropped:
        np.testing.assert_array_equal(np.asarray(cropped), rgb[2:8, 3:13])
    assert (RAW / "qrels.csv").read_text().splitlines() == [
        "query,gallery,relevance",
        "test/query/both.jpg,test/gallery/x/g.jpg,-1",
        "test/query/x/turned.png,test/gallery/both.jpg,1",
    ]
    assert (RAW / "attributes.csv").read_text().splitlines()[0] == "path,price,my_format"
    assert "test/query/x/turned.png,=1,A4" in (RAW / "attributes.csv").read_text()
    assert placement.changes(planned, source, RAW) == []
    with pytest.raises(
        UserError, match=r"turned.png: the box 30, 0, 40, 5 has no pixel of the photo.*30 x 20"
    ):
        placement.cropped(source / "turned.png", (30, 0, 40, 5))


# Changes of the source


def test_a_changed_a_missing_and_a_removed_photo(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(source, pile(10, 4))
    lay_out(source)
    first, second, third = record()[:3]
    (source / first["source"]).write_bytes(b"\xff\xd8\xffretouched")
    (RAW / second["path"]).unlink()
    (source / third["source"]).unlink()
    capsys.readouterr()
    lay_out(source)
    assert photos()[first["path"]] == b"\xff\xd8\xffretouched"
    assert len(photos()) == 40 and second["path"] in photos()
    printed = capsys.readouterr().out
    assert "2 photos replaced" in printed
    assert f"1 photo that the source has no longer ({third['source']})" in printed


def test_a_corrected_label_moves_its_photo_and_what_people_wrote_stays(source: Path, tmp_path: Path) -> None:
    table = tmp_path / "products.csv"
    rows = {f"{at}.jpg": f"sku{at % 8}" for at in range(40)}

    def write() -> None:
        table.write_text("image,sku\n" + "".join(f"{name},{label}\n" for name, label in rows.items()))

    add(source, rows)
    write()
    lay_out(source, "--table", str(table))
    mine = record()[5]["path"]
    (RAW / "labels.csv").write_text(f"path,label\n{mine},mine\n")
    (RAW / "notes.txt").write_text("keep")
    rows["1.jpg"] = "a/b"
    rows["41.jpg"] = "a/b"
    add(source, ["41.jpg"])
    write()
    lay_out(source, "--table", str(table))
    assert len(photos()) == 41 and (RAW / "notes.txt").read_text() == "keep"
    labels = labels_read()
    assert labels.pop(mine) == "mine"
    assert labels == {row["path"]: rows[row["source"]] for row in record() if row["path"] != mine}


def test_renamed_photos_stay_and_those_moved_to_another_label_are_moved(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, pile(12, 4))
    (source / "sku0/copy of 0.jpg").write_bytes((source / "sku0/0.jpg").read_bytes())
    lay_out(source)
    before = {row["source"]: row["path"] for row in record()}
    (source / "sku0/1.jpg").rename(source / "sku0/front.jpg")
    (source / "sku1").rename(source / "SKU-1")
    (source / "sku2/0.jpg").rename(source / "sku3/moved.jpg")
    capsys.readouterr()
    lay_out(source)
    after = {row["source"]: row["path"] for row in record()}
    assert after["sku0/front.jpg"] == before["sku0/1.jpg"]
    assert (
        after["sku0/copy of 0.jpg"] == before["sku0/copy of 0.jpg"]
        and after["sku0/0.jpg"] == before["sku0/0.jpg"]
    )
    assert len(photos()) == 49 and after.keys() == tree(source).keys()
    assert labels_read() == {path: name.partition("/")[0] for name, path in after.items()}
    assert "5 photos given another label (5 files" in capsys.readouterr().out
    fresh = "fresh"
    lay_out(source, "--to", fresh)
    assert Counter(photos().values()) == Counter(photos(Path(fresh)).values())


def test_a_version_that_is_not_here_is_pulled_first(source: Path) -> None:
    add(source, pile(6, 3))
    RAW.parent.mkdir()
    Path("data/raw.dvc").touch()
    with pytest.raises(
        UserError, match=r"data/raw: is under version control.*`dvc pull data/raw`.*raw.dvc to lay"
    ):
        lay_out(source)
    assert not RAW.exists()


# Where the photos are


def test_hard_links_take_no_disk_and_copies_are_files_of_their_own(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, pile(6, 3))
    lay_out(source, "--hard-links", "--to", "linked")
    assert {(source / name).stat().st_nlink for name in tree(source)} <= {1, 2}
    linked = (source / "sku0/0.jpg").stat().st_nlink == 2
    assert ("`dvc add --no-relink linked`" in capsys.readouterr().out) == linked
    # The advice does not depend on the option of the last run.
    lay_out(source, "--to", "linked")
    assert ("`dvc add --no-relink linked`" in capsys.readouterr().out) == linked
    lay_out(source)
    paths = {row["source"]: RAW / row["path"] for row in record()}
    for name, path in paths.items():
        assert path.stat().st_ino != (source / name).stat().st_ino
        assert path.stat().st_mtime_ns == (source / name).stat().st_mtime_ns


def test_where_nothing_can_be_linked_files_are_copied(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(source, pile(6, 3))

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(placement.system, "reflink", refuse)
    monkeypatch.setattr(placement.os, "link", refuse)
    lay_out(source, "--hard-links")
    add(source, ["sku0/new.jpg"])
    lay_out(source, "--hard-links")
    assert Counter(photos().values()) == Counter(tree(source).values())
    assert all((source / name).stat().st_nlink == 1 for name in tree(source))


def test_links_in_the_source_and_data_raw_on_another_disk(source: Path, tmp_path: Path) -> None:
    add(tmp_path / "elsewhere", ["a.jpg", "b.jpg"])
    add(source, pile(6, 3))
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "sku0/link.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    (source / "sku0/circle").symlink_to(source)
    (source / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "disk").mkdir()
    RAW.parent.mkdir()
    RAW.symlink_to(tmp_path / "disk")
    lay_out(source, "--hard-links")
    assert RAW.is_symlink() and len(photos(tmp_path / "disk")) == 18 + 2 + 1
    assert not any(file.is_symlink() for file in (tmp_path / "disk").rglob("*"))
    assert listing.read(source).others == ["broken.jpg"]


def test_files_without_an_ending_are_known_by_their_first_bytes(source: Path) -> None:
    add(source, ["0f3a", "b.123456", "c.jpg.bak", "d.JPEG"])
    (source / "e").write_bytes(b"text")
    (source / "f.nef").write_bytes(b"II*\0")
    files = listing.read(source)
    assert files.photos == ["0f3a", "b.123456", "d.JPEG"] and files.others == ["c.jpg.bak", "e", "f.nef"]


# Errors, each of which leaves data/raw as it was


def two_labels_of_one_photo(source: Path) -> None:
    add(source, ["a/1.jpg", "b/1.jpg"])


def one_label(source: Path) -> None:
    add(source, [f"table/{number}.jpg" for number in range(3)])


def folders_of_a_folder(source: Path) -> None:
    add(source, [f"images/{name}" for name in pile(3, 2)])


def no_photos(source: Path) -> None:
    source.mkdir()
    (source / "a.txt").touch()


@pytest.mark.parametrize(
    ("create", "options", "message"),
    [
        (lambda source: None, (), r"products: does not exist; did you mean '.*/products2'"),
        (Path.touch, (), r"products: is not a folder; name the folder"),
        (Path.mkdir, (), r"products: holds no photo; name the folder"),
        (no_photos, (), r"products: holds no photo, but 1 other file \(1 \.txt\)"),
        (two_labels_of_one_photo, (), r"2 labels has one photo, as 'a' has 'a/1.jpg'.*use --layout flat"),
        (one_label, ("--layout", "label_folders"), r"all photos have one label, 'table'.*use --layout flat"),
        (folders_of_a_folder, (), r"run `lineup photos` on that, .*/products/images, or use --layout flat"),
        (one_label, ("--layout", "flatt"), r"--layout flatt: is unknown; did you mean 'flat'"),
        (one_label, ("--table", "shop.csv"), r"shop.csv: "),
    ],
)
def test_each_fault_is_one_sentence_and_changes_nothing(
    create: Callable[[Path], object], options: tuple[str, ...], message: str, source: Path, tmp_path: Path
) -> None:
    add(tmp_path / "products2", pile(6, 3))
    lay_out(tmp_path / "products2")
    before = tree(Path())
    create(source)
    with pytest.raises(UserError, match=message) as fault:
        lay_out(source, *options, "--to", "new")
    assert "\n" not in str(fault.value)
    with pytest.raises(UserError):
        lay_out(source, *options)
    assert tree(Path()) == before


@pytest.mark.slow
def test_a_folder_that_it_did_not_lay_out_is_never_touched(source: Path) -> None:
    add(source, pile(6, 3))
    add(RAW, ["test/query/mine.jpg"])
    before = tree(RAW)
    for name in ("photo", "record"):
        with pytest.raises(
            UserError, match=r"data/raw: holds something that .* did not lay out.*; move it away"
        ):
            lay_out(source)
        assert tree(RAW) == before
        if name == "photo":
            (RAW / "sources.csv").write_text("path,photo\na,b\n")
            before = tree(RAW)


def test_photos_of_another_folder_or_layout_are_not_mixed_in(source: Path, tmp_path: Path) -> None:
    add(source, pile(6, 3))
    add(tmp_path / "others", [f"x{name}" for name in pile(6, 3)])
    lay_out(source)
    before = tree(RAW)
    with pytest.raises(UserError, match=r"none of its 18 photos is in this one; move it away"):
        lay_out(tmp_path / "others")
    with pytest.raises(
        UserError, match=r"18 of 18 photos differ, as sku0/0.jpg with 'sku0', now ''; move it away"
    ):
        lay_out(source, "--layout", "flat")
    assert tree(RAW) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data/raw", "is data/raw itself"),
        ("data/raw/test", "is inside data/raw"),
        (".", "holds data/raw, too"),
    ],
)
def test_the_source_is_a_folder_of_its_own(name: str, message: str, source: Path) -> None:
    add(source, pile(6, 3))
    lay_out(source)
    before = tree(RAW)
    with pytest.raises(UserError, match=message):
        lay_out(Path(name))
    assert tree(RAW) == before


@pytest.mark.parametrize("options", [("--path-column", "x"), ("--table", "x.csv", "--layout", "flat")])
def test_options_that_do_not_go_together(
    options: tuple[str, ...], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, pile(6, 3))
    with pytest.raises(SystemExit) as stopped:
        lay_out(source, *options)
    assert stopped.value.code == 2 and "--table" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
@pytest.mark.parametrize("update", [False, True])
def test_a_fault_half_way_leaves_data_raw_as_it_was(
    error: BaseException, update: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(source, pile(6, 3))
    if update:
        lay_out(source)
    before = tree(Path("data"))
    add(source, (f"sku{number}/new.jpg" for number in range(6)))
    copies = 0

    def fail(*_: object) -> None:
        nonlocal copies
        copies += 1
        if copies == 4:
            raise error
        shutil.copy(*_)  # type: ignore[arg-type]

    monkeypatch.setattr(placement.system, "reflink", fail)
    with pytest.raises((OSError, KeyboardInterrupt)) as raised:
        lay_out(source)
    assert tree(Path("data")) == before
    if isinstance(raised.value, OSError):
        assert raised.value.filename == "data/raw"
    monkeypatch.undo()
    os.chdir(source.parent / "project")
    lay_out(source)
    assert len(photos()) == 24 and not [*Path("data").glob(".*")]


def test_photos_that_do_not_fit_are_not_even_begun(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(source, pile(6, 3))
    usage = shutil.disk_usage(source)._replace(free=10)
    monkeypatch.setattr(placement.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(
        placement.system, "reflink", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOTSUP, ""))
    )
    with pytest.raises(
        UserError, match=r"copies of the photos need .* MB left; free some space, or use --hard-links"
    ):
        lay_out(source)
    assert not RAW.exists()


def test_a_process_killed_between_the_two_renames_loses_nothing(source: Path) -> None:
    add(source, pile(6, 3))
    lay_out(source)
    (RAW / "notes.txt").write_text("mine")
    before = tree(RAW)
    ended = subprocess.Popen(["true"])
    ended.wait()
    RAW.rename(RAW.with_name(f".raw.former.{ended.pid}.tmp"))
    lay_out(source)
    assert tree(RAW) == before


# What a person should know


def printed(capsys: pytest.CaptureFixture[str], source: Path, *options: str) -> str:
    capsys.readouterr()
    lay_out(source, *options)
    return capsys.readouterr().out


def test_another_share_of_training_is_said_to_move_no_photo(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, pile(20, 4))
    assert "--train-share" not in printed(capsys, source)
    assert "--train-share" not in printed(capsys, source)
    before = photos()
    again = printed(capsys, source, "--train-share", "0")
    assert "of 20 labels are not where --train-share 0 would put them" in again and photos() == before


@pytest.mark.slow
def test_the_demo_is_recognised(source: Path) -> None:
    group.run(["demo"])
    before = tree(RAW)
    add(source, pile(6, 3))
    with pytest.raises(UserError, match=r"data/raw: holds the demo's photos; remove it \(`rm -r data/raw`\)"):
        lay_out(source)
    assert tree(RAW) == before


def test_edited_settings_stay_and_the_way_to_others_is_said_once(
    project: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text("models: {}\n", encoding="utf-8")
    add(source, pile(6, 3))
    assert "params.yaml stays as you edited it; `lineup use photos`" in printed(capsys, source)
    assert "params.yaml" not in printed(capsys, source)
    assert Path("params.yaml").read_text(encoding="utf-8") == "models: {}\n"


def test_few_queries_and_photos_without_labels_are_told_with_the_way_to_more(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(source, pile(6, 3))
    with_labels = printed(capsys, source)
    assert "queries give wide intervals; for more, move data/raw away" in with_labels
    assert "lineup judge" not in with_labels
    flat = tmp_path / "flat"
    add(flat, [f"{number}.jpg" for number in range(5)])
    without = printed(capsys, flat, "--to", "elsewhere")
    assert (
        "without labels nothing is scored until you judge it; --queries-from edits makes queries" in without
    )
    assert "dvc repro" not in without, "the pipeline looks at data/raw only"
    shutil.rmtree("data/raw")
    judged = printed(capsys, flat)
    assert "`lineup judge --open` serves a page for it at http://127.0.0.1:8100/" in judged


def test_a_table_is_looked_for_in_the_source_too(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(source, pile(6, 3))
    lines = [f"{name},{name.partition('/')[0]}" for name in pile(6, 3)]
    (source / "products.csv").write_text("\n".join(["image,sku", *lines]), encoding="utf-8")
    assert f"{source / 'products.csv'}: photos in" in printed(capsys, source, "--table", "products.csv")
