"""The encoder libraries, by name, and the versions of what computes a vector."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import cast

from lineup.encoders.encoder import Library, TextLibrary


def library(name: str) -> Library:
    """The file `lineup/encoders/<name>.py`, imported when a row needs it."""
    return cast(Library, importlib.import_module(f"lineup.encoders.{name}"))


def text_library(name: str) -> TextLibrary:
    """The same of an encoder that has a text tower."""
    return cast(TextLibrary, library(name))


def source_files(name: str) -> list[Path]:
    """The library's files, whose code decides a vector: `<name>.py`, and its parts in `<name>_*.py`."""
    folder = Path(__file__).parent
    return [folder / f"{name}.py", *sorted(folder.glob(f"{name}_*.py"))]


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of torch, Pillow, NumPy and the given packages."""
    return {
        name: importlib.metadata.version(name) for name in sorted({"torch", "pillow", "numpy", *packages})
    }
