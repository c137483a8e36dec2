"""Data as a script: a page opened from disk may load scripts, but may not fetch files."""

from __future__ import annotations

import json
from typing import Any

_READ_AS_MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def literal(content: Any) -> str:
    """JSON that is the same value as JavaScript, wherever it stands in a script or in HTML.

    It is ASCII only, since `json.dumps` escapes all else, U+2028 and U+2029 included, which end a line in a
    script. It holds nothing that HTML reads as a tag.
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character, escaped in _READ_AS_MARKUP.items():
        text = text.replace(character, escaped)
    return text


def assignment(target: str, key: str, content: Any) -> str:
    """A script that puts `content` under `key` of the page's global `target`."""
    return f"(window.{target} ??= {{}})[{literal(key)}] = {literal(content)};\n"
