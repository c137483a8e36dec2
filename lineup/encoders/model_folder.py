"""Where a row's network lies: in `data/models/<row>`, or in the fetched weights that this folder points to.

The folder of a row that is trained holds its network, as `encoder_folder.save` writes it. That of a row that
is not trained holds a pointer: its network is the fetched one, and weights are too large to copy. That of a
row with an adapter holds a pointer, the adapter, and the encoder.json of both (`adapter.py`). Whatever loads
a row's network asks `resolve` for its folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lineup.errors import UserError
from lineup.storage import files

POINTER_FILE = "pointer.json"
ADAPTER_FILE = "adapter.safetensors"
_ENCODER_FILE = "encoder.json"


class Pointer(NamedTuple):
    """Names the weights that a row uses as they were fetched.

    Args:
        weights: their folder, relative to the project's.
        sha256: of their model.safetensors, in hex.
    """

    weights: Path
    sha256: str


def pointer_to(weights: Path) -> Pointer:
    """The pointer to a folder of fetched weights.

    Raises:
        UserError: the folder has no encoder.json, or a damaged one.
    """
    return Pointer(weights, _weights_sha256(weights))


def write_pointer(model: Path, pointer: Pointer) -> None:
    """Writes the pointer into a row's folder."""
    content = {"weights": pointer.weights.as_posix(), "weights_sha256": pointer.sha256}
    files.write_json(model / POINTER_FILE, content)


def resolve(model: Path) -> Path:
    """The folder whose encoder.json describes a row's network: `model`, or the weights that it points to.

    Raises:
        UserError: the pointer is damaged, or its weights don't exist or are other ones.
    """
    return model if (model / ADAPTER_FILE).exists() else weights_of(model)


def weights_of(model: Path) -> Path:
    """The folder of a row's encoder without an adapter: `model`, or the weights that it points to.

    Raises:
        UserError: the pointer is damaged, or its weights don't exist or are other ones.
    """
    if not (model / POINTER_FILE).exists():
        return model
    pointer = _read_pointer(model / POINTER_FILE)
    if _weights_sha256(pointer.weights) != pointer.sha256:
        raise UserError(
            f"{model}: points to other weights than {pointer.weights} holds; run `dvc repro` to go on"
        )
    return pointer.weights


def _read_pointer(file: Path) -> Pointer:
    content = files.read_json(file)
    try:
        return Pointer(Path(content["weights"]), content["weights_sha256"])
    except (KeyError, TypeError):
        raise UserError(f"{file}: is damaged; {files.REPAIR}") from None


def _weights_sha256(folder: Path) -> str:
    return files.read_json(folder / _ENCODER_FILE)["weights_sha256"]
