# SPDX-License-Identifier: Apache-2.0
"""Embeds photos and searches a gallery, exactly as the row was measured.

This file and the folder around it are all that a service needs. It imports numpy, Pillow, onnxruntime and,
to search, faiss; `tokenizers` to embed texts, and pillow-heif to read HEIC, where they are wanted.

    import lineup_row
    vectors = lineup_row.embed(["a.jpg", "b.jpg"])           # float32 [2, D]
    for hit in lineup_row.search("a.jpg", k=5, threshold="default"):
        print(hit.rank, hit.score, hit.label, hit.path)

A photo is prepared in three steps, in this order: `decode` (upright, 8-bit RGB, on white), `shrink` (as it
was stored before the measurement), and the steps of the network's own transform. settings.json holds every
number.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

FOLDER = Path(__file__).resolve().parent

Vectors = np.ndarray  # float32 [N, D]
Vector = np.ndarray  # float32 [D]
Photo = str | os.PathLike[str] | bytes  # a path, or a file's content

# ------------------------------------------------------------------------------------------------- decoding

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 2 * 89_478_485
MAX_ASPECT_RATIO = 100
JPEG_QUALITY = 95
JPEG_MAX_SIDE_PX = 65_535
_STRIP_PIXELS = 2**20
_EXIF_ORIENTATION = 0x0112
_TRANSPOSE_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIC_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"heif"),
    *(b"mif1", b"mif2", b"msf1"),
}

warnings.filterwarnings("ignore", module=r"PIL\.")  # odd metadata do no harm where the photo decodes


class BadPhoto(ValueError):
    """A photo that cannot be embedded; the message is the reason."""


class Decoded(NamedTuple):
    """rgb: upright, 8 bits a channel; lossy: whether the file's compression is lossy."""

    rgb: Image.Image
    lossy: bool


def decode(data: bytes) -> Decoded:
    """A file's bytes -> its first frame: upright, 8-bit RGB, on white where it is transparent.

    Of 16-bit values the upper 8 bits are used; if the file says that they have fewer bits, the upper 8 of
    those. CMYK becomes RGB by (255 - ink) * (255 - black) / 255. Colour profiles are not applied.

    Raises:
        BadPhoto: with the reason.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if not data:
        raise BadPhoto("is empty (0 bytes)")
    try:
        return _decode(data)
    except (BadPhoto, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadPhoto(f"has more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise BadPhoto("is not an image of a format that can be read") from None
    except Exception as error:  # Pillow's plug-ins raise almost anything on damaged bytes.
        raise BadPhoto(f"can't be decoded ({error})") from None


def shrink(decoded: Decoded, shorter_side_px: int) -> Image.Image:
    """The photo as it was stored for the measurement: its shorter side has at most about `shorter_side_px`.

    A photo that was compressed with loss was stored as a JPEG, whose traces the network saw.

    Raises:
        BadPhoto: one side is more than MAX_ASPECT_RATIO times the other.
    """
    rgb = decoded.rgb
    if max(rgb.size) > MAX_ASPECT_RATIO * min(rgb.size):
        raise BadPhoto(f"has one side of more than {MAX_ASPECT_RATIO} times the other; crop it")
    size = _shrunk_size(*rgb.size, shorter_side_px)
    if size == rgb.size:
        return rgb
    small = rgb.resize(size, Image.Resampling.LANCZOS)
    if not decoded.lossy or max(size) > JPEG_MAX_SIDE_PX:
        return small
    stored = io.BytesIO()
    small.info.clear()
    small.save(stored, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return Image.open(stored).convert("RGB")


def _shrunk_size(width: int, height: int, shorter_side_px: int) -> tuple[int, int]:
    """The shorter side may have up to a sixteenth more, whichever preserves the aspect ratio best."""
    shorter, longer = min(width, height), max(width, height)
    if shorter <= shorter_side_px:
        return width, height
    sides = range(shorter_side_px, min(shorter, shorter_side_px + shorter_side_px // 16) + 1)
    side = min(sides, key=lambda side: abs(side * longer - shorter * round(side * longer / shorter)))
    return round(width * side / shorter), round(height * side / shorter)


def _open(data: bytes) -> ImageFile.ImageFile:
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4]), 256), 4))}
    if data[4:8] == b"ftyp" and brands & _HEIC_BRANDS and not brands & {b"avif", b"avis"}:
        try:
            import pillow_heif  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise BadPhoto("is HEIC, which needs pillow-heif: run `pip install pillow-heif`") from None
        image = pillow_heif.HeifImageFile(io.BytesIO(data))
    else:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    return image


def _decode(data: bytes) -> Decoded:
    image = _open(data)
    name = {"MPO": "JPEG", "HEIF": "HEIC"}.get(image.format or "", image.format or "")
    lossy = name in ("JPEG", "AVIF", "JPEG2000", "HEIC") or (name == "WEBP" and b"VP8L" not in data)
    depth = _depth(image, data)
    try:
        image.load()
    except OSError as error:
        if name != "JPEG" or "truncated" not in str(error):
            raise
        image = _decode_without_end(data)
    reduced = _to_8_bits(image, depth, lambda: _open(data))
    if reduced.mode in ("I", "F", "LAB", "HSV"):
        raise BadPhoto(
            f"has pixels of an uncommon kind ({reduced.mode}); save it with 8 or 16 bits a channel"
        )
    return Decoded(_upright(_to_rgb(reduced), image), lossy)


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # A broken EXIF block says nothing about the picture.
        return rgb
    transpose = _TRANSPOSE_TO_UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return rgb if transpose is None else rgb.transpose(transpose)


def _to_rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    for box in _strips(image):
        rgba = image.crop(box).convert("RGBA")
        white.paste(rgba, box, rgba.getchannel("A"))
    return white


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover an image from the top, of about a million pixels each."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


# A JPEG that ends after its last pixel is complete if the picture stays the same whatever follows.
_JPEG_END = b"\xff\xd9"
_RISING, _FALLING = bytes(range(0x01, 0xFF)), bytes(range(0xFE, 0x00, -1))
_JPEG_TAILS = (_RISING, _FALLING, *(bytes((0xFF, 0xD0 + restart)) + _RISING for restart in range(8)))
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_JPEG_FRAMES, _JPEG_SCAN = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, 0xDA
_JPEG_COEFFICIENTS = 64


def _decode_without_end(data: bytes) -> ImageFile.ImageFile:
    start = data.rstrip(_JPEG_END[:1])
    image = None
    try:
        image = _ended_jpeg(start)
        pixels = image.tobytes()
        complete = _has_every_scan(start) and all(
            _ended_jpeg(start + tail).tobytes() == pixels for tail in _JPEG_TAILS
        )
    except OSError:
        complete = False
    if image is None or not complete:
        raise BadPhoto("is truncated")
    return image


def _ended_jpeg(endless: bytes) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(endless + _JPEG_END), formats=("JPEG", "MPO"))
    image.load()
    return image


def _has_every_scan(data: bytes) -> bool:
    """Whether a JPEG's scans have every bit of each coefficient of each component."""
    components, bits_missing, position = b"", {}, 2
    try:
        while (match := _JPEG_MARKER.search(data, position)) and (marker := match[0][1]) != _JPEG_END[1]:
            start = match.end()
            position = start + max(2, int.from_bytes(data[start : start + 2]))
            body = data[start + 2 : position]
            if marker in _JPEG_FRAMES:
                components = body[6 : 6 + 3 * body[5] : 3]
            elif marker == _JPEG_SCAN:
                scanned, (first, last, low) = body[1 : 1 + 2 * body[0] : 2], body[1 + 2 * body[0] :]
                bits_missing |= dict.fromkeys(product(scanned, range(first, last + 1)), low & 15)
    except (IndexError, ValueError):  # A header is cut off.
        return False
    return bool(components) and all(
        bits_missing.get(each) == 0 for each in product(components, range(_JPEG_COEFFICIENTS))
    )


# ------------------------------------------------------------------------------- more than 8 bits a channel

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_DESCRIPTION, _TIFF_MAX_VALUES = 258, 262, 270, (341, 281)
_WHITE_IS_ZERO = 0
_OME_BITS = re.compile(r'SignificantBits="(\d+)"')
_DEEP_COLOUR = re.compile("(RGBX?|RGBA|CMYK);16([LBN])")
_OTHER_ORDER = {"L": "B", "B": "L", "N": "L" if sys.byteorder == "big" else "B"}


class _Depth(NamedTuple):
    """stored: bits of a value in the file; stated: how many of them are used, None if it does not say;
    stretched: whether values of fewer bits are stored as if they had 16.
    """  # noqa: D205

    stored: int = 8
    stated: int | None = None
    stretched: bool = False

    def used(self, union: int) -> int:
        """How many of the 16 bits are used; union: the bitwise OR of all values."""
        stated = self.stated
        if stated is None or union >> stated or (self.stretched and not union & (2 ** (16 - stated) - 1)):
            return 16
        return stated


def _depth(image: ImageFile.ImageFile, data: bytes) -> _Depth:
    if image.format == "PNG":
        return _Depth(data[24], _plausible(_png_significant_bits(data)), stretched=True)
    if image.format == "TIFF":
        tags: Mapping[int, Any] = image.tag_v2  # type: ignore[attr-defined]
        bits = max(tags.get(_TIFF_BITS, (1,)))
        return _Depth(bits, bits if bits < 16 else _stated_in_tiff(tags))
    if image.format == "JPEG2000":
        start = data.find(b"\xff\x4f\xff\x51")
        precision = data[start + 42 : start + 43]
        bits = (precision[0] & 0x7F) + 1 if start >= 0 and precision else 8
        return _Depth(bits, None if bits == 16 else 16)
    if image.format == "PPM":
        arguments = image.tile[0].args
        largest = arguments[1] if isinstance(arguments, tuple) else {"I;16B": 65535}.get(str(arguments), 255)
        return _Depth(16 if largest > 255 else 8, None if largest == 65535 else 16)
    return _Depth()


def _stated_in_tiff(tags: Mapping[int, Any]) -> int | None:
    for tag in _TIFF_MAX_VALUES:
        values = tags.get(tag)
        if isinstance(values, int | float):
            values = (values,)
        largest = set(values) if isinstance(values, tuple) else set()
        bits = int(max(largest)).bit_length() if largest else 0
        if largest == {2**bits - 1} and bits < 16:
            return _plausible(bits)
    stated = _OME_BITS.search(str(tags.get(_TIFF_DESCRIPTION, "")))
    return _plausible(int(stated[1])) if stated else None


def _plausible(bits: int | None) -> int | None:
    return bits if bits is not None and 8 <= bits <= 16 else None


def _png_significant_bits(data: bytes) -> int | None:
    position = 8
    while (kind := data[position + 4 : position + 8]) and kind != b"IDAT":
        (length,) = struct.unpack_from(">I", data, position)
        if kind == b"sBIT" and length:
            return max(data[position + 8 : position + 8 + length])
        position += 12 + length
    return None


def _to_8_bits(image: Image.Image, depth: _Depth, reopen: Callable[[], ImageFile.ImageFile]) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _grey(image, depth)
    bands = image.getbands()
    if depth.stored <= 8 or len(bands) == 1 or depth.stated is None or depth.stated == 16:
        return image
    extrema: Any = image.getextrema()
    if max(largest for _, largest in extrema[: len(bands) - (bands[-1] == "A")]) >> (depth.stated - 8):
        return image
    lower = _lower_bytes(reopen())
    return image if lower is None else _scaled_colour(image, lower, depth)


def _grey(image: Image.Image, depth: _Depth) -> Image.Image:
    values = np.asarray(image)
    bits = depth.used(int(np.bitwise_or.reduce(values, axis=None)))
    grey = (values >> (bits - 8)).astype(np.uint8)
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _lower_bytes(image: ImageFile.ImageFile) -> Image.Image | None:
    """The lower bytes of 16-bit colour, which Pillow reads if told the other byte order; None if it can't."""
    tiles = []
    for tile in image.tile:
        raw, *others = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        mode = _DEEP_COLOUR.fullmatch(str(raw))
        if not mode:
            return None
        raw = f"{mode[1]};16{_OTHER_ORDER[mode[2]]}"
        tiles.append(tile._replace(args=(raw, *others) if others else raw))
    image.tile = tiles
    image.load()
    return image


def _scaled_colour(image: Image.Image, lower: Image.Image, depth: _Depth) -> Image.Image:
    union = max(np.bitwise_or.reduce(np.asarray(lower.crop(box)), axis=None) for box in _strips(lower))
    bits = depth.used(int(union))
    if bits == 16:
        return image
    for box in _strips(image):
        values = np.asarray(image.crop(box)).astype(np.uint16) << 8 | np.asarray(lower.crop(box))
        reduced = np.minimum(values >> (bits - 8), 255).astype(np.uint8)
        image.paste(Image.frombytes(image.mode, (box[2], box[3] - box[1]), reduced.tobytes()), box)
    return image


# --------------------------------------------------------------------------------- the network's transform


def transform(rgb: Image.Image, encoder: Mapping[str, Any]) -> np.ndarray:
    """A shrunk photo -> float32 [3, H, W], what the network gets; encoder: an entry of settings.json."""
    pixels = rgb
    for step in encoder["steps"]:
        pixels = _STEPS[step["step"]](pixels, step)
    values = np.asarray(pixels, dtype=np.float32) if isinstance(pixels, Image.Image) else pixels
    mean, std = (np.array(encoder[name], np.float32) for name in ("mean", "std"))
    return np.ascontiguousarray(((values / np.float32(255) - mean) / std).transpose(2, 0, 1))


def _resize(rgb: Image.Image, step: Mapping[str, Any]) -> Image.Image | np.ndarray:
    """To `size` [width, height], or until the shorter side has `shorter_side_px`.

    values: float32 resizes without rounding to 8 bits, as some networks' own transforms do.
    """
    if "size" in step:
        size = tuple(step["size"])
    else:
        side, shorter, longer = step["shorter_side_px"], min(rgb.size), max(rgb.size)
        long = int(side * longer / shorter)
        size = (side, long) if rgb.width <= rgb.height else (long, side)
    resampling = Image.Resampling[step["interpolation"].upper()]
    if step.get("values") == "float32":
        channels = (channel.convert("F").resize(size, resampling) for channel in rgb.split())
        return np.stack([np.asarray(channel) for channel in channels], axis=2)
    return rgb if rgb.size == size else rgb.resize(size, resampling)


def _crop(pixels: Image.Image | np.ndarray, step: Mapping[str, Any]) -> Image.Image | np.ndarray:
    """The centre of `size` [width, height]; where the photo is smaller, it gets a black border.

    half_pixel: down takes the pixel before a centre that lies between two; else the even one.
    """
    width, height = step["size"]
    values = np.asarray(pixels)
    rows, columns = values.shape[:2]
    missing = (max(height - rows, 0), max(width - columns, 0))
    if any(missing):
        border = [(missing[0] // 2, -(-missing[0] // 2)), (missing[1] // 2, -(-missing[1] // 2)), (0, 0)]
        values = np.pad(values, border)
        rows, columns = values.shape[:2]
    rounded = int if step.get("half_pixel") == "down" else round
    top, left = rounded((rows - height) / 2), rounded((columns - width) / 2)
    return values[top : top + height, left : left + width].astype(np.float32)


_STEPS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {"resize": _resize, "crop": _crop}

# ------------------------------------------------------------------------------------------------ searching

Metric = Literal["cosine", "l2"]
MARGIN = 8  # candidates beyond k
_QUOTED_FORMULA = re.compile(r"''*([ \t\r\n]*[=+\-@＝＋－＠]|[\t\r\n])")  # noqa: RUF001
# How a row of settings.json may rank: by its index, or by a method of `Row` that refines other rows.
METHODS = (
    "nearest",
    "approximate",
    "whitening",
    "truncate",
    "quantise",
    "query_expansion",
    "k_reciprocal",
    "local_scaling",
    "score_normalisation",
    "reciprocal_rank_fusion",
    "score_fusion",
)


class Hits(NamedTuple):
    """Positions in the gallery, int64 [K], nearest first, and their scores, float32 [K], falling."""

    positions: np.ndarray
    scores: np.ndarray


class Hit(NamedTuple):
    """score: higher is nearer; label: None where the gallery has none; path: of the photo, below data/raw."""

    rank: int
    score: float
    image_id: str
    label: str | None
    path: str


@dataclass
class Query:
    """A query's vectors by encoder, as the network gave them: float32 [D] each."""

    vectors: Mapping[str, Vector]
    hits: dict[tuple[str, int], Hits] = field(default_factory=dict)


def searchable(vectors: Vectors, metric: Metric) -> Vectors:
    """Vectors as they are compared, float32 [N, D]: of length 1 for cosine, unchanged for l2."""
    if metric == "l2":
        return np.ascontiguousarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


class Index:
    """A FAISS index of the gallery, whose candidates are scored again, pair by pair; position breaks ties."""

    def __init__(self, path: Path, metric: Metric) -> None:
        import faiss  # type: ignore[import-untyped,unused-ignore]

        self.metric: Metric = metric
        self.faiss = faiss.read_index(str(path))
        lists = faiss.try_extract_index_ivf(self.faiss)
        if lists is not None and not isinstance(self.faiss, faiss.IndexRefine):
            lists.make_direct_map()

    def vectors(self, positions: np.ndarray) -> Vectors:
        """Gallery vectors as they are compared: int64 [n] -> float32 [n, D]."""
        return searchable(self.faiss.reconstruct_batch(positions), self.metric)

    def scores(self, vector: Vector, positions: np.ndarray) -> np.ndarray:
        """Cosine similarities, or minus squared distances: float32 [n]."""
        stored = self.vectors(positions).astype(np.float64)
        if self.metric == "cosine":
            return (stored @ vector.astype(np.float64)).astype(np.float32)
        return -((stored - vector) ** 2).sum(axis=1).astype(np.float32)

    def nearest(self, vector: Vector, k: int) -> Hits:
        """The k nearest images; an approximate index may find fewer."""
        size = self.faiss.ntotal
        k = min(k, size)
        depth = min(size, k + MARGIN)
        while True:
            candidates = self.faiss.search(vector[None], depth)[1][0]
            positions = candidates[candidates >= 0]
            scores = self.scores(vector, positions)
            hits = best(positions, scores, k)
            # Where the last candidate is as near as the last hit, an image that is left out may be as near.
            tied = len(positions) == depth and depth < size and _as_near(hits.scores[-1], scores.min())
            if not tied:
                return hits
            depth = min(size, 2 * depth)


def _as_near(one: float, other: float) -> bool:
    """Whether two scores differ by no more than rounding."""
    return abs(one - other) <= 1e-6 * max(1.0, abs(one))


def best(positions: np.ndarray, scores: np.ndarray, k: int) -> Hits:
    """The k best candidates, by falling score in float32, equal ones by position."""
    scores = scores.astype(np.float32)
    order = np.lexsort((positions, -scores))[:k]
    return Hits(positions[order], scores[order])


# ----------------------------------------------------------------------------------------------- refinements


class Row:
    """The row that settings.json describes, loaded from its folder.

    Networks, indexes and the gallery are loaded when they are first needed. Several threads may call `search`
    and `embed`.

    threads: how many each network computes with; None for all cores.
    """

    def __init__(self, folder: str | os.PathLike[str] = FOLDER, threads: int | None = None) -> None:
        self.folder, self._threads = Path(folder), threads
        self.settings: dict[str, Any] = json.loads(
            (self.folder / "settings.json").read_text(encoding="utf-8")
        )
        self._rows: dict[str, dict[str, Any]] = self.settings["rows"]
        self._encoders: dict[str, dict[str, Any]] = self.settings["encoders"]

    @property
    def threshold(self) -> float | None:
        """The score from which on an answer is a match, as settings.json promises it; None if it has none."""
        threshold = self.settings["threshold"]
        return None if threshold is None else threshold["score"]

    def embed(self, photos: Sequence[Photo], space: str | None = None, batch_size: int = 8) -> Vectors:
        """Photos -> their vectors, float32 [N, D], as gallery.parquet and index.faiss have them.

        Args:
            space: one of settings.json's `spaces`; needed only where there is more than one.
        Raises:
            BadPhoto: a photo can't be read; the message begins with its path.
        """
        name = self._space(space)
        encoder = self._encoder_of(name)
        raw = [np.empty((0, self._encoders[encoder]["dimensions"]), np.float32)]
        for start in range(0, len(photos), batch_size):
            images = [self._shrunk(photo) for photo in photos[start : start + batch_size]]
            raw.append(self._network_vectors(encoder, images))
        return self._in_space(name, np.concatenate(raw))

    def embed_texts(self, texts: Sequence[str], space: str | None = None) -> Vectors:
        """Texts -> their vectors, float32 [N, D]; it needs the package `tokenizers`.

        Raises:
            ValueError: the row has no text tower, or none whose tokenizer is part of the folder.
        """
        name = self._space(space)
        return self._in_space(name, self._text_vectors(self._encoder_of(name), texts))

    def embed_tokens(self, tokens: Mapping[str, np.ndarray], space: str | None = None) -> Vectors:
        """What a tokenizer of your own gives, int64 [N, L] by the name of the input -> float32 [N, D]."""
        name = self._space(space)
        return self._in_space(name, self._token_vectors(self._encoder_of(name), tokens))

    def search(
        self, photo: Photo, k: int = 10, threshold: float | Literal["default"] | None = None
    ) -> list[Hit]:
        """The k nearest gallery photos, nearest first; fewer, or none, where a threshold is given.

        Args:
            threshold: the least score of an answer. "default" is that of settings.json, None for none.
        """
        image = self._shrunk(photo)
        vectors = {name: self._network_vectors(name, [image])[0] for name in self._encoders}
        return self.search_vectors(vectors, k, threshold)

    def search_text(self, text: str, k: int = 10, threshold: float | None = None) -> list[Hit]:
        """The k gallery photos that are nearest to a text. The thresholds hold for photos only."""
        vectors = {name: self._text_vectors(name, [text])[0] for name in self._encoders}
        return self.search_vectors(vectors, k, threshold)

    def search_vectors(
        self,
        vectors: Mapping[str, Vector],
        k: int = 10,
        threshold: float | Literal["default"] | None = None,
    ) -> list[Hit]:
        """As `search`, for a query whose vectors are known: as the networks give them, by encoder."""
        if threshold == "default" and self.threshold is None:
            raise ValueError("threshold: settings.json has none for this row; give a score")
        least = self.threshold if threshold == "default" else threshold
        hits = self._hits(self.settings["row"], Query(vectors), k)
        ids, labels, paths = self._gallery
        return [
            Hit(rank, float(score), ids[position], labels[position] or None, paths[position])
            for rank, (position, score) in enumerate(zip(*hits, strict=True), 1)
            if least is None or score >= least
        ]

    # --------------------------------------------------------------------------------- from photo to vector

    def _shrunk(self, photo: Photo) -> Image.Image:
        where, data = ("photo", photo) if isinstance(photo, bytes) else (os.fspath(photo), b"")
        try:
            data = data if isinstance(photo, bytes) else Path(photo).read_bytes()
            return shrink(decode(data), self.settings["preparation"]["shorter_side_px"])
        except BadPhoto as error:
            raise BadPhoto(f"{where}: {error}") from None

    def _network_vectors(self, encoder: str, images: Sequence[Image.Image]) -> Vectors:
        pixels = np.stack([transform(image, self._encoders[encoder]) for image in images])
        return self._session(self._encoders[encoder]["file"]).run(["vectors"], {"pixels": pixels})[0]

    def _text_vectors(self, encoder: str, texts: Sequence[str]) -> Vectors:
        settings = self._text_settings(encoder)
        if not settings["tokenizer"]:
            raise ValueError(f"{encoder}: its tokenizer is no part of this folder; use embed_tokens")
        encodings = self._tokenizer(encoder).encode_batch(list(texts))
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "tokens": "ids"}
        return self._token_vectors(
            encoder,
            {name: np.array([getattr(e, columns[name]) for e in encodings]) for name in settings["inputs"]},
        )

    def _token_vectors(self, encoder: str, tokens: Mapping[str, np.ndarray]) -> Vectors:
        inputs = {name: np.asarray(tokens[name], np.int64) for name in self._text_settings(encoder)["inputs"]}
        return self._session(self._text_settings(encoder)["file"]).run(["vectors"], inputs)[0]

    def _text_settings(self, encoder: str) -> dict[str, Any]:
        if self._encoders[encoder]["text"] is None:
            raise ValueError(f"{encoder}: has no text tower; search with a photo")
        return self._encoders[encoder]["text"]

    @functools.cache  # noqa: B019 - a row lives as long as its service
    def _tokenizer(self, encoder: str) -> Any:
        import tokenizers  # type: ignore[import-not-found,unused-ignore]

        settings = self._text_settings(encoder)
        tokenizer = tokenizers.Tokenizer.from_file(str(self.folder / settings["tokenizer"]))
        tokenizer.enable_truncation(settings["max_length"])
        tokenizer.enable_padding(
            pad_id=settings["pad_id"],
            pad_token=settings["pad_token"],
            length=settings["max_length"] if settings["pad_to_max_length"] else None,
        )
        return tokenizer

    @functools.cache  # noqa: B019
    def _session(self, file: str) -> Any:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime  # type: ignore[import-untyped,unused-ignore]

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        path = str(self.folder / file)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    # -------------------------------------------------------------------------------- from vector to answer

    def _space(self, space: str | None) -> str:
        spaces = [*self.settings["spaces"]]
        if space is None and len(spaces) > 1:
            raise ValueError(f"space: name one of {', '.join(spaces)}, as the row compares vectors of each")
        if space is not None and space not in self._rows:
            raise ValueError(f"space: {space} is unknown; name one of {', '.join(spaces)}")
        return spaces[0] if space is None else space

    def _encoder_of(self, row: str) -> str:
        while row not in self._encoders:
            row = self._rows[row]["with"]
        return row

    def _in_space(self, row: str, raw: Vectors) -> Vectors:
        """Network's vectors -> as they are compared in a row's space, float32 [N, D]."""
        settings = self._rows[row]
        metric = self._encoders[self._encoder_of(row)]["metric"]
        if settings["method"] == "nearest":
            return searchable(raw, metric)
        vectors = self._in_space(settings["with"], raw)
        if settings["method"] == "truncate":
            return searchable(vectors[:, : settings["dim"]], metric)
        if settings["method"] != "whitening":
            return vectors
        learned = self._learned(row)
        return searchable(((vectors - learned["mean"]) @ learned["directions"]).astype(np.float32), metric)

    def _vector(self, row: str, query: Query) -> Vector:
        return self._in_space(row, query.vectors[self._encoder_of(row)][None])[0]

    def _index_of(self, row: str) -> Index:
        while "index" not in self._rows[row]:
            row = self._rows[row]["with"]
        return self._index(self._rows[row]["index"], self._encoders[self._encoder_of(row)]["metric"])

    @functools.cache  # noqa: B019
    def _index(self, file: str, metric: Metric) -> Index:
        return Index(self.folder / file, metric)

    @functools.cache  # noqa: B019
    def _learned(self, row: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / self._rows[row]["learned"]) as arrays:
            return dict(arrays)

    @functools.cached_property
    def _gallery(self) -> tuple[list[str], list[str], list[str]]:
        """Ids, labels and paths, in the order of the index."""
        with (self.folder / "gallery.csv").open(encoding="utf-8", newline="") as file:
            lines = [[_without_quote(cell) for cell in line] for line in csv.reader(file)][1:]
        ids, paths, labels = ([line[column] for line in lines] for column in range(3))
        return ids, labels, paths

    def _hits(self, row: str, query: Query, k: int) -> Hits:
        """The first k images of a row's ranking."""
        settings = self._rows[row]
        if settings["method"] in ("nearest", "whitening", "truncate", "approximate"):
            return self._index_of(row).nearest(self._vector(row, query), k)
        depth = max(k, settings["depth"])
        if (row, depth) not in query.hits:
            query.hits[row, depth] = getattr(self, f"_{settings['method']}")(row, settings, query, depth)
        return Hits(*(part[:k] for part in query.hits[row, depth]))

    def _query_expansion(self, row: str, settings: Mapping[str, Any], query: Query, depth: int) -> Hits:
        """Searches with the query plus its n nearest, weighted by similarity to the power of alpha."""
        index, vector = self._index_of(row), self._vector(row, query)
        near = index.vectors(self._hits(settings["from"], query, depth).positions[: settings["n"]])
        near, total = near.astype(np.float64), vector.astype(np.float64)
        lengths = np.sqrt((near**2).sum(axis=1) * (total**2).sum())
        cosines = np.where(lengths > 0, near @ total / np.where(lengths > 0, lengths, 1), 0)
        weights = np.maximum(cosines, 0) ** settings["alpha"]
        expanded = (total + weights @ near) / (1 + weights.sum())
        return index.nearest(searchable(expanded.astype(np.float32)[None], index.metric)[0], depth)

    def _quantise(self, row: str, settings: Mapping[str, Any], query: Query, depth: int) -> Hits:
        """The nearest images by vectors of 1 byte or 1 bit a number, scored again with float32."""
        index, vector = self._index_of(row), self._vector(row, query)
        count = settings["rescore"] * depth
        if settings["to"] == "int8":
            positions = self._index(settings["candidates"], index.metric).nearest(vector, count).positions
        else:
            learned = self._learned(row)
            differing = np.packbits(vector > learned["thresholds"]) ^ learned["codes"]
            distances = np.unpackbits(differing, axis=1).sum(axis=1, dtype=np.int64)
            positions = np.argsort(distances, kind="stable")[:count]
        return best(positions, index.scores(vector, positions), depth)

    def _score_normalisation(self, row: str, settings: Mapping[str, Any], query: Query, depth: int) -> Hits:
        """Subtracts the mean score of some ranks behind the likely right ones."""
        positions, scores = self._hits(settings["from"], query, depth)
        first = min(settings["first_rank"], len(scores))
        neighbourhood = scores[max(first - 1, 0) : settings["last_rank"]].astype(np.float64)
        mean = neighbourhood.mean() if len(neighbourhood) else 0.0
        return best(positions, scores.astype(np.float64) - settings["share"] * mean, depth)

    def _local_scaling(self, row: str, settings: Mapping[str, Any], query: Query, depth: int) -> Hits:
        """Twice the similarity, minus those of the query's and the image's neighbourhoods (CSLS)."""
        positions, scores = self._index_of(row).nearest(self._vector(row, query), max(depth, settings["k"]))
        own = np.float32(scores[: settings["k"]].astype(np.float64).mean() if len(scores) else 0)
        similarity = self._learned(row)["similarity"][positions].astype(np.float64)
        return best(positions, 2 * scores.astype(np.float64) - own - similarity, depth)

    def _reciprocal_rank_fusion(
        self, row: str, settings: Mapping[str, Any], query: Query, depth: int
    ) -> Hits:
        """Sums 1 / (k + rank) over both rankings."""
        ranked = [self._hits(settings[part], query, depth).positions for part in ("from", "with")]
        gains = [1 / (settings["k"] + np.arange(1, len(positions) + 1)) for positions in ranked]
        return _summed(ranked, gains, depth)

    def _score_fusion(self, row: str, settings: Mapping[str, Any], query: Query, depth: int) -> Hits:
        """A weighted sum of both rankings' normalised scores; an image of one ranking is the other's last."""
        ranked, gains, floor = [], [], 0.0
        for part, weight in (("from", settings["weight"]), ("with", 1 - settings["weight"])):
            positions, scores = self._hits(settings[part], query, depth)
            above, lowest = _normalised(scores.astype(np.float64), settings["normalisation"])
            ranked.append(positions)
            gains.append(weight * above)
            floor += weight * lowest
        return _summed(ranked, gains, depth, floor)

    def _k_reciprocal(self, row: str, settings: Mapping[str, Any], query: Query, depth: int) -> Hits:
        """Orders the first candidates by shared reciprocal neighbours (Zhong et al., CVPR 2017)."""
        index, vector = self._index_of(row), self._vector(row, query)
        positions = self._hits(settings["from"], query, depth).positions
        near, rest = positions[: settings["candidates"]], positions[settings["candidates"] :]
        vectors = np.concatenate([vector[None], index.vectors(near)]).astype(np.float64)
        if index.metric == "cosine":
            squared = np.maximum(2 - 2 * vectors @ vectors.T, 0)
        else:
            squared = np.stack([((vectors - one) ** 2).sum(axis=1) for one in vectors])
        np.fill_diagonal(squared, 0)
        behind = -1 - np.arange(1, len(rest) + 1) / max(len(rest), 1)
        return best(positions, np.concatenate([-_k_reciprocal_distances(squared, settings), behind]), depth)


def _without_quote(cell: str) -> str:
    """A cell without the single quote that keeps a spreadsheet from computing it."""
    return cell[1:] if _QUOTED_FORMULA.match(cell) else cell


def _summed(
    ranked: Sequence[np.ndarray], gains: Sequence[np.ndarray], depth: int, floor: float = 0.0
) -> Hits:
    """Every image of some rankings once, with the sum of its gains."""
    positions, inverse = np.unique(np.concatenate(ranked), return_inverse=True)
    return best(positions, np.bincount(inverse, np.concatenate(gains), len(positions)) + floor, depth)


def _normalised(scores: np.ndarray, normalisation: str) -> tuple[np.ndarray, float]:
    """Each normalised score minus that of the ranking's last image, and the latter."""
    if len(scores) == 0 or scores.max() == scores.min():
        return np.zeros(len(scores)), 0.0
    lowest, spread = scores.min(), scores.max() - scores.min()
    if normalisation == "min_max":
        return (scores - lowest) / spread, 0.0
    return (scores - lowest) / scores.std(), float((lowest - scores.mean()) / scores.std())


def _k_reciprocal_distances(squared: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """The final distance of the query, which comes first, and each candidate: [n, n] -> [n - 1]."""
    largest = squared.max(axis=1, keepdims=True)
    distances = squared / np.where(largest > 0, largest, 1)
    neighbours = np.argsort(distances - 2 * np.eye(len(distances)), axis=1, kind="stable")
    wide, narrow = (_mutual(neighbours, k) for k in (settings["k1"] + 1, round(settings["k1"] / 2) + 1))
    shared = wide.astype(np.float32) @ narrow.astype(np.float32).T
    joins = wide & (3 * shared > 2 * narrow.sum(axis=1))
    expanded = wide | (joins.astype(np.float32) @ narrow.astype(np.float32) > 0)
    encoded = np.where(expanded, np.exp(-distances), 0.0)
    encoded /= encoded.sum(axis=1, keepdims=True)
    if settings["k2"] > 1:
        encoded = encoded[neighbours[:, : settings["k2"]]].mean(axis=1)
    overlap = np.minimum(encoded[0], encoded[1:]).sum(axis=1)
    share = settings["lambda"]
    return (1 - share) * (1 - overlap / (2 - overlap)) + share * distances[0, 1:]


def _mutual(neighbours: np.ndarray, k: int) -> np.ndarray:
    """Whether two images are among each other's first k, bool [n, n]."""
    forward = np.zeros(neighbours.shape, bool)
    np.put_along_axis(forward, neighbours[:, :k], True, axis=1)
    return forward & forward.T


# ------------------------------------------------------------------------------ the row of this file's folder


@functools.cache
def row() -> Row:
    """The row in the folder of this file, loaded once."""
    return Row()


def embed(photos: Sequence[Photo], space: str | None = None) -> Vectors:
    """See `Row.embed`."""
    return row().embed(photos, space)


def search(photo: Photo, k: int = 10, threshold: float | Literal["default"] | None = None) -> list[Hit]:
    """See `Row.search`."""
    return row().search(photo, k, threshold)
