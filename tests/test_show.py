"""`lineup show --against`: two comparisons of one project, through real git repositories."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from statistics import mean

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from lineup import paths
from lineup.commands import group
from lineup.comparison import against
from lineup.comparison.against import QueryChanges
from lineup.comparison.snapshot import Snapshot
from lineup.errors import UserError
from lineup.storage import files
from stages import compare, score
from tests.support import collection, measured
from tests.support.collection import Image, clustered

LABELS = 30


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def committed(folder: Path) -> Path:
    """A project whose rows `steady`, `improved` and `removed` are committed on main."""
    git("init", "-q", "-b", "main")
    git("config", "user.email", "t@example.org")
    git("config", "user.name", "T")
    Path(".gitignore").write_text("/data/\n", encoding="utf-8")
    collection.run({"steady": images(1.0), "improved": images(2.4), "removed": images(2.0)})
    git("add", "-A")
    git("commit", "-qm", "result")
    return folder


def images(noise: float, seed: int = 0) -> list[Image]:
    return clustered(LABELS, 2, 4, noise, seed=seed)


def git(*arguments: str) -> str:
    return subprocess.run(("git", *arguments), check=True, capture_output=True, text=True).stdout


def figures(row: str) -> dict[str, float]:
    """map_at_r of each query of metrics/queries/<row>.csv."""
    with paths.row_queries(row).open(encoding="utf-8", newline="") as lines:
        return {line["query_id"]: float(line["map_at_r"]) for line in csv.DictReader(lines)}


def change(row: str, vectors: list[Image], **costs: float) -> None:
    collection.write_embeddings(row, vectors, **costs)
    collection.search(row)
    score.main(["--row", row])


def show(capsys: pytest.CaptureFixture[str], revision: str) -> str:
    capsys.readouterr()
    group.run(["show", "--against", revision])
    return capsys.readouterr().out


def table(page: str, number: int = 0) -> dict[str, dict[str, str]]:
    """The table of this number, as a Markdown reader sees it: {model: {column: cell}}."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page)
    tables: list[list[list[str]]] = []
    for token in tokens:
        if token.type in ("table_open", "table_close"):
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and tables[-1]:
            tables[-1][-1].append("".join(child.content for child in token.children or []))
    header, *lines = [lines for lines in tables if lines][number]
    return {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}


@pytest.mark.slow
def test_old_new_difference_and_the_rows_of_one_side_only(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = figures("improved")
    change("improved", images(1.2, seed=1), images_per_second=99.0)
    change("steady", images(1.0), images_per_second=120.5 / 1.19)  # as runs of the same differ
    collection.write_params(collection.params("steady", "improved", "added"))
    change("added", images(3.0, seed=2))
    compare.main([])
    page = show(capsys, "main")
    commit = git("rev-parse", "--short=10", "main").strip()
    assert page.startswith(f"# What changed since `main` ({commit})\n")
    assert "data differ" not in page and "metrics/ has changes that are not committed" in page

    rows = table(page)
    assert list(rows) == ["steady", "improved", "added", "removed"], (
        "by today's figures, then what was removed"
    )
    assert rows["added"]["difference"] == "new" and rows["added"]["before"] == "-"
    assert rows["removed"]["difference"] == "removed" and rows["removed"]["now"] == "-"
    assert rows["steady"]["difference"] == "none" and rows["steady"]["more than chance?"] == "-"

    after = figures("improved")
    assert rows["improved"]["before"] == f"{mean(before.values()):.3f}"
    assert rows["improved"]["now"] == f"{mean(after.values()):.3f}"
    naive = mean(after[query] - before[query] for query in before)
    shown, low, high = (
        float(part)
        for part in rows["improved"]["difference"].translate({40: " ", 41: " "}).split()
        if part != "to"
    )
    assert shown == pytest.approx(naive, abs=6e-4) and low < naive < high
    assert rows["improved"]["more than chance?"] == "yes, p < 0.001"
    assert f"over the {2 * LABELS} queries that both scored" in page

    other = table(page, 1)
    assert other["improved"]["images_per_second"] == "120.5 → 99.0" and set(other) == {"improved"}
    assert "(speeds and times by a factor of 1.2 or more, as runs differ by some per cent)" in page


@pytest.mark.slow
def test_changed_data_are_told_and_only_common_queries_are_paired(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One query is gone, one is new, one has another label, and the gallery has one image more."""
    gone, relabelled, *others = images(1.0)
    vectors = [
        Image(relabelled.name, "query", "label 7", relabelled.vector),
        *others,
        Image("new", "query", "label 3", others[0].vector),
        Image("new gallery", "gallery", "label 3", others[0].vector),
    ]
    before = {row: figures(row) for row in ("steady", "improved")}
    collection.run({"steady": vectors, "improved": vectors})
    page = show(capsys, "main")
    told = next(line for line in page.splitlines() if "The data differ" in line)
    assert told == (
        "- **The data differ**: 1 query added, 1 query removed, 1 query under another label, "
        f"gallery images {4 * LABELS} → {4 * LABELS + 1}."
    )
    now = figures("improved")
    common = [query for query in now if query in before["improved"] and query != relabelled.id]
    assert gone.id not in common and len(common) == 2 * LABELS - 2
    naive = mean(now[query] - before["improved"][query] for query in common)
    assert table(page)["improved"]["difference"].startswith(f"{naive:+.3f} (")
    assert f"over the {2 * LABELS - 2} queries" in page


@pytest.mark.slow
def test_other_photos_of_the_same_number_are_suspected_by_their_hash(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = (
        "stages:\n  preprocess:\n    outs:\n    - path: data/prepared/test/manifest.parquet\n      md5: {}\n"
    )
    Path("dvc.lock").write_text(lock.format("aaaa"), encoding="utf-8")
    git("add", "-A")
    git("commit", "-qm", "lock")
    assert "data may differ" not in show(capsys, "HEAD")
    Path("dvc.lock").write_text(lock.format("bbbb"), encoding="utf-8")
    assert "**The data may differ**: data/prepared/test/manifest.parquet" in show(capsys, "HEAD")
    assert "data may differ" not in show(capsys, "HEAD~1"), "that commit has no hash to compare with"


@pytest.mark.slow
def test_any_revision_and_any_subfolder_of_a_repository(
    committed: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = git("rev-parse", "HEAD").strip()
    git("tag", "v1")
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/wide-crop", commit)
    for revision in ("v1", commit[:8], "HEAD", "main@{0}", "wide-crop"):
        assert commit[:10] in show(capsys, revision)
    # The project is a folder of a larger repository.
    outer = tmp_path_factory.mktemp("outer")
    shutil.copytree(committed, outer / "project", ignore=shutil.ignore_patterns(".git"))
    os.chdir(outer)
    git("init", "-q", "-b", "trunk")
    git("add", "-A")
    git("-c", "user.email=t@example.org", "-c", "user.name=T", "commit", "-qm", "all")
    os.chdir(outer / "project")
    assert set(table(show(capsys, "trunk"))) == {"steady", "improved", "removed"}


@pytest.mark.slow
def test_what_cannot_be_compared_is_one_sentence(
    committed: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"'mian': is not a revision .*; did you mean 'main'\?"):
        group.run(["show", "--against", "mian"])
    with pytest.raises(UserError, match="'--output=x': is not a revision"):
        group.run(["show", "--against", "--output=x"])
    git("checkout", "-q", "--orphan", "empty")
    git("rm", "-rqf", "--cached", ".")
    git("commit", "-qm", "nothing", "--allow-empty")
    with pytest.raises(UserError, match=r"empty: has no metrics/metrics.json; commit metrics/ there"):
        group.run(["show", "--against", "empty"])
    paths.METRICS.unlink()
    with pytest.raises(UserError, match=r"metrics/metrics.json: does not exist; run `dvc repro`"):
        group.run(["show", "--against", "main"])
    monkeypatch.chdir(tmp_path_factory.mktemp("no repository"))
    with pytest.raises(UserError, match=r"git can't read a repository here \(not a git repository"):
        group.run(["show", "--against", "main"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="git is not installed"):
        group.run(["show", "--against", "main"])


@pytest.mark.slow
def test_a_damaged_file_of_a_revision(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Older versions wrote other columns: such a row has figures, but no difference."""
    paths.row_queries("steady").write_text("query_id,other\nx,1\n", encoding="utf-8")
    paths.row_metrics("steady").write_text("[]", encoding="utf-8")
    git("commit", "-qam", "older columns")
    line = table(show(capsys, "HEAD"))["steady"]
    assert line["before"] == line["now"] != "-" and line["difference"] == "-"
    paths.METRICS.write_text("[1]", encoding="utf-8")
    git("commit", "-qam", "damaged")
    with pytest.raises(UserError, match=r"HEAD: its metrics/metrics.json is damaged"):
        group.run(["show", "--against", "HEAD"])


def queries(*lines: tuple[str, str, float, float]) -> pa.Table:
    columns = zip(*lines, strict=True)
    names = ("query_id", "label", "relevant", "map_at_r")
    return pa.table(dict(zip(names, map(list, columns), strict=True)))


def test_a_hand_worked_case() -> None:
    """q3 has no relevant image now, q4 another label, q5 is new: q1 and q2 remain, with labels of their own."""
    old = queries(("q1", "a", 2, 0.25), ("q2", "b", 1, 0.5), ("q3", "b", 1, 1), ("q4", "a", 1, 0.5))
    new = queries(
        ("q2", "b", 1, 1), ("q1", "a", 2, 0.5), ("q3", "b", 0, math.nan), ("q4", "c", 1, 1), ("q5", "c", 1, 1)
    )
    before, after = (Snapshot({}, {"row": side}, {}, None) for side in (old, new))
    assert against.query_changes(before, after) == QueryChanges(same=2, added=1, removed=0, relabelled=1)
    difference = against.differences(before, after, 200, 0)["row"]
    assert difference.mean == pytest.approx((0.25 + 0.5) / 2)
    assert (difference.low, difference.high) == (0.25, 0.5), "each label alone, and both"
    assert difference.p_holm == 0.5, "2 of the 4 flips of two labels are as extreme"
    assert against.differences(before, Snapshot({}, {"other": new}, {}, None), 200, 0) == {}


@pytest.mark.slow
def test_the_files_of_removed_rows_are_named(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group.run(["show"])
    assert capsys.readouterr().err == ""
    collection.write_params(collection.params("steady", "improved"))
    compare.main([])
    capsys.readouterr()
    group.run(["show"])
    removal = "git rm metrics/*/removed.*"
    told = capsys.readouterr().err
    assert "params.yaml lacks (removed); `git rm metrics/*/ROW.*` removes those of a row" in told
    assert paths.row_metrics("removed").exists(), "nothing is removed unasked"
    subprocess.run(removal, shell=True, check=True, capture_output=True)
    group.run(["show"])
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_metrics_json_has_a_dozen_figures_a_row_at_most(committed: Path) -> None:
    collection.run({"steady": images(1.0)}, score={"cutoffs": [1, 2, 3, 4, 5, 6, 7, 8]})
    content = files.read_json(paths.row_metrics("steady"))
    content["costs"]["search"] = {
        "index": "hnsw",
        "storage": "float32",
        "parameters": {},
        "ann_recall": {"9": 0.9, "10": 0.8, "100": 0.7},
    }
    files.write_json(paths.row_metrics("steady"), content)
    measured.write("steady", p50_ms=4.5, p95_ms=6.25)
    compare.main([])
    shown = json.loads(paths.METRICS.read_text(encoding="utf-8"))["steady"]
    quality_names = {"map_at_r", "map_at_r_mean_over_labels", "top_1", "top_2", "top_3", "top_4"}
    costs = {"images_per_second", "index_mb", "train_minutes", "p50_ms", "p95_ms", "ann_recall_100"}
    assert set(shown) == quality_names | costs and list(shown) == sorted(shown)
    quality = content["quality"]
    assert shown["top_3"] == round(quality["top_3"]["mean"], 4) and shown["ann_recall_100"] == 0.7
    assert (shown["p50_ms"], shown["p95_ms"]) == (4.5, 6.25)
