"""timm's networks, without their classifier.

The files timm_*.py beside this one hold its parts.
"""

from __future__ import annotations

import timm
import timm.data
from torch import nn

from lineup.encoders.encoder import Fetched, Transform
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.libraries import versions
from lineup.encoders.measurement import measure
from lineup.encoders.timm_checkpoint import load_checkpoint
from lineup.encoders.timm_image_size import resize
from lineup.encoders.timm_tags import transform_settings
from lineup.errors import explained
from lineup.settings.encoder import EncoderSettings


def fetch(spec: EncoderSettings) -> Fetched:
    """See `Library.fetch`."""
    checkpoint = load_checkpoint(spec)
    module = checkpoint.module
    record: JsonObject = module.pretrained_cfg  # type: ignore[assignment]
    with explained(f"name: timm can't tell from its record how {spec.name} prepares photos"):
        steps = transform_settings(record, spec)
    native_px, size = record["input_size"][-1], steps["input_size"][-1]
    options = checkpoint.arguments | resize(module, spec.name, native_px, size, checkpoint.arguments)
    measured = measure(module, size)
    config = EncoderConfig(
        library="timm",
        name=spec.name,
        architecture=record["architecture"],
        options=options,
        source={
            "weights": spec.weights,
            "record": ".".join(filter(None, (record["architecture"], record.get("tag")))),
            **checkpoint.source,
        },
        random=spec.weights == "none",
        image_size=size,
        mean=steps["mean"],
        std=steps["std"],
        transform=steps,
        licence=checkpoint.licence,
        versions=versions("timm", "torchvision"),  # timm's transforms are made of torchvision's
        dim=measured.dim,
        gflops=measured.gflops,
    )
    return Fetched(module, config)


def build(config: EncoderConfig) -> nn.Module:
    """The network up to its pooled features: float32 [B, 3, H, W] -> [B, D]."""
    return timm.create_model(config.architecture, pretrained=False, num_classes=0, **config.options)


def transform(config: EncoderConfig) -> Transform:
    """timm's own transform for evaluation, from its record of how the checkpoint was trained."""
    return timm.data.create_transform(**config.transform_arguments(), is_training=False)  # type: ignore[return-value]
