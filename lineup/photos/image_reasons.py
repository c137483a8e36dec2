"""Why bytes can't be decoded, as the end of a sentence: "is truncated"."""

from __future__ import annotations

import io
import re

from PIL import Image, TiffImagePlugin

from lineup.photos import image_headers

_SHOWN = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}
_NOT_AN_IMAGE = "is not an image (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 and PPM are read, HEIC with pillow-heif)"
_TRUNCATED = re.compile(
    r"truncated|unexpected end|end of file|EOF|incomplete|not enough|requires a buffer|cannot load",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(
    r"unsupported|not (yet )?supported|cannot handle|unknown pixel mode|unable to determine", re.IGNORECASE
)
_OPTIONAL_IN_LIBTIFF = ("lzma", "webp", "zstd")  # compressions that a build of it may lack
_COMPRESSIONS = {
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy DNG",
}
_COMPRESSIONS |= {34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
_COMPRESSION = 259  # TIFF


def not_opened(data: bytes) -> str:
    """Of what Pillow knows for none of the formats that are read."""
    name = image_headers.format_of(data)
    if not name:
        return _NOT_AN_IMAGE
    try:
        Image.OPEN[name][0](io.BytesIO(data), "")  # its plug-in's own words
    except Exception as error:
        return not_decoded(error, data)
    return f"is a damaged {_SHOWN.get(name, name)}"


def not_decoded(error: Exception, data: bytes) -> str:
    """error: what Pillow raised. No address is in the reason: the same words in every run."""
    words = re.sub(r"<[^>]*>| at 0x[0-9a-f]+", "", str(error)).strip() or type(error).__name__
    if _TRUNCATED.search(words) or isinstance(error, EOFError):
        return "is truncated"
    name = image_headers.format_of(data)
    if not name:
        return _NOT_AN_IMAGE
    if name == "TIFF" and (reason := _reason_in_tags(data)):
        return reason
    shown = _SHOWN.get(name, name)
    if _UNSUPPORTED.search(words):
        return f"is a {shown} of a kind that can't be read ({words[0].lower()}{words[1:]}); save it as PNG or JPEG"
    return f"is a damaged {shown}" + ("" if "not identified" in words else f" ({words})")


def _reason_in_tags(data: bytes) -> str:
    """Why a TIFF isn't read though its pixels may be whole, by the tags of its first page; else empty."""
    stream = io.BytesIO(data)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if b"+" in data[2:4] else 8))
        stream.seek(tags.next)
        tags.load(stream)
        number = tags[_COMPRESSION] if tags else None
    except Exception:  # too damaged to say
        return ""
    if number is None:  # the tags of most files are behind the pixels
        return "is truncated"
    name = TiffImagePlugin.COMPRESSION_INFO.get(number)
    if name is None or (name in _OPTIONAL_IN_LIBTIFF and not _is_in_libtiff(name)):
        shown = _COMPRESSIONS.get(number, f"unknown ({number})")
        return f"is a TIFF with {shown} compression, which can't be read; save it with LZW compression, or as PNG"
    return ""


def _is_in_libtiff(compression: str) -> bool:
    try:
        Image.new("L", (8, 8)).save(io.BytesIO(), "TIFF", compression=compression)
    except Exception:
        return False
    return True
