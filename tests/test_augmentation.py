"""How training images are varied, with torchvision's functions for one image as the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as vision

from lineup.settings.training import Augmentation
from lineup.training import augmentation
from lineup.training.augmentation import Augment, crop_boxes

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
NOTHING: dict[str, Any] = {"crop": 1, "flip": 0, "colour": 0, "grey": 0, "blur": 0}
IMAGES = np.random.default_rng(0).integers(90, 150, (6, 3, 37, 37), dtype=np.uint8)


def varied(seed: int = 0, size: int = 37, **how: Any) -> torch.Tensor:
    return Augment(Augmentation(**{**NOTHING, **how}), size).batch(IMAGES, seed)


def difference(one: torch.Tensor, other: torch.Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


def test_without_variation_an_image_stays_as_it_is_or_is_only_resized() -> None:
    assert torch.equal(varied(), torch.from_numpy(IMAGES))
    resized = vision.resize(torch.from_numpy(IMAGES), [32, 32], antialias=True)
    assert torch.equal(varied(size=32), resized)


def test_a_crop_is_torchvisions_of_the_same_box() -> None:
    boxes = crop_boxes(len(IMAGES), 37, 0.4, np.random.default_rng(5))
    expected = [
        vision.resized_crop(torch.from_numpy(image), *box, size=[32, 32], antialias=True)
        for image, box in zip(IMAGES, boxes.tolist(), strict=True)
    ]
    assert torch.equal(varied(seed=5, size=32, crop=0.4), torch.stack(expected))


@pytest.mark.slow
@given(side=st.integers(1, 300), share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=60)
def test_a_box_lies_in_the_square_and_has_the_area_that_was_set(side: int, share: float, seed: int) -> None:
    top, left, height, width = crop_boxes(20, side, share, np.random.default_rng(seed)).T
    assert (top >= 0).all() and (left >= 0).all() and (height >= 1).all() and (width >= 1).all()
    assert (top + height <= side).all() and (left + width <= side).all()
    smallest, whole_px = share * side**2, 0.5  # lengths are rounded
    assert ((height + whole_px) * (width + whole_px) >= smallest).all()
    longer, shorter = np.maximum(height, width), np.minimum(height, width)
    assert (longer - whole_px <= 4 / 3 * (shorter + whole_px)).all()


def test_half_of_the_images_are_flipped() -> None:
    flipped = [
        torch.equal(image, torch.from_numpy(original).flip(-1))
        for seed in range(20)
        for image, original in zip(varied(seed=seed, flip=0.5), IMAGES, strict=True)
    ]
    assert 40 <= sum(flipped) <= 80
    assert torch.equal(varied(flip=1), torch.from_numpy(IMAGES).flip(-1))


@pytest.mark.parametrize(
    ("change", "oracle", "factors"),
    [
        (augmentation.change_brightness, vision.adjust_brightness, (0, 0.5, 0.9, 1, 1.3, 2)),
        (augmentation.change_contrast, vision.adjust_contrast, (0, 0.5, 0.9, 1, 1.3, 2)),
        (augmentation.change_saturation, vision.adjust_saturation, (0, 0.5, 0.9, 1, 1.3, 2)),
        (augmentation.turn_hue, vision.adjust_hue, (-0.5, -0.2, 0, 0.1, 0.25, 0.5)),
    ],
)
def test_a_factor_of_each_image_changes_it_as_torchvision_does(
    change: Change, oracle: Any, factors: tuple[float, ...]
) -> None:
    pixels = torch.from_numpy(IMAGES).float() / 255
    pixels[:, :, :3] = pixels[:, :1, :3]  # some greys
    pixels[:, :, 3] = torch.tensor([1, 1, 0])[:, None]  # and a colour with two highest channels
    changed = change(pixels.clone(), torch.tensor(factors, dtype=torch.float32)[:, None, None, None])
    for ours, image, factor in zip(changed, pixels, factors, strict=True):
        assert torch.allclose(ours, oracle(image, float(factor)), atol=1e-5), factor


def test_most_images_change_their_colours() -> None:
    changed = torch.cat([varied(seed, colour=1.0) for seed in range(10)])
    original = torch.from_numpy(IMAGES).repeat(10, 1, 1, 1)
    same = (changed == original).flatten(1).all(dim=1).sum()
    assert 4 <= same <= 20, "a fifth stays"
    assert changed.max() == 255 and changed.min() < 40


def test_grey_images_are_torchvisions() -> None:
    greys = vision.rgb_to_grayscale(torch.from_numpy(IMAGES), num_output_channels=3)
    assert difference(varied(grey=1), greys) <= 1
    is_grey = (varied(grey=0.5, colour=0.4) == varied(grey=0.5, colour=0.4)[:, :1]).flatten(1).all(dim=1)
    assert 0 < is_grey.sum() < len(IMAGES)


def test_blur_evens_out_neighbours_and_keeps_the_mean() -> None:
    blurred, original = varied(blur=1).float(), torch.from_numpy(IMAGES).float()
    ratios = blurred.std(dim=(1, 2, 3)) / original.std(dim=(1, 2, 3))
    assert (ratios <= 1).all() and (ratios < 0.5).sum() > 3, "the least blur changes nothing"
    assert torch.allclose(blurred.mean(dim=(1, 2, 3)), original.mean(dim=(1, 2, 3)), atol=0.5)


def test_equal_seeds_give_equal_images_and_threads_stay_as_they_were() -> None:
    threads = torch.get_num_threads()
    everything: dict[str, Any] = {"crop": 0.5, "flip": 0.5, "colour": 0.4, "grey": 0.2, "blur": 0.2}
    first, again, other = (varied(seed, 32, **everything) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.get_num_threads() == threads
