"""Texts and names of files are UTF-8, whatever the locale: results never depend on LC_ALL."""

from __future__ import annotations

import io
import locale
import os
import sys


def use_utf8() -> None:
    """Replaces this process by one in Python's UTF-8 mode if the locale has another encoding.

    A command calls this before anything else. Python decodes texts and names of files by the locale, while
    pyarrow, FAISS, safetensors, SQLite and our tables use UTF-8. Processes that it starts inherit the mode.
    A character that the terminal can't show is printed as its code.
    """
    if not sys.flags.utf8_mode and {sys.getfilesystemencoding(), locale.getencoding().lower()} != {"utf-8"}:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
