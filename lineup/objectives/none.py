"""No objective: the encoder is used as it was fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

from lineup.storage import files


def pass_on(source: Path, target: Path, log_header: str) -> None:
    """Copies an encoder's folder byte for byte, and adds a log.csv of no epochs."""
    files.read_json(source / "encoder.json")  # UserError where nothing was fetched

    def write(folder: Path) -> None:
        shutil.copytree(
            source, folder, copy_function=shutil.copyfile
        )  # a text tower's tokenizer is a folder of its own
        (folder / "log.csv").write_text(log_header, encoding="utf-8", newline="\n")

    files.replace_atomically(target, write)
