"""LoRA: a small matrix beside each chosen linear layer is trained, and the network itself is not.

Source: Hu et al., ICLR 2022. `peft` computes it. After training the matrices are added to the weights, so
that the result is an encoder like any other.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import nn

from lineup.encoders.encoder import Encoder
from lineup.errors import UserError, printable
from lineup.settings.training import LORA_LAYERS, Lora
from lineup.training.weights import linear_attention

if TYPE_CHECKING:  # peft is an extra
    from peft.tuners.lora import LoraModel

log = logging.getLogger(__name__)

_EXAMPLES = 3  # names of layers in a message


@dataclass(frozen=True)
class LowRank:
    """A network with its LoRA matrices.

    Args:
        tuner: peft's, which knows the matrices.
        attentions: what `linear_attention.unfold` replaced, by name.
    """

    tuner: LoraModel
    attentions: dict[str, nn.MultiheadAttention]

    def merge(self) -> nn.Module:
        """Adds the matrices to the weights, and returns the network, which has its own layers again."""
        module = self.tuner.merge_and_unload()
        linear_attention.fold(module, self.attentions)
        return module.requires_grad_(True)


def add(encoder: Encoder, settings: Lora, seed: int) -> LowRank:
    """Adds LoRA matrices to a network, which is changed, and freezes all its other weights.

    At the start the matrices change no vector: one factor of each is random, and the other one is 0.

    Args:
        encoder: the fetched one.
        settings: rank, scale and layers.
        seed: of the random factors.
    Raises:
        UserError: peft is not installed, or the network has no such layers.
    """
    if importlib.util.find_spec("peft") is None:
        raise UserError("lora: peft is not installed; run `pip install 'lineup[lora]'`, or remove lora")
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    module = encoder.module
    attentions = linear_attention.unfold(module)
    layers = _choose(encoder, settings.layers)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  (annotated as int)
        target_modules="|".join(map(re.escape, layers)),
    )
    module.requires_grad_(False)
    tuner = LoraModel(module, config, "default")
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    whole = sum(parameter.numel() for parameter in module.parameters()) - trained
    log.info(
        "LoRA trains %s numbers beside the %s of the network, in %d layers (%s, ...)",
        f"{trained:,}",
        f"{whole:,}",
        len(layers),
        layers[0],
    )
    return LowRank(tuner, attentions)


def _choose(encoder: Encoder, patterns: tuple[str, ...]) -> list[str]:
    """The names of the linear layers that match a pattern, in the network's order.

    Raises:
        UserError: there is none, or one of the row's own patterns matches none.
    """
    name, linear = printable(encoder.config.name), _called_linear_layers(encoder)
    if not linear:
        raise UserError(f"lora is for transformers, and {name} has no linear layer to train; remove lora")
    unmatched = [pattern for pattern in patterns if not any(fnmatchcase(layer, pattern) for layer in linear)]
    chosen = [layer for layer in linear if any(fnmatchcase(layer, pattern) for pattern in patterns)]
    if not chosen or (unmatched and patterns != LORA_LAYERS):
        examples = ", ".join(dict.fromkeys(re.sub(r"\d+", "*", layer) for layer in linear[:_EXAMPLES]))
        raise UserError(
            f"lora.layers: {printable(unmatched[0])!r} matches no layer of {name} that LoRA can train; "
            f"it can train layers such as {examples}"
        )
    return chosen


def _called_linear_layers(encoder: Encoder) -> list[str]:
    """The names of the linear layers that compute by being called.

    Some networks only read a layer's weight, as torchvision's Swin does: a matrix beside such a layer would
    never be used.
    """
    called: set[nn.Module] = set()
    linear = {name: layer for name, layer in encoder.module.named_modules() if isinstance(layer, nn.Linear)}
    hooks = [layer.register_forward_hook(lambda layer, *_: called.add(layer)) for layer in linear.values()]
    image = encoder.transform(Image.new("RGB", (64, 64)))
    with torch.no_grad():
        encoder.module.eval()(image[None])
    for hook in hooks:
        hook.remove()
    return [name for name, layer in linear.items() if layer in called]
