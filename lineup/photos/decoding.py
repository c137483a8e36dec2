"""Decoding: the one way from a file's bytes to pixels, and the prepared images that every later room reads."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from lineup.photos import image_headers, image_reasons, pixel_values
from lineup.storage import parquet

CODE = tuple(
    Path(str(name)) for name in (__file__, pixel_values.__file__, image_headers.__file__)
)  # all that decides a file's pixels

# Formats that decode in this process from untrusted bytes; EPS, for one, would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 2 * 89_478_485  # where Pillow itself refuses; 716 MB in memory
JPEG_QUALITY = 95
JPEG_MAX_SIDE_PX = 65_535
MAX_PROPORTION = 100  # of the sides; at 518 px such a photo is resized to 27 million pixels

# Decoding takes time by scans x pixels, and an empty scan takes few bytes. jpegtran's scripts have 10 (18 for
# CMYK), and libtiff
# refuses more than 100, too: at MAX_PIXELS these take 12 seconds, as against 1.2 for 10.
MAX_JPEG_SCANS = 100
# 40 ns each. MAX_PIXELS in precincts of 64 x 64, with 20 layers, has 16 million; one precinct for each
# resolution is the rule.
MAX_JPEG2000_PACKETS = 20_000_000

# What prepare() holds at its peak, the decoder's own memory included, as measured; 16-bit colour whose values
# are scaled takes 13.
_BYTES_PER_PIXEL = {"WEBP": 18, "JPEG2000": 20}
_BYTES_PER_PIXEL_ELSE = 13

_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")  # what every browser shows as decode() sees it
_KEPT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_ORIENTATION = 0x0112  # EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_NO_HEIC = "is HEIC, which needs pillow-heif: run `pip install pillow-heif`, then `dvc repro -f preprocess`"
_DARK = "has 16-bit values that all stay below 4,096: if they have 12 bits, it is read 16 times too dark, so save it with 8 bits a channel"

# A JPEG without its end is decoded with each of these behind it: coded pixels of any kind, and those of a new
# restart interval.
_RISING, _FALLING = bytes(range(0x01, 0xFF)), bytes(range(0xFE, 0x00, -1))
_JPEG_TAILS = (_RISING, _FALLING, *(bytes((0xFF, 0xD0 + restart)) + _RISING for restart in range(8)))
_JPEG_END = b"\xff\xd9"

# Odd metadata of a photo that decodes well is nobody's concern; what doesn't decode raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """Why bytes can't be decoded, as the end of a sentence: "is truncated"."""


class PreparedImage(NamedTuple):
    image_id: str
    split: str
    data: bytes


@dataclass(frozen=True)
class Preparation:
    """What preprocess learns from a file.

    width, height: upright pixels; replacement: None where the bytes are kept; note: what its owner should
    know of a file that is used all the same, as the end of a sentence, else empty.
    """

    pixels_id: str
    width: int
    height: int
    format: str
    replacement: bytes | None
    note: str = ""


def decode(data: bytes) -> Image.Image:
    """A file's bytes -> the picture as its owner sees it: upright, 8-bit RGB, on white where transparent,
    first frame.

    The content decides the format. 16-bit values keep their high byte, values that the file says have fewer
    bits the upper 8 of these. CMYK becomes RGB by (255 - ink) * (255 - black) / 255.
    Colour profiles are not applied: the checkpoints were trained without. Raises BadImage with the reason.
    """
    return _decode(data).rgb


def prepare(data: bytes, shorter_side_px: int) -> Preparation:
    """Facts about a file, and the bytes to store in its place if its shorter side has more than
    shorter_side_px, or in an odd format.

    Pixels change only where the image is shrunk. Raises BadImage, also where no network can take the
    proportions: a transform enlarges the shorter side before it crops, so a few bytes of a thin line would
        take gigabytes.
    """
    decoded = _decode(data)
    rgb = decoded.rgb
    width, height = rgb.size
    if max(rgb.size) > MAX_PROPORTION * min(rgb.size):
        raise BadImage(
            f"has {width:,} x {height:,} pixels, one side more than {MAX_PROPORTION} times the other; crop it"
        )
    replacement = None
    if (size := shrunk_size(width, height, shorter_side_px)) != rgb.size:
        small = rgb.resize(size, Image.Resampling.LANCZOS)
        as_jpeg = decoded.lossy and max(small.size) <= JPEG_MAX_SIDE_PX
        replacement = (
            _encoded(small, "JPEG", quality=JPEG_QUALITY, subsampling=0)
            if as_jpeg
            else _encoded(small, "PNG")
        )
    elif not decoded.plain:
        replacement = _encoded(rgb, "PNG")
    return Preparation(pixels_id(rgb), width, height, decoded.format, replacement, "; ".join(decoded.notes))


def pixel_count(data: bytes) -> int:
    """By the file's header alone.

    More than MAX_PIXELS where it isn't told how many. Raises BadImage where there is none to read.
    """
    with _explained(data):
        try:
            image = _open(data)
        except Image.DecompressionBombError:
            return MAX_PIXELS + 1
        return image.width * image.height


def working_memory(data: bytes) -> int:
    """About how many bytes prepare() takes, by the file's header alone; 0 if that can't be read."""
    try:
        image = _open(data)
    except Exception:  # prepare() says why
        return 0
    return image.width * image.height * _BYTES_PER_PIXEL.get(str(image.format), _BYTES_PER_PIXEL_ELSE)


def shrunk_size(width: int, height: int, shorter_side_px: int) -> tuple[int, int]:
    """Width and height of what is stored: with `shorter_side_px` or up to a sixteenth more, whichever keeps
    the proportions best.

    Networks resize to whole pixels: proportions that are off by a fraction of one can shift the crop by a
        pixel.
    """
    shorter = min(width, height)
    if shorter <= shorter_side_px:
        return width, height
    sides = range(shorter_side_px, min(shorter, shorter_side_px + shorter_side_px // 16) + 1)
    side = min(
        sides,
        key=lambda side: abs(
            side * max(width, height) - shorter * round(side * max(width, height) / shorter)
        ),
    )
    return round(width * side / shorter), round(height * side / shorter)


def pixels_id(rgb: Image.Image) -> str:
    """SHA-256 of an RGB image's size and pixels."""
    digest = hashlib.sha256(b"%d x %d RGB\n" % rgb.size)
    for box in pixel_values.strips(
        rgb
    ):  # all at once would be another copy of the picture, and take twice as long
        digest.update(rgb.crop(box).tobytes())
    return digest.hexdigest()


def heif_version() -> str | None:
    """Of what decodes HEIC; None where it isn't installed."""
    heif = _heif()
    return heif and f"{heif.__version__} with libheif {heif.libheif_version()}"


def prepared(folder: Path, batch_rows: int = 64) -> Iterator[PreparedImage]:
    """Every image that preprocess wrote to `folder`, sorted by (image_id, split).

    Streams. UserError if it isn't there.
    """
    for batch in parquet.read_shards(folder, ["image_id", "split", "image"], batch_rows):
        columns = (batch.column(name).to_pylist() for name in ("image_id", "split", "image"))
        yield from map(PreparedImage, *columns)


@dataclass(frozen=True)
class _Decoded:
    rgb: Image.Image
    format: str
    lossy: bool  # as compressed: a shrunk copy may be, too
    plain: bool  # its own bytes are fit to be handed on
    notes: list[str] = field(default_factory=list)


def _decode(data: bytes) -> _Decoded:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # a library may have set it; half a picture is not a picture
    with _explained(data):
        return _decoded(_open(data), data)


@contextmanager
def _explained(data: bytes) -> Iterator[None]:
    """What Pillow raises within becomes a BadImage with the reason."""
    if not data:
        raise BadImage("is empty (0 bytes)")
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadImage(f"has more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise BadImage(image_reasons.not_opened(data)) from None
    except Exception as error:  # Pillow's plug-ins raise about everything on damaged bytes
        raise BadImage(image_reasons.not_decoded(error, data)) from None


def _open(data: bytes) -> ImageFile.ImageFile:
    """Reads the header. Raises BadImage where decoding would take too long, and whatever Pillow raises."""
    if image_headers.format_of(data) == "HEIC":
        heif = _heif()
        if heif is None:
            raise BadImage(_NO_HEIC)
        image = heif.HeifImageFile(io.BytesIO(data))
    else:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if image.format in ("JPEG", "MPO") and image_headers.jpeg_scans(data, MAX_JPEG_SCANS) > MAX_JPEG_SCANS:
        raise BadImage(
            f"is a JPEG of more than {MAX_JPEG_SCANS} scans, which would take too long to decode; save it again"
        )
    if image.format == "JPEG2000" and image_headers.jpeg2000_packets(data) > MAX_JPEG2000_PACKETS:
        raise BadImage(
            f"is a JPEG 2000 of more than {MAX_JPEG2000_PACKETS // 10**6} million packets, which would take too long to decode; "
            "save it with fewer layers"
        )
    return image


@cache
def _heif() -> ModuleType | None:
    """pillow-heif, where the extra `heic` is installed."""
    try:
        import pillow_heif
    except ImportError:
        return None
    return pillow_heif


def _decoded(image: ImageFile.ImageFile, data: bytes) -> _Decoded:
    name = {"MPO": "JPEG", "DIB": "BMP", "HEIF": "HEIC"}.get(image.format or "", image.format or "")
    plain = image.format in _KEPT_FORMATS and image.mode in _KEPT_MODES and getattr(image, "n_frames", 1) == 1
    lossy = name in ("JPEG", "AVIF", "JPEG2000", "HEIC") or (name == "WEBP" and b"VP8L" not in data)
    notes = (
        ["has several pages, of which the first is used"]
        if name == "TIFF" and getattr(image, "is_animated", False)
        else []
    )
    depth = pixel_values.depth(image, data)
    try:
        image.load()
    except OSError as error:
        if name != "JPEG" or "truncated" not in str(error):
            raise
        image, plain = _without_end(data), False
        notes.append("lacks its end, but none of its pixels")
    reduced = pixel_values.to_8_bits(image, depth, lambda: _open(data))
    if reduced.dark:
        notes.append(_DARK)
    if reduced.image.mode in ("I", "F", "LAB", "HSV"):
        raise BadImage(f"has pixels of an uncommon kind ({image.mode}); save it with 8 or 16 bits a channel")
    return _Decoded(
        _upright(pixel_values.to_rgb(reduced.image), image), name, lossy, plain and not reduced.scaled, notes
    )


def _without_end(data: bytes) -> ImageFile.ImageFile:
    """The picture of a JPEG that is cut off behind its last pixel. Raises BadImage if a pixel is lacking.

    A decoder takes whatever follows for the pixels that are lacking, so none is if they are the same whatever
    follows.
    """
    start = data.rstrip(_JPEG_END[:1])  # with what may be half a marker, all that follows would be ignored
    try:
        image = _ended_jpeg(start)
        shown = pixels_id(image)
        whole = image_headers.has_every_scan(start) and all(
            pixels_id(_ended_jpeg(start + tail)) == shown for tail in _JPEG_TAILS
        )
    except OSError:
        whole = False
    if not whole:
        raise BadImage("is truncated")
    return image


def _ended_jpeg(endless: bytes) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(endless + _JPEG_END), formats=("JPEG", "MPO"))
    image.load()
    return image


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_ORIENTATION)
    except Exception:  # a broken EXIF block says nothing about the picture
        return rgb
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _encoded(rgb: Image.Image, container: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    rgb.info.clear()  # no profile, no EXIF: the pixels are upright now
    rgb.save(buffer, container, **options)
    return buffer.getvalue()
