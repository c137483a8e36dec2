"""raw_folder.py, raw_tables.py and what they use: layouts, names, labels.csv, qrels.csv, and the sentence for
every fault in them.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import unicodedata
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from lineup.errors import UserError
from lineup.photos import photo_names, photo_register, raw_folder, raw_tables
from tests.support import odd_images

Form = Literal["NFC", "NFD"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode(errors="surrogateescape"))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "raw",
        "train/Apple/1.jpg",
        "test/query/q1.jpg",
        "test/query/Pear/q2.jpg",
        "test/gallery/Pear/deep/g1.jpg",
        "test/gallery/g2.jpg",
    )


class Listing(NamedTuple):
    """names: path -> split, sorted.

    Labels: path -> label where known; problems: (path, reason); judgements: the rows of qrels.csv.
    """

    names: dict[str, str]
    labels: dict[str, str]
    problems: list[tuple[str, str]]
    judgements: list[tuple[int, str, str, int]]


def read(root: Path) -> Listing:
    with photo_register.temporary() as register:
        raw_folder.read(register, root)
        raw_tables.read_judgements(register, root)
        return Listing(
            dict(register.execute("SELECT path, split FROM file ORDER BY path")),
            dict(register.execute("SELECT path, label FROM file WHERE label IS NOT NULL")),
            register.execute("SELECT path, problem FROM problem ORDER BY path").fetchall(),
            register.execute("SELECT * FROM judgement ORDER BY line").fetchall(),
        )


def refused(root: Path) -> str:
    with pytest.raises(UserError) as told:
        read(root)
    sentence = str(told.value)
    assert "\n" not in sentence
    return sentence.replace(str(root), "RAW")


def test_names_splits_and_labels_come_from_folders(root: Path) -> None:
    data = read(root)
    assert data.names == {
        "test/gallery/Pear/deep/g1.jpg": "gallery",
        "test/gallery/g2.jpg": "gallery",
        "test/query/Pear/q2.jpg": "query",
        "test/query/q1.jpg": "query",
        "train/Apple/1.jpg": "train",
    }
    assert data.labels == {
        "train/Apple/1.jpg": "Apple",
        "test/query/Pear/q2.jpg": "Pear",
        "test/gallery/Pear/deep/g1.jpg": "Pear",
    }
    assert list(data.names) == sorted(data.names) and data.problems == []


def test_labels_csv_wins_over_folders_also_where_it_is_empty(root: Path) -> None:
    (root / "labels.csv").write_text(
        "label,path,note\nFig,test/query/q1.jpg,x\n,train/Apple/1.jpg,\n Plum ,./test/gallery/Pear/deep/g1.jpg,\n\n"
    )
    assert read(root).labels == {
        "test/query/q1.jpg": "Fig",
        "test/query/Pear/q2.jpg": "Pear",
        "test/gallery/Pear/deep/g1.jpg": "Plum",
    }


@pytest.mark.parametrize(
    "text",
    [
        "path,label\ntest/query/q1.jpg,Café\n",
        "\ufeffpath,label\r\ntest/query/q1.jpg,Café\r\n",
        '"path","label"\r\n"test\\query\\q1.jpg","Café"',
    ],
)
def test_labels_csv_may_come_from_any_editor(root: Path, text: str) -> None:
    (root / "labels.csv").write_bytes(text.encode())
    assert read(root).labels["test/query/q1.jpg"] == "Café"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_csv", ["NFC", "NFD"])
def test_accents_match_in_either_unicode_form(root: Path, on_disk: Form, in_csv: Form) -> None:
    name = "test/query/Ñandú é.jpg"
    stored = unicodedata.normalize(on_disk, name)
    touch(root, stored, unicodedata.normalize("NFD", "test/gallery/Ñ/1.jpg"))
    (root / "labels.csv").write_text(
        f"path,label\n{unicodedata.normalize(in_csv, name)},{unicodedata.normalize(in_csv, 'Ñ')}\n",
        encoding="utf-8",
    )
    data = read(root)
    assert stored in data.names and data.labels[stored] == unicodedata.normalize("NFC", "Ñ")
    assert set(data.labels.values()) == {
        "Apple",
        "Pear",
        unicodedata.normalize("NFC", "Ñ"),
    }  # a folder's label is the same one


def test_names_that_look_alike_are_told_apart_or_refused(root: Path) -> None:
    names = [unicodedata.normalize(form, "test/query/é.jpg") for form in ("NFC", "NFD")]
    touch(root, *names)
    (root / "labels.csv").write_text(f"path,label\n{names[0]},a\n{names[1]},b\n", encoding="utf-8")
    assert [read(root).labels[name] for name in names] == ["a", "b"]
    (root / "labels.csv").write_text(f"path,label\n./{names[0]},a\n", encoding="utf-8")
    assert "could be any of 2 files" in refused(root)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            "path,label\ntest/query/q9.jpg,a\n",
            "RAW/labels.csv: line 2: 'test/query/q9.jpg' is not in RAW; did you mean 'test/query/q1.jpg'?",
        ),
        (
            "path,label\n\nq2.jpg,a\n",
            "RAW/labels.csv: line 3: 'q2.jpg' is not in RAW; did you mean 'test/query/Pear/q2.jpg'?",
        ),
        (
            "path,label\ndata/raw/test/query/q1.jpg,a\n",
            "RAW/labels.csv: line 2: 'data/raw/test/query/q1.jpg' is not in RAW; did you mean 'test/query/q1.jpg'?",
        ),
        (
            "path,label\ntest/query/Q1.JPG,a\n",
            "RAW/labels.csv: line 2: 'test/query/Q1.JPG' is not in RAW; did you mean 'test/query/q1.jpg'?",
        ),
        ("path,label\n" + "n" * 3000 + ",a\n", "RAW/labels.csv: line 2: '" + "n" * 3000 + "' is not in RAW"),
        (
            "path,label\n../elsewhere/q1.jpg,a\n",
            "RAW/labels.csv: line 2: '../elsewhere/q1.jpg' is outside RAW; write paths relative to it, as test/query/photo.jpg",
        ),
        (
            "path,label\n/etc/passwd,a\n",
            "RAW/labels.csv: line 2: '/etc/passwd' is outside RAW; write paths relative to it, as test/query/photo.jpg",
        ),
        (
            "path,label\nC:\\q1.jpg,a\n",
            "RAW/labels.csv: line 2: 'C:\\\\q1.jpg' is outside RAW; write paths relative to it, as test/query/photo.jpg",
        ),
        (
            "path,label\nlabels.csv,a\n",
            "RAW/labels.csv: line 2: 'labels.csv' is not a photo: it is hidden, or outside train/, test/query/ and test/gallery/",
        ),
        ("path,label\n,a\n", "RAW/labels.csv: line 2: has no path; fill it in or remove the line"),
        (
            "path,label\ntest/query/q1.jpg,a\ntest/query/q1.jpg,a\n",
            "RAW/labels.csv: line 3: 'test/query/q1.jpg' was already in line 2; remove one of the two",
        ),
        (
            "path,label\ntest/query/q1.jpg,a\n./test/query/q1.jpg,b\n",
            "RAW/labels.csv: line 3: './test/query/q1.jpg' was already in line 2; remove one of the two",
        ),
        (
            "path,labels\n",
            "RAW/labels.csv: line 1: has no column 'label'; did you mean 'labels'?; the header is path,label",
        ),
        (
            "path,label,path\n",
            "RAW/labels.csv: line 1: has the column 'path' twice; remove one; the header is path,label",
        ),
        (
            "path;label\n",
            "RAW/labels.csv: line 1: has no column 'path' (values are separated by semicolons; save it with commas);"
            " the header is path,label",
        ),
        ("", "RAW/labels.csv: line 1: has no column 'path' (it is empty); the header is path,label"),
        (
            "path,label\ntest/query/q1.jpg,a,b\n",
            "RAW/labels.csv: line 2: has 3 values, the header 2; put a value that has a comma into double quotes",
        ),
        (
            "path,label\ntest/query/q1.jpg\n",
            "RAW/labels.csv: line 2: has 1 values, the header 2; put a value that has a comma into double quotes",
        ),
        (
            'path,label\n"test/query/q1.jpg,a\n',
            "RAW/labels.csv: line 2: is not valid CSV (unexpected end of data)",
        ),
    ],
)
def test_a_fault_of_labels_csv_is_told_with_line_and_fix(root: Path, table: str, told: str) -> None:
    (root / "labels.csv").write_text(table, newline="")
    assert refused(root) == told


@pytest.mark.parametrize(
    ("data", "line"),
    [("path,label\ntest/query/q1.jpg,Käse\n".encode("latin-1"), 2), ("path,label\n".encode("utf-16"), 1)],
)
def test_another_encoding_is_told_with_its_line(root: Path, data: bytes, line: int) -> None:
    (root / "labels.csv").write_bytes(data)
    assert refused(root) == f"RAW/labels.csv: line {line}: is not UTF-8; save the file as 'CSV UTF-8'"


def test_qrels_are_read_with_names_as_on_disk(root: Path) -> None:
    (root / "qrels.csv").write_text(
        "query,gallery,relevance\n./test/query/q1.jpg,test/gallery/g2.jpg, 1\ntest/query/q1.jpg,test/gallery/Pear/deep/g1.jpg,-1\n"
    )
    assert read(root).judgements == [
        (2, "test/query/q1.jpg", "test/gallery/g2.jpg", 1),
        (3, "test/query/q1.jpg", "test/gallery/Pear/deep/g1.jpg", -1),
    ]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            "test/query/q1.jpg,test/gallery/g2.jpg,2",
            "line 2: relevance is '2'; it must be 1 (relevant), 0 (not) or -1 (junk)",
        ),
        ("test/query/q1.jpg,test/gallery/g2.jpg,", "line 2: relevance is ''; it must be"),
        (
            "test/gallery/g2.jpg,test/query/q1.jpg,1",
            "line 2: 'test/gallery/g2.jpg' is in gallery, not in query; the columns are",
        ),
        (
            "test/query/q1.jpg,train/Apple/1.jpg,1",
            "line 2: 'train/Apple/1.jpg' is in train, not in gallery; the columns are",
        ),
        (
            "test/query/q1.jpg,test/gallery/g3.jpg,1",
            "line 2: 'test/gallery/g3.jpg' is not in RAW; did you mean 'test/gallery/g2.jpg'?",
        ),
    ],
)
def test_a_fault_of_qrels_csv_is_told_with_line_and_fix(root: Path, row: str, told: str) -> None:
    (root / "qrels.csv").write_text(f"query,gallery,relevance\n{row}\n")
    assert refused(root).startswith(f"RAW/qrels.csv: {told}")


def test_missing_and_empty_folders_are_told(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    assert (
        refused(root)
        == "RAW: does not exist; run `lineup photos FOLDER` on the folder with your photos, or `lineup demo`"
    )
    root.mkdir()
    assert refused(root) == "RAW/test: does not exist; put photos into test/query and test/gallery"
    (root / "Tests").mkdir()
    assert refused(root) == "RAW/test: does not exist; rename 'Tests' to 'test'"
    (root / "Tests").rename(root / "test")
    (root / "test/Queries").mkdir()
    assert refused(root) == "RAW/test/query: does not exist; rename 'Queries' to 'query'"
    (root / "test/Queries").rename(root / "test/query")
    assert refused(root) == "RAW/test/gallery: does not exist; put photos into test/query and test/gallery"
    (root / "test/gallery").mkdir()
    assert (
        refused(root)
        == "RAW/test/query: holds no files; put the query photos there, loose or in a folder per label"
    )
    touch(root, "test/query/a.jpg", "test/gallery/.hidden.jpg")
    assert (
        refused(root)
        == "RAW/test/gallery: holds no files; put the gallery photos there, loose or in a folder per label"
    )
    touch(root, "test/gallery/a.jpg")
    assert set(read(root).names.values()) == {"query", "gallery"}  # without train


def test_what_file_managers_leave_is_ignored_and_the_rest_named(root: Path) -> None:
    before = read(root)
    touch(
        root,
        "test/query/.DS_Store",
        "test/query/Thumbs.db",
        "test/query/THUMBS.DB",
        "test/.git/x.jpg",
        "test/query/__MACOSX/q.jpg",
        ".hidden/x.jpg",
    )
    assert read(root) == before
    touch(root, "readme.txt", "val/a/1.jpg", "test/extra.jpg")
    told = read(root)
    assert told.names == before.names
    reason = "is not read: it is outside train/, test/query/ and test/gallery/"
    assert sorted(told.problems) == [("readme.txt", reason), ("test/extra.jpg", reason), ("val", reason)]


def test_a_name_that_is_not_utf8_is_named(root: Path) -> None:
    touch(root, "test/query/" + os.fsdecode(b"caf\xe9.jpg"))
    data = read(root)
    assert data.problems == [("test/query/caf\\xe9.jpg", "has a name that is not UTF-8; rename it")]
    assert len(data.names) == 5


def test_links_are_followed_but_not_in_circles(root: Path, tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "Kiwi/1.jpg")
    (root / "test/gallery/Kiwi").symlink_to(tmp_path / "elsewhere/Kiwi")
    (root / "test/gallery/Pear/round").symlink_to(root / "test/gallery")
    (root / "test/query/link.jpg").symlink_to(root / "test/gallery/g2.jpg")
    (root / "test/query/nothing.jpg").symlink_to(tmp_path / "nothing")
    data = read(root)
    assert data.labels["test/gallery/Kiwi/1.jpg"] == "Kiwi"
    assert {
        "test/query/link.jpg",
        "test/query/nothing.jpg",
    } <= data.names.keys()  # whether they open is the reader's to say
    assert not any("round" in name for name in data.names)
    told = dict(data.problems)
    assert told.keys() == {"test/gallery/Kiwi", "test/gallery/Pear/round"}
    assert (
        "DVC doesn't look into it" in told["test/gallery/Kiwi"]
        and told["test/gallery/Pear/round"] == "is a link to a folder that it is in"
    )


@pytest.mark.slow
def test_sentences_hold_no_surprise_for_a_large_collection(root: Path) -> None:
    """The nearest name is found among many without comparing them all."""
    names = ((f"test/gallery/{number:06}.jpg",) for number in range(50_000))
    with photo_register.temporary() as register:
        register.executemany("INSERT INTO file (path, split) VALUES (?, 'gallery')", names)
        with pytest.raises(UserError, match=re.escape("did you mean 'test/gallery/012345.jpg'?")):
            photo_names.PhotoNames(register, root).find("gallery/012345.jpg", "labels.csv: line 2")


def test_names_sort_as_pythons_strings_do(root: Path) -> None:
    """Characters beyond U+FFFF come last, where UTF-16 would put them before U+E000.

    What is no UTF-8 never comes in.
    """
    touch(
        root,
        *(
            f"test/query/{name}"
            for name in ("\ue000", "\uffee", "\U0001f600", "~", "a", "Z", "é", "e\u0301", "\ud7ff")
        ),
    )
    touch(root, "test/query/" + os.fsdecode(b"\xed\xa0\x80"))  # a surrogate, encoded
    data = read(root)
    assert list(data.names) == sorted(data.names) and len(data.names) == 5 + 9
    assert data.problems == [("test/query/\\xed\\xa0\\x80", "has a name that is not UTF-8; rename it")]


def test_a_link_to_itself_and_a_folder_without_permission(root: Path) -> None:
    (root / "test/query/self.jpg").symlink_to("self.jpg")
    assert "test/query/self.jpg" in read(root).names  # whether it opens is the reader's to say
    (root / "test/gallery/Pear").chmod(0)
    superuser = os.geteuid() == 0
    try:
        for above in (
            root,
            *(folder for folder in root.parents if Path(tempfile.gettempdir()) in folder.parents),
        ):
            above.chmod(0o755)
        if superuser:
            os.seteuid(65534)  # the superuser may read everything
        data = read(root)
    finally:
        if superuser:
            os.seteuid(0)
        (root / "test/gallery/Pear").chmod(0o755)
    assert data.problems == [("test/gallery/Pear", "can't be read: permission denied")]
    assert list(data.names.values()).count("gallery") == 1


def test_a_train_that_is_no_folder_is_told(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").symlink_to("nowhere")
    assert refused(root) == "RAW/train: is a broken link; it must be a folder, or not exist at all"
    (root / "train").unlink()
    (root / "train").write_text("")
    assert refused(root) == "RAW/train: is a file; it must be a folder, or not exist at all"


def test_a_table_under_another_name_is_told(root: Path) -> None:
    (root / "Labels.csv").write_text("path,label\n")
    assert refused(root) == "RAW/Labels.csv: is not read under this name; rename it to 'labels.csv'"
    (root / "Labels.csv").unlink()
    (root / "labels.csv").symlink_to("nowhere")
    assert refused(root) == "RAW/labels.csv: is a broken link"


def test_a_table_under_another_name_beside_the_real_one_is_noted(root: Path) -> None:
    (root / "labels.csv").write_text("path,label\n")
    (root / "Labels.csv").write_text("path,label\n")
    (root / "QRELS.csv").mkdir()
    read(root)


def test_a_folder_that_can_not_be_listed_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        odd_images.close(root / "test/gallery", patch)
        assert (
            refused(root)
            == "RAW/test/gallery: can't be read: permission denied; make it readable for this user"
        )
    odd_images.close(root / "test/gallery/Pear", monkeypatch)
    with photo_register.temporary() as register:
        raw_folder.read(register, root)
        [noted] = register.execute("SELECT path, problem, skipped FROM problem WHERE path LIKE '%Pear'")
    assert noted == ("test/gallery/Pear", "can't be read: permission denied", 1)


@pytest.mark.parametrize("name", ["label.csv", "labels.txt", "test/labels.csv", "qrels.tsv"])
def test_what_looks_like_labels_and_is_not_read_is_told(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(raw_folder.log, "warning", lambda text, *values: warnings.append(text % values))
    (root / name).write_text("path,label\n")
    read(root)
    [warning] = warnings
    assert warning.startswith(f"{root / name}: is not read; labels are read from {root}/labels.csv")


@pytest.mark.parametrize("table", ["labels.csv", "qrels.csv"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_a_table_that_is_no_file_is_told_and_never_waited_for(
    root: Path, table: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)  # a socket's path may have a hundred characters
    if kind == "folder":
        Path(table).mkdir()
    elif kind == "pipe":
        os.mkfifo(table)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(table)
    else:
        Path(table).symlink_to("/dev/zero")
    assert refused(root) == f"RAW/{table}: is a {kind}; put a CSV file in its place, or remove it"


@pytest.mark.slow
@pytest.mark.parametrize("line", [b"\n", b"\r\n", b",,,\n"])
def test_a_table_of_empty_lines_is_not_read_to_its_end(root: Path, line: bytes) -> None:
    (root / "labels.csv").write_bytes(b"path,label,a,b\n" + line * 2_000_000)
    assert refused(root) == "RAW/labels.csv: holds more than 1,048,576 empty lines in a row; remove them"


@pytest.mark.slow
def test_as_many_empty_lines_as_a_spreadsheet_has_are_no_fault(root: Path) -> None:
    (root / "labels.csv").write_bytes(b"path,label\n" + b",\n" * 1_048_575 + b"test/query/q1.jpg,Fig\n")
    assert read(root).labels["test/query/q1.jpg"] == "Fig"


def test_a_table_without_line_breaks_is_told(root: Path) -> None:
    with (root / "labels.csv").open("wb") as stream:
        stream.truncate(2**40)  # takes no room on the disk
    assert (
        refused(root)
        == "RAW/labels.csv: line 1: is longer than 1,048,576 characters; end each row with a line break"
    )
