"""What other ways of decoding, hashing and resizing photos would save, and how far they move the vectors.

Run: python -m benchmarks.preparation [FOLDER] [--photos N]     (of each size; default: 8)
Takes about 6 minutes on two cores, after `make demo`.
Photos of 0.2, 1, 3 and 12 megapixels are put together from those of the folder, or from the two photos
that the package scikit-learn has. All times are the processor's, of one thread. The ways take turns photo by
photo, and the ratios are those of the same photo: the median, and the 10th and 90th percentile.

A way can be used if the vectors that the demo's two pretrained networks compute at 128 and 224 px have a
cosine of at least 0.99999 to those of the way in use, on every photo, and if it saves 15% of the stage:
of preparing a photo, or of decoding, transforming and the network's forward pass together.

preprocess, per photo (lineup.photos.image_preparation.prepare)
  parts            decode, hash the pixels, resize to 512 px by Lanczos, store as JPEG
  reducing_gap     Pillow averages squares of pixels first, and resizes from at least twice the size
  scaled decode    the full picture is hashed, a JPEG decoded once more at a fraction of its size is resized
  SIMD             the package cykooz-resizer computes Lanczos by AVX2 with weights of 16 bits, Pillow of 22
  no copy to hash  what would be left if the pixels lay in memory as SHA-256 reads them: the same pixels
embed, per photo (from a stored photo to the network's pixels)
  torch's resize   of 8-bit pixels by AVX2, in place of Pillow's
  crop first       Pillow resizes the pixels alone that the transform's crop leaves
  scaled decode    the stored JPEG is decoded at a fraction of its size
"""

# pyright: reportMissingImports=false
# The extra `bench` installs the libraries that are compared.
from __future__ import annotations

import hashlib
import io
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
import torch
from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image, features
from torchvision.transforms.v2 import functional

from benchmarks import command
from benchmarks.prepared_size import NETWORKS, encoder
from lineup import cli, machine
from lineup.encoders.encoder import Encoder
from lineup.engines import conversion, selection
from lineup.engines.lookup_transform import LookUp, fused
from lineup.photos import decoding, image_preparation, pixel_identity
from lineup.settings.sections import Embed, Precision
from tests.support import real_photos

SHORTER_SIDE_PX = 512
IMAGE_SIZES_PX = (128, 224)
LEAST_COSINE = conversion.PARITY["float32"]
PHOTOS_PER_SIZE = 8
TURNS = 3

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]  # width, height
Prepare = Callable[[bytes], bytes]
Shrink = Callable[[bytes, Image.Image, Size], Image.Image]


class Network(NamedTuple):
    """An encoder with its transform in two steps: to 8-bit pixels, and from those to numbers.

    forward_ms: of the engine that `auto` takes, by precision.
    """

    encoder: Encoder
    transform: LookUp
    forward_ms: dict[Precision, float]

    @property
    def name(self) -> str:
        return f"{self.encoder.config.name} at {self.encoder.config.image_size} px"

    def vector(self, pixels: Pixels) -> npt.NDArray[np.float64]:
        """[H, W, RGB] -> [D], of length 1."""
        with torch.inference_mode():
            embedding = self.encoder.module(self.transform.to_tensor(pixels)[None])[0].double()
        return (embedding / embedding.norm()).numpy()


def seconds(work: Callable[[], object]) -> float:
    """The processor's seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def taking_turns(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least of each way's times, of some turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, work in ways.items():
            times[name].append(seconds(work))
    return {name: min(each) for name, each in times.items()}


def spread(ratios: list[float]) -> str:
    low, median, high = np.quantile(ratios, (0.1, 0.5, 0.9))
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def cosines(vectors: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> str:
    values = [float(first @ second) for first, second in vectors]
    below = sum(value < LEAST_COSINE for value in values)
    return f"least cosine {min(values):.6f}, {below} of {len(values)} vectors below {LEAST_COSINE}"


def stored(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=image_preparation.JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def scaled(data: bytes, width: int, height: int) -> Image.Image:
    """A JPEG at the smallest fraction of its size that has at least width x height pixels."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (width, height))
    image.load()
    return image


def as_now(data: bytes) -> bytes:
    return image_preparation.prepare(data, SHORTER_SIDE_PX).replacement or data


def averaged_first(_: bytes, rgb: Image.Image, size: Size) -> Image.Image:
    return rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def decoded_again(data: bytes, _: Image.Image, size: Size) -> Image.Image:
    return scaled(data, *size).resize(size, Image.Resampling.LANCZOS)


def by_simd(_: bytes, rgb: Image.Image, size: Size) -> Image.Image:
    """Pillow's order: all rows first, rounded to 8 bits, then all columns."""
    options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.lanczos3))
    narrow, small = Image.new("RGB", (size[0], rgb.height)), Image.new("RGB", size)
    Resizer().resize_pil(rgb, narrow, options)
    Resizer().resize_pil(narrow, small, options)
    return small


def prepared(shrink: Shrink, data: bytes) -> bytes:
    """What `image_preparation.prepare` does with a JPEG, with another way of shrinking it."""
    rgb = decoding.decode(data)
    pixel_identity.pixels_id(rgb)
    size = image_preparation.shrunk_size(*rgb.size, SHORTER_SIDE_PX)
    return data if size == rgb.size else stored(shrink(data, rgb, size))


PREPARATIONS: dict[str, Prepare] = {
    "as now": as_now,
    "reducing_gap": partial(prepared, averaged_first),
    "scaled decode": partial(prepared, decoded_again),
    "SIMD": partial(prepared, by_simd),
}


def parts(data: bytes) -> dict[str, float]:
    """Seconds of each part of `image_preparation.prepare`, and of SHA-256 alone."""
    rgb = decoding.decode(data)
    size = image_preparation.shrunk_size(*rgb.size, SHORTER_SIDE_PX)
    small, packed = rgb.resize(size, Image.Resampling.LANCZOS), rgb.tobytes()
    shrinks = size != rgb.size
    return taking_turns(
        {
            "prepare": lambda: image_preparation.prepare(data, SHORTER_SIDE_PX),
            "decode": lambda: decoding.decode(data),
            "hash": lambda: pixel_identity.pixels_id(rgb),
            "SHA-256 alone": lambda: hashlib.sha256(packed).digest(),
            "resize": lambda: rgb.resize(size, Image.Resampling.LANCZOS) if shrinks else None,
            "store": lambda: stored(small) if shrinks else None,
        }
    )


def measure_preprocess(photos: list[bytes], networks: list[Network]) -> None:
    each = [parts(data) for data in photos]
    typical = {name: statistics.median(one[name] for one in each) * 1000 for name in each[0]}
    print("  preprocess: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in typical.items()))
    copies = [1 - (one["hash"] - one["SHA-256 alone"]) / one["prepare"] for one in each]
    print(f"    {'no copy to hash':16} {spread(copies)} of the time, the same pixels")
    timed = [
        taking_turns({name: lambda way=way, data=data: way(data) for name, way in PREPARATIONS.items()})
        for data in photos
    ]
    before = [[_embedded(network, as_now(data)) for network in networks] for data in photos]
    for name, way in list(PREPARATIONS.items())[1:]:
        after = [[_embedded(network, way(data)) for network in networks] for data in photos]
        moved = cosines([pair for a, b in zip(before, after, strict=True) for pair in zip(a, b, strict=True)])
        ratios = [one[name] / one["as now"] for one in timed]
        print(f"    {name:16} {spread(ratios)} of the time, {moved}", flush=True)


def open_network(row: str, image_size: int) -> Network:
    opened = encoder(row, image_size)
    look_up = fused(opened.transform)
    assert isinstance(look_up, LookUp)
    pixels = torch.zeros(1, 3, image_size, image_size)
    forward_ms = {}
    for precision in PRECISIONS:
        engine = selection.candidates(Embed(device="cpu", precision=precision))[0]
        network = conversion.prepare(engine, encoder(row, image_size))
        batch = conversion.padded([pixels[0]], network.shape)
        network.forward(batch)
        times = [seconds(lambda network=network, batch=batch: network.forward(batch)) for _ in range(20)]
        forward_ms[precision] = statistics.median(times) / network.shape * 1000
    return Network(opened, look_up, forward_ms)


def _embedded(network: Network, data: bytes) -> npt.NDArray[np.float64]:
    return network.vector(network.transform.pixels(decoding.decode(data)))


def by_torch(network: Network, data: bytes) -> Pixels:
    """The transform's steps with torch's resize: [H, W, RGB]."""
    resize, crop = steps(network)
    tensor = torch.from_numpy(np.array(decoding.decode(data))).permute(2, 0, 1)
    size = [resize.size] if isinstance(resize.size, int) else list(resize.size)
    sized = functional.resize(tensor, size, resize.interpolation, antialias=True)
    return functional.center_crop(sized, list(crop.size)).permute(1, 2, 0).numpy()


def by_cropping_first(network: Network, data: bytes) -> Pixels:
    """The transform's steps, of which Pillow computes only what the crop leaves: [H, W, RGB]."""
    resize, crop = steps(network)
    rgb = decoding.decode(data)
    side = resize.size if isinstance(resize.size, int) else min(resize.size)
    width, height = (side * length // min(rgb.size) for length in rgb.size)
    high, wide = crop.size
    left, top = round((width - wide) / 2), round((height - high) / 2)
    across, down = rgb.width / width, rgb.height / height
    box = (left * across, top * down, (left + wide) * across, (top + high) * down)
    filter_ = Image.Resampling[resize.interpolation.name]
    return np.asarray(rgb.resize((wide, high), filter_, box))


def by_scaled_decode(network: Network, data: bytes) -> Pixels:
    side = network.encoder.config.resize_px or network.encoder.config.image_size
    return network.transform.pixels(scaled(data, side, side).convert("RGB"))


def steps(network: Network) -> tuple[Any, Any]:
    """Resize and CenterCrop, with which the demo's two transforms begin."""
    resize, crop, *_ = network.encoder.transform.transforms  # type: ignore[attr-defined]
    return resize, crop


def measure_embed(photos: list[bytes], network: Network) -> None:
    shown = [as_now(data) for data in photos]
    ways: dict[str, Callable[[bytes], Pixels]] = {
        "as now": lambda data: network.transform.pixels(decoding.decode(data)),
        "torch's resize": lambda data: by_torch(network, data),
        "crop first": lambda data: by_cropping_first(network, data),
        "scaled decode": lambda data: by_scaled_decode(network, data),
    }
    timed = [
        taking_turns({name: lambda way=way, data=data: way(data) for name, way in ways.items()})
        for data in shown
    ]
    now = statistics.median(one["as now"] for one in timed) * 1000
    decoded = statistics.median(seconds(lambda data=data: decoding.decode(data)) for data in shown) * 1000
    forward = ", ".join(f"network {ms:.2f} ms in {name}" for name, ms in network.forward_ms.items())
    print(f"  embed, {network.name}: decode and transform {now:.2f} ms (decode {decoded:.2f} ms), {forward}")
    for name, way in list(ways.items())[1:]:
        saved = statistics.median(one["as now"] - one[name] for one in timed) * 1000
        pairs = [(network.vector(ways["as now"](data)), network.vector(way(data))) for data in shown]
        ratios = [one[name] / one["as now"] for one in timed]
        shares = ", ".join(
            f"{saved / (now + ms):.0%} of {precision}'s" for precision, ms in network.forward_ms.items()
        )
        print(f"    {name:16} {spread(ratios)} of the time, saves {shares}, {cosines(pairs)}", flush=True)


def main() -> None:
    parser = command.parser("preparation")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=PHOTOS_PER_SIZE)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    files = real_photos.files(asked.folder)
    networks = [open_network(row, size) for row in NETWORKS for size in IMAGE_SIZES_PX]
    print(
        f"{machine.cpu_name()}, Pillow {PIL.__version__} with libjpeg-turbo "
        f"{features.version('libjpeg_turbo')}, torch {torch.__version__}"
    )
    print(f"{asked.photos} photos of each size, put together from {len(files)}; processor time of one thread")
    for megapixels, (width, height) in real_photos.SIZES.items():
        chance = random.Random(0)
        photos = [real_photos.put_together(files, width, height, chance) for _ in range(asked.photos)]
        print(
            f"\n{megapixels} megapixels, {statistics.mean(map(len, photos)) / width / height:.2f} B a pixel"
        )
        measure_preprocess(photos, networks)
        for network in networks:
            measure_embed(photos, network)


if __name__ == "__main__":
    cli.run(main)
