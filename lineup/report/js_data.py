"""Data as a script: a page opened from disk may load scripts, but may not fetch files."""

from __future__ import annotations

import json
from typing import Any

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def literal(content: Any) -> str:
    """JSON that means the same as JavaScript wherever it stands: ASCII only, and nothing that HTML reads as a
    tag.
    """
    text = json.dumps(
        content, separators=(",", ":"), allow_nan=False
    )  # escapes U+2028, U+2029 and all else beyond ASCII
    for character, escaped in _UNSAFE.items():
        text = text.replace(character, escaped)
    return text


def assignment(target: str, key: str, content: Any) -> str:
    """A script that puts `content` under `key` of the page's global `target`."""
    return f"(window.{target} ??= {{}})[{literal(key)}] = {literal(content)};\n"
