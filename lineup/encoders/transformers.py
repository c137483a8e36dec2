"""Encoders of transformers: CLIP, SigLIP, ViT, DINOv2, DINOv3, and others with an image processor.

The files transformers_*.py beside this one hold its parts.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from lineup.encoders import text_tower, transformers_image_processor, transformers_text_tower
from lineup.encoders.encoder import Fetched, Tokenizer, Transform
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.libraries import versions
from lineup.encoders.measurement import measure
from lineup.encoders.transformers_checkpoint import load_config, load_model, load_snapshot, without_origin
from lineup.encoders.transformers_image_processor import Processed
from lineup.encoders.transformers_network import (
    ImageVectors,
    TextVectors,
    build_network,
    model_class,
    rebuild_part,
    used_submodules,
)
from lineup.errors import UserError
from lineup.settings.encoder import EncoderSettings

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class _ImageTower(NamedTuple):
    """The network that gives images' vectors, and what builds it beside its config.json and its pooling.

    Attributes:
        parts: see `EncoderConfig.image_parts`.
        options: arguments of each call.
    """

    module: nn.Module
    parts: list[str] | None
    options: dict[str, bool]


def fetch(spec: EncoderSettings) -> Fetched:
    """See `Library.fetch`."""
    snapshot = load_snapshot(spec)
    config = load_config(snapshot)
    processor = transformers_image_processor.load_processor(snapshot, spec)
    size = transformers_image_processor.image_size(processor, spec)
    _check_pooling(spec, config)
    model = load_model(snapshot, config, spec.pooling)
    settings = without_origin(json.loads(model.config.to_json_string(use_diff=False)))
    image = _image_tower(model, settings, spec, size)
    is_dual = spec.pooling is None
    text = transformers_text_tower.text_tower(snapshot, model, settings) if is_dual else None
    measured = measure(image.module, size)
    encoder_config = EncoderConfig(
        library="transformers",
        name=spec.name,
        source={"weights": spec.weights, **snapshot.source()},
        random=False,
        config=settings,
        pooling=spec.pooling,
        image_parts=image.parts,
        options=image.options,
        image_size=size,
        mean=list(processor.image_mean),
        std=list(processor.image_std),
        transform=transformers_image_processor.to_settings(processor),
        licence=snapshot.licence(),
        versions=versions("transformers", "torchvision", "tokenizers"),
        dim=measured.dim,
        gflops=measured.gflops,
        **(text_tower.config_fields(text) if is_dual else {}),
    )
    return text_tower.fetched(image.module, encoder_config, text)


def build(config: EncoderConfig) -> nn.Module:
    """The image tower: float32 [B, 3, H, W] -> [B, D]."""
    network = build_network(config.config, config.pooling, config.image_parts)
    return ImageVectors(network, config.pooling, config.options)


def build_text(config: EncoderConfig) -> nn.Module:
    """The text tower: what `tokenizer` gives -> [N, D]."""
    assert config.text is not None, config.name
    return TextVectors(build_network(config.config, config.pooling, config.text["parts"]))


def transform(config: EncoderConfig) -> Transform:
    """The checkpoint's own image processor."""
    return Processed(transformers_image_processor.from_settings(config.transform))


def tokenizer(config: EncoderConfig, folder: Path) -> Tokenizer:
    """Texts -> token ids [N, L] and the text tower's other inputs, by name."""
    return transformers_text_tower.load_tokenizer(config, folder)


def _check_pooling(spec: EncoderSettings, config: PreTrainedConfig) -> None:
    """A dual encoder pools by itself, in `get_image_features`; for other networks the row states how."""
    is_dual = hasattr(model_class(config), "get_image_features")
    if is_dual and spec.pooling:
        raise UserError(
            f"pooling: {spec.pooling} is not for {config.model_type}, "
            "whose get_image_features gives the vector; remove it"
        )
    if not is_dual and not spec.pooling:
        raise UserError(
            f"pooling is missing for {config.model_type}; "
            "set cls (first token, usual for ViT and DINO), mean (of the patches) or pooler"
        )


def _image_tower(
    model: PreTrainedModel, settings: JsonObject, spec: EncoderSettings, size: int
) -> _ImageTower:
    """The part of `model` that gives the vectors of images of size x size pixels.

    Args:
        settings: of the network, as `build_network` takes them.
    """
    method: Any = model.forward if spec.pooling else model.get_image_features
    # Networks without this argument interpolate their position embeddings by themselves, or have none.
    interpolates = "interpolate_pos_encoding" in inspect.signature(method).parameters
    options = {"interpolate_pos_encoding": True} if spec.image_size and interpolates else {}
    blank = torch.zeros(1, 3, size, size)
    parts = (
        None if spec.pooling else used_submodules(model, "get_image_features", pixel_values=blank, **options)
    )
    module = rebuild_part(
        model, lambda: ImageVectors(build_network(settings, spec.pooling, parts), spec.pooling, options)
    )
    return _ImageTower(module, parts, options)
