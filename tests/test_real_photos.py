"""The photos of the benchmarks: real ones of any size, put together from smaller ones."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lineup.errors import UserError
from lineup.photos import decoding
from tests.support import real_photos


@pytest.mark.slow
def test_photos_lie_side_by_side_and_fill_the_picture() -> None:
    photos = real_photos.files()
    content = real_photos.put_together(photos, 900, 500, random.Random(0))
    assert content == real_photos.put_together(photos, 900, 500, random.Random(0))
    chance = random.Random(0)
    first, second, third = (np.asarray(Image.open(chance.choice(photos))) for _ in range(3))
    expected = np.vstack(
        [np.hstack([first, second[:, : 900 - first.shape[1]]]), np.zeros((500 - first.shape[0], 900, 3))]
    )
    expected[first.shape[0] :, : third.shape[1]] = third[: 500 - first.shape[0]]
    expected[first.shape[0] :, third.shape[1] :] = np.asarray(Image.open(chance.choice(photos)))[
        : 500 - first.shape[0], : 900 - third.shape[1]
    ]
    # A JPEG of quality 92 differs from its pixels by some levels; another photo differs by tens.
    assert np.abs(np.asarray(decoding.decode(content), float) - expected).mean() < 5


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=tmp_path.name):
        real_photos.files(tmp_path)
