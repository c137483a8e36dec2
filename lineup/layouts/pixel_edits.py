"""What each kind of edit does to a photo, and how the result is saved."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont
from PIL.PngImagePlugin import PngInfo

from lineup.layouts import edit_kinds
from lineup.photos import image_preparation

Edit = Callable[[Image.Image, Random], Image.Image]

_TEXTS = ("SALE", "NEW IN STOCK", "SAMPLE", "50 % OFF", "example.com", "Only this week")
_MEASURED_FONT_PX = 100
_MAX_TEXT_HEIGHT_SHARE = 0.25
_STROKE_SHARE = 0.06  # of the font's size
_COMMENT = "Comment"


def crop(rgb: Image.Image, random: Random) -> Image.Image:
    """A part of the photo, with the photo's proportions, anywhere in it."""
    scale = math.sqrt(random.uniform(*edit_kinds.CROP_AREA_SHARES))
    width, height = (max(1, math.floor(side * scale)) for side in rgb.size)
    left = math.floor((rgb.width - width) * random.random())
    top = math.floor((rgb.height - height) * random.random())
    return rgb.crop((left, top, left + width, top + height))


def rotate(rgb: Image.Image, random: Random) -> Image.Image:
    """The photo turned about its centre, cropped to the largest part of its proportions that it fills."""
    degrees = random.uniform(*edit_kinds.ROTATION_DEGREES) * random.choice((-1, 1))
    sine, cosine = math.sin(math.radians(abs(degrees))), math.cos(math.radians(degrees))
    width, height = rgb.size
    # A w x h rectangle that is turned back must still lie inside the photo, in width and in height.
    scale = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    left, top = (min(math.ceil(side * (1 - scale) / 2), (side - 1) // 2) for side in rgb.size)
    return rgb.rotate(degrees, Image.Resampling.BICUBIC).crop((left, top, width - left, height - top))


def mirror(rgb: Image.Image, random: Random) -> Image.Image:
    """The photo with left and right swapped."""
    return rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def unchanged(rgb: Image.Image, random: Random) -> Image.Image:
    """The photo itself: of kind "jpeg", the edit is how `encode` saves it."""
    return rgb


def change_brightness(rgb: Image.Image, random: Random) -> Image.Image:
    """The photo with each value multiplied by one factor, which makes it darker or brighter."""
    factors = random.choice((edit_kinds.DARKER_FACTORS, edit_kinds.BRIGHTER_FACTORS))
    return ImageEnhance.Brightness(rgb).enhance(random.uniform(*factors))


def blur(rgb: Image.Image, random: Random) -> Image.Image:
    """The photo, blurred by a share of its shorter side: so it looks as blurred at any resolution."""
    return rgb.filter(
        ImageFilter.GaussianBlur(random.uniform(*edit_kinds.BLUR_RADIUS_SHARES) * min(rgb.size))
    )


def lay_text_over(rgb: Image.Image, random: Random) -> Image.Image:
    """White text with a black outline, which is visible on any photo, at a random place."""
    text, width_share = random.choice(_TEXTS), random.uniform(*edit_kinds.TEXT_WIDTH_SHARES)
    left, top, right, bottom = _font(_MEASURED_FONT_PX).getbbox(text)
    size = _MEASURED_FONT_PX * min(
        width_share * rgb.width / (right - left), _MAX_TEXT_HEIGHT_SHARE * rgb.height / (bottom - top)
    )
    font = _font(max(1.0, size))
    left, top, right, bottom = font.getbbox(text)
    place = (
        random.random() * max(0, rgb.width - (right - left)) - left,
        random.random() * max(0, rgb.height - (bottom - top)) - top,
    )
    edited = rgb.copy()
    ImageDraw.Draw(edited).text(
        place,
        text,
        fill="white",
        font=font,
        stroke_width=max(1, round(_STROKE_SHARE * size)),
        stroke_fill="black",
    )
    return edited


def scale_down(rgb: Image.Image, random: Random) -> Image.Image:
    """The photo with its longer side at SMALL_SIDE_PX; one that is no longer stays as it is."""
    scale = min(1.0, edit_kinds.SMALL_SIDE_PX / max(rgb.size))
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    return rgb if size == rgb.size else rgb.resize(size, Image.Resampling.LANCZOS)


EDITS: dict[str, Edit] = {
    "crop": crop,
    "rotation": rotate,
    "mirror": mirror,
    "jpeg": unchanged,
    "brightness": change_brightness,
    "blur": blur,
    "text": lay_text_over,
    "small": scale_down,
}


def extension(kind: str, name: str) -> str:
    """The extension of an edit's file: ".jpg" where the edit or the original is a JPEG, else ".png".

    Args:
        name: of the original.
    """
    return ".jpg" if kind == "jpeg" or name.lower().endswith((".jpg", ".jpeg")) else ".png"


def encode(kind: str, edited: Image.Image, suffix: str, comment: str) -> bytes:
    """The bytes of an edit's file. They hold the comment, and no metadata of the original.

    Args:
        suffix: what `extension` returned.
    """
    plain, buffer = Image.frombytes("RGB", edited.size, edited.tobytes()), io.BytesIO()
    if suffix == ".png":
        text = PngInfo()
        text.add_text(_COMMENT, comment)
        plain.save(buffer, "PNG", pnginfo=text)
    elif kind == "jpeg":
        plain.save(buffer, "JPEG", quality=edit_kinds.JPEG_QUALITY, comment=comment)
    else:
        plain.save(buffer, "JPEG", quality=image_preparation.JPEG_QUALITY, subsampling=0, comment=comment)
    return buffer.getvalue()


def comment(data: bytes) -> str:
    """The comment that `encode` wrote; empty if these are other bytes."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            content = image.info.get("comment", image.info.get(_COMMENT, ""))
    except Exception:  # Pillow raises almost anything on damaged bytes.
        return ""
    return content.decode("ascii", "replace") if isinstance(content, bytes) else str(content)


def _font(size: float) -> ImageFont.FreeTypeFont:
    """The font that Pillow ships."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return font
