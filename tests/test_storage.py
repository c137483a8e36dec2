"""The one Parquet writer: the same rows give the same bytes, shards follow from the number of rows, nothing
is half-written.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup.errors import UserError
from lineup.storage import csv_files, embeddings, files, parquet, rankings, schemas
from tests.support.project import ROOT, tree


def ids(count: int) -> list[str]:
    return sorted(hashlib.sha256(str(i).encode()).hexdigest() for i in range(count))


def known(ids: list[str], splits: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"image_id": ids, "split": splits, "prepared_id": [None] * len(ids)})


def batches(count: int, dim: int, batch_rows: int, skip: int | None = None) -> Iterator[pa.RecordBatch]:
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    names = ids(count)
    kept = [i for i in range(count) if i != skip]
    for start in range(0, len(kept), batch_rows):
        rows = kept[start : start + batch_rows]
        yield embeddings.embeddings_batch(
            known([names[i] for i in rows], ["query" if i % 3 == 0 else "gallery" for i in rows]),
            vectors[rows],
        )


def write(
    folder: Path, count: int, rows_per_shard: int, batch_rows: int = 7, skip: int | None = None
) -> None:
    rows = count - (skip is not None)
    schema = schemas.embeddings_schema(4)
    parquet.write_shards(
        folder, schema, batches(count, 4, batch_rows, skip), rows, rows_per_shard, {"model": folder.name}
    )


def test_a_folder_is_never_seen_half_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(temporary: Path, content: str) -> None:
        temporary.mkdir()
        for name in "abc":
            (temporary / name).write_text(content)

    folder = tmp_path / "folder"
    files.replace_atomically(folder, lambda temporary: write(temporary, "first"))
    seen: list[set[str]] = []
    rmtree = shutil.rmtree
    monkeypatch.setattr(
        shutil,
        "rmtree",
        lambda path: seen.append({file.read_text() for file in folder.iterdir()}) or rmtree(path),
    )
    files.replace_atomically(folder, lambda temporary: write(temporary, "second"))
    assert seen == [{"second"}] and [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_shards_follow_from_the_number_of_rows() -> None:
    assert [parquet.shard_digits(n, 1000) for n in (0, 1000, 1001, 16_000, 16_001, 256_000, 256_001)] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
    ]


@pytest.mark.parametrize("batch_rows", [1, 64, 1000])
def test_the_same_rows_give_the_same_bytes_however_they_come(tmp_path: Path, batch_rows: int) -> None:
    write(tmp_path / "a", 300, 50)
    write(tmp_path / "again/a", 300, 50, batch_rows)
    assert len(tree(tmp_path / "a")) == 16
    assert tree(tmp_path / "a") == tree(tmp_path / "again/a")


def test_one_row_less_changes_one_shard(tmp_path: Path) -> None:
    write(tmp_path / "a", 300, 50)
    write(tmp_path / "less/a", 300, 50, skip=100)
    a, b = tree(tmp_path / "a"), tree(tmp_path / "less/a")
    assert [name for name in a if a[name] != b[name]] == [f"{ids(300)[100][0]}.parquet"]


def test_a_folder_reads_as_one_table_in_pandas(tmp_path: Path) -> None:
    write(tmp_path / "a", 300, 50)
    frame = pd.read_parquet(tmp_path / "a")
    assert list(frame["image_id"]) == ids(300) and len(frame["embedding"][0]) == 4


def test_read_embeddings_gives_one_split_in_order(tmp_path: Path) -> None:
    write(tmp_path / "a", 300, 50)
    queries = embeddings.read_embeddings(tmp_path / "a", "query")
    vectors = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    assert list(queries.ids) == ids(300)[::3]
    np.testing.assert_array_equal(queries.vectors, vectors[::3])


def test_an_empty_folder_keeps_its_schema(tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 50)
    assert embeddings.read_embeddings(tmp_path / "a", "gallery").vectors.shape == (0, 4)
    assert parquet.count_rows(tmp_path / "a") == 0


def test_unsorted_rows_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    names = ids(4)
    wrong = embeddings.embeddings_batch(
        known([names[1], names[0]], ["query"] * 2), np.ones((2, 4), np.float32)
    )
    with pytest.raises(AssertionError, match="sorted"):
        parquet.write_shards(tmp_path / "a", schemas.embeddings_schema(4), [wrong], 2, 50)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    files.write_json(file, {"a": 1})
    with pytest.raises(ValueError):
        files.write_json(file, {"a": float("nan")})
    assert files.read_json(file) == {"a": 1} and [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_process_left_is_cleared_and_a_running_ones_is_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".a.json.{dead.pid}.tmp").write_text("half")
    (tmp_path / f".a.json.{os.getppid()}.tmp").write_text("another process is at it")
    files.write_json(tmp_path / "a.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", f".a.json.{os.getppid()}.tmp"}


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    for read in (files.read_json, parquet.read_table, rankings.read_ranking, parquet.shards):
        with pytest.raises(UserError, match="dvc repro"):
            read(tmp_path / "missing")


@pytest.mark.slow
@settings(max_examples=30)
@given(
    queries=st.integers(0, 12),
    gallery=st.integers(1, 20),
    depth=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_a_ranking_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, queries: int, gallery: int, depth: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, min(depth, gallery) + 1, queries)
    positions = np.full((queries, depth), -1, np.int64)
    scores = np.full((queries, depth), np.nan, np.float32)
    for row, length in enumerate(lengths):
        positions[row, :length] = generator.permutation(gallery)[:length]
        scores[row, :length] = np.sort(generator.standard_normal(length).astype(np.float32))[::-1]
    written = rankings.Ranking(
        np.array(ids(queries), dtype=np.str_), np.array(ids(gallery)), positions, scores
    )
    file = tmp_path_factory.mktemp("ranking") / "r.parquet"
    rankings.write_ranking(file, written)
    read = rankings.read_ranking(file)
    assert list(read.query_ids) == list(written.query_ids) and list(read.gallery_ids) == sorted(
        read.gallery_ids
    )
    for row, length in enumerate(lengths):
        assert list(read.gallery_ids[read.positions[row, :length]]) == list(
            written.gallery_ids[positions[row, :length]]
        )
        assert (read.positions[row, length:] == -1).all()
        np.testing.assert_array_equal(read.scores[row, :length], scores[row, :length])


@pytest.mark.parametrize("count", [0, 1, 1_024, 1_025, 30_000])
def test_rows_one_at_a_time_give_the_bytes_of_the_whole_table(tmp_path: Path, count: int) -> None:
    """At 30,000 rows a column has several pages.

    Where a list column's end depends on the lengths of its lists.
    """
    rows = []
    for number, image_id in enumerate(ids(count)):
        paths = [f"test/gallery/{image_id}-{copy}.png" for copy in range(1 + number % 4)]
        rows.append(
            (
                image_id,
                "gallery",
                f"label {number // 3}" if number % 7 else None,
                paths,
                image_id[::-1],
                number,
                number,
                "PNG",
            )
        )
    columns = zip(*rows, strict=True) if rows else [[]] * len(schemas.MANIFEST)
    parquet.write_table(
        tmp_path / "whole",
        pa.Table.from_pydict(dict(zip(schemas.MANIFEST.names, columns, strict=True)), schemas.MANIFEST),
    )
    parquet.write_rows(tmp_path / "rows", schemas.MANIFEST, iter(rows))
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_long_table_has_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 2_048)
    parquet.write_rows(tmp_path / "a", schemas.QRELS, ((query, query, 1) for query in ids(4_096)))
    file = pq.ParquetFile(tmp_path / "a")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [
        2_048,
        2_048,
    ]
    assert file.read().column("query_id").to_pylist() == ids(4_096)


@pytest.mark.slow
def test_a_ranking_of_a_large_gallery_reads_back(tmp_path: Path) -> None:
    """From some size on pyarrow makes an array in pieces."""
    ids = np.array([f"{i:064x}" for i in range(300_000)])
    positions = np.array([[299_999, 7, 0], [5, -1, -1]])
    scores = np.array([[3, 2, 1], [4, np.nan, np.nan]], np.float32)
    rankings.write_ranking(
        tmp_path / "r.parquet", rankings.Ranking(np.array(["a", "b"]), ids, positions, scores)
    )
    read = rankings.read_ranking(tmp_path / "r.parquet")
    assert read.gallery_ids.tolist() == ids[[0, 5, 7, 299_999]].tolist()
    assert read.positions.tolist() == [[3, 2, 0], [1, -1, -1]]
    np.testing.assert_array_equal(read.scores, scores)


def test_a_ranking_is_put_together_of_as_many_queries_as_an_array_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = np.array([[0, 1, 2], [2, -1, -1], [1, 0, -1], [2, 1, 0], [-1, -1, -1]])
    ranking = rankings.Ranking(
        np.array(list("abcde")),
        np.array(ids(3)),
        positions,
        np.where(positions < 0, np.nan, 0.5).astype(np.float32),
    )
    rankings.write_ranking(tmp_path / "whole.parquet", ranking)
    monkeypatch.setattr(rankings, "_IDS_PER_ARRAY", 6)
    rankings.write_ranking(tmp_path / "parts.parquet", ranking)
    assert parquet.read_table(tmp_path / "whole.parquet").equals(
        parquet.read_table(tmp_path / "parts.parquet")
    )


def test_what_a_killed_writer_left_goes_though_nobody_took_its_exit_status(tmp_path: Path) -> None:
    """In a container, process 1 may leave a killed stage a zombie, which has its PID still."""
    code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout and writer.stdout.readline() == f"{writer.pid}\n"
        left = tmp_path / f".images.{writer.pid}.tmp"
        left.mkdir()
        files.remove_abandoned(tmp_path)
        assert left.exists(), "its writer is at work"
        writer.kill()
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # it is gone, and still a zombie
        files.remove_abandoned(tmp_path)
        assert not left.exists()


def test_what_a_killed_writer_left_goes_though_a_thread_has_its_number(tmp_path: Path) -> None:
    started, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (started.set(), stop.wait()))
    thread.start()
    started.wait()
    left = tmp_path / f".images.{thread.native_id}.tmp"
    left.mkdir()
    files.remove_abandoned(tmp_path)
    stop.set()
    thread.join()
    assert not left.exists()


def test_a_folder_that_can_not_be_put_in_place_leaves_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    files.replace_atomically(folder, lambda temporary: temporary.mkdir())
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        files.replace_atomically(folder, lambda temporary: temporary.mkdir())
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_damage_inside_a_table_is_told_and_a_wrong_column_is_a_bug(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    parquet.write_table(file, pa.table({"a": np.arange(50_000) % 977}))
    with pytest.raises(pa.ArrowInvalid):
        parquet.read_table(file, columns=["a"], filters=[("b", "=", 1)])
    content = bytearray(file.read_bytes())
    content[4:200] = bytes(196)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"t\.parquet: is damaged"):
        parquet.read_table(file)


FORMULAS = [
    "=1+1",
    "+1-2",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "＝1",
    "'=1",
    "''@x",
    "-inf",
    "+49 89",
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
LABELS = st.one_of(
    TEXTS,
    st.sampled_from(FORMULAS),
    st.builds(str.__add__, st.sampled_from(["'", "=", "-", "+", "@", "\r", "\n", " "]), TEXTS),
)


@pytest.mark.slow
@given(st.lists(st.tuples(LABELS, LABELS), max_size=5))
def test_texts_come_back_from_a_csv_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "texts.csv"
    csv_files.write_csv(path, ("a", "b"), rows)
    assert [tuple(row.values()) for row in csv_files.read_csv(path)] == rows
    columns = (
        csv_files.read_csv_columns(path, {"b": pa.string(), "a": pa.string()})
        if rows
        else pa.table({"a": [], "b": []})
    )
    assert list(zip(columns.column("a").to_pylist(), columns.column("b").to_pylist(), strict=True)) == rows
    assert path.read_bytes().decode() == csv_files.csv_text(("a", "b"), rows)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_does_not_compute_a_label_that_looks_like_a_formula(tmp_path: Path, text: str) -> None:
    csv_files.write_csv(tmp_path / "a.csv", ("label",), [[text]])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [["label"], [f"'{text}"]]


def test_numbers_and_plain_texts_stay_as_they_are_in_a_csv() -> None:
    row = [-0.5, "-0.500000", "-1e-05", 3, None, "", "it's", "'tis", "a=b", "５"]
    assert csv_files.csv_text(("x",), [row]) == "x\n-0.5,-0.500000,-1e-05,3,,,it's,'tis,a=b,５\n"


def test_a_damaged_csv_is_told(tmp_path: Path) -> None:
    for content in ("", "a,b\n1\n", "a\n1,2\n"):
        (tmp_path / "a.csv").write_text(content)
        with pytest.raises(UserError, match=r"a.csv: is damaged"):
            csv_files.read_csv(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"b.csv: does not exist"):
        csv_files.read_csv(tmp_path / "b.csv")


def test_no_other_file_writes_csv() -> None:
    writing = re.compile(r"csv\.(writer|DictWriter)\(|\.to_csv\(|pa_csv\.write_csv\(")
    writers = [
        path.name
        for folder in ("lineup", "stages")
        for path in (ROOT / folder).rglob("*.py")
        if writing.search(path.read_text(encoding="utf-8"))
    ]
    assert writers == ["csv_files.py"]
