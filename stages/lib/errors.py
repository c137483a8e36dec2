"""The one exception for a user's mistake: a sentence with place, fault and nearest fix. And how a full disk shows itself."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. `cli.run` prints its one sentence and exits with 1, without a traceback."""


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the closest known word, else the list of known words."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def printable(text: str, max_characters: int | None = None) -> str:
    """On one line, with codes for what isn't printable: names of files and rows can't move the cursor or colour the terminal.

    max_characters: of a longer text the middle is left out.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    if max_characters is None or len(shown) <= max_characters:
        return shown
    return f"{shown[: max_characters // 2]}…{shown[-(max_characters - max_characters // 2 - 1) :]}"


def no_room(error: BaseException) -> int | None:
    """ENOSPC, EDQUOT or EFBIG if a file couldn't be written for want of room, else None.

    Only Python and pyarrow raise an OSError with its number; safetensors and FAISS tell it in words.
    """
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if (isinstance(error, OSError) and error.errno == code) or os.strerror(code) in str(error):
            return code
    return None
