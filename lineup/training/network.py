"""How a network is trained: its input, head, frozen layers, precision, and each parameter's learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import EncoderConfig, Head
from lineup.encoders.meta_init import with_head
from lineup.errors import UserError
from lineup.objectives.objective import Objective
from lineup.settings.training import Train

_IMAGES_PER_CENTRE = 3
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)  # pyright: ignore[reportPrivateUsage]


@dataclass(frozen=True)
class PixelScaling:
    """How an encoder sees pixels.

    Args:
        size: the side of the square that it sees, in pixels.
        mean, std: float32 [3, 1, 1], by which pixels in 0..1 are scaled.
    """

    size: int
    mean: torch.Tensor
    std: torch.Tensor

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] of 0..255 -> float32, scaled as the encoder's own transform does."""
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def infer_scaling(encoder: Encoder, image_size: int | None) -> PixelScaling:
    """How an encoder scales pixels, inferred from its transform of a black and of a white image.

    This works for the transforms of every library.

    Args:
        encoder: the fetched one.
        image_size: the size to train at, in pixels; None for the encoder's own.
    Raises:
        UserError: the network takes images of its own size only.
    """
    side = 64
    black, white = (encoder.transform(Image.new("RGB", (side, side), (value,) * 3)) for value in (0, 255))
    std = 1 / (white - black).mean(dim=(1, 2))
    mean = -black.mean(dim=(1, 2)) * std
    size = image_size or min(black.shape[1:])
    if image_size:
        try:
            with torch.inference_mode():
                encoder.module.eval()(torch.zeros(1, 3, size, size))
        except (AssertionError, RuntimeError, ValueError):
            raise UserError(
                f"image_size is {size}, but this network takes {min(black.shape[1:])} only; leave it out"
            ) from None
    return PixelScaling(size, mean[:, None, None], std[:, None, None])


def precision(setting: str, device: torch.device) -> torch.dtype | None:
    """The type that a step computes with beside float32; None where it computes in float32 alone.

    `auto` is float32 on a CPU, and on CUDA bfloat16, or float16 where the GPU lacks it.
    """
    if setting == "auto":
        setting = (
            "float32"
            if device.type == "cpu"
            else "bfloat16"
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else "float16"
        )
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[setting]


def add_head(encoder: Encoder, dim: int | None) -> tuple[nn.Module, EncoderConfig]:
    """The network to train, and its configuration; with `dim`, it gets a linear head to that size."""
    if dim is None:
        return encoder.module, encoder.config
    head = Head(in_dim=encoder.dim, dim=dim)
    config = encoder.config.model_copy(update={"head": head, "dim": dim})
    return with_head(encoder.module, encoder.dim, dim), config


def freeze(module: nn.Module, settings: Train) -> list[nn.Module]:
    """Freezes the first layers, `settings.freeze` of those that hold weights themselves, and returns them.

    The layers are counted in the network's order. The weights of frozen layers get no gradient. With a
    backbone_lr_scale of 0 the whole network is frozen: its batch statistics would change it otherwise.

    Raises:
        UserError: the network has no more layers than that.
    """
    weighted_layers = [
        layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None
    ]
    if settings.freeze >= len(weighted_layers):
        raise UserError(
            f"freeze is {settings.freeze}, but the network has {len(weighted_layers)} layers with weights; "
            "leave at least one to train"
        )
    if settings.backbone_lr_scale == 0:
        module.requires_grad_(False)
        return [module]
    for layer in weighted_layers[: settings.freeze]:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
    return weighted_layers[: settings.freeze]


def label_centres(
    module: nn.Module, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], scaling: PixelScaling
) -> torch.Tensor:
    """The mean direction of the vectors of each label's first few images.

    Args:
        module: the network, [B, 3, S, S] -> [B, D].
        pixels: uint8 [N, 3, S, S].
        labels: int64 [N], each of 0..max at least once.
        scaling: how the network sees pixels.
    Returns:
        float32 [labels, D], of unit length.
    """
    device = next(module.parameters()).device
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    rows = order[(np.arange(len(order)) - starts[labels[order]]) < _IMAGES_PER_CENTRE]
    sums: torch.Tensor | None = None
    module.eval()
    with torch.inference_mode():
        for batch in np.array_split(rows, max(1, len(rows) // 64)):
            images = torch.from_numpy(pixels[batch]).to(device).float()
            images = functional.interpolate(images, (scaling.size, scaling.size), mode="bilinear")
            vectors = functional.normalize(module(scaling.normalise(images)).float())
            sums = torch.zeros(len(starts), vectors.shape[1], device=device) if sums is None else sums
            sums.index_add_(0, torch.from_numpy(labels[batch]).to(device), vectors)
    assert sums is not None
    return functional.normalize(sums)


def train_mode(module: nn.Module, frozen: list[nn.Module], batch_norm: str) -> None:
    """Puts the network into training mode, and its frozen layers into evaluation mode.

    With batch_norm "frozen" so are all batch norms, which then keep their running statistics.
    """
    module.train()
    norms = [layer for layer in module.modules() if isinstance(layer, _BATCH_NORMS)]
    for layer in [*frozen, *(norms if batch_norm == "frozen" else [])]:
        layer.eval()


def optimiser(
    module: nn.Module, backbone: nn.Module, objective: Objective, settings: Train
) -> torch.optim.AdamW:
    """AdamW over all weights that are trained; a group's "peak" is its highest learning rate.

    The learning rate of weights that were trained before, the backbone's and those of `objective.pretrained`,
    is scaled by backbone_lr_scale; a new head and the objective's other weights get the full rate. Biases and
    norms don't decay, as in timm and nanoGPT.

    Args:
        module: the backbone, perhaps with a head.
        backbone: the fetched network.
        objective: what the network is trained with.
        settings: the training loop's, for this row.
    Raises:
        UserError: no weight is left to train.
    """
    pretrained = [
        *backbone.parameters(),
        *(objective.pretrained.parameters() if objective.pretrained else []),
    ]
    pretrained_ids = {id(parameter) for parameter in pretrained}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in [*module.parameters(), *objective.loss.parameters()]:
        if parameter.requires_grad:
            scale = settings.backbone_lr_scale if id(parameter) in pretrained_ids else 1
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((settings.learning_rate * scale, decay), []).append(parameter)
    trained = [
        {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay}
        for (peak, decay), parameters in groups.items()
        if peak > 0
    ]
    if not trained:
        raise UserError(
            "backbone_lr_scale is 0 and there is no head or objective weight to train; set dim or raise it"
        )
    return torch.optim.AdamW(trained, fused=True)


def rate(step: int, steps: int, warmup_share: float) -> float:
    """The learning rate of a step, 0 to `steps` - 1, as a share of its peak.

    It rises linearly during the warm-up, then follows half a cosine down to 0.
    """
    warmup = warmup_share * steps
    if step + 1 < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - warmup) / max(steps - warmup, 1)))
