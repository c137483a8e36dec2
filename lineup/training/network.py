"""The network that is trained: its head, and the layers of it that stay as they are."""

from __future__ import annotations

from torch import nn

from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import EncoderConfig, Head
from lineup.encoders.meta_init import with_head
from lineup.errors import UserError
from lineup.settings.training import Train

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)  # pyright: ignore[reportPrivateUsage]


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


def train_mode(module: nn.Module, frozen: list[nn.Module], batch_norm: str) -> None:
    """Puts the network into training mode, and its frozen layers into evaluation mode.

    With batch_norm "frozen" so are all batch norms, which then keep their running statistics.
    """
    module.train()
    norms = [layer for layer in module.modules() if isinstance(layer, _BATCH_NORMS)]
    for layer in [*frozen, *(norms if batch_norm == "frozen" else [])]:
        layer.eval()
