"""How long `dvc repro` takes and how much disk, for photos that nothing was computed of yet.

Only arithmetic: no file is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# From the settings and the number of photos; from what was measured on this machine; from what was measured
# elsewhere, or by a rule of thumb.
Basis = Literal["computed", "measured", "guessed"]

# The vectors of a row are in the Parquet table, in the FAISS index and in the local cache, some of them
# compressed. Measured with the demo and with photos.
STORED_BYTES_PER_VECTOR_BYTE = 2.5
BYTES_PER_PARAMETER = 4
BYTES_PER_FLOAT = 4
BYTES_PER_PIXEL = 3
# Of the commands that DVC runs one by one: Python, its libraries, the hashes of what goes in and out.
SECONDS_PER_STAGE = 4.5
# A training step computes the network forwards and backwards, in torch; embedding uses a faster engine.
TRAINED_PER_EMBEDDED = 1 / 7
_SAMPLE = ("the sample of photos",)


@dataclass(frozen=True)
class Speed:
    """Images per second, and where the number comes from, as the end of a sentence."""

    images_per_second: float
    basis: Basis
    origin: str

    def at_size(self, size_px: int, wanted_px: int) -> Speed:
        """The speed with images of another size: a convolution's work grows with the number of pixels."""
        if size_px == wanted_px:
            return self
        speed = self.images_per_second * (size_px / wanted_px) ** 2
        return Speed(speed, "guessed", f"{self.origin} at {size_px} px")


@dataclass(frozen=True)
class PhotoCosts:
    """The mean costs of a photo: seconds on one core, bytes on disk."""

    prepare_seconds: float
    prepared_bytes: float
    replaced_bytes: float
    picture_seconds: float
    picture_bytes: float


@dataclass(frozen=True)
class RowWork:
    """What a row with an encoder has to do.

    Attributes:
        embedded: how many images get a vector.
        embedding: None if it is not known.
        drawn: how many images the training draws; 0 if it does not train.
        training: None if it is not known.
        max_training_seconds: after which training stops.
        dim, parameters, image_size: of the network; None if they are not known yet.
        pixels: names the pixels that the network sees; equal for rows that share them.
        cached_pixels: of how many images these are cached.
    """

    row: str
    embedded: int
    embedding: Speed | None
    drawn: int = 0
    training: Speed | None = None
    max_training_seconds: float = 0.0
    dim: int | None = None
    parameters: int | None = None
    image_size: int | None = None
    pixels: str = ""
    cached_pixels: int = 0


@dataclass(frozen=True)
class Amount:
    """A line of the estimate.

    Attributes:
        what: the name of the stages, or of what is on disk.
        amount: seconds or bytes.
        basis: guessed as soon as any part of it is.
        unknown: the rows of which nothing is known yet, so that they are not in it.
    """

    what: str
    amount: float
    basis: Basis
    origins: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def seconds(
    photos: int, test_photos: int, costs: PhotoCosts | None, rows: Sequence[RowWork], stages: int, cores: int
) -> list[Amount]:
    """How long each part of `dvc repro` takes.

    Args:
        photos: how many data/raw has; test_photos: of those, queries and gallery.
        costs: of a photo; None if no photo could be read.
        stages: how many commands DVC runs.
        cores: preprocess uses all of them; the speeds of rows are those of all of them already.
    """
    parts = []
    if costs:
        parts.append(Amount("preprocess", photos * costs.prepare_seconds / cores, "measured", _SAMPLE))
    if any(row.drawn for row in rows):
        parts.append(_training(rows))
    parts.append(_embedding(rows))
    if costs:
        parts.append(
            Amount("report's pictures", test_photos * costs.picture_seconds / cores, "measured", _SAMPLE)
        )
    rule = f"{SECONDS_PER_STAGE:g} s for each of {stages} stages"
    parts.append(Amount("starting the stages", stages * SECONDS_PER_STAGE, "guessed", (rule,)))
    return parts


def disk_bytes(
    photos: int, test_photos: int, costs: PhotoCosts | None, rows: Sequence[RowWork], pixel_cache_bytes: float
) -> list[Amount]:
    """How much disk data/ and the local cache take beside data/raw.

    Args:
        pixel_cache_bytes: the most that decoded pixels may take.
    """
    parts = []
    if costs:
        per_photo = costs.prepared_bytes + costs.replaced_bytes
        parts.append(Amount("prepared images", photos * per_photo, "measured", _SAMPLE))
        parts.append(Amount("report's pictures", test_photos * costs.picture_bytes, "measured", _SAMPLE))
    vectors = sum((row.dim or 0) * BYTES_PER_FLOAT * row.embedded for row in rows)
    parts.append(
        Amount(
            "vectors",
            vectors * STORED_BYTES_PER_VECTOR_BYTE,
            "computed",
            unknown=tuple(row.row for row in rows if row.dim is None),
        )
    )
    copies = {
        False: 1,
        True: 3,
    }  # A trained row has what was fetched, the result, and a copy of it in the cache.
    weights = sum((row.parameters or 0) * BYTES_PER_PARAMETER * copies[bool(row.drawn)] for row in rows)
    parts.append(
        Amount(
            "weights",
            weights,
            "computed",
            unknown=tuple(row.row for row in rows if row.parameters is None),
        )
    )
    pixels = _pixels(rows, pixel_cache_bytes)
    return [*parts, pixels] if pixels.amount else parts


def _training(rows: Sequence[RowWork]) -> Amount:
    trained = [row for row in rows if row.drawn]
    speeds = [row.training for row in trained if row.training]
    total = sum(
        min(row.drawn / row.training.images_per_second, row.max_training_seconds)
        for row in trained
        if row.training
    )
    return Amount(
        "train",
        total,
        _basis(speeds),
        _origins(speeds),
        tuple(row.row for row in trained if not row.training),
    )


def _embedding(rows: Sequence[RowWork]) -> Amount:
    speeds = [row.embedding for row in rows if row.embedding]
    total = sum(row.embedded / row.embedding.images_per_second for row in rows if row.embedding)
    return Amount(
        "embed", total, _basis(speeds), _origins(speeds), tuple(row.row for row in rows if not row.embedding)
    )


def _pixels(rows: Sequence[RowWork], max_bytes: float) -> Amount:
    by_pixels: dict[str, int] = {}
    for row in rows:
        if row.image_size:
            in_bytes = BYTES_PER_PIXEL * row.image_size**2 * row.cached_pixels
            by_pixels[row.pixels] = max(by_pixels.get(row.pixels, 0), in_bytes)
    return Amount("decoded pixels", min(max_bytes, sum(by_pixels.values())), "computed")


def _basis(speeds: Sequence[Speed]) -> Basis:
    return "guessed" if any(speed.basis == "guessed" for speed in speeds) else "measured"


def _origins(speeds: Sequence[Speed]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(speed.origin for speed in speeds))
