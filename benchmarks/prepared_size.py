"""How far shrinking photos before the network's own resize moves vectors, and what it saves on disk.

Run: python -m benchmarks.prepared_size [FOLDER]     (of photos, default: data/raw/test/gallery)
Takes about 15 minutes on two cores.
Photos of several shapes, with 1,700 px on the shorter side, are put together from those of the folder and
stored as JPEGs. The demo's two pretrained networks embed each photo with their own transform: once from the
original, and once from what `preprocess` stores at several sizes. The margin is the stored photo's shorter
side, in units of the side to which the transform resizes it; lineup/settings/prepared_size.py has the margin
that every row gets. The cosine is that of the two vectors.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import command
from lineup import paths
from lineup.encoders import libraries, measurement
from lineup.encoders.encoder import Encoder
from lineup.errors import UserError
from lineup.photos import decoding, image_preparation
from lineup.settings import params
from tests.support import real_photos

NETWORKS = ("mobilenet_v2", "efficientnet_lite0")
IMAGE_SIZES_PX = (224, 518)
SHAPES = ((1, 1), (4, 3), (2, 1), (3, 1), (4, 1), (6, 1), (12, 1))
MARGINS = (1.0, 1.15, 1.5, 1.75, 2.0, 2.25, 2.5)
SHORTER_SIDE_PX = 1_700
PHOTOS_PER_SHAPE = 4  # every other one is upright


def encoder(row: str, image_size: int) -> Encoder:
    spec = params.load().models[row].encoder.model_copy(update={"image_size": image_size})
    library = libraries.library(spec.library)
    fetched = library.fetch(spec)
    transform = library.transform(fetched.config)
    return Encoder(
        fetched.module.eval(),
        transform,
        fetched.config.model_copy(update={"resize_px": measurement.resize_px(transform, image_size)}),
    )


def vector(network: Encoder, content: bytes) -> npt.NDArray[np.float32]:
    """The vector of an encoded photo: float32 [D], of length 1."""
    with torch.inference_mode():
        embedding = network.module(network.transform(decoding.decode(content))[None])[0]
    return (embedding / embedding.norm()).numpy()


def main() -> None:
    parser = command.parser("prepared_size")
    parser.add_argument("folder", nargs="?", type=Path, default=paths.RAW / "test/gallery")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        raise UserError(f"{folder}: does not exist; name a folder of photos")
    files = real_photos.files(folder)
    for image_size in IMAGE_SIZES_PX:
        networks = [encoder(row, image_size) for row in NETWORKS]
        chance = random.Random(0)
        resized = ", ".join(str(network.config.resize_px) for network in networks)
        print(f"\nnetworks of {image_size} px, which resize to {resized} px")
        print(
            f"{'shape':>6} "
            + " ".join(f"{f'margin {margin:g}':>17}" for margin in MARGINS)
            + "   (least and mean cosine)"
        )
        kilobytes: dict[float, list[float]] = {margin: [] for margin in MARGINS}
        for wide, high in SHAPES:
            cosines: dict[float, list[float]] = {margin: [] for margin in MARGINS}
            for number in range(PHOTOS_PER_SHAPE):
                longer_side_px = SHORTER_SIDE_PX * wide // high
                width, height = (
                    (longer_side_px, SHORTER_SIDE_PX) if number % 2 else (SHORTER_SIDE_PX, longer_side_px)
                )
                original = real_photos.put_together(files, width, height, chance)
                for network in networks:
                    expected = vector(network, original)
                    for margin in MARGINS:
                        stored = (
                            image_preparation.prepare(
                                original, round(margin * network.config.resize_px)
                            ).replacement
                            or original
                        )
                        cosines[margin].append(float(expected @ vector(network, stored)))
                        if (wide, high) == (4, 3):
                            kilobytes[margin].append(len(stored) / 1e3)
            cells = [
                f"{min(cosines[margin]):.5f} {statistics.mean(cosines[margin]):.5f}" for margin in MARGINS
            ]
            print(f"{wide:>4}:{high} " + " ".join(f"{cell:>17}" for cell in cells), flush=True)
        print(
            f"{'kB 4:3':>6} " + " ".join(f"{statistics.mean(kilobytes[margin]):>17.0f}" for margin in MARGINS)
        )


if __name__ == "__main__":
    main()
