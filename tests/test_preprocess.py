"""preprocess: the odd corpus through the real stage, equal bytes whatever the history, and what it refuses."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from lineup import cli, paths
from lineup.errors import UserError
from lineup.memory_budget import MemoryBudget
from lineup.photos import (
    decoding,
    image_cache,
    image_opening,
    image_preparation,
    prepared_images,
    registration,
)
from lineup.relevance import prepared_relevance
from lineup.storage import csv_files, parquet, schemas
from stages import preprocess
from tests.support import locales, odd_images, project
from tests.support.odd_images import encoded, pattern


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project; the stage runs in this process."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("lineup.machine.threads", lambda: 0)  # no worker processes
    write_params(folder)
    return folder


def write_params(folder: Path, rows: Sequence[str] = ("mobilenet_v2",), **settings: object) -> None:
    """rows: of the demo; the others need more photos to train on than most tests have."""
    params = project.demo_params(*rows)
    params["preprocess"] = settings
    for model in params["models"].values():
        del model["encoder"][
            "image_size"
        ]  # for which photos would have to be larger than these tests shrink them to
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def put(name: str, data: bytes, folder: Path = Path()) -> str:
    file = folder / paths.RAW / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def picture(seed: int, size: int = 16) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8), "PNG")


def fill(number: int = 6, folder: Path = Path(), size: int = 16) -> None:
    for seed in range(number):
        for place, split in enumerate(("train", "test/query", "test/gallery")):
            put(f"{split}/label {seed % 3}/{seed}.png", picture(3 * seed + place, size), folder)


def tree(folder: Path) -> dict[str, str]:
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(found.items())}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def manifest(part: paths.Part) -> list[dict[str, object]]:
    return parquet.read_table(paths.manifest(part)).to_pylist()


def stored(part: paths.Part) -> dict[tuple[str, str], bytes]:
    return {(row.image_id, row.split): row.data for row in prepared_images.stream(paths.images(part))}


def sentence() -> str:
    with pytest.raises(UserError) as told:
        preprocess.main()
    return str(told.value)


@pytest.mark.slow
def test_the_odd_corpus_comes_out_as_expected(home: Path) -> None:
    good, bad = odd_images.good(), odd_images.bad()
    ids = {f"test/gallery/{odd.name}": put(f"test/gallery/{odd.name}", odd.data) for odd in good}
    for odd in bad:
        put(f"test/gallery/{odd.name}", odd.data)
    put("test/query/q.png", picture(0))
    put("test/gallery/Thumbs.db", b"not named")
    Path("data/raw/test/gallery/link to nothing.jpg").symlink_to("nothing")
    Path("data/raw/test/gallery/link.png").symlink_to("../query/q.png")
    os.mkfifo("data/raw/test/gallery/pipe.jpg")
    preprocess.main()

    by_path = {path: row for row in manifest("test") for path in row["paths"]}  # type: ignore[union-attr]
    assert by_path.keys() == ids.keys() | {"test/query/q.png", "test/gallery/link.png"}
    data = stored("test")
    for odd in good:
        row = by_path[f"test/gallery/{odd.name}"]
        assert odd.expected is not None
        assert (row["image_id"], row["format"]) == (ids[f"test/gallery/{odd.name}"], odd.format)
        assert (row["height"], row["width"]) == odd.expected.shape[:2]
        shown = decoding.decode(data[row["image_id"], "gallery"])  # type: ignore[index]
        if max(odd.expected.shape) <= 512:
            away = np.abs(np.asarray(shown).astype(int) - odd.expected.astype(int))
            assert np.mean(away <= odd.tolerance) >= 0.9
    problems = {row["path"]: row["problem"] for row in rows(paths.PROBLEMS)}
    named = {f"test/gallery/{odd.name}" for odd in [*bad, *(odd for odd in good if odd.note)]}
    assert problems.keys() == named | {"test/gallery/link to nothing.jpg", "test/gallery/pipe.jpg"}
    assert problems["test/gallery/link to nothing.jpg"] == "is a broken link"
    assert problems["test/gallery/pipe.jpg"] == "is not a regular file"


def test_a_file_without_permission_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        file = Path(name, "locked.jpg")
        file.write_bytes(picture(0))
        file.chmod(0)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)  # the superuser may read everything
            with pytest.raises(image_opening.BadImage, match="permission denied"):
                image_cache.read_file(file)
        finally:
            if root:
                os.seteuid(0)


def test_a_film_between_the_photos_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "film.mp4").open("wb") as stream:
        stream.truncate(image_cache.MAX_FILE_BYTES + 1)
    with pytest.raises(image_opening.BadImage, match="is larger than 512 MB"):
        image_cache.read_file(tmp_path / "film.mp4")


def test_tables_hold_what_the_folders_say(home: Path) -> None:
    one, two, three = (
        put(name, picture(seed))
        for seed, name in enumerate(("test/query/a.png", "test/gallery/Fig/b.png", "test/gallery/c.png"))
    )
    put("test/gallery/Fig/copy of b.png", picture(1))
    put(
        "qrels.csv",
        b"query,gallery,relevance\ntest/query/a.png,test/gallery/c.png,-1\ntest/query/a.png,test/gallery/Fig/copy of b.png,1\n",
    )
    preprocess.main()
    found = {row["image_id"]: row for row in manifest("test")}
    assert list(found) == sorted((one, two, three))
    assert (
        found[two]["paths"] == ["test/gallery/Fig/b.png", "test/gallery/Fig/copy of b.png"]
        and found[two]["label"] == "Fig"
    )
    assert found[one]["label"] is None and found[one]["split"] == "query"
    assert stored("test") == {
        (one, "query"): picture(0),
        (two, "gallery"): picture(1),
        (three, "gallery"): picture(2),
    }
    judged = {(one, three): -1, (one, two): 1}
    assert parquet.read_table(paths.QRELS).to_pylist() == [
        {"query_id": query, "gallery_id": gallery, "relevance": judged[query, gallery]}
        for query, gallery in sorted(judged)
    ]
    assert manifest("train") == [] and stored("train") == {}
    for part in ("train", "test"):
        assert parquet.read_table(paths.manifest(part)).schema.equals(schemas.MANIFEST)
    assert paths.PROBLEMS.read_text() == "path,problem\n"
    assert rows(paths.LEAKS) == [
        {
            "kind": "same_bytes",
            "path_a": "test/gallery/Fig/b.png",
            "path_b": "test/gallery/Fig/copy of b.png",
            "across": "gallery",
        }
    ]


def test_a_picture_under_two_labels_has_none_in_that_part(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put("test/query/Fig/q.png", picture(9))
    put("test/gallery/Fig/a.png", encoded(pattern(), "PNG"))
    put("test/gallery/Pear/b.bmp", encoded(pattern(), "BMP"))
    put("train/Kiwi/c.png", encoded(pattern(), "PNG"))
    preprocess.main()
    assert {row["label"] for row in manifest("test") if row["split"] == "gallery"} == {None}
    assert [row["label"] for row in manifest("train")] == ["Kiwi"]
    assert rows(paths.PROBLEMS) == [
        {
            "path": "test/gallery/Fig/a.png",
            "problem": "is labelled 'Fig', but 'train/Kiwi/c.png' is the same image and labelled 'Kiwi': each keeps its own",
        },
        {
            "path": "test/gallery/Pear/b.bmp",
            "problem": "is labelled 'Pear', but 'test/gallery/Fig/a.png' is the same image and labelled 'Fig': neither label is used",
        },
    ]
    assert "LEAK: test images that are also in train: 2;" in capsys.readouterr().err


def test_sizes_are_told_in_the_summary(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(home, shorter_side_px=40)
    fill(2, size=32)
    put("test/gallery/wide.png", encoded(pattern(64, 640), "PNG"))
    preprocess.main()
    assert "shorter sides: 32 to 64 px; shrunk to 40 px: 1 of 7 images" in capsys.readouterr().err


def test_a_photo_too_thin_for_a_network_is_named_and_takes_no_memory_later(home: Path) -> None:
    """2 x 60,000 pixels are 700 bytes.

    Resized to 232 px on the shorter side they are 1.6 thousand million pixels.
    """
    fill(2)
    put("test/gallery/thin.png", encoded(np.zeros((60_000, 2, 3), np.uint8), "PNG"))
    put("test/gallery/long.png", encoded(np.zeros((3, 300, 3), np.uint8), "PNG"))
    preprocess.main()
    problem = "has 2 x 60,000 pixels, one side more than 100 times the other; crop it"
    assert rows(paths.PROBLEMS) == [{"path": "test/gallery/thin.png", "problem": problem}]


def test_leaks_are_told_in_the_summary(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("train/Fig/a.png", picture(0))
    put("test/query/Fig/b.png", picture(0))
    put("test/gallery/Pear/c.png", picture(1))
    preprocess.main()
    told = capsys.readouterr().err
    assert (
        "LEAK: test images that are also in train: 1;" in told
        and "LEAK: labels in both train and test: 1;" in told
    )
    assert [tuple(row.values()) for row in rows(paths.LEAKS)] == [
        ("same_bytes", "train/Fig/a.png", "test/query/Fig/b.png", "train-query"),
        ("same_label", "train/Fig/a.png", "test/query/Fig/b.png", "train-query"),
    ]


def test_a_mended_label_changes_no_image(home: Path) -> None:
    fill()
    preprocess.main()
    before = tree(paths.PREPARED)
    put("labels.csv", b"path,label\ntest/gallery/label 0/0.png,another\n")
    preprocess.main()
    after = tree(paths.PREPARED)
    assert {name for name in before if before[name] != after[name]} == {
        "test/manifest.parquet",
        "test/attributes.parquet",  # the number of gallery photos of the label
        "leaks.csv",
    }


@pytest.mark.slow
def test_a_new_photo_changes_one_shard_and_decodes_one_image(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "IMAGES_PER_SHARD", 4)
    fill(10)
    preprocess.main()
    before = tree(paths.PREPARED)
    decoded: list[int] = []
    real = image_preparation.prepare
    monkeypatch.setattr(
        image_preparation, "prepare", lambda data, side: decoded.append(1) or real(data, side)
    )
    put("test/gallery/label 0/new.png", picture(1000))
    preprocess.main()
    after = tree(paths.PREPARED)
    assert len(decoded) == 1
    changed = [name for name in after if before.get(name) != after[name]]
    assert len(changed) == 3 and {"test/manifest.parquet", "test/attributes.parquet"} < {*changed}
    assert len([name for name in after if name.startswith("test/images/")]) > 4


def test_a_moved_and_renamed_photo_is_not_decoded_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    preprocess.main()
    before = tree(paths.images("test"))
    monkeypatch.setattr(image_preparation, "prepare", lambda *_: pytest.fail("decoded again"))
    Path("data/raw/test/gallery/label 0/0.png").rename("data/raw/test/gallery/moved.png")
    preprocess.main()
    assert tree(paths.images("test")) == before


@pytest.mark.slow
def test_bytes_depend_on_neither_cache_nor_workers_nor_time(home: Path, tmp_path: Path) -> None:
    """The real command with two workers, without a cache, with a full and with a damaged one.

    Files made in another order.
    """
    write_params(home, shorter_side_px=32)  # so that some images are shrunk, and live in the cache
    names = [
        f"{split}/{number}.{kind}"
        for number in range(30)
        for split, kind in (("test/gallery", "png"), ("test/query", "jpg"))
    ]
    content = {
        name: encoded(pattern(40 + place, 60), {"png": "PNG", "jpg": "JPEG"}[name[-3:]])
        for place, name in enumerate(names)
    }
    results = []
    for variant, order in (("a", names), ("b", random.Random(0).sample(names, len(names)))):
        folder = tmp_path / variant
        folder.mkdir()
        write_params(folder, shorter_side_px=32)
        for name in order:
            put(name, content[name], folder)
        project.run("python", "-m", "stages.preprocess", cwd=folder, PYTHONPATH=str(project.ROOT))
        results.append(tree(folder / paths.PREPARED))
    folder = tmp_path / "b"
    entries = sorted(file for file in (folder / paths.CACHE / "prepared").rglob("*") if file.is_file())
    assert len(entries) == len(names) and all(
        len(file.read_bytes().partition(b"\n")[2]) > 100 for file in entries
    )
    entries[0].write_bytes(b"")
    entries[1].write_bytes(entries[1].read_bytes()[:-1])
    entries[2].write_bytes(entries[2].read_bytes()[:-1] + b"\0")
    entries[3].write_bytes(entries[4].read_bytes())
    shutil.rmtree(folder / paths.PREPARED)
    project.run("python", "-m", "stages.preprocess", cwd=folder, PYTHONPATH=str(project.ROOT))
    results.append(tree(folder / paths.PREPARED))
    for name, data in content.items():
        put(name, data)
    preprocess.main()  # one worker
    results.append(tree(paths.PREPARED))
    assert results[0] == results[1] == results[2] == results[3]


@pytest.mark.parametrize(
    "damage",
    [(b'"width": 16', b'"width": 17'), (b'"width": 16', b'"width": "16"'), (b'"note": ""', b'"note": "x"')],
)
def test_a_damaged_head_of_a_prepared_image_counts_as_absent(home: Path, damage: tuple[bytes, bytes]) -> None:
    fill(1)
    preprocess.main()
    before = tree(paths.PREPARED)
    entries = [file for file in (paths.CACHE / "prepared").rglob("*") if file.is_file()]
    for entry in entries:
        assert damage[0] in entry.read_bytes()
        entry.write_bytes(entry.read_bytes().replace(*damage))
    preprocess.main()
    assert tree(paths.PREPARED) == before
    assert all(damage[0] in entry.read_bytes() for entry in entries)


def test_heic_is_decoded_again_once_another_decoder_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_heif = image_cache.fingerprint(512)
    image_opening._heif.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert image_opening.heif_version() is None and image_cache.fingerprint(512) != with_heif
    image_opening._heif.cache_clear()


def test_what_is_used_all_the_same_is_noted_and_not_skipped(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(home, on_bad_image="fail")
    fill(2)
    put("test/gallery/no end.jpg", encoded(pattern(), "JPEG")[:-2])
    for _ in range(2):  # decoded, and from the local cache
        preprocess.main()
        assert rows(paths.PROBLEMS) == [
            {"path": "test/gallery/no end.jpg", "problem": "lacks its end, but none of its pixels"}
        ]
        assert "test/gallery/no end.jpg" in {path for row in manifest("test") for path in row["paths"]}  # type: ignore[union-attr]
    assert "skipped" not in capsys.readouterr().err


def test_a_setting_that_decides_pixels_has_a_cache_of_its_own(home: Path) -> None:
    assert image_cache.fingerprint(512) == image_cache.fingerprint(512) != image_cache.fingerprint(511)


def test_a_file_that_changes_between_the_passes_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(2)
    real = registration.assemble

    def meddle(*arguments: Any) -> None:
        real(*arguments)
        put("test/gallery/label 0/0.png", picture(77))

    monkeypatch.setattr(registration, "assemble", meddle)
    assert (
        sentence()
        == "data/raw/test/gallery/label 0/0.png: changed while it was read; run again once nothing writes to data/raw"
    )
    monkeypatch.setattr(registration, "assemble", real)
    preprocess.main()
    assert hashlib.sha256(picture(77)).hexdigest() in {image_id for image_id, _ in stored("test")}


def test_on_bad_image_fail_names_the_first_and_writes_nothing(home: Path) -> None:
    write_params(home, on_bad_image="fail")
    fill(2)
    for number in range(5):
        put(f"test/gallery/bad {number}.jpg", b"")
    told = sentence()
    assert told.startswith(
        "data/raw/test/gallery/bad 0.jpg is empty (0 bytes); data/raw/test/gallery/bad 1.jpg is empty"
    )
    assert told.endswith("and 2 more; fix or remove what is bad, or set preprocess.on_bad_image to 'skip'")
    assert not paths.PREPARED.exists()


def test_nothing_to_search_with_is_told(home: Path) -> None:
    fill(2)
    shutil.rmtree("data/raw/test/query")
    put("test/query/notes.txt", b"no picture")
    assert sentence().startswith("no query photo can be read: data/raw/test/query/notes.txt is not an image")
    assert not paths.PREPARED.exists()


def test_judgements_that_contradict_each_other_are_told(home: Path) -> None:
    fill(2)
    put("test/gallery/copy.png", picture(2))  # as test/gallery/label 0/0.png
    lines = ["query,gallery,relevance"] + [
        f"test/query/label 0/0.png,test/gallery/{name}.png,{said}"
        for name, said in (("label 0/0", 1), ("copy", 0))
    ]
    put("qrels.csv", "\n".join(lines).encode())
    assert sentence() == (
        "data/raw/qrels.csv: line 3: says 0 of 'test/query/label 0/0.png' and 'test/gallery/copy.png', "
        "but line 2 says 1 of the same images; remove one of the two"
    )


def judge(*pairs: str) -> None:
    put(
        "qrels.csv",
        "\n".join(
            ["query,gallery,relevance", *(f"test/query/label 0/0.png,test/gallery/{pair}" for pair in pairs)]
        ).encode(),
    )


def test_judgements_about_a_photo_that_can_not_be_read_are_counted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(2)
    put("test/gallery/bad.jpg", b"")
    judge("label 0/0.png,1", "bad.jpg,1", "bad.jpg,0")
    preprocess.main()
    qrels = parquet.read_table(paths.QRELS)
    assert qrels.num_rows == 1 and prepared_relevance.qrels_lines(qrels) == {"lines": 3, "left_out": 2}
    noted = "2 of 3 judgements are left out, about photos that can't be read; the first is in line 3"
    assert {"path": "qrels.csv", "problem": noted} in rows(paths.PROBLEMS)
    assert f"used, with a note: 1: qrels.csv {noted}" in capsys.readouterr().err


def test_an_exact_copy_of_a_right_answer_is_right_unless_it_is_judged_itself(home: Path) -> None:
    fill(2)
    pixels = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)  # of label 0/0.png
    copies = {
        name: put(f"test/gallery/{name}", encoded(pixels, container))
        for name, container in (("copy.bmp", "BMP"), ("wrong.tif", "TIFF"), ("same bytes.png", "PNG"))
    }
    original = put("test/gallery/label 0/0.png", picture(2))
    junk = put("test/gallery/label 1/1.png", picture(5))
    put("test/gallery/copy of junk.bmp", encoded(Image.open(io.BytesIO(picture(5))), "BMP"))
    judge("label 0/0.png,1", "wrong.tif,0", "label 1/1.png,-1")
    preprocess.main()
    assert copies["same bytes.png"] == original
    by_image = {row["gallery_id"]: row["relevance"] for row in parquet.read_table(paths.QRELS).to_pylist()}
    assert by_image == {original: 1, copies["copy.bmp"]: 1, copies["wrong.tif"]: 0, junk: -1}
    assert prepared_relevance.qrels_lines(parquet.read_table(paths.QRELS)) == {"lines": 3, "left_out": 0}


def test_a_qrels_csv_that_hands_over_to_labels_is_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(2)
    preprocess.main()
    assert prepared_relevance.qrels_lines(parquet.read_table(paths.QRELS)) is None
    put("test/gallery/bad.jpg", b"")
    for pairs, counted, told in (
        ((), {"lines": 0, "left_out": 0}, "holds no judgement: labels say which images are relevant"),
        (
            ("bad.jpg,1",),
            {"lines": 1, "left_out": 1},
            "1 of 1 judgements are left out, about photos that can't be read",
        ),
    ):
        judge(*pairs)
        capsys.readouterr()
        preprocess.main()
        assert prepared_relevance.qrels_lines(parquet.read_table(paths.QRELS)) == counted
        assert (
            f"qrels.csv {told}" in (printed := capsys.readouterr().err)
            and "labels say which images are relevant" in printed
        )


def test_an_unusable_qrels_csv_hands_over_to_labels_only_where_there_are_some(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("test/query/q.png", "test/gallery/g.png"):
        put(name, picture(len(name)))
    put("qrels.csv", b"query,gallery,relevance\n")
    preprocess.main()
    assert "qrels.csv holds no judgement: nothing can be scored" in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ESTALE])
def test_a_disk_that_fails_for_a_moment_loses_no_photo(
    home: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Kept as a result, the photos would be missing from it once the disk is back: DVC sees no change then."""
    fill(2)

    def failing(path: Path) -> bytes:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(OSError, match=os.strerror(code)):
            preprocess.main()
    assert not paths.PREPARED.exists()


def test_a_folder_on_a_failing_disk_is_not_left_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(2)
    listed = os.scandir

    def failing(path: Path) -> Any:
        if Path(path).name == "label 0":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        preprocess.main()
    assert not paths.PREPARED.exists()


def test_the_summary_tells_how_many_problems_of_which_kind(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One harmless line in problems.csv read like a fault."""
    fill(2)
    preprocess.main()
    assert "problems.csv" not in capsys.readouterr().err
    put("readme.txt", b"beside the photos")
    preprocess.main()
    outside = "is not read: it is outside train/, test/query/ and test/gallery/"
    told = capsys.readouterr().err.splitlines()
    assert told[-2:] == [
        f"preprocess: left alone: 1: readme.txt {outside}",
        "preprocess: data/prepared/problems.csv names each of these",
    ]
    for number in range(5):
        put(f"test/gallery/bad {number}.jpg", b"" if number else b"no picture")
    preprocess.main()
    (skipped,) = (line for line in capsys.readouterr().err.splitlines() if "files skipped" in line)
    assert skipped.startswith(
        "preprocess: files skipped: 5 (4 is empty (0 bytes)): test/gallery/bad 0.jpg is not an image"
    )
    assert "; test/gallery/bad 2.jpg is empty (0 bytes); and 2 more" in skipped and "bad 3.jpg" not in skipped


def test_odd_names_are_shown_as_codes_and_shortened(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(2)
    put("test/gallery/two\nlines \x1b[31m.jpg", b"")
    put(f"test/gallery/{'long ' * 30}/{'name ' * 30}.jpg", b"")
    preprocess.main()
    printed = capsys.readouterr().err
    assert "two\\nlines \\x1b[31m.jpg is empty" in printed and "\x1b" not in printed
    assert (
        "test/gallery/long long " in printed
        and "…" in printed
        and "name name .jpg is empty" in printed
        and "long " * 20 not in printed
    )
    shutil.rmtree("data/raw/test/query")
    put("test/query/two\nlines.jpg", b"")
    with pytest.raises(SystemExit):
        cli.run(preprocess.main)
    assert (
        capsys.readouterr().err
        == "error: no query photo can be read: data/raw/test/query/two\\nlines.jpg is empty (0 bytes)\n"
    )


@pytest.mark.slow
def test_no_photos_at_all_are_told_without_a_traceback(tmp_path: Path) -> None:
    write_params(tmp_path)
    done = project.run(
        "python", "-m", "stages.preprocess", cwd=tmp_path, check=False, PYTHONPATH=str(project.ROOT)
    )
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: data/raw: does not exist; run `lineup photos FOLDER`")
        and "Traceback" not in done.stderr
    )


@pytest.mark.slow
def test_the_decoder_needs_no_torch() -> None:
    code = "import sys, stages.preprocess; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=project.ROOT, check=True)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stages.preprocess"],
            cwd=folder,
            env=project.environment(PYTHONPATH=str(project.ROOT)),
            stdout=log,
            stderr=log,
        )


DECODED = """
import contextlib, sys
from lineup.photos import decoding, image_opening
with contextlib.suppress(image_opening.BadImage):
    decoding.decode(sys.stdin.buffer.read())
"""


@pytest.mark.slow
def test_no_line_of_a_library_stands_without_its_file(tmp_path: Path) -> None:
    """libtiff prints what it dislikes, but not of which photo; problems.csv has the reason."""
    write_params(tmp_path)
    fill(2, tmp_path)
    photo = next(odd.data for odd in odd_images.bad() if odd.name == "WebP inside.tif")
    printed = subprocess.run(
        [sys.executable, "-c", DECODED], cwd=project.ROOT, input=photo, capture_output=True, check=True
    ).stderr
    assert b"WEBP compression support is not configured" in printed
    put("test/gallery/WebP inside.tif", photo, tmp_path)
    done = project.run("python", "-m", "stages.preprocess", cwd=tmp_path, PYTHONPATH=str(project.ROOT))
    assert [line for line in done.stderr.splitlines() if not line.startswith("preprocess: ")] == []


LARGE_SIDE = 9000  # pixels; 690 MB at the peak of preparing it


@pytest.fixture(scope="module")
def large() -> bytes:
    return encoded(Image.new("RGBA", (LARGE_SIDE, LARGE_SIDE), (200, 30, 40, 128)), "PNG", compress_level=1)


def kill_large_workers(process: subprocess.Popen[bytes], limit: int) -> int:
    """As a system that is short of memory: kills -9 each child of `process` that holds more than `limit`
    bytes; how many.
    """
    killed = 0
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if child.memory_info().rss > limit:
                    child.kill()
                    psutil.wait_procs([child], timeout=20)
                    killed += 1
        time.sleep(0.02)
    return killed


@pytest.mark.slow
def test_a_photo_that_kills_its_worker_is_named_and_the_others_go_on(
    tmp_path: Path, large: bytes, started: list[subprocess.Popen[bytes]]
) -> None:
    """It failed each time, named no file, and running again never helped."""
    write_params(tmp_path)
    fill(20, tmp_path)
    put("test/gallery/large.png", large, tmp_path)
    started.append(start(tmp_path))
    assert kill_large_workers(started[0], 300_000_000) == 2, (tmp_path / "log.txt").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert started[0].returncode == 0, log
    assert "one at a time: " in log and "data/raw/test/gallery/large.png" in log
    [problem] = rows(tmp_path / paths.PROBLEMS)
    assert problem["path"] == "test/gallery/large.png"
    assert problem["problem"].startswith(
        "takes more memory than there is; make it smaller, or provide more memory"
    )
    assert parquet.read_table(tmp_path / paths.manifest("test")).num_rows == 40
    project.run(
        sys.executable, "-m", "stages.preprocess", cwd=tmp_path, PYTHONPATH=str(project.ROOT)
    )  # with enough memory
    assert rows(tmp_path / paths.PROBLEMS) == []


SHORT_OF_MEMORY = """
import resource
from pathlib import Path
from stages import preprocess
from lineup import cli
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 400_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
cli.run(preprocess.main)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the system doesn't say how much memory a process has"
)
def test_a_photo_for_which_memory_runs_out_is_named_and_the_others_go_on(
    tmp_path: Path, large: bytes
) -> None:
    write_params(tmp_path)
    fill(2, tmp_path)
    put("test/gallery/large.png", large, tmp_path)
    project.run(sys.executable, "-c", SHORT_OF_MEMORY, cwd=tmp_path, PYTHONPATH=str(project.ROOT))
    [problem] = rows(tmp_path / paths.PROBLEMS)
    assert (
        problem["path"] == "test/gallery/large.png"
        and "takes more memory than there is" in problem["problem"]
    )
    assert parquet.read_table(tmp_path / paths.manifest("test")).num_rows == 4


def test_an_image_is_prepared_within_the_memory_that_it_takes(tmp_path: Path) -> None:
    taken: list[int] = []

    @contextmanager
    def room(count: int) -> Iterator[None]:
        taken.append(count)
        yield

    cache = image_cache.ImageCache.open(tmp_path, 512)
    for _ in range(2):  # from the local cache it takes none
        assert cache.examine(picture(1, 100), room).width == 100
    assert taken == [image_opening.working_memory(picture(1, 100))] and taken[0] > 4 * 100 * 100


@pytest.mark.slow
def test_large_images_wait_for_each_other_and_small_ones_do_not() -> None:
    budget = MemoryBudget(multiprocessing.get_context("spawn"), 100)
    done: list[str] = []

    def take(name: str, count: int) -> threading.Thread:
        def taking() -> None:
            with budget.taking(count):
                done.append(name)

        thread = threading.Thread(target=taking, daemon=True)
        thread.start()
        return thread

    with budget.taking(60):
        take("small", 40).join(timeout=20)
        waiting = [take("large", 41), take("more than there is", 1000)]
        time.sleep(0.1)
        assert done == ["small"] and all(thread.is_alive() for thread in waiting)
    for thread in waiting:
        thread.join(timeout=20)
    assert sorted(done) == ["large", "more than there is", "small"]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_no_process(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """kill -9 at random points; then two at once: the same bytes as an undisturbed run."""
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        write_params(tmp_path / name, shorter_side_px=64)
        fill(60, tmp_path / name, size=400)
    project.run(
        "python", "-m", "stages.preprocess", cwd=tmp_path / "undisturbed", PYTHONPATH=str(project.ROOT)
    )
    expected = tree(tmp_path / "undisturbed" / paths.PREPARED)
    killed = tmp_path / "killed"
    chance = random.Random(0)
    done_before = 0
    for _ in range(4):
        process = start(killed)
        started.append(process)
        time.sleep(chance.uniform(0.3, 3))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, "workers outlive a killed parent"
        done = len(
            [
                file
                for file in (killed / paths.CACHE).rglob("*")
                if file.is_file() and not file.name.endswith(".tmp")
            ]
        )
        assert done >= done_before
        done_before = done
        for file in (killed / paths.PREPARED).rglob("*.parquet"):
            if not any(part.endswith(".tmp") for part in file.parts):
                parquet.read_table(file)  # whole, or not there
    both = [start(killed), start(killed)]
    started += both
    assert [process.wait(timeout=120) for process in both] == [0, 0], (killed / "log.txt").read_text()
    final = tree(killed / paths.PREPARED)
    assert {name: digest for name, digest in final.items() if ".tmp" not in name} == expected


@pytest.mark.slow
def test_what_is_kept_by_image_id_tells_shrunk_photos_apart(home: Path) -> None:
    """An image_id is that of the file as it was: without this, vectors and trainings of another
    shorter_side_px would be used again.
    """
    fill(2, size=64)
    stored, trained = [], []
    for shorter_side_px in (32, 48, 64):
        write_params(home, shorter_side_px=shorter_side_px)
        preprocess.main()
        rows = pd.read_parquet(paths.images("test"))
        of_bytes = [hashlib.sha256(content).hexdigest() for content in rows.image]
        assert list(rows.prepared_id.fillna(rows.image_id)) == of_bytes
        stored.append(tuple(of_bytes))
        metadata = pq.read_schema(parquet.shards(paths.images("train"))[0]).metadata or {}
        trained.append(metadata.get(b"preparation"))
    assert len(set(stored)) == 3 and list(rows.image_id) == of_bytes
    assert trained[0] and trained[1] and trained[0] != trained[1]
    assert trained[2] is None  # every file is kept as it is


@pytest.mark.slow
def test_the_first_photo_that_is_shrunk_leaves_other_shards_as_they_are(home: Path) -> None:
    write_params(home, shorter_side_px=48)
    for number in range(1_100):  # enough for shards by digit
        put(f"test/gallery/{number}.png", picture(1_000 + number, 8))
    fill(1, size=8)
    preprocess.main()
    before = tree(paths.images("test"))
    assert len(before) == 16
    put("test/gallery/large.png", picture(5, 64))
    preprocess.main()
    after = tree(paths.images("test"))
    assert sum(after[name] != before[name] for name in before) == 1


def test_a_photo_that_failed_once_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out, decoders say that a photo is damaged."""
    fill()
    with monkeypatch.context() as patch:
        patch.setattr(image_preparation, "prepare", raising)
        with pytest.raises(UserError):
            preprocess.main()
    preprocess.main()
    assert rows(paths.PROBLEMS) == []


def raising(*_: object) -> None:
    raise image_opening.BadImage("is damaged (broken data stream when reading image file)")


def test_on_bad_image_fail_minds_a_folder_that_can_not_be_listed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()
    odd_images.close(paths.RAW / "test/gallery/label 0", monkeypatch)
    write_params(home, on_bad_image="fail")
    assert sentence().startswith(
        "data/raw/test/gallery/label 0 can't be read: permission denied; fix or remove what is bad"
    )


def test_names_that_look_like_formulas_are_inert_in_a_spreadsheet(home: Path) -> None:
    fill(2)
    put("=cmd|' C calc'!A0.csv", b"beside the photos")
    preprocess.main()
    (problem,) = csv_files.read_csv(paths.PROBLEMS)
    assert problem["path"] == "=cmd|' C calc'!A0.csv"
    assert paths.PROBLEMS.read_text(encoding="utf-8").splitlines()[1].startswith("'=cmd|")


@pytest.mark.slow
@pytest.mark.parametrize("name", locales.NAMES)
def test_bytes_do_not_depend_on_the_locale(tmp_path: Path, name: str) -> None:
    """Photos vanished where names of files weren't decoded as UTF-8, and the result was kept."""
    results = []
    variants: dict[str, dict[str, Any]] = {
        "utf-8": {"LC_ALL": "C.UTF-8"},
        "other": locales.environment(name, tmp_path),
    }
    for variant, variables in variants.items():
        folder = tmp_path / variant
        folder.mkdir()
        write_params(folder, shorter_side_px=32)
        fill(10, folder, size=48)
        put("test/query/Käse/Größe 1 – 日本.png", picture(100), folder)
        put("test/gallery/Käse/\U0001f600.png", picture(101), folder)
        put("test/gallery/Käse/ÿ.jpg", b"no picture", folder)
        put("labels.csv", "path,label\ntest/query/label 0/0.png,Käse\n".encode(), folder)
        judgement = "test/query/Käse/Größe 1 – 日本.png,test/gallery/Käse/\U0001f600.png,1"
        put("qrels.csv", f"query,gallery,relevance\n{judgement}\n".encode(), folder)
        (folder / paths.RAW / os.fsdecode(b"test/gallery/latin-1 \xe9.png")).write_bytes(picture(102))
        project.run(
            sys.executable, "-m", "stages.preprocess", cwd=folder, PYTHONPATH=str(project.ROOT), **variables
        )
        results.append(tree(folder / paths.PREPARED))
    assert results[0] == results[1]
    problems = [row["path"] for row in csv_files.read_csv(tmp_path / "other" / paths.PROBLEMS)]
    assert problems == ["test/gallery/Käse/ÿ.jpg", "test/gallery/latin-1 \\xe9.png"]


# Photos to train on: told here, before anything is fetched


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "told"),
    [
        (
            None,
            "models.arcface.objective: there is no image to train on; put some into data/raw/train/<label>/",
        ),
        ("train", "models.arcface.objective: this objective needs labels, and no training image has one"),
        (
            "train/label",
            "models.arcface.objective: labels_per_batch is 32, but there is 1 label to train on; add labels",
        ),
    ],
)
def test_rows_that_train_are_told_at_once_that_their_photos_don_t_suffice(
    home: Path, folder: str | None, told: str
) -> None:
    write_params(home, ("mobilenet_v2", "arcface", "triplet"))
    to_train_on = [f"{folder}/a.png", f"{folder}/b.png"] if folder else []
    for place, name in enumerate(["test/query/q.png", "test/gallery/g.png", *to_train_on]):
        put(name, picture(place))
    error = sentence()
    assert error.startswith(f"params.yaml: {told}") and error.endswith("(triplet can't be trained either)")
    write_params(home)
    preprocess.main()


def test_a_project_without_train_photos_is_told_before_a_photo_is_decoded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(home, ("simclr",))
    put("test/query/q.png", picture(0))
    put("test/gallery/g.png", picture(1))
    monkeypatch.setattr(registration, "scan_files", lambda *_: pytest.fail("a photo was decoded"))
    assert "there is no image to train on" in sentence()


@pytest.mark.slow
def test_photos_that_suffice_once_unreadable_ones_are_left_out_pass(home: Path) -> None:
    """Two labels of two photos each, and one of a single file that can't be read: no label has one image."""
    params = project.demo_params("triplet")
    params["train"] |= {"labels_per_batch": 2, "on_single_image": "fail", "validation_share": 0.4}
    project.write_params(home, params)
    for number in range(8):
        put(f"train/label {number // 2}/{number}.png", picture(number))
    put("train/broken/x.png", b"no image")
    put("test/query/q.png", picture(20))
    put("test/gallery/g.png", picture(21))
    preprocess.main()
