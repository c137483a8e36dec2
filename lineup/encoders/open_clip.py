"""Encoders of open_clip: each architecture with each of its tags, and repositories with their own config.

The files open_clip_*.py beside this one hold its parts.
"""

from __future__ import annotations

from pathlib import Path

from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import nn

from lineup.encoders import open_clip_network, open_clip_text_tower, text_tower
from lineup.encoders.encoder import Fetched, Tokenizer, Transform
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.libraries import versions
from lineup.encoders.measurement import measure
from lineup.encoders.open_clip_checkpoint import find_checkpoint
from lineup.encoders.open_clip_tags import transform_settings
from lineup.errors import UserError, explained
from lineup.settings.encoder import EncoderSettings


def fetch(spec: EncoderSettings) -> Fetched:
    """See `Library.fetch`."""
    checkpoint = find_checkpoint(spec)
    network = open_clip_network.load_network(spec.name, checkpoint.config, checkpoint.file)
    size = network.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UserError(
            f"name: {spec.name} takes images of {height} x {width}, and only square ones are supported; "
            "choose another"
        )
    with explained(f"name: open_clip can't tell how {spec.name} prepares photos"):
        steps: JsonObject = {**transform_settings(checkpoint.preprocess, spec), "size": height}
    text = open_clip_text_tower.text_tower(spec.name, checkpoint, network)
    module = open_clip_network.ImageVectors(network.visual).eval()
    measured = measure(module, height)
    config = EncoderConfig(
        library="open_clip",
        name=spec.name,
        source={"weights": spec.weights, **checkpoint.source},
        random=checkpoint.file is None,
        config=checkpoint.config,
        image_size=height,
        mean=steps["mean"],
        std=steps["std"],
        transform=steps,
        licence=checkpoint.licence,
        versions=versions("open_clip_torch", "timm", "torchvision"),
        dim=measured.dim,
        gflops=measured.gflops,
        **text_tower.config_fields(text),
    )
    return text_tower.fetched(module, config, text)


def build(config: EncoderConfig) -> nn.Module:
    """The image tower: float32 [B, 3, H, W] -> [B, D]."""
    return open_clip_network.image_tower(config.config)


def build_text(config: EncoderConfig) -> nn.Module:
    """The text tower: tokens int64 [N, L] -> [N, D]."""
    return open_clip_network.text_tower(config.config)


def transform(config: EncoderConfig) -> Transform:
    """open_clip's own transform for inference."""
    settings = PreprocessCfg(**config.transform_arguments())
    return image_transform_v2(settings, is_train=False)  # type: ignore[return-value]


def tokenizer(config: EncoderConfig, folder: Path) -> Tokenizer:
    """Texts -> tokens int64 [N, L], by open_clip's tokenizer for the files that `fetch` handed over."""
    return open_clip_text_tower.load_tokenizer(folder)
