"""open_clip's ViT-B-32 at its full size, by its pretrained tag: ours against open_clip's own documented path,
from one hub.

The weights are random, and half precision to be small: both read the same file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from lineup.encoders import encoder_folder
from tests.support import local_hub
from tests.support.hub_project import PHOTOS, environment, fetch, row, write

pytestmark = pytest.mark.slow

TEXTS = ["a photo of a slice of pizza", "apple"]
PE_CORE = "PE-Core-T-16-384"  # one of the smallest whose photos are not prepared as CLIP's
_PE_CORE_REFERENCE = """
import numpy as np, open_clip, torch
from tests.support.hub_project import PHOTOS
from tests.test_hub_open_clip import PE_CORE
model, _, preprocess = open_clip.create_model_and_transforms(PE_CORE, pretrained="meta")
pixels = torch.stack([preprocess(photo) for photo in PHOTOS])
with torch.inference_mode():
    np.savez("reference.npz", pixels=pixels.numpy(), images=model.eval().encode_image(pixels).numpy())
"""
_REFERENCE = """
import numpy as np, open_clip, torch
from tests.support.hub_project import PHOTOS
from tests.test_hub_open_clip import TEXTS
model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained="laion2b_s34b_b79k")
tokenizer = open_clip.get_tokenizer("ViT-B-32")
with torch.inference_mode():
    images = model.eval().encode_image(torch.stack([preprocess(photo) for photo in PHOTOS]))
    np.savez("reference.npz", images=images.numpy(), texts=model.encode_text(tokenizer(TEXTS)).numpy())
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local_hub.Hub]:
    folder = tmp_path_factory.mktemp("repository")
    with local_hub.serve() as served:
        for name, repository in (
            ("ViT-B-32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
            (PE_CORE, f"timm/{PE_CORE}"),
        ):
            torch.manual_seed(0)
            model = open_clip.create_model(name)
            half = {name: tensor.half() for name, tensor in model.state_dict().items()}
            (folder / name).mkdir()
            save_file(half, folder / name / "open_clip_model.safetensors")
            (folder / name / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
            served.add(repository, folder / name)
        yield served


def test_a_pretrained_tag_gives_what_open_clip_gives(hub: local_hub.Hub, tmp_path: Path) -> None:
    write(tmp_path, {"clip": row(library="open_clip", name="ViT-B-32", weights="hub:laion2b_s34b_b79k")})
    done = fetch(tmp_path, hub.url, "clip")
    assert done.returncode == 0, done.stderr
    subprocess.run(
        [sys.executable, "-c", _REFERENCE],
        cwd=tmp_path,
        env=environment(tmp_path, hub.url),
        check=True,
        capture_output=True,
    )
    reference = np.load(tmp_path / "reference.npz")
    encoder, text = (
        load(tmp_path / "data/weights/clip") for load in (encoder_folder.load, encoder_folder.load_text)
    )
    with torch.inference_mode():
        images = encoder.module(torch.stack([encoder.transform(photo) for photo in PHOTOS]))  # type: ignore[union-attr]
        texts = text.module(text.tokenize(TEXTS))  # type: ignore[union-attr]
    np.testing.assert_allclose(images.numpy(), reference["images"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(texts.numpy(), reference["texts"], rtol=1e-5, atol=1e-5)
    facts = json.loads((tmp_path / "data/weights/clip/encoder.json").read_text(encoding="utf-8"))
    assert facts["parameters"] == 87_849_216  # the image tower of ViT-B/32, with its projection
    assert facts["licence"] == "mit" and facts["dim"] == 512


def test_a_single_file_gives_what_its_architecture_s_tag_gives(hub: local_hub.Hub, tmp_path: Path) -> None:
    file = hub.repositories[f"timm/{PE_CORE}"].revisions["main"] / "open_clip_model.safetensors"
    write(tmp_path, {"file": row(library="open_clip", name=PE_CORE, weights=f"file:{file}")})
    done = fetch(tmp_path, hub.url, "file")
    assert done.returncode == 0, done.stderr
    reference_of = [sys.executable, "-c", _PE_CORE_REFERENCE]
    subprocess.run(
        reference_of, cwd=tmp_path, env=environment(tmp_path, hub.url), check=True, capture_output=True
    )
    reference = np.load(tmp_path / "reference.npz")
    encoder = encoder_folder.load(tmp_path / "data/weights/file")
    pixels = torch.stack([encoder.transform(photo) for photo in PHOTOS])
    assert np.array_equal(pixels.numpy(), reference["pixels"])
    with torch.inference_mode():
        np.testing.assert_allclose(encoder.module(pixels).numpy(), reference["images"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (
            {"name": "ViT-B-33", "weights": "hub:openai"},
            "name: open_clip has no architecture 'ViT-B-33'; did you mean 'ViT-B-32'?",
        ),
        (
            {"name": "ViT-B-32", "weights": "hub:laion2b_s34b_b79"},
            "weights: open_clip has no 'laion2b_s34b_b79' for ViT-B-32; did you mean",
        ),
        (
            {"name": "ViT-B-32", "weights": "hub:openai"},
            "name: openai was trained with another activation than ViT-B-32's; use name: ViT-B-32-q",
        ),
        ({"name": "ViT-B-32", "weights": "hub"}, "open_clip takes name: ViT-B-32 with weights: hub:TAG"),
        ({"name": "hf-hub:tiny/none", "weights": "hub"}, "name: there is no tiny/none on http://127.0.0.1"),
    ],
)
def test_names_that_open_clip_does_not_have(
    hub: local_hub.Hub, tmp_path: Path, encoder: dict[str, str], told: str
) -> None:
    write(tmp_path, {"clip": row(library="open_clip", **encoder)})
    done = fetch(tmp_path, hub.url, "clip")
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1].startswith("error: params.yaml: models.clip.encoder")
        and told in done.stderr
    ), done.stderr
    assert "Traceback" not in done.stderr
