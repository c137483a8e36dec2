"""How large preprocess must keep photos, so that no encoder sees one enlarged that was shrunk before.

An encoder's transform resizes a photo itself. Shrinking it beforehand is a second resize, which costs less
the larger the size that is kept; benchmarks/prepared_size.py measures it.
"""

from __future__ import annotations

import math

from lineup import paths
from lineup.errors import UserError

# The shorter side of a shrunk photo, as a multiple of the side to which a transform resizes it.
STORED_PX_PER_RESIZED_PX = 2.0


def required_px(resize_px: int) -> int:
    """The shorter side, in pixels, that photos must keep for a transform that resizes them to `resize_px`."""
    return math.ceil(STORED_PX_PER_RESIZED_PX * resize_px)


def check(row: str, resize_px: int, shorter_side_px: int) -> None:
    """Raises UserError if photos are shrunk too far for the row."""
    if sentence := fault(row, resize_px, shorter_side_px):
        raise UserError(f"{paths.PARAMS}: {sentence}")


def fault(row: str, resize_px: int, shorter_side_px: int) -> str | None:
    """What is wrong with `preprocess.shorter_side_px` for a row that resizes photos to `resize_px`.

    None if it is large enough.
    """
    if shorter_side_px >= required_px(resize_px):
        return None
    return (
        f"preprocess.shorter_side_px is {shorter_side_px}, but models.{row} resizes photos to {resize_px} px "
        f"and needs twice as many; set preprocess.shorter_side_px to {required_px(resize_px)}"
    )
