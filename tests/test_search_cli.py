"""`lineup search`: the gallery by a text or a photo, as a user calls it, on encoders that came from a hub."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as tf
from PIL import Image

from lineup.commands.search import read_query
from lineup.errors import UserError
from tests.support import hub_repositories, local_hub
from tests.support.hub_project import environment, photo, row, write

pytestmark = pytest.mark.slow

ESCAPE = "red \x1b[31m photo.png"
MARKUP = "<img src=x onerror=alert(1)> & 'more'.png"
PHOTOS = [("apple", "one.png"), ("apple", ESCAPE), ("pear", MARKUP), ("pear", "four.png"), ("pear", "ü.png")]
_STAGES = """
from stages import embed, fetch, index, preprocess, train
from lineup import cli
cli.run(preprocess.main)
for row in ("clip", "vit", "clip_l2"):
    for stage in (fetch, train, embed, index):
        cli.run(lambda: stage.main(["--row", row]))
"""
Search = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection embedded by a dual encoder and by one without a text tower; the hub is gone."""
    folder = tmp_path_factory.mktemp("project")
    clip = row(library="transformers", name="tiny/clip", weights="hub")
    vit = row(library="transformers", name="tiny/vit", weights="hub", pooling="cls")
    write(
        folder, {"clip": clip, "vit": vit, "clip_l2": {**clip, "search": {"metric": "l2", "index": "flat"}}}
    )
    gallery, queries = folder / "data/raw/test/gallery", folder / "data/raw/test/query/apple"
    queries.mkdir(parents=True)
    for number, (label, name) in enumerate(PHOTOS):
        (gallery / label).mkdir(parents=True, exist_ok=True)
        photo(60 + number, 48, number).save(gallery / label / name)
    photo(48, 48, 9).save(queries / "query.png")
    with local_hub.serve() as hub:
        hub.add("tiny/clip", hub_repositories.clip(folder / "repositories/clip"))
        hub.add("tiny/vit", hub_repositories.vit(folder / "repositories/vit"))
        done = subprocess.run(
            ["python", "-c", _STAGES],
            cwd=folder,
            env=environment(folder, hub.url),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def search(project: Path) -> Search:
    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        offline = environment(project, "http://hub.invalid", HF_HUB_OFFLINE="1", BROWSER="true", **extra)
        command = ["python", "-m", "lineup", "search", *arguments]
        return subprocess.run(command, cwd=project, env=offline, capture_output=True, text=True, check=False)

    return run


def gallery(project: Path, model: str) -> tuple[list[str], np.ndarray]:
    frame = pd.read_parquet(project / "data/embeddings" / model)
    frame = frame[frame["split"] == "gallery"]
    return list(frame["image_id"]), np.stack(frame["embedding"].tolist())


def by_cosine(ids: list[str], vectors: np.ndarray, query: np.ndarray) -> list[tuple[str, float]]:
    """A naive ranking."""
    scores = [float(v @ query / np.linalg.norm(v) / np.linalg.norm(query)) for v in vectors]
    return sorted(zip(ids, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))


def test_a_text_ranks_the_gallery_as_clip_does(project: Path, search: Search) -> None:
    done = search("--row", "clip", "a slice of pizza", "-k", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    model: Any
    model, tokenizer = (
        kind.from_pretrained(project / "repositories/clip") for kind in (tf.CLIPModel, tf.AutoTokenizer)
    )
    with torch.inference_mode():
        text = (
            model.get_text_features(**tokenizer(["a slice of pizza"], return_tensors="pt"))
            .pooler_output[0]
            .numpy()
        )
    expected = by_cosine(*gallery(project, "clip"), text)[:3]
    assert [hit["image_id"] for hit in found["hits"]] == [image_id for image_id, _ in expected]
    np.testing.assert_allclose(
        [hit["score"] for hit in found["hits"]], [score for _, score in expected], atol=1e-5
    )
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert all(hit["paths"][0].startswith(f"test/gallery/{hit['label']}/") for hit in found["hits"])


def test_a_photo_ranks_the_gallery_and_never_finds_itself(project: Path, search: Search) -> None:
    own = project / "data/raw/test/gallery/apple/one.png"
    done = search("--row", "vit", str(own), "--json")
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)["hits"]
    assert len(hits) == 4 and "test/gallery/apple/one.png" not in [
        path for hit in hits for path in hit["paths"]
    ]
    ids, vectors = gallery(project, "vit")
    manifest = pd.read_parquet(project / "data/prepared/test/manifest.parquet")
    held = [
        own.name in {Path(path).name for path in paths if "gallery/apple" in path}
        for paths in manifest["paths"]
    ]
    one = str(manifest["image_id"][held.index(True)])
    expected = [pair for pair in by_cosine(ids, vectors, vectors[ids.index(one)]) if pair[0] != one]
    assert [hit["image_id"] for hit in hits] == [image_id for image_id, _ in expected]
    np.testing.assert_allclose([hit["score"] for hit in hits], [score for _, score in expected], atol=1e-5)


def test_a_photo_does_not_find_its_copy_in_other_bytes(project: Path, search: Search) -> None:
    own = project / "data/raw/test/gallery/apple/one.png"
    Image.open(own).save(project / "saved again.bmp")
    done = search("--row", "vit", "saved again.bmp", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["hits"]) == 4 and "apple/one.png" not in done.stdout
    assert (
        "left out as this photo itself (relevance.exclude: pixels): test/gallery/apple/one.png" in done.stderr
    )


def test_the_table_shows_names_as_characters(search: Search) -> None:
    done = search("--row", "clip", "apple")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["rank", "score", "label", "photo"] and len(lines) == 6
    assert "\x1b" not in done.stdout and "red \\x1b[31m photo.png" in done.stdout
    assert MARKUP in done.stdout and "ü.png" in done.stdout


def test_the_contact_sheet_shows_the_photos_and_runs_nothing(project: Path, search: Search) -> None:
    done = search("--row", "clip", "<i>apple</i>", "--open")
    assert done.returncode == 0, done.stderr
    (page,) = (project / ".cache/searches").glob("*.html")
    html = page.read_text(encoding="utf-8")
    assert "<img src=x" not in html and "&lt;img src=x onerror=alert(1)&gt; &amp;" in html
    assert "<i>" not in html and "&lt;i&gt;apple" in html
    assert html.count("data:image/jpeg;base64,") == 5 and "http" not in html.replace("http-equiv", "")
    assert str(page.relative_to(project)) in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--row", "vit", "a slice of pizza"], "tiny/vit has no text tower; search with a photo"),
        (["--row", "clip_l2", "a slice of pizza"], "models.clip_l2: search.metric is l2"),
        (["--row", "klip", "pizza"], "row 'klip' is unknown; did you mean 'clip'?"),
        (["--row", "clip", "missing.jpg"], "missing.jpg: there is no such photo"),
        (["--row", "clip", "missing.heic"], "missing.heic: there is no such photo"),
        (["--row", "clip", "./photos/missing"], "./photos/missing: there is no such photo"),
        (["--row", "clip", "my photos/missing.heic"], "my photos/missing.heic: there is no such photo"),
        (["--row", "clip", "data/raw"], "data/raw: is a folder; name one photo in it"),
        (["--row", "clip", "params.yaml"], "params.yaml is not an image"),
        (["--row", "clip", " "], "the query is empty"),
        (["--row", "clip", "pizza", "-k", "0"], "-k is 0"),
    ],
)
def test_mistakes_are_told_in_a_sentence(search: Search, arguments: list[str], told: str) -> None:
    done = search(*arguments)
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert errors[-1].startswith("error: ") and told in errors[-1], done.stderr
    assert "Traceback" not in done.stderr


def test_a_text_may_be_longer_than_a_file_name_or_the_tower_takes(search: Search) -> None:
    done = search("--row", "clip", "a very long sentence on pizza " * 100, "-k", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["hits"]) == 1


def test_a_photo_that_is_no_photo(project: Path, search: Search) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 50)).save(buffer, "PNG")
    (project / "half.png").write_bytes(buffer.getvalue()[:60])
    done = search("--row", "clip", "half.png")
    assert done.returncode == 1 and "half.png is " in done.stderr and "Traceback" not in done.stderr


def test_a_text_that_starts_with_a_tilde_is_a_text() -> None:
    assert read_query("~cozy sofa").photo is None


def test_a_text_in_another_encoding_is_refused() -> None:
    with pytest.raises(UserError, match=r"is neither a photo's path nor a text in UTF-8"):
        read_query("caf\udce9")


def test_below_the_threshold_there_is_no_match(project: Path, search: Search) -> None:
    own = str(project / "data/raw/test/gallery/apple/one.png")
    scores = [hit["score"] for hit in json.loads(search("--row", "vit", own, "--json").stdout)["hits"]]
    cut = json.loads(search("--row", "vit", own, "--json", "--threshold", str(scores[1])).stdout)
    assert [hit["score"] for hit in cut["hits"]] == scores[:2] and cut["threshold"] == scores[1]
    none = search("--row", "vit", own, "--threshold", "1.5")
    assert (none.returncode, none.stdout) == (0, f"no match (best {scores[0]:.4f} < 1.5000)\n")
    refused = search("--row", "clip", "a slice of pizza", "--threshold", "fpir=0.01")
    assert refused.returncode == 1 and "texts have other scores" in refused.stderr
