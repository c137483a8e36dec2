"""Small networks with random weights, as `encoder` of a row names them."""

from __future__ import annotations

from typing import Any

# timm's smallest network.
RESNET: dict[str, Any] = {
    "library": "timm",
    "name": "test_resnet",
    "weights": "none",
    "allow_random": True,
    "image_size": 32,
}
SQUEEZENET: dict[str, Any] = {
    "library": "torchvision",
    "name": "squeezenet1_1",
    "weights": "none",
    "allow_random": True,
    "image_size": 64,
}
