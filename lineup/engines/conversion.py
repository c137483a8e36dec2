"""An encoder converted for an engine, and compared with what PyTorch computes of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, inference_mode, nn, zeros  # an engine's file takes the name `torch` in this package

from lineup.encoders.encoder import Encoder
from lineup.engines.engine import CannotConvert, Engine, Network, Vectors
from lineup.engines.lookup_transform import fused

# The least cosine between an engine's vector of an image and torch's in float32. Float32 differs in the
# seventh digit. Bfloat16 has eight bits, and gave 0.9988 or more (EfficientNet-Lite0 on photos of groceries).
PARITY = {"float32": 0.99999, "bfloat16": 0.99, "float16": 0.99}
PARITY_IMAGES = 4


def prepare(
    engine: Engine, encoder: Encoder, images: Sequence[Tensor] = (), batch_size: int = 1, threads: int = 1
) -> Network:
    """Converts an encoder, whose module must not be used afterwards: an engine may change it.

    Args:
        images: float32 [3, H, W] each. On the first `PARITY_IMAGES` of them the engine's vectors must agree
            with torch's in float32 (`PARITY`); without images nothing is compared.
        batch_size: images in each call on a GPU.
        threads: how many of them will call `forward` at once.
    Raises:
        CannotConvert: with the reason.
    """
    module, library = encoder.module.eval(), engine.library
    shape = library.cpu_shape(module) if engine.device.type == "cpu" else batch_size
    batches = [padded([image], shape) for image in images[:PARITY_IMAGES]]
    exact = engine.name == "torch" and engine.precision == "float32"
    # They are computed before the engine may change the module.
    references = [] if exact else [_plain(module, pixels[:1]) for pixels in batches]
    side = encoder.config.image_size
    example = batches[0] if batches else zeros(shape, 3, side, side)
    forward = library.compile(module, example, engine.precision, engine.device, threads)
    for pixels, reference in zip(batches, references, strict=False):
        _check_parity(forward(pixels)[0], reference[0], PARITY[engine.precision])
    return Network(engine, forward, fused(encoder.transform), shape)


def padded(images: Sequence[Tensor], shape: int, pinned: bool = False) -> Tensor:
    """A batch of `shape` images: those given, and zeros. A single image that fills the batch isn't copied.

    Args:
        images: [3, H, W] each, at least one and at most `shape`.
        pinned: whether the batch lies in memory that a GPU reads by itself.
    Returns:
        [shape, 3, H, W].
    """
    if shape == 1 and not pinned:
        return images[0][None]
    pixels = zeros(shape, *images[0].shape, pin_memory=pinned)
    for row, image in enumerate(images):
        pixels[row] = image
    return pixels


def _plain(module: nn.Module, pixels: Tensor) -> Vectors:
    with inference_mode():
        return module(pixels).float().cpu().numpy()


def _check_parity(vector: Vectors, reference: Vectors, least_cosine: float) -> None:
    """Raises CannotConvert unless a vector nearly has the direction and length of torch's. Both: [D]."""
    length, wanted = (float(np.linalg.norm(v.astype(np.float64))) for v in (vector, reference))
    if not np.isfinite(wanted) or wanted == 0:
        return  # no engine is to blame, and `inference` names the image
    product = float(vector.astype(np.float64) @ reference.astype(np.float64))
    cosine = product / (length * wanted) if length else 0.0
    if not cosine >= least_cosine or not abs(length / wanted - 1) <= (1 - least_cosine) ** 0.5:
        raise CannotConvert(
            f"its vectors differ from torch's, cosine {cosine:.6f} instead of {least_cosine} or more"
        )
