"""Encoders from a hub: each gives the very vectors that its own library gives, through the real download and
loading code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import timm.data
import torch
import transformers as tf

from lineup.encoders import encoder_folder, transformers, transformers_image_processor
from lineup.encoders.encoder_config import EncoderConfig, read_config
from lineup.engines.lookup_transform import LookUp, fused
from tests.support import hub_repositories, local_hub
from tests.support.hub_project import PHOTOS, fetch, row, write

pytestmark = pytest.mark.slow

ROWS: dict[str, dict[str, Any]] = {
    "clip": row(library="transformers", name="tiny/clip", weights="hub"),
    "siglip": row(library="transformers", name="tiny/siglip", weights="hub"),
    "vit": row(library="transformers", name="tiny/vit", weights="hub", pooling="cls"),
    "vit_pooler": row(library="transformers", name="tiny/vit", weights="hub", pooling="pooler"),
    "vit_bare": row(library="transformers", name="tiny/vit-without-pooler", weights="hub", pooling="cls"),
    "dinov2": row(library="transformers", name="tiny/dinov2", weights="hub", pooling="cls"),
    "dinov2_mean": row(library="transformers", name="tiny/dinov2", weights="hub", pooling="mean"),
    "dinov3": row(library="transformers", name="tiny/dinov3", weights="hub", pooling="mean"),
    "resnet": row(library="transformers", name="tiny/resnet", weights="hub", pooling="pooler"),
    "vit_larger": row(library="transformers", name="tiny/vit", weights="hub", pooling="cls", image_size=48),
    "clip_larger": row(library="transformers", name="tiny/clip", weights="hub", image_size=64),
    "timm": row(library="timm", name="test_vit.r160_in1k", weights="hub"),
    "timm_larger": row(library="timm", name="test_vit.r160_in1k", weights="hub", image_size=192),
    "timm_custom": row(library="timm", name="hf-hub:tiny/timm", weights="hub"),
    "clip_own": row(
        library="transformers", name="tiny/clip", weights="hub", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]
    ),
    "clip_folder": row(library="transformers", name="mine", weights="file:copies/tiny/clip"),
    "siglip_larger": row(library="transformers", name="tiny/siglip", weights="hub", image_size=48),
    "dinov2_larger": row(
        library="transformers", name="tiny/dinov2", weights="hub", pooling="cls", image_size=48
    ),
    "dinov3_larger": row(
        library="transformers", name="tiny/dinov3", weights="hub", pooling="mean", image_size=48
    ),
    "resnet_larger": row(
        library="transformers", name="tiny/resnet", weights="hub", pooling="pooler", image_size=64
    ),
    "timm_own": row(
        library="timm", name="test_vit.r160_in1k", weights="hub", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]
    ),
    "timm_folder": row(library="timm", name="mine", weights="file:copies/tiny/timm"),
    "open_clip_own": row(
        library="open_clip",
        name="hf-hub:tiny/open-clip",
        weights="hub",
        mean=[0.1, 0.2, 0.3],
        std=[0.4, 0.5, 0.6],
    ),
    "open_clip_squash": row(library="open_clip", name="hf-hub:tiny/open-clip-squash", weights="hub"),
    "open_clip_longest": row(
        library="open_clip", name="hf-hub:tiny/open-clip-longest", weights="hub", image_size=48
    ),
    "open_clip_folder": row(library="open_clip", name="mine", weights="file:copies/tiny/open-clip-squash"),
    "open_clip": row(library="open_clip", name="hf-hub:tiny/open-clip", weights="hub"),
    "open_clip_larger": row(library="open_clip", name="hf-hub:tiny/open-clip", weights="hub", image_size=48),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local_hub.Hub]:
    root = tmp_path_factory.mktemp("repositories")
    with local_hub.serve() as served:
        for name, make in hub_repositories.TRANSFORMERS.items():
            served.add(name, make(root / name))
        served.add("timm/test_vit.r160_in1k", hub_repositories.timm_repository(root / "test_vit"))
        served.add(
            "tiny/timm",
            hub_repositories.timm_repository(
                root / "timm", num_classes=7, class_token=False, global_pool="avg"
            ),
        )
        served.add("tiny/open-clip", hub_repositories.open_clip_repository(root / "open-clip"))
        for mode in ("squash", "longest"):
            how = {"resize_mode": mode, "interpolation": "bilinear"}
            served.add(f"tiny/open-clip-{mode}", hub_repositories.open_clip_repository(root / mode, **how))
        yield served


@pytest.fixture(scope="module")
def project(hub: local_hub.Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every row fetched; then all that the hub left in caches is removed."""
    folder = tmp_path_factory.mktemp("project")
    write(folder, ROWS)
    for name in ("tiny/clip", "tiny/timm", "tiny/open-clip-squash"):
        shutil.copytree(repository(hub, name), folder / "copies" / name)
    done = fetch(folder, hub.url, *ROWS)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "hf")
    return folder


def repository(hub: local_hub.Hub, name: str) -> Path:
    return hub.repositories[name].revisions["main"]


@pytest.fixture
def ours(project: Path) -> Any:
    """row -> float32 [N, D] of the photos."""

    def embed(name: str) -> np.ndarray:
        encoder = encoder_folder.load(project / "data/weights" / name)
        with torch.inference_mode():
            return encoder.module(torch.stack([encoder.transform(photo) for photo in PHOTOS])).numpy()

    return embed


def processed(folder: Path, **options: Any) -> torch.Tensor:
    """As the libraries' model cards do it: one photo after another."""
    processor = tf.AutoImageProcessor.from_pretrained(folder)
    return torch.cat(
        [processor(images=photo, return_tensors="pt", **options)["pixel_values"] for photo in PHOTOS]
    )


def library(folder: Path, **options: Any) -> tuple[Any, Any]:
    """open_clip's network and transform, as its README loads them."""
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}", **options)  # type: ignore[misc]
    return model.eval(), preprocess  # type: ignore[union-attr]


def close(one: np.ndarray, other: torch.Tensor) -> None:
    np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name, settings in ROWS.items() if settings["encoder"]["library"] == "transformers"]
)
def test_an_image_processor_in_steps_gives_its_own_bytes(project: Path, name: str) -> None:
    """The 8-bit pixels follow from `config.transform` alone, and the rest is a look-up."""
    config = read_config(project / "data/weights" / name)
    whole, in_steps = (
        transformers.transform(config),
        fused(transformers.transform(EncoderConfig.model_construct(transform=config.transform))),
    )
    # DINOv3's resizes numbers that are scaled already.
    assert isinstance(
        in_steps, transformers_image_processor.Processed if name.startswith("dinov3") else LookUp
    )
    for photo in PHOTOS:
        pixels = (
            in_steps.to_tensor(in_steps.pixels(photo)) if isinstance(in_steps, LookUp) else in_steps(photo)
        )
        assert torch.equal(pixels, whole(photo))


OWN: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
# Of each row: its repository, and by which arguments the library's documentation changes its transform.
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("tiny/clip", {}),
    "clip_larger": ("tiny/clip", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}),
    "clip_own": ("tiny/clip", {"image_mean": OWN["mean"], "image_std": OWN["std"]}),
    "clip_folder": ("tiny/clip", {}),
    "siglip": ("tiny/siglip", {}),
    "siglip_larger": ("tiny/siglip", {"size": {"height": 48, "width": 48}}),
    "vit": ("tiny/vit", {}),
    "vit_larger": ("tiny/vit", {"size": {"height": 48, "width": 48}}),
    "dinov2": ("tiny/dinov2", {}),
    "dinov2_larger": (
        "tiny/dinov2",
        {"size": {"shortest_edge": 54}, "crop_size": {"height": 48, "width": 48}},
    ),
    "dinov3": ("tiny/dinov3", {}),
    "dinov3_larger": ("tiny/dinov3", {"size": {"height": 48, "width": 48}}),
    "resnet": ("tiny/resnet", {}),
    "resnet_larger": ("tiny/resnet", {"size": {"shortest_edge": 64}}),
    "timm": ("timm/test_vit.r160_in1k", {}),
    "timm_larger": ("timm/test_vit.r160_in1k", {"input_size": (3, 192, 192)}),
    "timm_own": ("timm/test_vit.r160_in1k", OWN),
    "timm_custom": ("tiny/timm", {}),
    "timm_folder": ("tiny/timm", {}),
    "open_clip": ("tiny/open-clip", {}),
    "open_clip_larger": ("tiny/open-clip", {"force_image_size": 48}),
    "open_clip_own": ("tiny/open-clip", {"image_mean": OWN["mean"], "image_std": OWN["std"]}),
    "open_clip_squash": ("tiny/open-clip-squash", {}),
    "open_clip_longest": ("tiny/open-clip-longest", {"force_image_size": 48}),
    "open_clip_folder": ("tiny/open-clip-squash", {}),
}


def published(folder: Path, library_of_row: str, options: dict[str, Any]) -> Any:
    """The transform that a library makes of a repository, as its documentation does it."""
    if library_of_row == "timm":
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
        return timm.data.create_transform(
            **timm.data.resolve_data_config(options, model=model), is_training=False
        )
    if library_of_row == "open_clip":
        return library(folder, **options)[1]
    processor = tf.AutoImageProcessor.from_pretrained(folder, **options)
    return lambda photo: processor(images=photo, return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_s_transform_is_the_published_one(hub: local_hub.Hub, project: Path, name: str) -> None:
    repo, options = PUBLISHED[name]
    reference = published(repository(hub, repo), ROWS[name]["encoder"]["library"], options)
    ours = encoder_folder.load(project / "data/weights" / name).transform
    for photo in PHOTOS:
        assert torch.equal(ours(photo), reference(photo)), photo.size


RESIZED_PX = {
    "clip": 32,  # size: shortest_edge
    "clip_larger": 64,
    "siglip": 32,  # size: height and width
    "vit": 32,
    "vit_larger": 48,
    "dinov2": 36,  # cropped to 32
    "dinov3": 32,
    "resnet": 36,  # 32 / crop_pct of 0.875
    "timm": 168,  # 160 / crop_pct of 0.95, rounded down
    "timm_larger": 202,
    "open_clip": 32,
    "open_clip_larger": 48,
    "open_clip_squash": 32,
    "open_clip_longest": 48,
}


@pytest.mark.parametrize(("name", "resize_px"), RESIZED_PX.items())
def test_the_size_that_photos_are_resized_to_is_written_down(
    project: Path, name: str, resize_px: int
) -> None:
    assert (
        json.loads((project / "data/weights" / name / "encoder.json").read_text())["resize_px"] == resize_px
    )


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_dual_encoders_give_get_image_features(hub: local_hub.Hub, ours: Any, name: str) -> None:
    folder = repository(hub, f"tiny/{name}")
    model = tf.AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        close(ours(name), model.get_image_features(pixel_values=processed(folder)).pooler_output)


@pytest.mark.parametrize(
    ("name", "repo", "pool"),
    [
        ("vit", "tiny/vit", lambda out: out.last_hidden_state[:, 0]),
        ("vit_pooler", "tiny/vit", lambda out: out.pooler_output),
        ("vit_bare", "tiny/vit-without-pooler", lambda out: out.last_hidden_state[:, 0]),
        ("dinov2", "tiny/dinov2", lambda out: out.last_hidden_state[:, 0]),
        ("dinov2_mean", "tiny/dinov2", lambda out: out.last_hidden_state[:, 1:].mean(1)),
        ("dinov3", "tiny/dinov3", lambda out: out.last_hidden_state[:, 5:].mean(1)),  # CLS and four registers
        ("resnet", "tiny/resnet", lambda out: out.pooler_output[:, :, 0, 0]),
    ],
)
def test_other_encoders_give_the_pooled_hidden_state(
    hub: local_hub.Hub, ours: Any, name: str, repo: str, pool: Any
) -> None:
    folder = repository(hub, repo)
    model = tf.AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        close(ours(name), pool(model(processed(folder))))


def test_another_image_size_interpolates_as_the_library_does(hub: local_hub.Hub, ours: Any) -> None:
    folder = repository(hub, "tiny/vit")
    pixels = processed(folder, size={"height": 48, "width": 48})
    with torch.inference_mode():
        close(
            ours("vit_larger"),
            tf.AutoModel.from_pretrained(folder)(pixels, interpolate_pos_encoding=True).last_hidden_state[
                :, 0
            ],
        )
    folder = repository(hub, "tiny/clip")
    pixels = processed(folder, size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    with torch.inference_mode():
        features = tf.AutoModel.from_pretrained(folder).get_image_features(
            pixels, interpolate_pos_encoding=True
        )
        close(ours("clip_larger"), features.pooler_output)


@pytest.mark.parametrize(("name", "size"), [("open_clip", None), ("open_clip_larger", 48)])
def test_open_clip_gives_encode_image(hub: local_hub.Hub, ours: Any, name: str, size: int | None) -> None:
    folder = repository(hub, "tiny/open-clip")
    model, preprocess = library(folder, force_image_size=size)
    with torch.inference_mode():
        close(ours(name), model.encode_image(torch.stack([preprocess(photo) for photo in PHOTOS])))


@pytest.mark.parametrize(
    ("name", "repo", "size"),
    [
        ("timm", "timm/test_vit.r160_in1k", 160),
        ("timm_larger", "timm/test_vit.r160_in1k", 192),
        ("timm_custom", "tiny/timm", 160),
    ],
)
def test_timm_gives_its_pooled_features(
    hub: local_hub.Hub, ours: Any, name: str, repo: str, size: int
) -> None:
    model: Any = timm.create_model(
        f"local-dir:{repository(hub, repo)}", pretrained=True, num_classes=0
    ).eval()
    if size != 160:
        model.set_input_size(img_size=(size, size))
    config = timm.data.resolve_model_data_config(model) | {"input_size": (3, size, size)}
    preprocess: Any = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        close(ours(name), model(torch.stack([preprocess(photo) for photo in PHOTOS])))


TEXTS = [
    "a photo of a slice of pizza",
    "apple",
    "PIZZA  pizza, and a text that is longer than any short context " * 5,
]


@pytest.mark.parametrize(("name", "padding"), [("clip", True), ("siglip", "max_length")])
def test_text_towers_give_get_text_features(
    hub: local_hub.Hub, project: Path, name: str, padding: Any
) -> None:
    folder = repository(hub, f"tiny/{name}")
    model, tokenizer = tf.AutoModel.from_pretrained(folder), tf.AutoTokenizer.from_pretrained(folder)
    longest = model.config.text_config.max_position_embeddings
    text = encoder_folder.load_text(project / "data/weights" / name)
    tokens = tokenizer(TEXTS, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        close(text.module(text.tokenize(TEXTS)).numpy(), model.get_text_features(**tokens).pooler_output)


def test_open_clips_text_tower_gives_encode_text(hub: local_hub.Hub, project: Path) -> None:
    folder = repository(hub, "tiny/open-clip")
    model, _ = library(folder)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    text = encoder_folder.load_text(project / "data/weights/open_clip")
    with torch.inference_mode():
        close(text.module(text.tokenize(TEXTS)).numpy(), model.encode_text(tokenizer(TEXTS)))


def test_embedding_images_holds_no_text_tower(project: Path) -> None:
    for name in ("clip", "siglip", "open_clip"):
        folder = project / "data/weights" / name
        own = set(encoder_folder.load(folder).module.state_dict())
        assert not [key for key in own if "text" in key or "token" in key or "logit" in key]
        assert not own & set(encoder_folder.load_text(folder).module.state_dict())


def test_facts_say_where_an_encoder_comes_from(hub: local_hub.Hub, project: Path) -> None:
    facts = json.loads((project / "data/weights/clip/encoder.json").read_text())
    folder = repository(hub, "tiny/clip")
    commit = hub.repositories["tiny/clip"].commit("main")
    assert commit and facts["source"]["revision"] == commit[0]
    assert facts["source"]["files"]["model.safetensors"] == local_hub.sha256(folder / "model.safetensors")
    assert facts["licence"] == "apache-2.0"
    assert facts["versions"]["transformers"] == tf.__version__
    model = tf.CLIPModel.from_pretrained(folder)
    towers = [*model.vision_model.parameters(), *model.visual_projection.parameters()]
    assert facts["parameters"] == sum(p.numel() for p in towers)
    assert facts["gflops"] > 0 and facts["dim"] == 24
    assert (
        json.loads((project / "data/weights/dinov3/encoder.json").read_text())["licence"]
        == "other (dinov3-license)"
    )
    assert json.loads((project / "data/weights/open_clip/encoder.json").read_text())["licence"] == "mit"
    assert json.loads((project / "data/weights/timm/encoder.json").read_text())["licence"] == "cc-by-nc-4.0"


def test_nothing_of_this_machine_is_written_down(project: Path) -> None:
    for name in ROWS:
        for file in (project / "data/weights" / name).rglob("*.json"):
            assert str(project) not in file.read_text(encoding="utf-8"), file


def test_the_same_checkpoint_gives_the_same_bytes(hub: local_hub.Hub, project: Path, tmp_path: Path) -> None:
    write(tmp_path, {"clip": ROWS["clip"], "open_clip": ROWS["open_clip"]})
    done = fetch(tmp_path, hub.url, "clip", "open_clip")
    assert done.returncode == 0, done.stderr
    for name in ("clip", "open_clip"):
        here, there = tmp_path / "data/weights" / name, project / "data/weights" / name
        assert [p.relative_to(here) for p in local_hub.files(here)] == [
            p.relative_to(there) for p in local_hub.files(there)
        ]
        assert all(
            p.read_bytes() == (there / p.relative_to(here)).read_bytes() for p in local_hub.files(here)
        )
