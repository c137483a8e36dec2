"""transformers' networks: built from a config.json, cut down to one tower, and run for vectors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.meta_init import rebuilt
from lineup.errors import explained


class ImageVectors(nn.Module):
    """pixels: float32 [B, 3, H, W] -> [B, D].

    It is `get_image_features` of a dual encoder, and else the pooled last hidden state.
    """

    def __init__(self, model: PreTrainedModel, pooling: str | None, options: Mapping[str, bool]) -> None:
        super().__init__()
        self.model, self.pooling, self.options = model, pooling, options

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] -> float32 [B, D]."""
        if self.pooling is None:
            return _projected(self.model.get_image_features(pixel_values=pixels, **self.options))  # type: ignore[operator]
        output = self.model(pixel_values=pixels, **self.options)
        if self.pooling == "pooler":
            return output.pooler_output.flatten(1)  # [B, D], or [B, D, 1, 1] of convolutional networks
        hidden = output.last_hidden_state  # [B, tokens, D], or [B, D, h, w] of convolutional networks
        if self.pooling == "cls":
            return hidden[:, 0]
        return hidden.mean((2, 3)) if hidden.ndim == 4 else hidden[:, -self._patches(pixels) :].mean(1)

    def _patches(self, pixels: torch.Tensor) -> int:
        """Number of tokens that are patches of the image; CLS and register tokens come before them."""
        patch = getattr(self.model.config, "patch_size", None)
        return (pixels.shape[2] // patch) * (pixels.shape[3] // patch) if isinstance(patch, int) else 0


class TextVectors(nn.Module):
    """What the tokenizer gives -> [B, D]: `get_text_features`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tokenizer's tensors, [B, L] each -> float32 [B, D]."""
        return _projected(self.model.get_text_features(**tokens))  # type: ignore[operator]


def _projected(output: Any) -> torch.Tensor:
    """The projected vectors: since transformers 5, `get_*_features` wrap them as `pooler_output`."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def build_network(settings: JsonObject, pooling: str | None, parts: list[str] | None) -> PreTrainedModel:
    """The network of a config.json; parts: the submodules to keep, None for all."""
    options = dict(settings)
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    model = AutoModel.from_config(config, dtype=torch.float32, **without_pooler(config, pooling))
    if parts is not None:
        _keep_submodules(model, parts)
    return model


def model_class(config: PreTrainedConfig) -> Any:
    """The class of networks that AutoModel chooses for a config.json."""
    classes = transformers.MODEL_MAPPING[type(config)]
    return classes[0] if isinstance(classes, (tuple, list)) else classes  # pyright: ignore


def without_pooler(config: PreTrainedConfig, pooling: str | None) -> dict[str, bool]:
    """The argument that builds a network without its pooler, which many checkpoints lack.

    Empty where the pooler gives the vector, or the network has none.
    """
    if (
        pooling in (None, "pooler")
        or "add_pooling_layer" not in inspect.signature(model_class(config).__init__).parameters
    ):
        return {}
    return {"add_pooling_layer": False}


def _keep_submodules(model: PreTrainedModel, parts: list[str]) -> None:
    """Removes all other submodules, and the network's own parameters.

    Those are a temperature and the like, which only scale similarities of images and texts.
    """
    for name in [name for name, _ in model.named_children() if name not in parts]:
        delattr(model, name)
    model._parameters.clear()  # pyright: ignore[reportPrivateUsage]


def used_submodules(model: PreTrainedModel, method: str, **inputs: Any) -> list[str]:
    """Names of the network's submodules that one of its methods uses, in the order of their use."""
    used: list[str] = []
    hooks = [
        child.register_forward_pre_hook(lambda *_, name=name: used.append(name) if name not in used else None)
        for name, child in model.named_children()
    ]
    try:
        with (
            explained(f"image_size: {method} of {type(model).__name__} fails", "leave image_size out"),
            torch.inference_mode(),
        ):
            getattr(model, method)(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return used


def rebuild_part(model: PreTrainedModel, make: Callable[[], nn.Module]) -> nn.Module:
    """The tower that `make` builds, with the model's own tensors."""
    return rebuilt(make, {f"model.{name}": tensor for name, tensor in model.state_dict().items()})
