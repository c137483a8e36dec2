"""How a network is shown pixels, and where its labels' images lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from lineup.encoders import encoder_folder
from lineup.training.label_centres import label_centres
from lineup.training.pixel_scaling import PixelScaling, infer_scaling
from tests.support import training_photos as scene


def test_training_pixels_are_scaled_as_the_encoders_own_transform_does(tmp_path: Path) -> None:
    scene.write_encoder(tmp_path / "encoder")
    encoder = encoder_folder.load(tmp_path / "encoder")
    scaling = infer_scaling(encoder, None)
    colour = (200, 30, 90)
    own = encoder.transform(Image.new("RGB", (32, 32), colour))
    pixels = torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].expand(1, 3, 32, 32)
    assert scaling.size == 32 and torch.allclose(scaling.normalise(pixels)[0], own, atol=1e-4)
    assert np.allclose(scaling.mean.flatten(), encoder.config.mean, atol=1e-4)
    assert np.allclose(scaling.std.flatten(), encoder.config.std, atol=1e-4)


def test_label_centres_are_the_naive_means_of_the_first_three() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([1, 0, 1, 2, 1, 0, 1, 2, 2, 2, 2])
    pixels = rng.integers(0, 256, (len(labels), 3, 4, 4)).astype(np.uint8)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    scaling = PixelScaling(4, torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))
    centres = label_centres(module, pixels, labels, scaling)
    for label in range(3):
        vectors = []
        for row in np.flatnonzero(labels == label)[:3]:
            with torch.inference_mode():
                vectors.append(
                    functional.normalize(
                        module((torch.from_numpy(pixels[row]).float()[None] / 255 - 0.5) / 0.25)
                    )[0]
                )
        assert torch.allclose(centres[label], functional.normalize(sum(vectors), dim=0), atol=1e-5)  # type: ignore[arg-type]
