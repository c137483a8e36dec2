"""The kinds of edits that `lineup photos --queries-from edits` makes: their names, and how strong each is.

It imports no image library, so that scores and the comparison can name the kinds.
"""

from __future__ import annotations

FOLDER = "test/query/edits"  # below data/raw; a folder for each kind is in it

CROP_AREA_SHARES = (0.5, 0.8)
ROTATION_DEGREES = (5.0, 15.0)
JPEG_QUALITY = 30
DARKER_FACTORS, BRIGHTER_FACTORS = (0.4, 0.7), (1.4, 1.8)
BLUR_RADIUS_SHARES = (0.01, 0.02)  # of the shorter side
TEXT_WIDTH_SHARES = (0.6, 0.9)
SMALL_SIDE_PX = 96

# In the order of the comparison's columns.
DESCRIPTIONS = {
    "crop": f"{CROP_AREA_SHARES[0]:.0%} to {CROP_AREA_SHARES[1]:.0%} of the area, anywhere in the photo",
    "rotation": f"turned by {ROTATION_DEGREES[0]:.0f} to {ROTATION_DEGREES[1]:.0f} degrees, "
    "without the corners that this leaves empty",
    "mirror": "left and right swapped",
    "jpeg": f"saved as JPEG at quality {JPEG_QUALITY}",
    "brightness": f"{DARKER_FACTORS[0]} to {DARKER_FACTORS[1]} or "
    f"{BRIGHTER_FACTORS[0]} to {BRIGHTER_FACTORS[1]} times as bright",
    "blur": f"Gaussian, with a radius of {BLUR_RADIUS_SHARES[0]:.0%} to {BLUR_RADIUS_SHARES[1]:.0%} "
    "of the shorter side",
    "text": f"a line of text over {TEXT_WIDTH_SHARES[0]:.0%} to {TEXT_WIDTH_SHARES[1]:.0%} of the width",
    "small": f"scaled down to {SMALL_SIDE_PX} px on the longer side",
}
NAMES = tuple(DESCRIPTIONS)


def kind_of(path: str) -> str | None:
    """The kind of edit that a query is, by its path below data/raw; None if it is no edit."""
    below = path.removeprefix(f"{FOLDER}/")
    kind, in_folder, _ = below.partition("/")
    return kind if below != path and in_folder and kind in DESCRIPTIONS else None
