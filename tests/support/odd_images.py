"""A corpus of odd and broken images, made here, each with its expected outcome.

Expected pixels follow from the pattern by numpy and the formats' definitions, never from the decoder under
test.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, TiffImagePlugin

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Odd:
    """A file. expected: uint8 [H, W, 3], met within `tolerance` per value; or None, and `problem` is in the
    reason.

    note: part of what its owner is told though it is read; empty where that is nothing.
    """

    name: str
    data: bytes
    expected: Pixels | None = None
    tolerance: float = 0
    format: str = ""
    problem: str = ""
    note: str = ""


def pattern(height: int = 32, width: int = 48) -> Pixels:
    """Four flat quarters of different colours: no symmetry, and JPEG hardly changes it."""
    pixels = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:] = (200, 30, 40), (20, 180, 60)
    pixels[top:, :left], pixels[top:, left:] = (40, 50, 210), (230, 220, 90)
    return pixels


def on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    """pixels: [H, W, 3]; alpha: [H, W], 255 opaque."""
    share = alpha[..., None] / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def from_cmyk(inks: npt.NDArray[Any]) -> Pixels:
    """inks: [H, W, 4] in 0..255, 255 full ink -> RGB: (255 - ink) * (255 - black) / 255."""
    free = 255 - inks.astype(np.float64)
    return np.rint(free[..., :3] * free[..., 3:] / 255).astype(np.uint8)


def repeated(grey: npt.NDArray[Any]) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def encoded(image: Image.Image | npt.NDArray[Any], container: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, container, **options)
    return buffer.getvalue()


def png(
    width: int, height: int, bits: int, colour: int, scanlines: bytes, *more: tuple[bytes, bytes]
) -> bytes:
    """A PNG written by hand, by its specification.

    colour: 0 grey, 2 RGB; scanlines: unfiltered, big-endian samples.
    """

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    stride = len(scanlines) // height if scanlines else 0
    lines = b"".join(
        b"\0" + scanlines[start : start + stride] for start in range(0, len(scanlines), stride or 1)
    )
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        *more,
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*entry) for entry in chunks)


def tiff_of_16_bits(values: npt.NDArray[np.uint16], order: str, white_is_zero: bool) -> bytes:
    """An uncompressed grey TIFF written by hand. order: "<" or ">"."""
    height, width = values.shape
    entries = {
        256: width,
        257: height,
        258: 16,
        259: 1,
        262: 0 if white_is_zero else 1,
        273: 8,
        277: 1,
        278: height,
        279: values.nbytes,
    }
    body = values.astype(f"{order}u2").tobytes()
    directory = struct.pack(f"{order}H", len(entries))
    directory += (
        b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
        + b"\0\0\0\0"
    )
    return (
        (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body)) + body + directory
    )


def tiff(
    values: npt.NDArray[Any], bits: int = 16, tags: dict[int, int] | None = None, packed: bool = False
) -> bytes:
    """A little-endian TIFF written by hand.

    values: [H, W] grey or [H, W, 3]; bits: 12 are stored without a gap; packed: deflated.
    """
    height, width, channels = values.shape if values.ndim == 3 else (*values.shape, 1)
    if bits == 16:
        body = values.astype("<u2").tobytes()
    else:
        lines = (values.astype(int)[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1)
        body = np.packbits(lines, axis=1).tobytes()
    body = zlib.compress(body) if packed else body
    entries = {
        256: width,
        257: height,
        258: bits,
        259: 8 if packed else 1,
        262: 2 if channels == 3 else 1,
        273: 8,
    }
    entries |= {277: channels, 278: height, 279: len(body), **(tags or {})}
    directory = struct.pack("<H", len(entries))
    several = 8 + len(body) + 2 + 12 * len(entries) + 4  # where values that are one for each channel lie
    extra = b""
    for tag, value in sorted(entries.items()):
        if channels == 3 and tag in (258, 340, 341):
            directory += struct.pack("<HHII", tag, 3, channels, several + len(extra))
            extra += struct.pack("<HHH", value, value, value)
        else:
            directory += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0\0\0\0" + extra


def turned(upright: Pixels, orientation: int) -> Pixels:
    """The pixels to store so that a viewer that minds EXIF `orientation` shows `upright`."""
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),  # shown turned clockwise, so stored turned the other way
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def _turned() -> list[Odd]:
    shown = pattern()
    jpegs = [
        Odd(
            f"turned {o}.jpg",
            encoded(turned(shown, o).copy(), "JPEG", quality=98, subsampling=0, exif=_exif(o)),
            shown,
            6,
            "JPEG",
        )
        for o in range(1, 9)
    ]
    six = turned(shown, 6).copy()
    tags = {274: 6}
    return [
        *jpegs,
        Odd("turned.png", encoded(six, "PNG", exif=_exif(6)), shown, 0, "PNG"),
        Odd("turned.webp", encoded(six, "WEBP", lossless=True, exif=_exif(6)), shown, 0, "WEBP"),
        Odd("turned.tif", encoded(six, "TIFF", tiffinfo=tags), shown, 0, "TIFF"),
        Odd(
            "turned packed.tif", encoded(six, "TIFF", tiffinfo=tags, compression="tiff_lzw"), shown, 0, "TIFF"
        ),
        Odd(
            "turned to nowhere.jpg",
            encoded(shown, "JPEG", quality=98, subsampling=0, exif=_exif(11)),
            shown,
            6,
            "JPEG",
        ),
        Odd(
            "broken exif.jpg",
            encoded(shown, "JPEG", quality=98, subsampling=0, exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnothing"),
            shown,
            6,
            "JPEG",
        ),
    ]


def _transparent() -> list[Odd]:
    shown = pattern()
    alpha = np.linspace(0, 255, 48).astype(np.uint8)[None].repeat(32, axis=0)
    grey = shown[..., 0]
    palette = Image.fromarray(shown).quantize(4, dither=Image.Dither.NONE)
    indices, colours = np.asarray(palette), np.array(palette.getpalette()[: 4 * 3], np.uint8).reshape(-1, 3)  # type: ignore[index]
    alphas = np.array([0, 128, 255, 40], np.uint8)
    one_clear = np.where((indices == 1)[..., None], 255, colours[indices]).astype(np.uint8)
    red_clear = np.where((shown == (200, 30, 40)).all(axis=2)[..., None], 255, shown).astype(np.uint8)
    blue_grey_clear = repeated(np.where(grey == 40, 255, grey))
    return [
        Odd("rgba.png", encoded(np.dstack([shown, alpha]), "PNG"), on_white(shown, alpha), 1, "PNG"),
        Odd(
            "rgba.webp",
            encoded(np.dstack([shown, alpha]), "WEBP", lossless=True, exact=True),
            on_white(shown, alpha),
            1,
            "WEBP",
        ),
        Odd("rgba.tif", encoded(np.dstack([shown, alpha]), "TIFF"), on_white(shown, alpha), 1, "TIFF"),
        Odd(
            "grey and alpha.png",
            encoded(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"),
            on_white(repeated(grey), alpha),
            1,
            "PNG",
        ),
        Odd("palette.png", encoded(palette, "PNG"), shown, 0, "PNG"),
        Odd(
            "palette with alphas.png",
            encoded(palette, "PNG", transparency=alphas.tobytes()),
            on_white(colours[indices], alphas[indices]),
            1,
            "PNG",
        ),
        Odd("palette with a clear colour.png", encoded(palette, "PNG", transparency=1), one_clear, 0, "PNG"),
        Odd("clear.gif", encoded(palette, "GIF", transparency=1), one_clear, 0, "GIF"),
        Odd("clear colour.png", encoded(shown, "PNG", transparency=(200, 30, 40)), red_clear, 0, "PNG"),
        Odd("clear grey.png", encoded(grey, "PNG", transparency=40), blue_grey_clear, 0, "PNG"),
        Odd(
            "nothing but clear.png",
            encoded(np.zeros((4, 4, 4), np.uint8), "PNG"),
            np.full((4, 4, 3), 255, np.uint8),
            0,
            "PNG",
        ),
    ]


def _deep_and_grey() -> list[Odd]:
    shown = pattern()
    deep = np.linspace(0, 65535, 32 * 48).astype(np.uint16).reshape(32, 48)
    scaled, big_endian = repeated(deep // 256), deep.astype(">u2").tobytes()
    rgb16 = np.dstack([deep, deep[::-1], deep[:, ::-1]])
    one_clear = np.where(deep[..., None] == deep[5, 7], 255, scaled).astype(np.uint8)
    ones = np.indices((16, 16)).sum(axis=0) % 3 == 0
    return [
        Odd("grey.jpg", encoded(shown[..., 1], "JPEG", quality=98), repeated(shown[..., 1]), 6, "JPEG"),
        Odd("grey.png", encoded(shown[..., 1], "PNG"), repeated(shown[..., 1]), 0, "PNG"),
        Odd("one bit.png", encoded(Image.fromarray(ones), "PNG"), repeated(ones * 255), 0, "PNG"),
        Odd("grey 16.png", png(48, 32, 16, 0, big_endian), scaled, 0, "PNG"),
        Odd(
            "grey 16 with a clear value.png",
            png(48, 32, 16, 0, big_endian, (b"tRNS", struct.pack(">H", deep[5, 7]))),
            one_clear,
            0,
            "PNG",
        ),
        Odd(
            "colour 16.png",
            png(48, 32, 16, 2, rgb16.astype(">u2").tobytes()),
            (rgb16 // 256).astype(np.uint8),
            0,
            "PNG",
        ),
        Odd("grey 16 little.tif", tiff_of_16_bits(deep, "<", white_is_zero=False), scaled, 0, "TIFF"),
        Odd("grey 16 big.tif", tiff_of_16_bits(deep, ">", white_is_zero=False), scaled, 0, "TIFF"),
        Odd("grey 16 inverted.tif", tiff_of_16_bits(deep, "<", white_is_zero=True), 255 - scaled, 0, "TIFF"),
        Odd("grey 16.pgm", b"P5 48 32 65535\n" + big_endian, scaled, 1, "PPM"),
    ]


def _of_fewer_bits() -> list[Odd]:
    """12 bits in all the ways that files have to say so; and in 16, where a file says nothing."""
    twelve = np.linspace(0, 4095, 32 * 48).astype(np.uint16).reshape(32, 48)
    colour = np.dstack([twelve, twelve[::-1], twelve[:, ::-1]])
    grey, rgb = repeated(twelve >> 4), (colour >> 4).astype(np.uint8)
    stretched = twelve << 4 | twelve >> 8  # as PNG asks
    dark, dark_rgb, note = repeated(twelve >> 8), (colour >> 8).astype(np.uint8), "stay below 4,096"
    ome = TiffImagePlugin.ImageFileDirectory_v2()
    ome[270] = '<OME><Pixels Type="uint16" SignificantBits="12"/></OME>'
    alpha = np.dstack([colour, np.full_like(twelve, 4095)]).astype(">u2").tobytes()

    def of(values: npt.NDArray[Any]) -> bytes:
        return values.astype(">u2").tobytes()

    return [
        Odd("12 bits without a gap.tif", tiff(twelve, 12), grey, 0, "TIFF"),
        Odd("12 bits without a gap, packed.tif", tiff(twelve, 12, packed=True), grey, 0, "TIFF"),
        Odd("largest value 4095.tif", tiff(twelve, tags={281: 4095}), grey, 0, "TIFF"),
        Odd("largest sample 4095, packed.tif", tiff(twelve, tags={341: 4095}, packed=True), grey, 0, "TIFF"),
        Odd("largest sample 4095, colour.tif", tiff(colour, tags={341: 4095}), rgb, 0, "TIFF"),
        Odd(
            "largest sample 4095, colour, packed.tif",
            tiff(colour, tags={341: 4095}, packed=True),
            rgb,
            0,
            "TIFF",
        ),
        Odd("microscope.tif", encoded(twelve, "TIFF", tiffinfo=ome), grey, 0, "TIFF"),
        Odd("12 bits as they are.png", png(48, 32, 16, 0, of(twelve), (b"sBIT", b"\x0c")), grey, 0, "PNG"),
        Odd("12 bits stretched.png", png(48, 32, 16, 0, of(stretched), (b"sBIT", b"\x0c")), grey, 0, "PNG"),
        Odd(
            "12 bits of colour as they are.png",
            png(48, 32, 16, 2, of(colour), (b"sBIT", b"\x0c" * 3)),
            rgb,
            0,
            "PNG",
        ),
        Odd(
            "12 bits of colour and clarity.png",
            png(48, 32, 16, 6, alpha, (b"sBIT", b"\x0c" * 4)),
            rgb,
            0,
            "PNG",
        ),
        Odd(
            "12 bits.pgm",
            b"P5 48 32 4095\n" + of(twelve),
            repeated(np.rint(twelve / 4095 * 65535) // 256),
            0,
            "PPM",
        ),
        Odd(
            "12 bits.ppm",
            b"P6 48 32 4095\n" + of(colour),
            np.rint(colour / 4095 * 255).astype(np.uint8),
            0,
            "PPM",
        ),
        Odd(
            "a statement that isn't true.tif",
            tiff(twelve << 4, tags={341: 4095}),
            repeated(twelve >> 4),
            0,
            "TIFF",
        ),
        Odd("dark.tif", tiff(twelve), dark, 0, "TIFF", note=note),
        Odd("dark colour.tif", tiff(colour), dark_rgb, 0, "TIFF", note=note),
        Odd("dark.png", png(48, 32, 16, 0, of(twelve)), dark, 0, "PNG", note=note),
        Odd("dark colour.png", png(48, 32, 16, 2, of(colour)), dark_rgb, 0, "PNG", note=note),
        Odd("dark.pgm", b"P5 48 32 65535\n" + of(twelve), dark, 0, "PPM", note=note),
        Odd(
            "dark.ppm",
            b"P6 48 32 65535\n" + of(colour),
            np.rint(colour / 257).astype(np.uint8),
            0,
            "PPM",
            note=note,
        ),
        Odd("dark.jp2", encoded(twelve, "JPEG2000"), dark, 0, "JPEG2000", note=note),
    ]


def _printed() -> list[Odd]:
    inks = np.zeros((32, 48, 4), np.uint8)
    inks[:16], inks[16:] = (200, 20, 60, 30), (10, 180, 90, 120)
    cmyk = Image.frombytes("CMYK", (48, 32), inks.tobytes())
    inverted = encoded(cmyk, "JPEG", quality=98, subsampling=0)  # Adobe's way: 255 is no ink
    flat = Image.new("CMYK", (48, 32), (90, 140, 120, 60))
    # Saying "YCCK" in Adobe's marker turns the stored 255 - C, M, Y into Y, Cb, Cr, of which JFIF's formula
    # makes C, M, Y.
    ycck = bytearray(encoded(flat, "JPEG", quality=100, subsampling=0))
    ycck[ycck.index(b"Adobe") + 11] = 2
    y, cb, cr = 255.0 - 90, 255.0 - 140, 255.0 - 120
    cmy = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    as_ycck = from_cmyk(np.broadcast_to(np.array([*cmy, 60.0]), (32, 48, 4)))
    return [
        Odd("cmyk.jpg", inverted, from_cmyk(inks), 6, "JPEG"),
        Odd("ycck.jpg", bytes(ycck), as_ycck, 3, "JPEG"),
        Odd("cmyk.tif", encoded(cmyk, "TIFF"), from_cmyk(inks), 1, "TIFF"),
    ]


def _containers() -> list[Odd]:
    shown = pattern()
    image, other = Image.fromarray(shown), Image.fromarray(255 - shown)
    moving: dict[str, Any] = {"save_all": True, "append_images": [other, image], "duration": 100}
    jpeg = encoded(image, "JPEG", quality=98, subsampling=0)
    progressive = encoded(image, "JPEG", quality=98, subsampling=0, progressive=True)
    thin = np.zeros((3000, 30, 3), np.uint8)
    return [
        Odd(
            "moving.gif",
            encoded(image.quantize(4, dither=Image.Dither.NONE), "GIF", **moving),
            shown,
            0,
            "GIF",
        ),
        Odd("moving.webp", encoded(image, "WEBP", lossless=True, **moving), shown, 0, "WEBP"),
        Odd("moving.png", encoded(image, "PNG", **moving), shown, 0, "PNG"),
        Odd(
            "pages.tif",
            encoded(image, "TIFF", save_all=True, append_images=[other]),
            shown,
            0,
            "TIFF",
            note="several pages",
        ),
        Odd(
            "two views.mpo",
            encoded(image, "MPO", save_all=True, append_images=[other], quality=98, subsampling=0),
            shown,
            6,
            "JPEG",
        ),
        Odd("plain.bmp", encoded(image, "BMP"), shown, 0, "BMP"),
        Odd("plain.tiff", encoded(image, "TIFF", compression="tiff_deflate"), shown, 0, "TIFF"),
        Odd("plain.webp", encoded(image, "WEBP", quality=98), shown, 12, "WEBP"),
        Odd("plain.jp2", encoded(image, "JPEG2000"), shown, 0, "JPEG2000"),
        Odd("plain.avif", encoded(image, "AVIF", quality=98, subsampling="4:4:4"), shown, 12, "AVIF"),
        Odd("progressive.jpeg", progressive, shown, 6, "JPEG"),
        Odd("no end marker.jpg", jpeg[:-2], shown, 6, "JPEG", note="lacks its end"),
        Odd("half an end marker, progressive.jpg", progressive[:-1], shown, 6, "JPEG", note="lacks its end"),
        Odd("UPPER CASE.JPG", jpeg, shown, 6, "JPEG"),
        Odd("a png in truth.jpg", encoded(image, "PNG"), shown, 0, "PNG"),
        Odd("a jpeg in truth.txt", jpeg, shown, 6, "JPEG"),
        Odd("no extension", jpeg, shown, 6, "JPEG"),
        Odd("日本語 ñandú — 🐦.png", encoded(image, "PNG"), shown, 0, "PNG"),
        Odd("x" * 251 + ".png", encoded(image, "PNG"), shown, 0, "PNG"),
        Odd("a\nline, 'quotes' and \"more\".png", encoded(image, "PNG"), shown, 0, "PNG"),
        Odd("=cmd & <b>bold.png", encoded(image, "PNG"), shown, 0, "PNG"),
        Odd("one pixel.png", encoded(shown[:1, :1], "PNG"), shown[:1, :1], 0, "PNG"),
        Odd("thin.png", encoded(thin, "PNG"), thin, 0, "PNG"),
    ]


def good() -> list[Odd]:
    """Files that must be read."""
    return [*_turned(), *_transparent(), *_deep_and_grey(), *_of_fewer_bits(), *_printed(), *_containers()]


def bad() -> list[Odd]:
    """Files that must be named with a reason."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = {name: encoded(noise, name) for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")}
    cut = [
        Odd(f"cut.{name.lower()}", data[: len(data) // 2], problem="truncated|damaged")
        for name, data in whole.items()
    ]
    flipped = bytearray(whole["PNG"])
    flipped[len(flipped) // 2] ^= 0xFF
    packed = bytearray(encoded(noise, "TIFF", compression="tiff_deflate"))
    compression = packed.index(struct.pack("<HHI", 259, 3, 1)) + 8
    others = {}
    for name, number in {"webp": 50001, "lerc": 34887}.items():
        others[name] = (
            bytes(packed[:compression]) + struct.pack("<H", number) + bytes(packed[compression + 2 :])
        )
    bitmap = bytearray(whole["BMP"])
    bitmap[30] = 5  # compression: a PNG inside
    twelve = bytearray(whole["JPEG"])
    twelve[twelve.index(b"\xff\xc0") + 4] = 12
    jp2 = encoded(noise, "JPEG2000")
    huge = struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
    return [
        *cut,
        Odd(
            "WebP inside.tif",
            others["webp"],
            problem="is a TIFF with WebP compression, which can't be read; save it with LZW",
        ),
        Odd(
            "LERC inside.tif",
            others["lerc"],
            problem="is a TIFF with LERC compression, which can't be read; save it with LZW",
        ),
        Odd(
            "10 bits.tif",
            tiff(np.zeros((8, 8)), 10),
            problem=r"is a TIFF of a kind that can't be read \(unknown pixel mode\); save",
        ),
        Odd(
            "PNG inside.bmp",
            bytes(bitmap),
            problem=r"is a BMP of a kind that can't be read \(unsupported BMP compression \(5\)\); save",
        ),
        Odd(
            "12 bits.jpg",
            bytes(twelve),
            problem=r"is a JPEG of a kind that can't be read \(cannot handle 12-bit layers\); save",
        ),
        Odd("cut.jp2", jp2[: len(jp2) // 2], problem="is a damaged JPEG 2000|is truncated"),
        Odd("header only.jp2", jp2[:30], problem="is a damaged JPEG 2000|is truncated"),
        Odd("cut.ppm", encoded(noise, "PPM")[:100], problem="is truncated"),
        Odd("no width.ppm", b"P6 0 4 255\n" + bytes(9), problem="is a damaged PPM"),
        Odd("empty.jpg", b"", problem=r"is empty \(0 bytes\)"),
        Odd("header only.jpg", whole["JPEG"][:20], problem="is truncated|is a damaged JPEG"),
        Odd("signature only.png", whole["PNG"][:8], problem="is truncated|is a damaged PNG"),
        Odd("last bytes missing.jpg", whole["JPEG"][:-200], problem="is truncated"),
        Odd("a flipped byte.png", bytes(flipped), problem="damaged|truncated"),
        Odd("notes.txt", "Grüße".encode(), problem="is not an image"),
        Odd("a web page.jpg", b"<!doctype html><title>404</title>", problem="is not an image"),
        Odd("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', problem="is not an image"),
        Odd("document.pdf", b"%PDF-1.7\n%%EOF\n", problem="is not an image"),
        Odd(
            "postscript.eps",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n%%EOF\n",
            problem="is not an image",
        ),
        Odd("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), problem="HEIC"),
        Odd("noise.png", bytes(range(256)) * 8, problem="is not an image"),
        Odd("bomb.png", png(60_000, 60_000, 8, 2, b""), problem=r"more than 178,956,970 pixels"),
        Odd(
            "bomb.gif",
            b"GIF89a" + huge + b",\0\0\0\0" + huge[:4] + b"\0\x02\0;",
            problem="more than 178,956,970 pixels",
        ),
        Odd(
            "bomb.bmp",
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0),
            problem="pixels",
        ),
        Odd(
            "of floats.tif",
            encoded(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), "TIFF"),
            problem="uncommon kind",
        ),
    ]


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can't be listed; by its permissions it could be, where tests run as root."""
    scandir = os.scandir

    def refusing(path: Path) -> Any:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
