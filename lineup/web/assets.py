"""The style and the scripts that pages share."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).parent / "page"
