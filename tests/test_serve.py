"""The search page's server, over HTTP: right answers, told faults, and nothing reachable but the gallery."""

from __future__ import annotations

import contextlib
import hashlib
import html.parser
import io
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import requests
import torch
import transformers as tf
from fastapi.testclient import TestClient
from PIL import Image

from lineup import paths
from lineup.commands import group, serve
from lineup.errors import UserError
from lineup.photos import prepared_images
from lineup.serving import app, gallery_photos, row_pool, row_search
from lineup.serving.limits import Limits
from lineup.settings import params
from lineup.settings.refinement import RefinementSettings
from lineup.storage import embeddings, parquet, rankings, schemas
from stages import refine
from tests.support import served
from tests.support.project import read_params, write_params

pytestmark = pytest.mark.slow

UNKNOWN_ID = "0" * 64


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.build(tmp_path_factory.mktemp("serve") / "project")


@pytest.fixture
def project(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(built)
    return built


@pytest.fixture(scope="module")
def url(built: Path) -> Iterator[str]:
    with served.serving(built, "--row", "mobilenet_v2") as address:
        yield address


def post(url: str, data: Any, row: str = "mobilenet_v2", **asked: Any) -> requests.Response:
    return requests.post(f"{url}/search/photo", params={"row": row, **asked}, data=data, timeout=60)


def get(url: str, kind: str, **asked: Any) -> requests.Response:
    return requests.get(f"{url}/search/{kind}", params={"row": "mobilenet_v2", **asked}, timeout=60)


def found(response: requests.Response) -> tuple[list[str], list[float]]:
    assert response.status_code == 200, response.text
    answers = response.json()["results"]
    return [answer["image_id"] for answer in answers], [answer["score"] for answer in answers]


def manifest(split: str) -> list[dict[str, Any]]:
    return parquet.read_table(paths.manifest("test")).filter(pc.field("split") == split).to_pylist()


def naive(model: str, vector: np.ndarray, without: str = "") -> list[tuple[str, float]]:
    """(image_id, cosine) of the whole gallery, nearest first, by a plain loop."""
    gallery = embeddings.read_embeddings(paths.embeddings(model), "gallery")
    scores = []
    for image_id, other in zip(gallery.ids.tolist(), gallery.vectors.astype(float), strict=True):
        if image_id != without:
            scores.append((image_id, float(vector @ other / np.linalg.norm(vector) / np.linalg.norm(other))))
    return sorted(scores, key=lambda pair: (-pair[1], pair[0]))


# Right answers


@pytest.mark.parametrize("model", ["mobilenet_v2", "raw_pixels_l2", "clip", *list(served.REFINEMENTS)[:-1]])
def test_a_photo_is_answered_as_the_pipeline_ranks_it(url: str, project: Path, model: str) -> None:
    ranking = rankings.read_ranking(paths.ranking(model))
    gallery = {row["image_id"] for row in manifest("gallery")}
    asked = [
        row for row in manifest("query") if row["image_id"] not in gallery
    ]  # a ranking leaves the query itself out
    assert max(row["width"] for row in asked) > 512 and len(asked) >= 10
    for row in asked:
        ids, scores = found(post(url, (paths.RAW / row["paths"][0]).read_bytes(), model, k=20))
        place = ranking.query_ids.tolist().index(row["image_id"])
        assert ids == ranking.gallery_ids[ranking.positions[place, :20]].tolist()
        np.testing.assert_allclose(scores, ranking.scores[place, :20], rtol=1e-4, atol=1e-4)


def test_a_gallery_image_finds_its_neighbours_but_not_itself(url: str, project: Path) -> None:
    gallery = embeddings.read_embeddings(paths.embeddings("mobilenet_v2"), "gallery")
    for image_id, vector in list(zip(gallery.ids.tolist(), gallery.vectors.astype(float), strict=True))[::7]:
        response = get(url, "image", image_id=image_id, k=10)
        ids, scores = found(response)
        expected = naive("mobilenet_v2", vector, without=image_id)[:10]
        assert ids == [other for other, _ in expected]
        np.testing.assert_allclose(scores, [score for _, score in expected], atol=1e-5)
        assert response.json()["query_image"]["image_id"] == image_id


def test_a_gallery_image_does_not_find_its_copy_in_other_bytes(url: str, project: Path) -> None:
    by_path = {path: row for row in manifest("gallery") for path in row["paths"]}
    own, copy = by_path["test/gallery/large/other.jpg"], by_path[served.COPY.removeprefix("data/raw/")]
    assert own["pixels_id"] == copy["pixels_id"] and own["image_id"] != copy["image_id"]
    response = get(url, "image", image_id=own["image_id"], k=96).json()
    shown = {each["image_id"] for each in response["results"]}
    assert shown == {row["image_id"] for row in manifest("gallery")} - {own["image_id"], copy["image_id"]}
    assert response["excluded_copies"] == 1
    kept = gallery_photos.read("bytes")
    assert kept.self_matches(own["image_id"], own["pixels_id"]) == [kept.position(own["image_id"])]


def test_words_are_answered_as_transformers_own_towers_do(url: str, project: Path) -> None:
    words = "a slice of pizza"
    model: Any
    model, tokenizer = tf.CLIPModel.from_pretrained("clip"), tf.CLIPTokenizer.from_pretrained("clip")
    with torch.inference_mode():
        output: Any = model.get_text_features(**tokenizer([words], return_tensors="pt"))
    vector = getattr(output, "pooler_output", output)[0].numpy().astype(float)
    ids, scores = found(get(url, "words", row="clip", words=f" {words} ", k=10))
    expected = naive("clip", vector)[:10]
    assert ids == [other for other, _ in expected]
    np.testing.assert_allclose(scores, [score for _, score in expected], atol=1e-5)


def test_the_same_file_is_found_and_said_to_be_it(url: str, project: Path) -> None:
    row = next(row for row in manifest("gallery") if row["label"] == "large")
    answer = post(url, (paths.RAW / row["paths"][0]).read_bytes(), k=3).json()
    assert [each["same_file"] for each in answer["results"]] == [True, False, False]
    assert answer["results"][0] | {"score": None} == {
        "image_id": row["image_id"],
        "label": "large",
        "paths": row["paths"],
        "score": None,
        "same_file": True,
    }
    assert answer["results"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert answer["query_image"]["image_id"] == row["image_id"]


def test_more_than_the_gallery_holds_gives_the_whole_gallery(url: str, project: Path) -> None:
    ids, scores = found(get(url, "image", image_id=manifest("gallery")[0]["image_id"], k=app.MAX_RESULTS))
    assert len(ids) == len(set(ids)) == len(manifest("gallery")) - 1
    assert scores == sorted(scores, reverse=True)


# Nothing is built

# Every method, of one model.
REFINED: dict[str, dict[str, Any]] = {
    "whitened": {"method": "whitening", "dim": 8},
    "shortened": {"method": "truncate", "dim": 5},
    "bytes": {"method": "quantise", "to": "int8"},
    "bits": {"method": "quantise", "to": "binary"},
    "scaled": {"method": "local_scaling", "k": 3},
    "listed": {"method": "approximate", "index": "hnsw", "recall_target": 1.0},
    "normalised": {"method": "score_normalisation", "first_rank": 2, "last_rank": 6},
    "expanded": {"method": "query_expansion", "n": 2},
    "reranked": {"method": "k_reciprocal", "k1": 4, "k2": 2},
    "fused": {"method": "reciprocal_rank_fusion", "with": "whitened"},
    "summed": {"method": "score_fusion", "with": "scaled"},
    "white_bits": {"method": "quantise", "to": "binary", "from": "whitened", "with": "whitened"},
}


def put_other_vectors() -> None:
    """Other vectors of the same images in the embeddings of all rows; all else that the files say stays."""
    for shard in Path().glob(f"{paths.embeddings('*')}/*.parquet"):
        table = pq.read_table(shard)
        values = np.random.default_rng(0).standard_normal(len(table) * table["embedding"].type.list_size)
        other = pa.FixedSizeListArray.from_arrays(
            pa.array(values.astype(np.float32)), type=table["embedding"].type
        )
        place = table.schema.get_field_index("embedding")
        pq.write_table(table.set_column(place, table.schema.field(place), other), shard)


def test_every_refinement_is_served_from_what_was_stored(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index or a projection that is built anew would be one of the vectors that lie there by then."""
    folder = Path(shutil.copytree(built, tmp_path / "project"))
    monkeypatch.chdir(folder)
    rows = {name: {"from": "clip", "with": "clip", **row} for name, row in REFINED.items()}
    write_params(folder, {**read_params(folder), "refinements": rows})
    union, _ = get_args(RefinementSettings)
    methods = {get_args(each.model_fields["method"].annotation)[0] for each in get_args(union)}
    assert {row["method"] for row in REFINED.values()} == methods
    for row in REFINED:
        refine.main(["--row", row])
    stored = {row: rankings.read_ranking(paths.ranking(row)) for row in REFINED}
    put_other_vectors()
    asked = next(row for row in manifest("query") if row["width"] > 512)
    with served.serving(folder, "--row", "bits") as url:
        for row, ranking in stored.items():
            ids, scores = found(post(url, (paths.RAW / asked["paths"][0]).read_bytes(), row, k=9))
            place = ranking.query_ids.tolist().index(asked["image_id"])
            assert ids == ranking.gallery_ids[ranking.positions[place, :9]].tolist(), row
            np.testing.assert_allclose(scores, ranking.scores[place, :9], rtol=1e-4, atol=1e-4)


# Told faults


def _png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"", 415, "this picture is empty (0 bytes)"),
        (b"<svg onload=alert(1)>", 415, "this picture is not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(50), 415, "this picture is a damaged HEIC"),
        (_png(900, 900)[:-40], 415, "this picture is "),
        (_png(10_000, 6_500), 415, "this picture has more than 64 million pixels; choose a smaller one"),
        (
            _png(60_000, 2),
            415,
            "this picture has 60,000 x 2 pixels, one side more than 100 times the other; crop it",
        ),
        (bytes(50 * 2**20 + 1), 413, "this picture has more than 50 MB; choose a smaller one"),
        (
            (bytes(2**20) for _ in range(51)),
            413,
            "this picture has more than 50 MB",
        ),  # of no announced length
    ],
    ids=["empty", "svg", "heic", "truncated", "pixels", "thin", "bytes", "bytes in chunks"],
)
def test_a_picture_that_cant_be_searched_with_is_told(
    url: str, data: Any, status: int, sentence: str
) -> None:
    response = post(url, data)
    assert (response.status_code, response.json()["error"][: len(sentence)]) == (status, sentence)
    assert post(url, _png(30, 30)).status_code == 200  # and the server goes on


@pytest.mark.parametrize(
    ("kind", "asked", "status", "sentence"),
    [
        ("image", {"image_id": UNKNOWN_ID}, 404, "the gallery has no such image; it may have been removed"),
        (
            "image",
            {"image_id": "../../../etc/passwd"},
            400,
            "image_id: string should match pattern '^[0-9a-f]{64}$'",
        ),
        ("image", {}, 400, "image_id: field required"),
        ("image", {"image_id": UNKNOWN_ID, "k": 0}, 400, "k: input should be greater than or equal to 1"),
        ("image", {"image_id": UNKNOWN_ID, "k": 10**9}, 400, "k: input should be less than or equal to 96"),
        (
            "image",
            {"image_id": UNKNOWN_ID, "row": "mobilnet"},
            404,
            "params.yaml: row 'mobilnet' is unknown; did you mean 'mobilenet_v2'?",
        ),
        (
            "image",
            {"image_id": UNKNOWN_ID, "row": "../clip"},
            404,
            "params.yaml: row '../clip' is unknown; did you mean 'clip'?",
        ),
        (
            "image",
            {"image_id": UNKNOWN_ID, "row": "absent"},
            409,
            "data/indexes/absent.faiss: does not exist; run `dvc repro`, or `dvc pull` it",
        ),
        (
            "words",
            {"words": "pizza"},
            409,
            "data/weights/mobilenet_v2: mobilenet_v2 has no text tower; search with a photo, or ",
        ),
        ("words", {"words": "  ", "row": "clip"}, 400, "there are no words to search with; type some"),
        ("words", {"words": "", "row": "clip"}, 400, "words: string should have at least 1 character"),
        (
            "words",
            {"words": "x" * 1001, "row": "clip"},
            400,
            "words: string should have at most 1000 characters",
        ),
    ],
)
def test_a_question_that_cant_be_answered_is_told(
    url: str, kind: str, asked: dict[str, Any], status: int, sentence: str
) -> None:
    response = get(url, kind, **asked)
    assert response.status_code == status
    assert response.json()["error"].startswith(sentence), response.text


# What can be reached


def test_every_gallery_image_is_served_as_prepared(url: str, project: Path) -> None:
    prepared = {
        image.image_id: image.data
        for image in prepared_images.stream(paths.images("test"))
        if image.split == "gallery"
    }
    for image_id, data in prepared.items():
        response = requests.get(f"{url}/images/{image_id}", timeout=60)
        assert response.content == data
        assert (
            response.headers["content-type"] == f"image/{(Image.open(io.BytesIO(data)).format or '').lower()}"
        )
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        f"/images/{UNKNOWN_ID}",
        "/images/..%2f..%2f..%2fparams.yaml",
        "/images/../../params.yaml",
        "/images/%2fetc%2fpasswd",
        "/images//etc/passwd",
        "/images/",
        "/static/../index.html.j2",
        "/static/..%2findex.html.j2",
        "/static/%2e%2e/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/params.yaml",
        "/data/prepared/test/manifest.parquet",
    ],
)
def test_nothing_else_can_be_reached(url: str, path: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection(
        (host, int(port)), timeout=60
    ) as connection:  # a client would tidy the path up
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split()[1] == b"404", answer
    assert set(json.loads(content)) == {"error"}


def test_a_query_or_training_image_is_not_served(url: str, project: Path) -> None:
    gallery = {row["image_id"] for row in manifest("gallery")}
    others = [*manifest("query"), *parquet.read_table(paths.manifest("train")).to_pylist()]
    ids = {row["image_id"] for row in others} - gallery
    assert len(ids) > 20
    for image_id in sorted(ids)[::5]:
        assert requests.get(f"{url}/images/{image_id}", timeout=60).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1234", 200),
        ("LocalHost.", 200),
        ("127.0.0.1", 200),
        ("192.0.2.7:80", 200),  # an address can't be rebound
        ("[::1]:80", 200),
        ("lineup.example", 400),
        ("127.0.0.1.nip.io", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_only_names_of_this_machine_are_answered(url: str, host: str, status: int) -> None:
    response = requests.get(url, headers={"Host": host}, timeout=60)
    assert response.status_code == status
    assert status == 200 or set(response.json()) == {"error"}


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}],
)
def test_pages_of_other_sites_may_not_ask(url: str, project: Path, headers: dict[str, str]) -> None:
    image_id = manifest("gallery")[0]["image_id"]
    for path in (f"/images/{image_id}", f"/search/image?row=clip&image_id={image_id}", "/static/page.js"):
        response = requests.get(url + path, headers=headers, timeout=60)
        assert response.status_code == 403
        assert image_id not in response.text
    assert (
        requests.post(
            f"{url}/search/photo?row=clip", data=_png(9, 9), headers=headers, timeout=60
        ).status_code
        == 403
    )


def test_every_answer_is_locked_down(url: str) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answers = [
        requests.get(url + path, timeout=60)
        for path in ("/", "/static/page.css", "/nowhere", "/search/image")
    ]
    for response in [*answers, requests.options(f"{url}/search/photo", headers=origin, timeout=60)]:
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


# The page


class _Scripts(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.scripts, self.tags, self.addresses = False, [], [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.inside = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts.append(data)


def test_the_page_tells_its_rows_and_loads_nothing_from_elsewhere(url: str) -> None:
    page = _Scripts()
    page.feed(requests.get(url, timeout=60).text)
    [script] = page.scripts
    data = json.loads(script)
    told = {row["name"]: (row["ready"], row["text"], row["random"], row["made_of"]) for row in data["rows"]}
    assert told == {
        "mobilenet_v2": (True, False, False, ""),
        "raw_pixels_l2": (True, False, False, ""),
        "random": (True, False, True, ""),
        "clip": (True, True, False, ""),
        "absent": (False, False, False, ""),
        "expanded": (True, False, False, "query expansion of mobilenet_v2"),
        "expanded_l2": (True, False, False, "query expansion of mobilenet_v2 and raw_pixels_l2"),
        "whitened": (True, True, False, "whitening of clip"),
        "fused": (True, False, False, "reciprocal rank fusion of mobilenet_v2 and clip"),
        "summed": (True, False, False, "score fusion of mobilenet_v2 and clip"),
        "reranked": (True, False, False, "k reciprocal of mobilenet_v2 and clip"),
        "of_absent": (False, False, False, "score fusion of clip and absent"),
    }
    assert data["first"] == "mobilenet_v2"
    assert len({image["image_id"] for image in data["starters"]}) == app.STARTERS
    assert all(address.startswith(("/", "#", "data:,")) for address in page.addresses)


def test_names_in_the_page_are_data(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "STARTERS", 10_000)
    with TestClient(app.create(params.load(), "mobilenet_v2", ("testserver",), Limits())) as client:
        page = _Scripts()
        page.feed(client.get("/").text)
    assert (
        "img" in page.tags and page.tags.count("script") == 2
    )  # the picture asked with; the data and the script
    [script] = page.scripts
    labels = {image["label"] for image in json.loads(script)["starters"]}
    assert served.ODD_LABEL in labels


# Rows in memory


def test_two_rows_stay_in_memory_and_changed_files_are_read_again(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(built, tmp_path / "project"))
    pool = row_pool.RowPool(params.load())
    first, second = pool.row("mobilenet_v2"), pool.row("clip")
    assert pool.row("mobilenet_v2") is first
    pool.row("raw_pixels_l2")  # clip was asked longest ago
    assert pool.row("mobilenet_v2") is first
    assert pool.row("clip") is not second
    table = parquet.read_table(paths.manifest("test"))
    labels = table.column("label").to_pylist()
    changed = ["renamed"] * len(labels)
    parquet.write_table(paths.manifest("test"), table.set_column(2, table.schema.field("label"), [changed]))
    row = pool.row("mobilenet_v2")
    assert {result.photo.label for result in row.nearest(lambda encoder: encoder.gallery_vector(0), 5)} == {
        "renamed"
    }
    paths.index("mobilenet_v2").unlink()
    with pytest.raises(UserError, match=r"data/indexes/mobilenet_v2.faiss: does not exist; run `dvc repro`"):
        pool.row("mobilenet_v2")


def test_a_row_of_other_images_is_refused(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(built, tmp_path / "project"))
    table = parquet.read_table(paths.manifest("test"))
    ids = table.column("image_id").to_pylist()
    place = next(i for i, row in enumerate(table.to_pylist()) if row["split"] == "gallery")
    ids[place] = (
        f"{ids[place][:-1]}{'0' if ids[place][-1] != '0' else '1'}"  # as many images, one of them another
    )
    parquet.write_table(paths.manifest("test"), table.set_column(0, table.schema.field("image_id"), [ids]))
    with pytest.raises(UserError, match="holds other images than"):
        row_search.open_row("mobilenet_v2", params.load(), gallery_photos.read("pixels"))


@pytest.mark.parametrize(("rows", "rows_per_shard"), [(1, 10), (40, 100), (70, 5)])
def test_a_picture_is_found_in_any_shard(tmp_path: Path, rows: int, rows_per_shard: int) -> None:
    ids = sorted(hashlib.sha256(str(i).encode()).hexdigest() for i in range(rows))
    batch = pa.record_batch(
        [
            ids,
            ["gallery"] * rows,
            pa.nulls(rows, pa.string()),
            [f"bytes of {image_id}".encode() for image_id in ids],
        ],
        schema=schemas.IMAGES,
    )
    parquet.write_shards(tmp_path / "images", schemas.IMAGES, [batch], rows, rows_per_shard)
    for image_id in ids:
        assert prepared_images.read(tmp_path / "images", image_id) == f"bytes of {image_id}".encode()
    for unknown in (UNKNOWN_ID, "f" * 64, "", "../x"):
        assert prepared_images.read(tmp_path / "images", unknown) is None


# The command


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--row", "mobilnet_v2"], "row 'mobilnet_v2' is unknown; did you mean 'mobilenet_v2'?"),
        (["--row", "absent"], "data/indexes/absent.faiss: does not exist; run `dvc repro`, or `dvc pull` it"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid --port 8000: cannot listen there"),
        (["--port", "99999"], "--port 99999: is not a port; use 0 to 65535"),
        (
            ["--port", "0", "--name", "https://a.example"],
            "--name https://a.example: is not a host name; use a name without scheme and port",
        ),
    ],
)
def test_a_wrong_argument_is_told(project: Path, arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as told:
        group.run(["serve", *arguments])
    assert sentence in str(told.value)


def test_a_port_in_use_is_one_sentence(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = served.start(project, "--port", str(port))
        output, errors = server.communicate(timeout=60)
    assert server.returncode == 1 and output == ""
    assert (
        errors
        == f"error: --host 127.0.0.1 --port {port}: cannot listen there (address already in use); use another, such as --port {port + 1}\n"
    )


def test_without_a_model_the_first_computed_row_is_shown(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = params.load()
    assert serve.choose(settings, None) == "mobilenet_v2"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no row is computed here; run `dvc repro`"):
        serve.choose(settings, None)


def test_where_other_machines_are_let_in_only_this_servers_names_are_answered(project: Path) -> None:
    """Else a page of another site reads the gallery: its name is made to lead here (DNS rebinding)."""
    server = served.start(
        project, "--host", "0.0.0.0", "--port", "0", "--name", "Photos.example.org", "--name", "b.example"
    )
    url = served.address(server).replace("0.0.0.0", "127.0.0.1")
    image = f"{url}/images/{manifest('gallery')[0]['image_id']}"
    known = (
        "photos.example.org",
        "b.example:80",
        "localhost",
        "192.0.2.7:8000",
        "[2001:db8::7]",
        socket.gethostname(),
        socket.getfqdn(),
    )
    statuses = {host: requests.get(image, headers={"Host": host}, timeout=60).status_code for host in known}
    refused = requests.get(image, headers={"Host": "evil.example"}, timeout=60)
    os.kill(server.pid, signal.SIGINT)
    _, errors = server.communicate(timeout=60)
    assert statuses == dict.fromkeys(known, 200)
    sentence = (
        "this server is not known as 'evil.example'; use its IP address, or start it with --name evil.example"
    )
    assert (refused.status_code, refused.json()) == (400, {"error": sentence})
    assert (
        errors
        == "warning: everyone who reaches this address can search and see the gallery; there is no password\nended\n"
    )
    assert server.returncode == 0


def test_the_address_that_is_printed_is_answered(project: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("127.0.0.2 is an address of Linux machines alone")
    server = served.start(project, "--host", "127.0.0.2", "--port", "0")
    response = requests.get(served.address(server), timeout=60)
    os.kill(server.pid, signal.SIGINT)
    server.communicate(timeout=60)
    assert response.status_code == 200


def test_ctrl_c_ends_the_server_and_its_decoders_without_a_word(project: Path) -> None:
    server = served.start(project, "--port", "0", forks=False)
    url = served.address(server)
    assert post(url, _png(30, 30)).status_code == 200
    stalled = served.connect(url, served.upload(1_000, b"abc"))
    processes = psutil.Process(server.pid).children(recursive=True)
    for process in (
        server.pid,
        *(process.pid for process in processes),
    ):  # as a terminal does, to all that it runs in the foreground
        if os.getpgid(process) == os.getpgid(server.pid):
            os.kill(process, signal.SIGINT)
    _, errors = server.communicate(timeout=60)
    stalled.close()
    assert (server.returncode, errors) == (0, "ended\n")
    assert processes and psutil.wait_procs(processes, 60)[1] == []


def test_decoders_end_with_a_killed_server(project: Path) -> None:
    server = served.start(project, "--port", "0", forks=False)
    assert post(served.address(server), _png(30, 30)).status_code == 200
    processes = psutil.Process(server.pid).children(recursive=True)
    server.kill()
    server.communicate(timeout=60)
    assert processes and psutil.wait_procs(processes, 60)[1] == []


# What one client can do to the others


def test_an_upload_that_is_broken_off_prints_nothing(project: Path) -> None:
    with served.serving(project) as url:  # which looks at what was printed
        for sent in (b"", b"abc"):
            served.connect(url, served.upload(1_000, sent)).close()
        broken = served.upload(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        assert served.answer(served.connect(url, broken + b"no length\r\n")) == (
            400,
            {"error": "the request is not valid HTTP"},
        )
        assert served.answer(served.connect(url, b"no request\r\n\r\n")) == (
            400,
            {"error": "the request is not valid HTTP"},
        )
        refused = broken.replace(b"POST /search/photo", b"POST /nowhere").replace(
            b"Connection: close\r\n", b""
        )
        with served.connect(url, refused) as connection:  # what is wrong comes after the answer
            assert connection.recv(20).startswith(b"HTTP/1.1 404")
            connection.sendall(b"no length\r\n")
            with contextlib.suppress(ConnectionError):
                while connection.recv(65_536):
                    pass
        assert post(url, _png(30, 30)).status_code == 200


def test_an_announced_size_above_the_limit_is_refused_before_the_first_byte(url: str) -> None:
    size = 50 * 2**20 + 1
    for headers in ((), ("Expect: 100-continue",)):
        refused = served.answer(served.connect(url, served.upload(size, b"", *headers)))
        assert refused == (413, {"error": "this picture has more than 50 MB; choose a smaller one"})


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"GET / HTTP/1.1\r\nHost: local", "the request's header did not arrive within 0.3 s; send it again"),
        (served.upload(1_000, b"abc"), "the upload was ended (nothing came for 0.3 s); send it again"),
        (
            b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n" + served.upload(1_000, b"abc"),
            "the upload was ended (nothing came for 0.3 s); send it again",
        ),
    ],
    ids=["header", "upload", "upload sent with a request before it"],
)
def test_a_client_that_stops_sending_is_not_waited_for(project: Path, sent: bytes, sentence: str) -> None:
    with served.serving_here(Limits(header_seconds=0.3, silent_seconds=0.3)) as (url, _):
        assert served.answer(served.connect(url, sent)) == (408, {"error": sentence})
        assert served.connect(url).recv(1) == b""  # nor is one that sends nothing
        assert post(url, _png(30, 30)).status_code == 200


def slowly_sent(connection: socket.socket) -> bytes:
    """What a client receives that sends a byte now and then; the answer may come in pieces."""
    connection.settimeout(0.2)
    received = b""
    with contextlib.suppress(ConnectionError):
        for _ in range(1_000):
            try:
                part = connection.recv(65_536)
            except TimeoutError:
                if not received:
                    connection.sendall(b"x")
                continue
            if not part:
                break
            received += part
    return received


@pytest.mark.parametrize(
    ("begin", "sentence"),
    [
        (b"GET / HTTP/1.1\r\nX: ", "the request's header did not arrive within 0.5 s; send it again"),
        (served.upload(10**6), "the upload was ended (not complete after 0.5 s); send it again"),
    ],
    ids=["header", "upload"],
)
def test_a_client_that_sends_a_byte_now_and_then_is_not_waited_for(
    project: Path, begin: bytes, sentence: str
) -> None:
    received = b""
    with served.serving_here(Limits(header_seconds=0.5, upload_seconds=0.5)) as (url, _):
        # The response is lost if a byte arrives between it and the end of the connection.
        for _ in range(10):
            with served.connect(url, begin) as connection:
                received = slowly_sent(connection)
            if received.endswith(b"}"):
                break
        assert json.loads(received.partition(b"\r\n\r\n")[2]) == {"error": sentence}


def test_a_client_that_does_not_read_its_answers_is_not_waited_for(project: Path) -> None:
    image = f"GET /images/{manifest('gallery')[0]['image_id']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with (
        served.serving_here(Limits(response_seconds=0.3)) as (url, server),
        served.connect(url) as connection,
    ):
        connection.settimeout(0.1)
        with pytest.raises((ConnectionError, TimeoutError)):
            for _ in range(10_000):
                connection.sendall(100 * image)
        assert eventually(lambda: not server.server_state.connections)


def test_one_client_cannot_take_all_connections(project: Path) -> None:
    with served.serving_here(Limits(connections_of_client=3)) as (url, server):
        assert eventually(lambda: not server.server_state.connections)
        held = [served.connect(url, b"GET") for _ in range(3)]
        assert eventually(lambda: len(server.server_state.connections) == 3)
        assert served.connect(url).recv(1) == b""
        if sys.platform == "linux":  # where 127.0.0.2 is another client
            assert served.answer(served.connect(url, served.upload(3, b"abc"), "127.0.0.2"))[0] == 415
        held.pop().close()
        assert eventually(lambda: len(server.server_state.connections) == 2)
        assert served.answer(served.connect(url, served.upload(3, b"abc")))[0] == 415


def test_one_client_cannot_fill_the_memory_with_uploads(project: Path) -> None:
    picture = _png(30, 30)
    with served.serving_here(Limits(uploaded_bytes_of_client=1_000)) as (url, server):
        with served.connect(url, served.upload(1_000, bytes(1_000 - len(picture) + 1))):
            refused = (503, {"error": "too many pictures are being sent; try again in a moment"})
            assert eventually(
                lambda: served.answer(served.connect(url, served.upload(len(picture), picture))) == refused
            )
            if sys.platform == "linux":
                assert (
                    served.answer(served.connect(url, served.upload(len(picture), picture), "127.0.0.2"))[0]
                    == 200
                )
        assert eventually(lambda: not server.server_state.connections)
        assert post(url, picture).status_code == 200


def test_one_client_cannot_take_all_searches(project: Path) -> None:
    with (
        served.serving_here(Limits(searches_of_client=1)) as (url, _),
        served.connect(url, served.upload(1_000, b"abc")),
    ):
        refused = (503, {"error": "too many searches are under way; try again in a moment"})
        assert eventually(lambda: served.answer(served.connect(url, served.upload(3, b"abc"))) == refused)
        assert requests.get(url, timeout=60).status_code == 200
        if sys.platform == "linux":
            assert served.answer(served.connect(url, served.upload(3, b"abc"), "127.0.0.2"))[0] == 415


def test_others_search_on_while_a_picture_is_decoded_however_long_it_takes(project: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    with served.serving_here(Limits(decodings=1)) as (url, _):
        [decoder] = set(psutil.Process().children(recursive=True)) - others
        decoder.suspend()
        picture = _png(30, 30)
        held = served.connect(url, served.upload(len(picture), picture))
        ids, _ = found(get(url, "image", image_id=manifest("gallery")[0]["image_id"]))
        assert ids and found(get(url, "words", row="clip", words="a slice of pizza"))[0]
        decoder.resume()
        assert served.answer(held)[0] == 200


def test_a_picture_that_takes_long_to_decode_is_given_up(project: Path) -> None:
    with served.serving_here(Limits(decodings=1, decoding_seconds=0.2)) as (url, _):
        response = post(url, _png(8_000, 8_000))
        assert response.status_code == 415
        assert response.json() == {
            "error": "this picture takes more than 0.2 s to decode; save it again as an ordinary JPEG"
        }
        assert eventually(lambda: post(url, _png(30, 30)).status_code == 200)


def test_a_picture_that_breaks_its_decoder_is_told_and_the_next_one_is_answered(project: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    with served.serving_here(Limits(decodings=1)) as (url, _):

        def broken() -> tuple[int, dict[str, Any]]:
            [decoder] = set(psutil.Process().children(recursive=True)) - others
            decoder.suspend()
            with_it = served.connect(url, served.upload(3, b"abc"))
            time.sleep(
                0.5
            )  # for it to be handed the picture; else it is replaced, as below, and this is tried again
            decoder.kill()
            return served.answer(with_it)

        sentence = "this picture was given up, most likely for lack of memory; choose a smaller one"
        assert eventually(lambda: broken() == (415, {"error": sentence}))
        [decoder] = set(psutil.Process().children(recursive=True)) - others
        decoder.kill()
        decoder.wait(60)
        assert post(url, _png(30, 30)).status_code == 200


def eventually(met: Callable[[], object]) -> bool:
    """Whether something is met within a while; a test that fails waits for all of it."""
    return any(met() or time.sleep(0.05) for _ in range(600))
