"""open_clip's networks: built from an open_clip_config.json, whole or one tower, and run for vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.model import _build_text_tower, _build_vision_tower  # pyright: ignore[reportPrivateUsage]
from torch import nn

from lineup.encoders import hub
from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.meta_init import on_meta_device
from lineup.errors import explained

NETWORK_FILE = "open_clip_config.json"


class ImageVectors(nn.Module):
    """pixels: float32 [B, 3, H, W] -> [B, D]: `encode_image`, not normalised."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] -> float32 [B, D]."""
        output = self.visual(pixels)
        return output[0] if isinstance(output, tuple) else output  # CoCa's tower returns its tokens, too


class TextVectors(nn.Module):
    """tokens: int64 [N, L] -> [N, D]: `encode_text`, not normalised."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [B, L] -> float32 [B, D]."""
        output = self.text(tokens)
        return output[0] if isinstance(output, tuple) else output


def image_tower(config: JsonObject) -> ImageVectors:
    """The image tower alone, without weights."""
    return ImageVectors(
        _build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))
    )


def text_tower(config: JsonObject) -> TextVectors:
    """The text tower alone, without weights."""
    return TextVectors(
        _build_text_tower(config["embed_dim"], config["text_cfg"], config.get("quick_gelu", False))
    )


def load_network(name: str, config: JsonObject, file: Path | None) -> Any:
    """open_clip's network of both towers, with its weights in memory once.

    Args:
        name: as params.yaml states it.
        file: of the weights, None for random ones.
    """
    if file is None:
        with explained(f"name: open_clip can't build {name}"):
            return _create(config).eval()
    with explained(f"weights: {file.name} doesn't fit {name}"):
        return on_meta_device(lambda: _loaded(config, str(file))).float().eval()


def _loaded(config: JsonObject, file: str) -> Any:
    model = _create(config)
    load_checkpoint(model, file)
    return model


def _create(config: JsonObject) -> Any:
    """The network of a configuration, of the class that open_clip's factory chooses."""
    options = {name: value for name, value in config.items() if name != "custom_text"}
    if name := config["text_cfg"].get("hf_model_name"):
        # open_clip would ask the hub for this config each time that a network is built.
        options["text_cfg"] = {
            **config["text_cfg"],
            "hf_model_name": str(hub.snapshot(name, None, ("config.json",)).folder),
        }
    if "multimodal_cfg" in config:
        kind: Any = open_clip.CoCa
    else:
        kind = (
            open_clip.CustomTextCLIP
            if config.get("custom_text") or "hf_model_name" in config["text_cfg"]
            else open_clip.CLIP
        )
    return kind(**options)
