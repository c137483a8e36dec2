"""Finds the photo that a table names; each fault names its line and the nearest fix."""

from __future__ import annotations

import difflib
import re
import sqlite3
import unicodedata
from itertools import islice
from pathlib import Path, PurePosixPath

from lineup.errors import UserError

_MAX_COMPARED_NAMES = 5_000


class PhotoNames:
    """Finds the file that a table names, in any Unicode form and with either kind of slash."""

    def __init__(self, register: sqlite3.Connection, root: Path) -> None:
        self._register, self._root = register, root

    def find(self, text: str, source: str) -> str:
        """The file's name on disk.

        Args:
            text: as the table has it.
            source: the file and line; an error begins with it.
        Raises:
            UserError: no file has the name, or several do.
        """
        name = self.resolve(text, source)
        if name is None:
            raise self.missing(text, source)
        return name

    def resolve(self, text: str, source: str) -> str | None:
        """As `find`, but None if no file has the name."""
        if self._register.execute("SELECT 1 FROM file WHERE path = ?", (text,)).fetchone():
            return text
        slashed = text.strip().replace("\\", "/")
        parts = self._parts(text)
        if not parts:
            raise UserError(f"{source}: has no path; fill it in or remove the line")
        if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
            raise UserError(
                f"{source}: {text!r} is outside {self._root}; write paths relative to it, "
                "as test/query/photo.jpg"
            )
        name = self._normal(parts)
        matches = self._register.execute(
            "SELECT path FROM file WHERE path = ? OR normal = ?", (name, name)
        ).fetchall()
        if len(matches) == 1:
            return matches[0][0]
        if matches:
            raise UserError(
                f"{source}: {text!r} could be any of {len(matches)} files whose names look alike; rename them"
            )
        if self._exists(parts):
            raise UserError(
                f"{source}: {text!r} is not a photo: it is hidden, "
                "or outside train/, test/query/ and test/gallery/"
            )
        return None

    def missing(self, text: str, source: str) -> UserError:
        """Why no file has the name, with the most similar one."""
        suggestion = self._suggestion(self._normal(self._parts(text)))
        return UserError(f"{source}: {text!r} is not in {self._root}{suggestion}")

    @staticmethod
    def _parts(text: str) -> list[str]:
        return [part for part in text.strip().replace("\\", "/").split("/") if part not in ("", ".")]

    @staticmethod
    def _normal(parts: list[str]) -> str:
        return unicodedata.normalize("NFC", "/".join(parts))

    def _exists(self, parts: list[str]) -> bool:
        try:
            return self._root.joinpath(*parts).exists()
        except (OSError, ValueError):  # It is too long for a name, or has a zero byte.
            return False

    def _suggestion(self, name: str) -> str:
        """Names the most similar file: of the same name, else of the same stem, else in the same folder."""
        wanted = PurePosixPath(name)
        for alike in (
            lambda path: path.name.casefold() == wanted.name.casefold(),
            lambda path: path.stem.casefold() == wanted.stem.casefold(),
            lambda path: path.parent == wanted.parent,
            lambda path: True,
        ):
            known = self._register.execute("SELECT coalesce(normal, path) FROM file ORDER BY path")
            compared = islice((path for (path,) in known if alike(PurePosixPath(path))), _MAX_COMPARED_NAMES)
            close = difflib.get_close_matches(name, list(compared), n=1, cutoff=0.4)
            if close:
                return f"; did you mean '{close[0]}'?"
        return ""
