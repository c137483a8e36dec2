"""Says why bytes can't be decoded, as the end of a sentence such as "is truncated"."""

from __future__ import annotations

import io
import re

from PIL import Image, TiffImagePlugin

from lineup.photos import image_headers

# The usual spelling of formats that Pillow spells otherwise.
_SPELLING = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}
_NOT_AN_IMAGE = (
    "is not an image (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 and PPM are read, "
    "HEIC with pillow-heif)"
)
_TRUNCATED = re.compile(
    r"truncated|unexpected end|end of file|EOF|incomplete|not enough|requires a buffer|cannot load",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(
    r"unsupported|not (yet )?supported|cannot handle|unknown pixel mode|unable to determine", re.IGNORECASE
)
# Compressions that a build of libtiff may lack.
_OPTIONAL_IN_LIBTIFF = ("lzma", "webp", "zstd")
_COMPRESSIONS = {
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy DNG",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_TIFF_COMPRESSION_TAG = 259


def not_opened(data: bytes) -> str:
    """The reason why Pillow opens the bytes as none of the formats that are read."""
    name = image_headers.format_of(data)
    if not name:
        return _NOT_AN_IMAGE
    try:
        Image.OPEN[name][0](io.BytesIO(data), "")  # The format's own plug-in raises a more specific error.
    except Exception as error:
        return not_decoded(error, data)
    return f"is a damaged {_SPELLING.get(name, name)}"


def not_decoded(error: Exception, data: bytes) -> str:
    """The reason why the bytes can't be decoded.

    Args:
        error: what Pillow raised. Memory addresses are removed from it, so that every run gives the same
        reason.
    """
    words = re.sub(r"<[^>]*>| at 0x[0-9a-f]+", "", str(error)).strip() or type(error).__name__
    if _TRUNCATED.search(words) or isinstance(error, EOFError):
        return "is truncated"
    name = image_headers.format_of(data)
    if not name:
        return _NOT_AN_IMAGE
    if name == "TIFF" and (reason := _reason_in_tags(data)):
        return reason
    spelt = _SPELLING.get(name, name)
    if _UNSUPPORTED.search(words):
        detail = f"{words[0].lower()}{words[1:]}"
        return f"is a {spelt} of a kind that can't be read ({detail}); save it as PNG or JPEG"
    return f"is a damaged {spelt}" + ("" if "not identified" in words else f" ({words})")


def _reason_in_tags(data: bytes) -> str:
    """Why a TIFF whose pixels may be intact is not read, by the first page's tags, or an empty text."""
    stream = io.BytesIO(data)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if b"+" in data[2:4] else 8))
        stream.seek(tags.next)
        tags.load(stream)
        number = tags[_TIFF_COMPRESSION_TAG] if tags else None
    except Exception:  # The tags are too damaged to tell.
        return ""
    if number is None:  # In most files, the tags come after the pixels.
        return "is truncated"
    name = TiffImagePlugin.COMPRESSION_INFO.get(number)
    if name is None or (name in _OPTIONAL_IN_LIBTIFF and not _is_in_libtiff(name)):
        compression = _COMPRESSIONS.get(number, f"unknown ({number})")
        return (
            f"is a TIFF with {compression} compression, which can't be read; "
            "save it with LZW compression, or as PNG"
        )
    return ""


def _is_in_libtiff(compression: str) -> bool:
    try:
        Image.new("L", (8, 8)).save(io.BytesIO(), "TIFF", compression=compression)
    except Exception:
        return False
    return True
