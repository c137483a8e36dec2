"""The fingerprint under which vectors are kept: all that decides a vector besides the image."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any


def fingerprint(ingredients: dict[str, Any]) -> str:
    """SHA-256, in hex, of JSON facts; the order of keys doesn't matter."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True, allow_nan=False).encode()).hexdigest()


def code_digest(*files: Path) -> str:
    """SHA-256 of what Python files do: comments, docstrings and layout don't count.

    A changed transform in our own code changes vectors just as a new version of a library does.
    """
    told = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                and ast.get_docstring(node, clean=False) is not None
            ):
                node.body = node.body[1:]
        told.update(ast.dump(tree).encode())
    return told.hexdigest()
