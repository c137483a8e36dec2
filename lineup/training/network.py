"""What of a network is trained and how: its input, heads, frozen layers, precision, and each parameter's
learning rate.
"""

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
from lineup.settings.training import Train


@dataclass(frozen=True)
class Look:
    """How an encoder sees pixels. size: side in pixels; mean, std: [3, 1, 1], of pixels in 0..1."""

    size: int
    mean: torch.Tensor
    std: torch.Tensor

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] of 0..255 -> float32, as the encoder's own transform scales it."""
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def look(encoder: Encoder, image_size: int | None) -> Look:
    """What the encoder's own transform does to black and to white; so it holds for every library.

    image_size: to train at, if not the encoder's own. UserError where the network takes its own size only.
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
    return Look(size, mean[:, None, None], std[:, None, None])


def precision(wanted: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None for plain float32.

    auto: float32 on a CPU; bfloat16 on CUDA, float16 where it has none.
    """
    if wanted == "auto":
        wanted = (
            "float32"
            if device.type == "cpu"
            else "bfloat16"
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else "float16"
        )
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


_CENTRE_IMAGES = 3
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


def headed(encoder: Encoder, dim: int | None) -> tuple[nn.Module, EncoderConfig]:
    """The network to train and its facts: with `dim`, a linear head of that size behind it."""
    if dim is None:
        return encoder.module, encoder.config
    head = Head(in_dim=encoder.dim, dim=dim)
    config = encoder.config.model_copy(update={"head": head, "dim": dim})
    return with_head(encoder.module, encoder.dim, dim), config


def freeze(module: nn.Module, settings: Train) -> list[nn.Module]:
    """The first `freeze` layers that hold weights themselves, in the network's order; their weights get no
    gradient.

    With a learning rate of 0 that's the whole network: its batch statistics would change it still.
    """
    layers = settings.freeze
    own = [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]
    if layers >= len(own):
        raise UserError(
            f"freeze is {layers}, but the network has {len(own)} layers with weights; leave at least one to train"
        )
    if settings.backbone_lr_scale == 0:
        module.requires_grad_(False)
        return [module]
    for layer in own[:layers]:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
    return own[:layers]


def label_centres(
    module: nn.Module, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], look: Look
) -> torch.Tensor:
    """The mean direction of each label's first few images as the network sees them now: float32 [labels, D].

    pixels: uint8 [N, 3, S, S]; labels: int64 [N], each of 0..max at least once.
    """
    device = next(module.parameters()).device
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    rows = order[(np.arange(len(order)) - starts[labels[order]]) < _CENTRE_IMAGES]
    sums: torch.Tensor | None = None
    module.eval()
    with torch.inference_mode():
        for some in np.array_split(rows, max(1, len(rows) // 64)):
            shown = functional.interpolate(
                torch.from_numpy(pixels[some]).to(device).float(), (look.size, look.size), mode="bilinear"
            )
            vectors = functional.normalize(module(look.normalise(shown)).float())
            sums = torch.zeros(len(starts), vectors.shape[1], device=device) if sums is None else sums
            sums.index_add_(0, torch.from_numpy(labels[some]).to(device), vectors)
    assert sums is not None
    return functional.normalize(sums)


def training_mode(module: nn.Module, frozen: list[nn.Module], batch_norm: str) -> None:
    """Training mode, but for frozen layers; with batch_norm "frozen" no batch's statistics count either."""
    module.train()
    for layer in [
        *frozen,
        *(m for m in module.modules() if batch_norm == "frozen" and isinstance(m, _BATCH_NORMS)),
    ]:
        layer.eval()


def optimiser(
    module: nn.Module, backbone: nn.Module, objective: nn.Module, settings: Train
) -> torch.optim.AdamW:
    """AdamW; each group's "peak" is its highest learning rate. Biases and norms don't decay (as in timm and
    nanoGPT).

    module: backbone, perhaps with a head. What isn't the backbone's is new and gets the full learning rate,
    and so does what an objective adds, but for a network that it names as `pretrained`.
    """
    trained_before = [backbone, getattr(objective, "pretrained", None)]
    old = {
        id(parameter)
        for network in trained_before
        if network is not None
        for parameter in network.parameters()
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in [*module.parameters(), *objective.parameters()]:
        if parameter.requires_grad:
            peak = settings.learning_rate * (settings.backbone_lr_scale if id(parameter) in old else 1)
            groups.setdefault((peak, settings.weight_decay if parameter.ndim > 1 else 0.0), []).append(
                parameter
            )
    kept = [
        {"params": params, "lr": peak, "peak": peak, "weight_decay": decay}
        for (peak, decay), params in groups.items()
        if peak > 0
    ]
    if not kept:
        raise UserError(
            "backbone_lr_scale is 0 and there is no head or objective weight to train; set dim or raise it"
        )
    return torch.optim.AdamW(kept, fused=True)


def rate(step: int, steps: int, warmup_share: float) -> float:
    """The learning rate of a step (0..steps-1) as a share of its peak: a linear rise, then half a cosine down
    to 0.
    """
    warmup = warmup_share * steps
    if step + 1 < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - warmup) / max(steps - warmup, 1)))
