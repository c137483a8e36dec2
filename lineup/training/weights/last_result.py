"""The result of a row's last training, from the DVC cache (`dvc_objects.py`).

A stage runs again when anything has changed that it depends on, also where that decides no weight. A clone
that ran `dvc pull` has no checkpoint, and would train again to end with the same weights.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lineup import paths
from lineup.encoders.encoder_config import CONFIG_FILE
from lineup.fingerprint import fingerprint
from lineup.storage import dvc_objects, files


def restore(row: str, trained: dict[str, Any]) -> bool:
    """Writes the model and the costs of the row's last training, if it was this one and came to its end.

    Args:
        trained: all that decides the weights, as encoder.json holds it, without the best epoch.
    Returns:
        Whether it did. Nothing is written of a result that is missing or damaged in any part.
    """
    outs = dvc_objects.outs(f"train@{row}")
    model, costs = paths.model(row), paths.costs("train", row)
    if not outs.keys() >= {model.as_posix(), costs.as_posix()}:
        return False
    objects = dvc_objects.folder()
    if objects is None:
        return False
    measured = dvc_objects.read(objects, outs[costs.as_posix()])
    stored = {file.name: file for file in dvc_objects.listed(objects, outs[model.as_posix()])}
    if not measured or not json.loads(measured).get("finished") or CONFIG_FILE not in stored:
        return False
    if not all(file.is_intact() and Path(file.name).name == file.name for file in stored.values()):
        return False
    written = files.read_json(stored[CONFIG_FILE].path).get("trained") or {}
    written.pop("best_epoch", None)
    if fingerprint(written) != fingerprint(trained):
        return False

    def copy(folder: Path) -> None:
        folder.mkdir()
        for name, file in stored.items():
            shutil.copyfile(file.path, folder / name)

    files.replace_atomically(model, copy)
    files.replace_atomically(costs, lambda file: file.write_bytes(measured))
    return True
