"""`lineup export ROW --to`: the folder works without Lineup, computes what the row computed, or is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import open_clip
import pytest
import torch
import yaml
from PIL import Image

from lineup.commands.group import run as lineup
from lineup.encoders import encoder_folder, libraries
from lineup.encoders.encoder import Encoder, TextEncoder
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.export import folder, licences, networks, tokenizer_file, transform_steps
from lineup.export.handed_over import lineup_row
from lineup.serving import gallery_photos, query_encoder
from lineup.settings import params as settings_file
from lineup.settings.encoder import EncoderSettings
from stages import refine, score
from tests.support import hub_repositories, odd_images, project
from tests.support.hub_project import PHOTOS
from tests.support.project import ROOT, repro

Floats = npt.NDArray[np.float32]

# What the README of the folder tells to install, and what those packages need.
CLEAN_PACKAGES = (
    "numpy",
    "numpy.libs",
    "PIL",
    "pillow.libs",
    "onnxruntime",
    "faiss",
    "faiss_cpu.libs",
    "packaging",
)
FUSED = {"from": "mobilenet_v2", "with": "raw_pixels_l2", "method": "score_fusion", "normalisation": "z"}


def run_clean(packages: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Python with the packages of a service alone: no site-packages, and nothing of this checkout."""
    return subprocess.run(
        [sys.executable, "-S", "-B", *command],
        env={"PYTHONPATH": str(packages), "PYTHONUTF8": "1", "PATH": os.environ["PATH"]},
        cwd=packages,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the packages that a service has."""
    links, site = tmp_path_factory.mktemp("packages"), Path(np.__file__).parents[1]
    for name in CLEAN_PACKAGES:
        if (site / name).exists():
            (links / name).symlink_to(site / name)
    return links


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project with a fusion of its two rows, and that fusion's folder `out`."""
    place = Path(shutil.copytree(finished, tmp_path_factory.mktemp("export") / "project", symlinks=True))
    os.chdir(place)
    params = project.read_params(place)
    project.write_params(place, {**params, "refinements": {"fused": FUSED}})
    refine.main(["--row", "fused"])
    score.main(["--row", "fused"])
    lineup(["export", "fused", "--to", "out"])
    return place


@pytest.mark.slow
def test_the_self_test_passes_where_lineup_is_not_installed(exported: Path, packages: Path) -> None:
    for package in ("lineup", "torch", "pyarrow", "pydantic"):
        assert "ModuleNotFoundError" in run_clean(packages, "-c", f"import {package}").stderr
    tested = run_clean(packages, exported / "out" / "selftest.py")
    assert tested.returncode == 0, tested.stderr
    assert tested.stdout.count("cosine 1.0") + tested.stdout.count("cosine 0.99999") == 10
    names = {"encoder_mobilenet_v2.onnx", "encoder_raw_pixels_l2.onnx", "gallery.parquet", "gallery.csv"}
    names |= {"index_mobilenet_v2.faiss", "index_raw_pixels_l2.faiss", "README.md", "LICENSES"}
    names |= {"settings.json", "lineup_row.py", "selftest.py", "selftest"}
    assert {file.name for file in (exported / "out").iterdir()} == names


@pytest.mark.slow
def test_the_self_test_says_what_differs_and_by_how_much(
    exported: Path, packages: Path, tmp_path: Path
) -> None:
    changed = shutil.copytree(exported / "out", tmp_path / "changed")
    settings = json.loads((changed / "settings.json").read_text(encoding="utf-8"))
    settings["encoders"]["mobilenet_v2"]["mean"] = [0.0, 0.0, 0.0]  # the preprocessing of a careless service
    settings["versions"]["pillow"] = "1.0"
    (changed / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    tested = run_clean(packages, changed / "selftest.py")
    assert tested.returncode == 1 and "Traceback" not in tested.stderr
    assert "the vector of mobilenet_v2 has a cosine of 0." in tested.stderr
    assert "raw_pixels_l2 has a cosine" not in tested.stderr
    assert "rank 1 is" in tested.stderr and "a difference of" in tested.stderr


@pytest.mark.slow
def test_odd_photos_get_the_vectors_of_the_search_page(exported: Path) -> None:
    os.chdir(exported)
    params = settings_file.load()
    service = lineup_row.Row(exported / "out")
    photos = gallery_photos.read("pixels")
    compared = 0
    for model in ("mobilenet_v2", "raw_pixels_l2"):
        encoder = query_encoder.load(model, params, photos)
        for odd in [each for each in odd_images.good() if each.name != "thin.png"]:
            own, expected = service.embed([odd.data], model)[0], encoder.embed_image(odd.data)[0]
            assert cosine(own, expected) >= 0.99999, odd.name
            compared += 1
    assert compared >= 2 * 30


def cosine(one: Floats, other: Floats) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.slow
def test_settings_and_card_carry_what_a_service_must_know(exported: Path) -> None:
    settings = json.loads((exported / "out/settings.json").read_text(encoding="utf-8"))
    assert settings["spaces"]["raw_pixels_l2"]["metric"] == "l2"
    assert all(len(encoder["fingerprint"]) == 64 for encoder in settings["encoders"].values())
    card = (exported / "out/README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    metrics = json.loads((exported / "metrics/rows/fused.json").read_text(encoding="utf-8"))
    shown = {each["type"]: each["value"] for each in head["model-index"][0]["results"][0]["metrics"]}
    assert shown["map_at_r"] == metrics["quality"]["map_at_r"]["mean"]
    low = metrics["quality"]["map_at_r"]["low"]
    assert f"{low:.3f} to" in card and "state no licence" in card
    assert card.count("| not measured |") == 5 and "queries a second" not in card, "of the fusion"
    text = (exported / "out/LICENSES").read_text(encoding="utf-8")
    assert "WARNING: mobilenet_v2: its weights state no licence" in text and "Apache License" in text


def test_the_licence_in_the_folder_is_that_of_the_repository() -> None:
    copied = ROOT / "lineup/export/handed_over/Apache-2.0.txt"
    assert copied.read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize(
    ("licence", "warning"),
    [
        (None, "state no licence"),
        ("cc-by-nc-4.0", "forbids commercial use"),
        ("CC BY-NC-SA", "forbids commercial use"),
        ("Non-commercial research", "forbids commercial use"),
        ("apache-2.0", None),
        ("BSD-3-Clause", None),
        ("incorporated", None),
    ],
)
def test_a_licence_that_forbids_business_warns(licence: str | None, warning: str | None) -> None:
    config = EncoderConfig.model_construct(
        name="n", library="timm", source={"weights": "hub"}, licence=licence, trained=None
    )
    rights = licences.of_model("m", config)
    assert (rights.warning is None) == (warning is None)
    assert warning is None or (rights.warning and warning in rights.warning)


# --- refusals


@pytest.mark.slow
def test_only_an_export_is_replaced_without_force(exported: Path, tmp_path: Path) -> None:
    os.chdir(exported)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="--force"):
        folder.check_target(precious, force=False)
    folder.check_target(precious, force=True)
    folder.check_target(exported / "out", force=False)
    folder.check_target(tmp_path / "new", force=False)
    with pytest.raises(UserError, match="is a file"):
        folder.check_target(precious / "notes.txt", force=True)
    with pytest.raises(UserError, match="holds this project"):
        folder.check_target(exported.parent, force=True)


@pytest.mark.slow
def test_an_unfinished_row_names_the_command_to_run(exported: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(exported, tmp_path / "project", symlinks=True))
    os.chdir(place)
    (place / "data/indexes/raw_pixels_l2.faiss").unlink()
    with pytest.raises(UserError, match=r"raw_pixels_l2.faiss: does not exist; run `dvc repro`"):
        lineup(["export", "fused", "--to", "other"])
    config = place / "data/weights/mobilenet_v2/encoder.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    config.chmod(0o644)
    config.write_text(json.dumps({**content, "random": True}), encoding="utf-8")
    with pytest.raises(UserError, match="random"):
        lineup(["export", "mobilenet_v2", "--to", "other"])
    assert not (place / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["fused"], "--to FOLDER"),
        (["fused", "--to", "x", "--into", "lancedb:y"], "--to FOLDER"),
        (["fused", "--to", "x", "--check-only"], "--check-only"),
        (["fusde", "--to", "x"], "did you mean 'fused'"),
        (["fused", "--to", "x", "--threshold", "many"], "neither a score nor an FPIR"),
    ],
)
def test_wrong_usage_is_a_sentence(exported: Path, options: list[str], fault: str) -> None:
    os.chdir(exported)
    with pytest.raises(UserError, match=fault):
        lineup(["export", *options])


# --- the stage


@pytest.mark.slow
def test_dvc_exports_the_row_of_params_yaml_as_an_artifact(finished_copy: Path) -> None:
    params = project.read_params(finished_copy)
    assert project.run("dvc", "stage", "list", "--name-only", cwd=finished_copy).stdout.count("export") == 0
    project.write_params(finished_copy, {**params, "export": {"row": "mobilenet_v2"}})
    assert repro(finished_copy, "-s", "export@row") == ["export@row"]
    assert repro(finished_copy, "-s", "export@row") == []
    settings = json.loads((finished_copy / "data/export/settings.json").read_text(encoding="utf-8"))
    assert settings["row"] == "mobilenet_v2"
    measured = json.loads((finished_copy / "metrics/latency/mobilenet_v2.json").read_text(encoding="utf-8"))
    card = (finished_copy / "data/export/README.md").read_text(encoding="utf-8")
    p95, queries = measured["alone"]["p95"]["total"], measured["alone"]["queries"]
    assert f"answers, p95 | {p95:.1f} (of {queries} queries" in card and "not measured" not in card
    assert "| $ to answer a million queries | " in card and "$0.0408 an hour" not in card
    project.run("git", "add", "-A", cwd=finished_copy)
    project.run("git", "commit", "-qm", "export", cwd=finished_copy)
    project.run("dvc", "remote", "add", "-d", "here", str(finished_copy.parent / "remote"), cwd=finished_copy)
    project.run("git", "commit", "-qam", "remote", cwd=finished_copy)
    project.run("dvc", "push", "-q", "export@row", cwd=finished_copy)
    project.run("git", "tag", "-a", "best-row@v1.0.0", "-m", "first", cwd=finished_copy)
    project.run("dvc", "artifacts", "get", ".", "best-row", "-o", "got", cwd=finished_copy)
    got = json.loads((finished_copy / "got/settings.json").read_text(encoding="utf-8"))
    assert got == settings


@pytest.mark.parametrize(
    ("export", "fault"),
    [({"row": "mobilnet"}, "did you mean 'mobilenet'"), ({"row": None}, "is empty"), ({"rows": []}, "rows")],
)
def test_the_row_to_export_is_checked(empty_folder: Path, export: dict[str, Any], fault: str) -> None:
    encoder = {"library": "torchvision", "name": "mobilenet_v2", "weights": "hub"}
    row = {"encoder": encoder, "objective": {"name": "none"}, "search": {"metric": "cosine", "index": "flat"}}
    project.write_params(empty_folder, {"models": {"mobilenet": row}, "export": export})
    with pytest.raises(UserError, match=fault):
        settings_file.load()


# --- networks and transforms of each library, with small random networks


REPOSITORIES = {
    "clip": ("transformers", hub_repositories.clip, None),
    "siglip": ("transformers", hub_repositories.siglip, None),
    "vit": ("transformers", hub_repositories.vit, "cls"),
    "dinov2": ("transformers", hub_repositories.dinov2, "cls"),
    "dinov3": ("transformers", hub_repositories.dinov3, "mean"),
    "resnet": ("transformers", hub_repositories.resnet, "pooler"),
    "timm": ("timm", hub_repositories.timm_repository, None),
    "open_clip": ("open_clip", hub_repositories.open_clip_repository, None),
}


def stored(name: str, target: Path) -> Path:
    """A small network of a library, fetched from a folder, as an encoder's folder."""
    library, make, pooling = REPOSITORIES[name]
    repository = make(target / "repository")
    own_name = {"timm": "test_vit", "open_clip": "ViT-B-32"}.get(name, "tiny")
    spec = EncoderSettings(library=library, name=own_name, weights=f"file:{repository}", pooling=pooling)  # type: ignore[arg-type]
    fetched = libraries.library(library).fetch(spec)
    encoder_folder.save(target / "encoder", fetched.module, fetched.config, fetched.text, fetched.files)
    return target / "encoder"


@pytest.mark.slow
@pytest.mark.parametrize("name", REPOSITORIES)
def test_each_library_gives_the_same_vectors(name: str, tmp_path: Path) -> None:
    source = stored(name, tmp_path)
    encoder, text = networks.load(source)
    settings: dict[str, Any] = {
        "steps": transform_steps.steps(name, encoder),
        **transform_steps.scaling(encoder.config),
    }
    networks.write_encoder(name, encoder, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    pixels = np.stack([lineup_row.transform(photo, settings) for photo in PHOTOS])
    vectors: Any = session.run(["vectors"], {"pixels": pixels})[0]
    with torch.inference_mode():
        expected = encoder.module(torch.stack([encoder.transform(photo) for photo in PHOTOS])).numpy()
    for photo, own, torch_vector in zip(PHOTOS, vectors, expected, strict=True):
        assert cosine(own, torch_vector) >= 0.99999, photo.size
    if text is not None:
        check_text(name, source, tmp_path)


def check_text(name: str, source: Path, target: Path) -> None:
    """The text tower in the folder embeds a text as the row does."""
    encoder, text = networks.load(source)
    assert text is not None
    written = networks.write_text(name, text, source, target, "text.onnx")
    assert written is not None and written.tokenizer is not None
    entry = {
        "dimensions": encoder.dim,
        "metric": "cosine",
        "text": {"file": "text.onnx", **written.to_json()},
    }
    content = {"encoders": {name: entry}, "spaces": {name: {}}, "rows": {name: {"method": "nearest"}}}
    (target / "settings.json").write_text(json.dumps(content), encoding="utf-8")
    texts = ["a photo of a pizza", "a slice of apple of a photo of a slice"]
    service = lineup_row.Row(target)
    own = service.embed_texts(texts)
    with torch.inference_mode():
        for sentence, vector in zip(texts, own, strict=True):
            expected = text.module(text.tokenize([sentence])).numpy()[0]
            assert cosine(vector, expected) >= 0.99999, sentence


def test_large_weights_lie_in_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3 * 16 * 16, 64)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.layer(pixels.flatten(1))

    torch.manual_seed(0)
    config = EncoderConfig.model_construct(image_size=16, dim=64)
    encoder = Encoder(Flat(), lambda image: torch.zeros(3, 16, 16), config)
    networks.write_encoder("flat", encoder, tmp_path / "whole.onnx")
    monkeypatch.setattr(networks, "EXTERNAL_DATA_FROM_BYTES", 1)
    networks.write_encoder("flat", encoder, tmp_path / "parted.onnx")
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes.keys() == {"whole.onnx", "parted.onnx", "parted.onnx.data"}
    assert sizes["parted.onnx"] < 4_000 < 64 * 768 * 4 <= sizes["parted.onnx.data"]


def test_a_transform_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    class Posterised:
        transforms = ()

        def __call__(self, image: Image.Image) -> torch.Tensor:
            return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) // 64 * 64 / 255

    config = EncoderConfig.model_construct(image_size=16, dim=64, mean=[0.0] * 3, std=[1.0] * 3)
    with pytest.raises(UserError, match="can't be written"):
        transform_steps.steps("row", Encoder(torch.nn.Identity(), Posterised(), config))

    class Solarize:
        pass

    Posterised.transforms = (Solarize(),)  # type: ignore[assignment]
    with pytest.raises(UserError, match="the step Solarize"):
        transform_steps.steps("row", Encoder(torch.nn.Identity(), Posterised(), config))


@pytest.mark.slow
def test_a_tokenizer_that_gives_other_tokens_is_left_out(tmp_path: Path) -> None:
    own = open_clip.SimpleTokenizer()
    encoder = TextEncoder(torch.nn.Identity(), own, EncoderConfig.model_construct(text=None))  # type: ignore[arg-type]
    right = {text: {"tokens": own([text])} for text in ("a photo", "Zwölf  Boxkämpfer, 12 x")}
    wrong = {text: {"tokens": sample["tokens"].flip(1)} for text, sample in right.items()}
    assert tokenizer_file.write(encoder, tmp_path, tmp_path / "wrong.json", wrong) is None
    assert not (tmp_path / "wrong.json").exists()
    written = tokenizer_file.write(encoder, tmp_path, tmp_path / "right.json", right)
    assert written == tokenizer_file.TokenizerFile("right.json", 77, 0, "!", True)
    entry = {"text": {"file": "text.onnx", "inputs": ["tokens"], "tokenizer": None}}
    content = {"encoders": {"m": entry}, "spaces": {"m": {}}, "rows": {"m": {"method": "nearest"}}}
    (tmp_path / "settings.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="embed_tokens"):
        lineup_row.Row(tmp_path).embed_texts(["a photo"])
