"""Opening a photo: what its header says, what decoding it takes, and why it can't or may not be decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

from PIL import Image, ImageFile, UnidentifiedImageError

from lineup.photos import image_headers, image_reasons

# Formats whose decoders run inside this process, on untrusted bytes. EPS, for one, would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
# Pillow itself refuses more. They take 716 MB in memory.
MAX_PIXELS = 2 * 89_478_485

# Decoding takes time in proportion to scans x pixels, while an empty scan takes few bytes. jpegtran writes 10
# scans (18 for CMYK), and libtiff refuses more than 100, too. MAX_PIXELS in 100 scans take 12 seconds, in 10
# scans 1.2 seconds.
MAX_JPEG_SCANS = 100
# A packet takes 40 ns. MAX_PIXELS in precincts of 64 x 64 pixels, with 20 layers, have 16 million packets;
# most files have one precinct per resolution.
MAX_JPEG2000_PACKETS = 20_000_000

# The most memory that image_preparation.prepare() was measured to take, with the decoder's own. 16-bit
# colour whose values are scaled takes 13 bytes per pixel.
_PEAK_BYTES_PER_PIXEL = {"WEBP": 18, "JPEG2000": 20}
_OTHER_PEAK_BYTES_PER_PIXEL = 13

_NO_HEIC = "is HEIC, which needs pillow-heif: run `pip install pillow-heif`, then `dvc repro -f preprocess`"

# Pillow warns of odd metadata, which does no harm if the photo decodes; if it doesn't, Pillow raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """Bytes can't be decoded; the message is the reason, as the end of a sentence such as "is truncated"."""


def open_image(data: bytes) -> ImageFile.ImageFile:
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


@contextmanager
def explained(data: bytes) -> Iterator[None]:
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


def pixel_count(data: bytes) -> int:
    """The number of pixels, from the file's header alone; MAX_PIXELS + 1 for any larger number.

    Raises:
        BadImage: the header can't be read.
    """
    with explained(data):
        try:
            image = open_image(data)
        except Image.DecompressionBombError:
            return MAX_PIXELS + 1
        return image.width * image.height


def working_memory(data: bytes) -> int:
    """About the bytes of memory that image_preparation.prepare() takes; 0 if the header can't be read."""
    try:
        image = open_image(data)
    except Exception:  # image_preparation.prepare() will give the reason.
        return 0
    per_pixel = _PEAK_BYTES_PER_PIXEL.get(str(image.format), _OTHER_PEAK_BYTES_PER_PIXEL)
    return image.width * image.height * per_pixel


def heif_version() -> str | None:
    """The version of the HEIC decoder; None if it is not installed."""
    heif = _heif()
    return heif and f"{heif.__version__} with libheif {heif.libheif_version()}"


@cache
def _heif() -> ModuleType | None:
    """The package pillow-heif, if the extra `heic` is installed."""
    try:
        import pillow_heif
    except ImportError:
        return None
    return pillow_heif
