"""Names of files and texts are UTF-8, whatever the locale says: results never depend on LC_ALL."""

from __future__ import annotations

import io
import locale
import os
import sys


def use_utf8() -> None:
    """For a command, before it does anything: replaces this process by one in Python's UTF-8 mode if the
    locale has another encoding.

    Python decodes the names of files, and `open` texts, as the locale says; pyarrow, FAISS, safetensors,
    SQLite and the tables that preprocess writes have UTF-8. Processes that the command starts take over the
    mode. What a stream can't show is printed by its code.
    """
    if not sys.flags.utf8_mode and {sys.getfilesystemencoding(), locale.getencoding().lower()} != {"utf-8"}:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
