"""Decoding: the one way from a file's bytes to pixels, and the prepared images that later stages read."""

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

# The modules that decide a file's pixels.
CODE = tuple(Path(str(name)) for name in (__file__, pixel_values.__file__, image_headers.__file__))

# Formats whose decoders run inside this process, on untrusted bytes. EPS, for one, would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
# Pillow itself refuses more. They take 716 MB in memory.
MAX_PIXELS = 2 * 89_478_485
JPEG_QUALITY = 95
JPEG_MAX_SIDE_PX = 65_535
# The longer side divided by the shorter. At 518 px such a photo is resized to 27 million pixels.
MAX_ASPECT_RATIO = 100

# Decoding takes time in proportion to scans x pixels, while an empty scan takes few bytes. jpegtran writes 10
# scans (18 for CMYK), and libtiff refuses more than 100, too. MAX_PIXELS in 100 scans take 12 seconds, in 10
# scans 1.2 seconds.
MAX_JPEG_SCANS = 100
# A packet takes 40 ns. MAX_PIXELS in precincts of 64 x 64 pixels, with 20 layers, have 16 million packets;
# most files have one precinct per resolution.
MAX_JPEG2000_PACKETS = 20_000_000

# The most memory that prepare() was measured to take, with the decoder's own. 16-bit colour whose values are
# scaled takes 13 bytes per pixel.
_PEAK_BYTES_PER_PIXEL = {"WEBP": 18, "JPEG2000": 20}
_OTHER_PEAK_BYTES_PER_PIXEL = 13

# Every browser shows images of these formats and modes as decode() does, so their bytes are stored unchanged.
_STORED_FORMATS = ("JPEG", "PNG", "WEBP")
_STORED_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
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

_NO_HEIC = "is HEIC, which needs pillow-heif: run `pip install pillow-heif`, then `dvc repro -f preprocess`"
_DARK = (
    "has 16-bit values that all stay below 4,096: if they have 12 bits, it is read 16 times too dark, "
    "so save it with 8 bits a channel"
)

# A JPEG without its end is decoded with each of these appended: any coded pixels, and those of a new restart
# interval.
_RISING, _FALLING = bytes(range(0x01, 0xFF)), bytes(range(0xFE, 0x00, -1))
_JPEG_TAILS = (_RISING, _FALLING, *(bytes((0xFF, 0xD0 + restart)) + _RISING for restart in range(8)))
_JPEG_END = b"\xff\xd9"

# Pillow warns of odd metadata, which does no harm if the photo decodes; if it doesn't, Pillow raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """Bytes can't be decoded; the message is the reason, as the end of a sentence such as "is truncated"."""


class PreparedImage(NamedTuple):
    """An image as preprocess stored it; data: its encoded bytes."""

    image_id: str
    split: str
    data: bytes


@dataclass(frozen=True)
class Preparation:
    """What preprocess learns from a file.

    Attributes:
        width, height: in pixels, upright.
        replacement: the bytes to store instead of the file's own; None to store those.
        note: what the owner of a usable file should know, as the end of a sentence; else empty.
    """

    pixels_id: str
    width: int
    height: int
    format: str
    replacement: bytes | None
    note: str = ""


def decode(data: bytes) -> Image.Image:
    """A file's bytes -> the first frame as its owner sees it: upright, 8-bit RGB, on white where transparent.

    The content decides the format. Of 16-bit values the upper 8 bits are kept; if the file says that they
    have fewer bits, the upper 8 of those. CMYK becomes RGB by (255 - ink) * (255 - black) / 255. Colour
    profiles are not applied, as checkpoints are trained without.

    Raises:
        BadImage: with the reason.
    """
    return _decode(data).rgb


def prepare(data: bytes, shorter_side_px: int) -> Preparation:
    """What to know of a file, and what to store instead of its bytes.

    Its bytes are replaced if its shorter side has more than `shorter_side_px`, or if browsers may not show
    its format. Pixels change only where the image is shrunk.

    Raises:
        BadImage: it can't be decoded, or one side is too long. A transform enlarges the shorter side before
        it
            crops, so the few bytes of a thin line would become gigabytes.
    """
    decoded = _decode(data)
    rgb = decoded.rgb
    width, height = rgb.size
    if max(rgb.size) > MAX_ASPECT_RATIO * min(rgb.size):
        raise BadImage(
            f"has {width:,} x {height:,} pixels, one side more than {MAX_ASPECT_RATIO} times the other; "
            "crop it"
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
    elif not decoded.storable:
        replacement = _encoded(rgb, "PNG")
    return Preparation(pixels_id(rgb), width, height, decoded.format, replacement, "; ".join(decoded.notes))


def pixel_count(data: bytes) -> int:
    """The number of pixels, from the file's header alone; MAX_PIXELS + 1 for any larger number.

    Raises:
        BadImage: the header can't be read.
    """
    with _explained(data):
        try:
            image = _open(data)
        except Image.DecompressionBombError:
            return MAX_PIXELS + 1
        return image.width * image.height


def working_memory(data: bytes) -> int:
    """About how many bytes of memory prepare() takes, from the file's header; 0 if that can't be read."""
    try:
        image = _open(data)
    except Exception:  # prepare() will give the reason.
        return 0
    per_pixel = _PEAK_BYTES_PER_PIXEL.get(str(image.format), _OTHER_PEAK_BYTES_PER_PIXEL)
    return image.width * image.height * per_pixel


def shrunk_size(width: int, height: int, shorter_side_px: int) -> tuple[int, int]:
    """Width and height of what is stored; the shorter is at least `shorter_side_px` if the image's own is.

    It is that or up to a sixteenth more, whichever preserves the aspect ratio best. Networks resize to whole
    pixels, and a ratio that is off by a fraction of one can shift the crop by a pixel.
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
    # All at once would be another copy of the picture, and take twice as long.
    for box in pixel_values.strips(rgb):
        digest.update(rgb.crop(box).tobytes())
    return digest.hexdigest()


def heif_version() -> str | None:
    """The version of the HEIC decoder; None if it is not installed."""
    heif = _heif()
    return heif and f"{heif.__version__} with libheif {heif.libheif_version()}"


def prepared(folder: Path, batch_rows: int = 64) -> Iterator[PreparedImage]:
    """Every image that preprocess wrote to `folder`, sorted by (image_id, split); streams.

    Raises:
        UserError: the folder does not exist.
    """
    for batch in parquet.read_shards(folder, ["image_id", "split", "image"], batch_rows):
        columns = (batch.column(name).to_pylist() for name in ("image_id", "split", "image"))
        yield from map(PreparedImage, *columns)


@dataclass(frozen=True)
class _Decoded:
    """A decoded image.

    Attributes:
        lossy: whether its compression is lossy; then a shrunk copy's may be, too.
        storable: whether its own bytes may be stored.
        notes: what its owner should know, each the end of a sentence.
    """

    rgb: Image.Image
    format: str
    lossy: bool
    storable: bool
    notes: list[str] = field(default_factory=list)


def _decode(data: bytes) -> _Decoded:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # Some libraries set it, but half a picture is not a picture.
    with _explained(data):
        return _decoded(_open(data), data)


@contextmanager
def _explained(data: bytes) -> Iterator[None]:
    """Turns what Pillow raises inside the block into a BadImage with the reason."""
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
    except Exception as error:  # Pillow's plug-ins raise almost anything on damaged bytes.
        raise BadImage(image_reasons.not_decoded(error, data)) from None


def _open(data: bytes) -> ImageFile.ImageFile:
    """Reads the header.

    Raises:
        BadImage: decoding would take too long.
        Exception: whatever Pillow raises.
    """
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
            f"is a JPEG of more than {MAX_JPEG_SCANS} scans, which would take too long to decode; "
            "save it again"
        )
    if image.format == "JPEG2000" and image_headers.jpeg2000_packets(data) > MAX_JPEG2000_PACKETS:
        raise BadImage(
            f"is a JPEG 2000 of more than {MAX_JPEG2000_PACKETS // 10**6} million packets, which would take "
            "too long to decode; save it with fewer layers"
        )
    return image


@cache
def _heif() -> ModuleType | None:
    """The package pillow-heif, if the extra `heic` is installed."""
    try:
        import pillow_heif
    except ImportError:
        return None
    return pillow_heif


def _decoded(image: ImageFile.ImageFile, data: bytes) -> _Decoded:
    name = {"MPO": "JPEG", "DIB": "BMP", "HEIF": "HEIC"}.get(image.format or "", image.format or "")
    storable = (
        image.format in _STORED_FORMATS and image.mode in _STORED_MODES and getattr(image, "n_frames", 1) == 1
    )
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
        image, storable = _decode_without_end(data), False
        notes.append("lacks its end, but none of its pixels")
    reduced = pixel_values.to_8_bits(image, depth, lambda: _open(data))
    if reduced.dark:
        notes.append(_DARK)
    if reduced.image.mode in ("I", "F", "LAB", "HSV"):
        raise BadImage(f"has pixels of an uncommon kind ({image.mode}); save it with 8 or 16 bits a channel")
    return _Decoded(
        _upright(pixel_values.to_rgb(reduced.image), image),
        name,
        lossy,
        storable and not reduced.scaled,
        notes,
    )


def _decode_without_end(data: bytes) -> ImageFile.ImageFile:
    """The picture of a JPEG that is cut off after its last pixel.

    A decoder takes whatever follows for the missing pixels. So none is missing if the picture stays the same
    whatever follows.

    Raises:
        BadImage: a pixel is missing.
    """
    start = data.rstrip(_JPEG_END[:1])  # After half a marker, all that follows would be ignored.
    image = None
    try:
        image = _ended_jpeg(start)
        expected = pixels_id(image)
        complete = image_headers.has_every_scan(start) and all(
            pixels_id(_ended_jpeg(start + tail)) == expected for tail in _JPEG_TAILS
        )
    except OSError:
        complete = False
    if image is None or not complete:
        raise BadImage("is truncated")
    return image


def _ended_jpeg(endless: bytes) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(endless + _JPEG_END), formats=("JPEG", "MPO"))
    image.load()
    return image


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # A broken EXIF block says nothing about the picture.
        return rgb
    if orientation not in _TRANSPOSE_TO_UPRIGHT:
        return rgb
    return rgb.transpose(_TRANSPOSE_TO_UPRIGHT[orientation])


def _encoded(rgb: Image.Image, container: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    rgb.info.clear()  # Profile and EXIF must go, since the pixels are upright now.
    rgb.save(buffer, container, **options)
    return buffer.getvalue()
