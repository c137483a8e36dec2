"""What a photo's bytes say before they are decoded: the format, the work of decoding, and what is missing."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

_SIGNATURES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG"),
    "GIF": re.compile(rb"GIF8"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL),
    "JPEG2000": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    "PPM": re.compile(rb"P[1-6f]\s+(?:[#\d-]|\Z)"),
}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"hevm",
    b"hevs",
    b"heif",
    b"mif1",
    b"mif2",
    b"msf1",
}

# JPEG: the start of a segment. Excluded are 0 (it stands for a value of 255), restarts, fill bytes, and the
# two markers without a body.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF
_SCAN, _END = 0xDA, 0xD9  # SOS, EOI
_COEFFICIENTS = 64

# JPEG 2000
_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC, SIZ
_SIZE, _CODING, _COMPONENT_CODING, _TILE_PART, _DATA = 0x51, 0x52, 0x53, 0x90, 0x93  # SIZ, COD, COC, SOT, SOD


class _Segment(NamedTuple):
    marker: int
    body: bytes


def format_of(data: bytes) -> str:
    """The format by the first bytes, as Pillow spells it, or HEIC; "" if it is none that can be read."""
    if data[4:8] == b"ftyp":
        size = int.from_bytes(data[:4])
        brands = {data[8:12], *(data[start : start + 4] for start in range(16, min(size, len(data)), 4))}
        return "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIC_BRANDS else ""
    return next((name for name, signature in _SIGNATURES.items() if signature.match(data)), "")


def jpeg_scans(data: bytes, limit: int) -> int:
    """The number of scans of a JPEG's first picture; exact only above `limit`, otherwise at most that."""
    # Whatever looks like a scan in other segments, or after the picture, counts here.
    possible = data.count(bytes((0xFF, _SCAN)))
    return possible if possible <= limit else sum(segment.marker == _SCAN for segment in _jpeg_segments(data))


def has_every_scan(data: bytes) -> bool:
    """Whether a JPEG's scans have every bit of each coefficient of each component.

    Refining scans may be cut off as a whole, which no decoder notices.
    """
    components, bits_missing = b"", {}
    try:
        for marker, body in _jpeg_segments(data):
            if marker in _FRAMES:
                components = body[6 : 6 + 3 * body[5] : 3]
            elif marker == _SCAN:
                scanned, (first, last, approximation) = body[1 : 1 + 2 * body[0] : 2], body[1 + 2 * body[0] :]
                bits_missing |= dict.fromkeys(product(scanned, range(first, last + 1)), approximation & 15)
    except (IndexError, ValueError):  # A header is cut off.
        return False
    return bool(components) and all(
        bits_missing.get(each) == 0 for each in product(components, range(_COEFFICIENTS))
    )


def _jpeg_segments(data: bytes) -> Iterator[_Segment]:
    """The segments of the first picture; coded pixels and whatever segments contain are skipped."""
    position = 2
    while (match := _MARKER.search(data, position)) and (marker := match[0][1]) != _END:
        start = match.end()
        position = start + max(2, int.from_bytes(data[start : start + 2]))
        yield _Segment(marker, data[start + 2 : position])


def jpeg2000_packets(data: bytes) -> int:
    """About how many packets a JPEG 2000 has; 0 if its headers are damaged.

    These are layers x precincts of all resolutions, components and tiles. A decoder visits all of them,
    though the file need not have a byte for most.
    """
    start = data.find(_CODESTREAM)
    try:
        size, *codings = _jpeg2000_segments(data, start + 2)
        right, bottom, _, _, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
            ">8IH", size.body, 2
        )
        tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
        tile = (min(tile_width, right), min(tile_height, bottom))
        layers = max(int.from_bytes(body[2:4]) for marker, body in codings if marker == _CODING)
        prefix_bytes = 2 if components < 257 else 3  # A component's number, then its flags.
        precincts = max(
            _precincts(tile, body[5:] if marker == _CODING else body[prefix_bytes:])
            for marker, body in codings
        )
        return layers * precincts * components * tiles
    except (IndexError, ValueError, ZeroDivisionError, struct.error):
        return 0


def _precincts(tile: tuple[int, int], style: bytes) -> int:
    """The number of precincts of one component of a tile.

    Args:
        tile: its width and height.
        style: the number of halvings, four other bytes, then the sides of precincts by resolution, as
            exponents.
    """
    halvings = style[0]
    sides = style[5:] or bytes([0xFF]) * (halvings + 1)
    resolutions = [tuple(-(-side >> (halvings - at)) for side in tile) for at in range(halvings + 1)]
    return sum(
        -(-width >> (sides[at] & 15)) * -(-height >> (sides[at] >> 4))
        for at, (width, height) in enumerate(resolutions)
    )


def _jpeg2000_segments(data: bytes, position: int) -> Iterator[_Segment]:
    """SIZ, and the segments on the coding of tiles: from the main header, then from those of tile parts."""
    following = 0
    while data[position : position + 1] == b"\xff":
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4])
        if marker == _TILE_PART:
            following = position + int.from_bytes(data[position + 6 : position + 10])
        if marker in (_SIZE, _CODING, _COMPONENT_CODING):
            yield _Segment(marker, data[position + 4 : position + 2 + length])
        if marker == _DATA and following <= position:  # The last part states no length, or a wrong one.
            return
        position = following if marker == _DATA else position + 2 + length


def png_significant_bits(data: bytes) -> int | None:
    """The most significant bits of any of a PNG's colours, by its chunk sBIT; None if it has none."""
    position = 8
    while (kind := data[position + 4 : position + 8]) and kind != b"IDAT":
        length = int.from_bytes(data[position : position + 4])
        if kind == b"sBIT" and length:
            return max(data[position + 8 : position + 8 + length])
        position += 12 + length
    return None


def jpeg2000_bits(data: bytes) -> int:
    """The bits of a JPEG 2000's first component; 8 if the headers are damaged."""
    start = data.find(_CODESTREAM)
    # Before it are SOC, then SIZ with its marker, its length and 36 bytes that are common to all components.
    precision = data[start + 42 : start + 43]
    return (precision[0] & 0x7F) + 1 if start >= 0 and precision else 8
