"""`lineup export ROW --into`, against the real databases: LanceDB, Milvus Lite, PostgreSQL with pgvector, and
Qdrant's local mode.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from lineup.commands import group
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.export import database, server_address, side_by_side
from lineup.export.database import Collection, Photo, Provenance
from lineup.search import pair_scores
from lineup.storage import embeddings
from stages import refine, score
from tests.support import collection
from tests.support.collection import Image
from tests.support.project import ROOT

pytestmark = pytest.mark.slow

DATABASES = ("lancedb", "milvus", "pgvector", "qdrant")
# Enough for LanceDB to build its index; each label has two queries and twelve photos in the gallery.
LABELS, QUERIES, GALLERY = 25, 2, 12


def photos(dim: int = 32) -> list[Image]:
    """Photos whose labels are hard to tell apart; one has no label, one a path that SQL would stumble over."""
    images = collection.clustered(LABELS, QUERIES, GALLERY, noise=1.2, dim=dim)
    odd = {
        f"0/{QUERIES}": {"label": None},
        f"1/{QUERIES}": {"label": "it's", "path": 'test/gallery/a "quoted"; DROP TABLE row;.jpg'},
        f"2/{QUERIES}": {"path": "test/gallery/ümläut 🍕.jpg"},
    }
    return [Image(**{**vars(image), **odd.get(image.name, {})}) for image in images]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that runs as long as the tests of this file."""
    pgserver = pytest.importorskip("pgserver")
    logging.getLogger("pgserver").setLevel(logging.WARNING)  # it also logs when pytest has closed its streams
    try:
        server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    except Exception as error:  # any of initdb's and pg_ctl's
        pytest.skip(f"PostgreSQL cannot start here: {error}")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def project(empty_folder: Path) -> Path:
    collection.run({"row": photos()})
    return empty_folder


@pytest.fixture
def qdrant(empty_folder: Path) -> Iterator[str]:
    """The local mode, in memory: SQLite waits for the disk once for each photo."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else empty_folder) as folder:
        yield f"qdrant:{folder}"


@pytest.fixture(params=DATABASES)
def target(request: pytest.FixtureRequest, empty_folder: Path) -> Iterator[str]:
    """The database and its address, in which there is nothing yet."""
    kind = request.param
    if kind == "qdrant":
        yield request.getfixturevalue("qdrant")
        return
    if kind != "pgvector":
        yield f"{kind}:{empty_folder / 'database'}" + (".db" if kind == "milvus" else "")
        return
    import psycopg
    from psycopg import sql

    address = request.getfixturevalue("postgres")
    with psycopg.connect(address, autocommit=True) as connection:
        for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
    yield f"{kind}:{address}"


@contextlib.contextmanager
def opened(target: str, name: str = "row") -> Iterator[Collection]:
    kind, _, address = target.partition(":")
    with contextlib.closing(database.kind(kind).connect(address, name)) as connected:
        yield connected


def export(target: str, *options: str, row: str = "row") -> None:
    group.run(["export", row, "--into", target, *options])


def cells(printed: str, line: str) -> list[str]:
    """The figures of a line of the printed table: of exact search, and of the database."""
    [found] = [text for text in printed.splitlines() if text.startswith(f"| {line} ")]
    return [cell.strip() for cell in found.strip("|").split("|")[1:]]


def counts(capsys: pytest.CaptureFixture[str]) -> tuple[int, ...]:
    """Of the log: how many photos were loaded, were there already, and were removed."""
    [numbers] = re.findall(
        r"(\d+) photos loaded, (\d+) there already, (\d+) removed", capsys.readouterr().err
    )
    return tuple(map(int, numbers))


def stored(target: str, name: str = "row") -> dict[str, Photo]:
    with opened(target, name) as connected:
        listed = list(connected.photos())
    assert len({photo.image_id for photo in listed}) == len(listed), "a photo is stored twice"
    return {photo.image_id: photo for photo in listed}


def expected(images: list[Image]) -> dict[str, Photo]:
    return {
        image.id: Photo(image.id, image.label, (image.path or f"test/gallery/{image.name}.jpg",))
        for image in images
        if image.split == "gallery"
    }


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_database_is_filled_and_answers_as_exact_search(
    target: str, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = photos()
    collection.write_params(collection.params("row", metric=metric))
    collection.write(images)
    collection.write_embeddings("row", images)
    collection.search("row")
    score.main(["--row", "row"])
    export(target)
    printed = capsys.readouterr().out
    quality = row_metrics.read("row").quality
    for name in ("map_at_r", "top_1", "top_10"):
        assert cells(printed, name)[0].startswith(f"{quality[name].mean:.3f}")
    assert stored(target) == expected(images)
    # Without an index, or with one that is searched widely enough, a naive search gives the same answers.
    queries, gallery = (
        embeddings.read_embeddings(Path("data/embeddings/row"), s) for s in ("query", "gallery")
    )
    with opened(target) as connected:
        widest = [*connected.wider()][-1:] or [{}]
        for vector in queries.vectors:
            if metric == "cosine":
                near = -(gallery.vectors @ vector) / np.linalg.norm(gallery.vectors, axis=1)
                vector = vector / np.linalg.norm(vector)
            else:
                near = np.linalg.norm(gallery.vectors - vector, axis=1)
            naive = gallery.ids[np.argsort(near)[:10]].tolist()
            answered = connected.nearest(vector, 10, widest[0])
            assert len({*naive} & {*answered}) >= 9
            assert answered[0] == naive[0]


def test_a_second_run_loads_nothing_and_a_changed_gallery_only_its_changes(
    target: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = photos()

    def loaded() -> tuple[int, ...]:
        """How many photos were loaded, were there already, and were removed."""
        capsys.readouterr()
        export(target)
        return counts(capsys)

    assert loaded() == (LABELS * GALLERY, 0, 0)
    assert loaded() == (0, LABELS * GALLERY, 0)
    changed = [
        Image(**{**vars(image), "label": "corrected"}) if image.name == f"3/{QUERIES}" else image
        for image in images
        if image.name not in (f"4/{QUERIES}", f"5/{QUERIES}")
    ]
    added = [Image("new", "gallery", "label 0", [1.0] * 32)]
    collection.write([*changed, *added])
    collection.write_embeddings("row", [*changed, *added])
    with pytest.raises(UserError, match=r"lacks 2 photos of the gallery.*holds 2 others"):
        export(target, "--check-only")
    assert loaded() == (2, LABELS * GALLERY - 3, 2)
    assert stored(target) == expected([*changed, *added])
    export(target, "--check-only")


KILLED = """
import os, signal, sys
from lineup.commands import group
from lineup.export import synchronisation
class Bar(synchronisation.tqdm):
    batches = 0
    def update(self, n=1):
        Bar.batches += 1
        if Bar.batches == 3:
            os.kill(os.getpid(), signal.SIGKILL)
synchronisation.tqdm, synchronisation._VALUES_PER_BATCH = Bar, 32 * 40
group.run(["export", "row", "--into", sys.argv[1]])
"""


def test_a_killed_run_is_resumed(target: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, target],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    export(target)
    loaded, present, removed = counts(capsys)
    assert loaded + present == LABELS * GALLERY
    assert 0 < present < LABELS * GALLERY
    assert removed == 0
    assert stored(target) == expected(photos())


def test_a_collection_of_something_else_is_replaced_only_when_asked_to(target: str, project: Path) -> None:
    export(target)
    other = photos()
    collection.write_params(collection.params("row", "other"))
    collection.write_embeddings("other", other)
    with pytest.raises(UserError, match=r"holds vectors of row row, not of other.*--collection.*--force"):
        export(target, "--collection", "row", row="other")
    with opened(target) as connected:
        provenance = connected.provenance()
    assert provenance is not None and provenance.row == "row"
    export(target, "--collection", "row", "--force", row="other")
    with opened(target) as connected:
        provenance = connected.provenance()
    assert provenance is not None
    assert (provenance.row, provenance.metric, provenance.dim) == ("other", "cosine", 32)
    assert len(stored(target)) == LABELS * GALLERY


def _foreign_table(target: str) -> None:
    """A collection `row` that the user created without Lineup."""
    kind, _, address = target.partition(":")
    if kind == "lancedb":
        import lancedb

        lancedb.connect(address).create_table("row", [{"id": 1}])
    elif kind == "milvus":
        from pymilvus import MilvusClient

        client = MilvusClient(address)
        client.create_collection("row", dimension=4)
        client.close()
    elif kind == "pgvector":
        import psycopg

        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE TABLE row (id int)")
            connection.execute("COMMENT ON TABLE row IS 'the shop''s rows'")
    else:
        from qdrant_client import QdrantClient, models

        client = QdrantClient(path=address)
        client.create_collection(
            "row", models.VectorParams(size=4, distance=models.Distance.DOT), metadata={"lineup": "no"}
        )
        client.close()


def test_a_collection_of_the_users_own_is_replaced_only_when_asked_to(target: str, project: Path) -> None:
    with pytest.raises(
        UserError, match=r"(no collection 'row'|nothing at this address); run it without --check-only"
    ):
        export(target, "--check-only")
    assert not (project / "database").exists()
    _foreign_table(target)
    with pytest.raises(UserError, match="collection 'row' was not created by Lineup"):
        export(target)
    with pytest.raises(UserError, match="was not created by Lineup"):
        export(target, "--check-only")
    export(target, "--force")
    assert stored(target) == expected(photos())


def test_a_poor_recall_names_the_setting_that_mends_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LanceDB's codes of two bytes find little; the true vectors of more candidates mend it."""
    export("lancedb:out", "--force")
    printed = capsys.readouterr().out
    assert float(cells(printed, "recall@10")[1]) < 0.95
    remedy = re.search(
        r"`(\.refine_factor\(\d+\)[^`]*)` in your service, and `(--check-only [^`]*)`", printed
    )
    assert remedy is not None
    export("lancedb:out", *remedy[2].split())
    assert float(cells(capsys.readouterr().out, "recall@10")[1]) >= 0.95


def test_pgvector_finds_more_with_a_larger_ef_search(
    postgres: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The planner would read so small a table as a whole."""
    target = f"pgvector:{postgres}&options=-c%20enable_seqscan%3Doff"
    export(target, "--force", "--index", "m=2", "--index", "ef_construction=4", "--search", "ef_search=10")
    printed = capsys.readouterr().out
    assert "index: HNSW, m=2, ef_construction=4, ef_search=10" in printed
    assert "instead" not in printed
    poor = float(cells(printed, "recall@10")[1])
    assert poor < 0.95
    assert re.search(r"gives \d+ to some queries", printed), "ef_search limits the length of an answer"
    assert "ef_search=100: " in printed
    export(target, "--check-only", "--search", "ef_search=400")
    assert float(cells(capsys.readouterr().out, "recall@10")[1]) > poor
    export(target, "--index", "m=16")
    assert "index: HNSW, m=16, ef_construction=64" in capsys.readouterr().out


def test_pgvector_refuses_what_it_cannot_index(postgres: str) -> None:
    """pgserver's pgvector 0.6.2 has no halfvec."""
    with opened(f"pgvector:{postgres}", "wide") as connected:
        with pytest.raises(UserError, match=r"2,001 dimensions.*at most 2,000; update pgvector"):
            connected.create(Provenance("wide", "", "cosine", 2_001))
        assert not connected.exists()


def test_a_whitening_is_loaded_and_other_refinements_name_the_row_to_load(
    project: Path, qdrant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refinements = {
        "white": {"from": "row", "with": "row", "method": "whitening", "dim": 16},
        "expanded": {"from": "white", "with": "white", "method": "query_expansion"},
        "fused": {"from": "row", "with": "expanded", "method": "reciprocal_rank_fusion"},
    }
    collection.write_params(collection.params("row", refinements=refinements))
    refine.main(["--row", "white"])
    export(qdrant, row="white")
    printed = capsys.readouterr().out
    assert "16 dimensions, cosine" in printed
    assert cells(printed, "map_at_r")[0] == cells(printed, "map_at_r")[1]
    with pytest.raises(UserError, match=r"expanded is a query expansion.*use white"):
        export(qdrant, row="expanded")
    with pytest.raises(UserError, match=r"fused is a reciprocal rank fusion.*use white"):
        export(qdrant, row="fused")
    # It is learned from the gallery, so that one photo less makes all of its vectors others.
    images = [image for image in photos() if image.name != f"9/{QUERIES}"]
    collection.write(images)
    collection.write_embeddings("row", images)
    collection.search("row")
    refine.main(["--row", "white"])
    with pytest.raises(UserError, match="that white had before it was trained or computed anew"):
        export(qdrant, row="white")


def test_random_weights_are_refused_in_a_whitening_too(project: Path) -> None:
    white = {"from": "row", "with": "row", "method": "whitening", "dim": 16}
    collection.write_params(collection.params("row", refinements={"white": white}))
    collection.write_embeddings("row", photos(), random=True)
    refine.main(["--row", "white"])
    for row in ("row", "white"):
        with pytest.raises(UserError, match=rf"{row}: can't be exported, as the weights of row are random"):
            export("lancedb:out", row=row)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("lancedb", "needs a database and its address"),
        ("lansdb:out", "database 'lansdb' is unknown; did you mean 'lancedb'"),
        ("lancedb:params.yaml", "params.yaml is not a folder"),
        ("lancedb:s3://bucket/x", "is not a folder; name one on this machine"),
        ("milvus:out", "write milvus:FILE.db or milvus:http://HOST:PORT"),
        ("milvus:no/such.db", "no is not a folder; create it"),
        ("milvus:http://me:hush%40@127.0.0.1:9", "no connection .*; start the server"),
        ("pgvector:mysql://me:hush@host/db", "is not one of PostgreSQL; write pgvector:postgresql://"),
        ("pgvector:postgresql://me:hush@127.0.0.1:9/db", "no connection .*refused.*; start the server"),
        ("pgvector:postgresql://me:hu@sh@127.0.0.1:9/db", "address cannot be read; .*%40 for @"),
        ("pgvector:postgresql://me:hu/sh@127.0.0.1:9/db", "address cannot be read; .*%2F for /"),
        ("pgvector:postgresql://127.0.0.1:9/db?password=hush&nonsense=1", "is not one of PostgreSQL"),
        ("qdrant:http://:hush@127.0.0.1:9", "no connection .*refused.*; start the server"),
        ("qdrant:grpc://:hush@127.0.0.1:9", "is not one of Qdrant"),
        ("qdrant:params.yaml", "is not a folder"),
    ],
)
def test_a_wrong_address_is_explained_without_its_password(
    project: Path,
    target: str,
    fault: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in ("milvus", "qdrant"):
        monkeypatch.setattr(database.kind(kind), "_CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match=fault) as raised:
        export(target)
    printed = capfd.readouterr()
    for text in (str(raised.value), printed.out, printed.err):
        assert not re.search(r"hush|hu@sh|hu/sh|hush%40", text)


def test_a_password_is_left_out_of_what_a_database_says(project: Path, postgres: str) -> None:
    """PostgreSQL repeats the name of a role; one that is the password shows that it is replaced."""
    address = postgres.replace("postgres:@", "hush%21:hush%21@", 1)
    with pytest.raises(UserError, match=r"role \"\*\*\*\" does not exist") as raised:
        export(f"pgvector:{address}")
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "secrets"),
    [
        ("postgresql://me:a%20b@host/db", {"a%20b", "a b"}),
        ("postgresql://me:a@b@host/db", {"a@b"}),
        ("postgresql://host/db", set()),
        ("http://:key@host:6333", {"key"}),
        ("out/folder", set()),
    ],
)
def test_secrets_of_an_address(address: str, secrets: set[str]) -> None:
    assert {*server_address.secrets(address)} == secrets


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--index", "nprobes=3"], "--index: 'nprobes' is unknown"),
        (["--search", "refine=3"], "did you mean 'refine_factor'"),
        (["--search", "nprobes=all"], "write nprobes=NUMBER"),
        (["--check-only", "--force"], "--check-only: writes nothing"),
        (["--collection", 'x"; DROP TABLE y'], "is not a name that every database accepts"),
    ],
)
def test_wrong_options(project: Path, options: list[str], fault: str) -> None:
    with pytest.raises(UserError, match=re.escape(fault)):
        export("lancedb:out", *options)
    assert not Path("out").exists()


def test_a_missing_client_names_the_extra(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lineup.export.databases.qdrant", raising=False)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(UserError, match=re.escape("run `pip install 'lineup[qdrant]'`")):
        export("qdrant:out")


def test_every_database_is_an_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [*DATABASES] == database.names()
    assert {*database.names()} <= {*extras["optional-dependencies"]}


def _questions(positions: list[list[int]], gallery: list[list[float]], queries: list[list[float]]) -> Any:
    """Only what `recalls` reads."""
    vectors = np.array(gallery, np.float32)
    index = faiss.IndexFlat(vectors.shape[1], faiss.METRIC_L2)
    index.add(vectors)  # type: ignore[call-arg]
    asked = np.array(queries, np.float32)
    ranked = np.array(positions)
    no_relevance: Any = None
    return side_by_side.Questions(
        asked,
        np.arange(len(asked)),
        index,
        no_relevance,
        3,
        ranked,
        pair_scores.pairwise(index, asked, ranked),
    )


def test_recall_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of photos 1 and 2, which are equally near, either counts; a photo that is answered twice counts once."""
    monkeypatch.setattr(side_by_side, "NEIGHBOURS", 2)
    gallery = [[0.0], [1.0], [-1.0], [3.0]]
    given = _questions([[0, 1, 2]] * 5, gallery, [[0.0]] * 5)
    answered = np.array([[0, 1, -1], [2, 0, 1], [0, 3, 1], [0, 0, 1], [-1, -1, -1]])
    assert side_by_side.recalls(answered, given).tolist() == [1.0, 1.0, 0.5, 0.5, 0.0]


def test_queries_beyond_a_thousand_are_sampled(
    project: Path, qdrant: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "MOST_QUERIES", 20)
    export(qdrant)
    printed = capsys.readouterr().out
    assert f"All figures are of 20 of the {LABELS * QUERIES} queries" in printed
    assert cells(printed, "map_at_r")[0] == cells(printed, "map_at_r")[1]
    assert not cells(printed, "map_at_r")[0].startswith(
        f"{row_metrics.read('row').quality['map_at_r'].mean:.3f}"
    )
