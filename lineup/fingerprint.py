"""Fingerprints: the hash of all that decides a result, under which the local cache stores it."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(ingredients: dict[str, Any]) -> str:
    """SHA-256, in hex, of values that JSON can hold; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_digest(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_digest(*files: Path) -> str:
    """SHA-256, in hex, of what Python files mean: their syntax trees, in the order given.

    Our own code decides a vector just as a library's version does, so a fingerprint holds this digest.
    Comments, docstrings and formatting are no part of it: a rewritten comment recomputes nothing.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(_syntax_tree(file.read_text(encoding="utf-8")))
    return digest.hexdigest()


@functools.cache
def _syntax_tree(code: str) -> bytes:
    """The dump of a file's syntax tree without docstrings. A process asks for most files more than once."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree).encode()
