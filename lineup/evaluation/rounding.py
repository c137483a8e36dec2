"""How figures of rows are rounded before they are written."""

from __future__ import annotations

import numpy as np

DECIMALS = 6


def rounded(value: float) -> float | None:
    """The figure as it is written, None for NaN."""
    return None if np.isnan(value) else round(float(value), DECIMALS)
