"""Locales that aren't UTF-8, for the processes that a test starts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("C", "POSIX", "en_US.ISO-8859-1")


def environment(name: str, folder: Path) -> dict[str, Any]:
    """Variables for `project.run`.

    Without them Python would take C and POSIX for UTF-8. folder: where a missing locale is made.
    """
    plain = {"LC_ALL": name, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    if name in ("C", "POSIX"):
        return plain
    if not shutil.which("localedef"):
        pytest.skip("localedef is not installed")
    language, charset = name.split(".")
    made = subprocess.run(
        ["localedef", "-i", language, "-f", charset, folder / name], capture_output=True, check=False
    )
    if not (folder / name).is_dir():
        pytest.skip(f"localedef can't make {name}: {made.stderr.decode(errors='replace')}")
    return {**plain, "LOCPATH": str(folder)}
