"""Another image size for networks of timm that take images of one size only."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.meta_init import on_meta_device
from lineup.errors import UserError


def resize(module: Any, name: str, native_px: int, size: int, arguments: JsonObject) -> JsonObject:
    """Changes a network that takes images of `native_px` pixels only to take images of `size` pixels.

    Returns:
        the arguments that build such a network, on top of `arguments`.
    """
    if size == native_px or not module.pretrained_cfg.get("fixed_input_size", False):
        return {}
    options = {"img_size": size}
    try:
        module.set_input_size(img_size=(size, size), **_trained_window(module))
        built = on_meta_device(
            partial(
                timm.create_model,
                module.pretrained_cfg["architecture"],
                num_classes=0,
                **arguments,
                **options,
            )
        )
    except (AttributeError, AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"image_size: {name} takes {native_px} px only ({error}); leave image_size out"
        ) from None
    if _shapes(built) != _shapes(module):
        raise UserError(
            f"image_size: {name} takes {native_px} px only (its windows change with the size); "
            "leave image_size out"
        )
    return options


def _trained_window(module: Any) -> JsonObject:
    """The argument that keeps the size of Swin's attention windows, which its weights are for.

    timm would change it with the size of the image. Empty for networks without such windows.
    """
    windows = {getattr(part, "window_size", None) for part in module.modules()} - {None}
    takes = inspect.signature(module.set_input_size).parameters
    return (
        {"window_size": windows.pop()}
        if len(windows) == 1 and {"window_size", "always_partition"} <= takes.keys()
        else {}
    )


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
