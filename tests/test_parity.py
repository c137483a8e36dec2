"""One architecture that several libraries have gives the same vectors through each, with the same weights.

Each library's repository is written by that library's own code. timm's is converted from open_clip's by timm;
the names of transformers are those of its model classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import transformers as tf
from open_clip.push_to_hf_hub import save_for_hf
from timm.models.vision_transformer import checkpoint_filter_fn

from lineup.encoders import encoder_folder
from tests.support import hub_repositories, local_hub
from tests.support.hub_project import PHOTOS, fetch, row, write
from tests.support.hub_repositories import PATCH, SIZE, clip_tokenizer

pytestmark = pytest.mark.slow

LEAST_COSINE = 0.999
WIDTH, LAYERS, PROJECTED = 64, 2, 24
CLIP = {
    "embed_dim": PROJECTED,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "patch_size": PATCH, "layers": LAYERS, "width": WIDTH},
    "text_cfg": hub_repositories.OPEN_CLIP["text_cfg"],
}
CLIP_TRANSFORM = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN),
    "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "size": SIZE,
}
ROWS = {
    "clip_transformers": row(library="transformers", name="parity/clip-transformers", weights="hub"),
    "clip_open_clip": row(library="open_clip", name="hf-hub:parity/clip-open-clip", weights="hub"),
    "clip_timm": row(library="timm", name="hf-hub:parity/clip-timm", weights="hub"),
    "siglip_transformers": row(library="transformers", name="parity/siglip-transformers", weights="hub"),
    "siglip_timm": row(library="timm", name="hf-hub:parity/siglip-timm", weights="hub"),
}
# transformers' names of CLIP's and SigLIP's layers, and timm's.
LAYER = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}


def transformers_layers(weights: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """One block of a ViT of timm by transformers' names: the attention's three projections are apart there."""
    block, named = f"blocks.{number}.", {}
    for kind in ("weight", "bias"):
        parts = weights[f"{block}attn.qkv.{kind}"].chunk(3)
        for name, part in zip("qkv", parts, strict=True):
            named[f"self_attn.{name}_proj.{kind}"] = part
        for theirs, ours in {**LAYER, "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}.items():
            named[f"{theirs}.{kind}"] = weights[f"{block}{ours}.{kind}"]
    return {f"vision_model.encoder.layers.{number}.{name}": tensor for name, tensor in named.items()}


def load_vision(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """All of the vision tower, and nothing that it does not have."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and not [name for name in missing if name.startswith("vision_model")], missing


def varied(model: torch.nn.Module) -> None:
    """Weights far from their initial values: a bias of 0 or a scale of 1 would hide an exchanged layer."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def clip_repositories(root: Path, served: local_hub.Hub) -> torch.Tensor:
    """The same CLIP in three libraries; returns its projection, float32 [WIDTH, PROJECTED]."""
    torch.manual_seed(11)
    model = open_clip.CLIP(**CLIP)  # type: ignore[arg-type]
    varied(model)
    open_clip.model.set_model_preprocess_cfg(model, CLIP_TRANSFORM)
    clip_tokenizer(root / "source").save_pretrained(root / "source")
    tokenizer = open_clip.tokenizer.HFTokenizer(str(root / "source"))
    save_for_hf(model, tokenizer, CLIP, str(root / "open_clip"), safe_serialization=True)
    served.add("parity/clip-open-clip", root / "open_clip")

    arguments: dict[str, Any] = {
        "img_size": SIZE,
        "patch_size": PATCH,
        "embed_dim": WIDTH,
        "depth": LAYERS,
        "num_heads": 1,
        "num_classes": PROJECTED,
    }
    other = timm.create_model("vit_base_patch32_clip_quickgelu_224", pretrained=False, **arguments)
    weights = checkpoint_filter_fn(model.state_dict(), other)  # type: ignore[arg-type]
    other.load_state_dict(weights)
    timm.models.save_for_hf(other, str(root / "timm"), model_args=arguments, safe_serialization=True)
    served.add("parity/clip-timm", root / "timm")

    vision = {**hub_repositories.VISION, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH}
    vision["num_attention_heads"] = 1
    text: dict[str, Any] = {**hub_repositories.TINY, "vocab_size": 49408, "max_position_embeddings": 77}
    third = tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTED))
    layers = {
        "vision_model.embeddings.class_embedding": weights["cls_token"].reshape(-1),
        "vision_model.embeddings.patch_embedding.weight": weights["patch_embed.proj.weight"],
        "vision_model.embeddings.position_embedding.weight": weights["pos_embed"][0],
        "visual_projection.weight": weights["head.weight"],
    }
    for theirs, ours in {"pre_layrnorm": "norm_pre", "post_layernorm": "norm"}.items():
        layers |= {f"vision_model.{theirs}.{kind}": weights[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    for number in range(LAYERS):
        layers |= transformers_layers(weights, number)
    load_vision(third, layers)
    third.save_pretrained(root / "transformers")
    size = {"height": SIZE, "width": SIZE}
    tf.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size).save_pretrained(root / "transformers")
    served.add("parity/clip-transformers", root / "transformers")
    return weights["head.weight"].detach().T


def siglip_repositories(root: Path, served: local_hub.Hub) -> None:
    """The same SigLIP, which SigLIP 2 is too at a fixed size, in two libraries."""
    torch.manual_seed(12)
    arguments: dict[str, Any] = {
        "img_size": SIZE,
        "patch_size": PATCH,
        "embed_dim": WIDTH,
        "depth": LAYERS,
        "num_heads": 2,
    }
    model = timm.create_model("vit_base_patch16_siglip_224", pretrained=False, num_classes=0, **arguments)
    varied(model)
    timm.models.save_for_hf(model, str(root / "timm"), model_args=arguments, safe_serialization=True)
    served.add("parity/siglip-timm", root / "timm")

    weights = model.state_dict()
    vision = {**hub_repositories.VISION, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH}
    text: dict[str, Any] = {**hub_repositories.TINY, "vocab_size": 16, "max_position_embeddings": 12}
    text["projection_size"] = WIDTH
    other = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=vision))
    pool = "vision_model.head."
    layers = {
        "vision_model.embeddings.patch_embedding.weight": weights["patch_embed.proj.weight"],
        "vision_model.embeddings.patch_embedding.bias": weights["patch_embed.proj.bias"],
        "vision_model.embeddings.position_embedding.weight": weights["pos_embed"][0],
        f"{pool}probe": weights["attn_pool.latent"],
    }
    for kind in ("weight", "bias"):
        query, both = weights[f"attn_pool.q.{kind}"], weights[f"attn_pool.kv.{kind}"]
        layers[f"{pool}attention.in_proj_{kind}"] = torch.cat([query, both])
        layers[f"{pool}attention.out_proj.{kind}"] = weights[f"attn_pool.proj.{kind}"]
        layers[f"{pool}layernorm.{kind}"] = weights[f"attn_pool.norm.{kind}"]
        layers[f"vision_model.post_layernorm.{kind}"] = weights[f"norm.{kind}"]
        for layer in ("mlp.fc1", "mlp.fc2"):
            layers[f"{pool}{layer}.{kind}"] = weights[f"attn_pool.{layer}.{kind}"]
    for number in range(LAYERS):
        layers |= transformers_layers(weights, number)
    load_vision(other, layers)
    other.save_pretrained(root / "transformers")
    size = {"height": SIZE, "width": SIZE}
    tf.SiglipImageProcessor(size=size).save_pretrained(root / "transformers")
    served.add("parity/siglip-transformers", root / "transformers")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """Every row fetched, and CLIP's projection."""
    folder = tmp_path_factory.mktemp("parity")
    write(folder, ROWS)
    with local_hub.serve() as served:
        projection = clip_repositories(folder / "clip", served)
        siglip_repositories(folder / "siglip", served)
        done = fetch(folder, served.url, *ROWS)
    assert done.returncode == 0, done.stderr
    return folder / "data/weights", projection


def cosines(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """float32 [N, D] twice -> [N]; the photos differ enough for the figure to say something."""
    unit = torch.nn.functional.normalize(one)
    assert ((unit @ unit.T).fill_diagonal_(0) < 0.99).all()
    return torch.cosine_similarity(one, other)


def test_clip_s_vectors_through_transformers_and_open_clip(project: tuple[Path, torch.Tensor]) -> None:
    """Photo in, vector out: each library resizes and crops by itself."""
    folder, _ = project
    vectors = []
    for name in ("clip_transformers", "clip_open_clip"):
        encoder = encoder_folder.load(folder / name)
        with torch.inference_mode():
            vectors.append(encoder.module(torch.stack([encoder.transform(photo) for photo in PHOTOS])))
    assert cosines(*vectors).min() >= LEAST_COSINE


@pytest.mark.parametrize(
    ("name", "other"), [("clip_timm", "clip_open_clip"), ("siglip_timm", "siglip_transformers")]
)
def test_timm_computes_the_same_from_the_same_pixels(
    project: tuple[Path, torch.Tensor], name: str, other: str
) -> None:
    """timm's network ends before CLIP's projection; SigLIP has none."""
    folder, projection = project
    one, second = encoder_folder.load(folder / name), encoder_folder.load(folder / other)
    pixels = torch.stack([second.transform(photo) for photo in PHOTOS])
    with torch.inference_mode():
        vectors, expected = one.module(pixels), second.module(pixels)
    vectors = vectors @ projection if name == "clip_timm" else vectors
    assert cosines(vectors, expected).min() >= LEAST_COSINE


@pytest.mark.parametrize(
    "checkpoint",
    [
        "vit_base_patch32_clip_224.openai",
        "vit_base_patch32_clip_224.laion2b",
        "vit_base_patch16_siglip_224.v2_webli",
    ],
)
def test_timm_prepares_photos_otherwise_than_the_authors(checkpoint: str) -> None:
    """docs/workflows.md says so; once timm changes these records, the page has to change too."""
    record = timm.get_pretrained_cfg(checkpoint)
    assert record is not None and (record.crop_pct, record.crop_mode) == (0.9, "center")
