"""An encoder on disk: a folder with its weights and encoder.json, which is all that loading it needs.

`model.safetensors` holds the image tower. A dual encoder also has `text.safetensors` and the files of its
tokenizer. encoder.json names each file by its SHA-256, which is checked before the file is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lineup.encoders import encoder, encoder_config, libraries, meta_init
from lineup.encoders.encoder import Encoder, TextEncoder
from lineup.encoders.encoder_config import CONFIG_FILE, EncoderConfig, read_config
from lineup.encoders.meta_init import on_meta_device, with_head, with_versions
from lineup.errors import UserError
from lineup.fingerprint import file_digest
from lineup.storage.files import replace_atomically, write_json

WEIGHTS_FILE, TEXT_FILE = "model.safetensors", "text.safetensors"
# The code that decides what a loaded encoder computes, apart from the file of its library.
CODE = (
    Path(encoder.__file__),
    Path(encoder_config.__file__),
    Path(__file__),
    Path(libraries.__file__),
    Path(meta_init.__file__),
)


def save(
    folder: Path,
    module: nn.Module,
    config: EncoderConfig,
    text: nn.Module | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes an encoder's folder, which appears as a whole.

    Args:
        text: the text tower of a dual encoder.
        files: content of what the tokenizer needs, by path in the folder.
    """

    def write(temporary: Path) -> None:
        temporary.mkdir()
        written = {
            "weights_sha256": _save_module(temporary / WEIGHTS_FILE, module),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
        }
        if text is not None:
            written["text_sha256"] = _save_module(temporary / TEXT_FILE, text)
        for name, content in (files or {}).items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        if files:
            hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
            written["text_files"] = config.text_files | hashes
        write_json(temporary / CONFIG_FILE, config.model_copy(update=written).to_json())

    replace_atomically(folder, write)


def _save_module(file: Path, module: nn.Module) -> str:
    """Writes a module's tensors and returns the file's SHA-256."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, file)
    return file_digest(file)


def check_file(folder: Path, file: str, sha256: str | None) -> None:
    """Raises UserError unless a file of an encoder's folder is the one that encoder.json names."""
    path = folder / file
    if not path.exists():
        raise UserError(
            f"{folder}: {file} does not exist (it is the file of {CONFIG_FILE}); `dvc checkout --force` it"
        )
    if file_digest(path) != sha256:
        raise UserError(
            f"{folder}: {file} is damaged (not the file of {CONFIG_FILE}); `dvc checkout --force` it"
        )


def load(folder: Path) -> Encoder:
    """The encoder in a folder, in eval mode, on the CPU, with its weights in memory once."""
    config = read_config(folder)
    library = libraries.library(config.library)
    module = on_meta_device(lambda: library.build(config))
    if config.head is not None:
        module = with_head(module, config.head.in_dim, config.head.dim)
    _load_weights(module, folder, WEIGHTS_FILE, config.weights_sha256)
    return Encoder(module, library.transform(config), config)


def load_text(folder: Path) -> TextEncoder:
    """The text tower in a folder. Raises UserError if the encoder has none."""
    config = read_config(folder)
    if not (folder / TEXT_FILE).exists():
        raise UserError(
            f"{folder}: {config.name} has no text tower; "
            "search with a photo, or with a row whose encoder is a CLIP or SigLIP"
        )
    library = libraries.text_library(config.library)
    for name, sha256 in config.text_files.items():
        check_file(folder, name, sha256)
    module = on_meta_device(lambda: library.build_text(config))
    _load_weights(module, folder, TEXT_FILE, config.text_sha256)
    return TextEncoder(module, library.tokenizer(config, folder), config)


def _load_weights(module: nn.Module, folder: Path, file: str, sha256: str | None) -> None:
    check_file(folder, file, sha256)
    try:
        module.load_state_dict(with_versions(module, load_file(folder / file)), strict=True, assign=True)
    except (FileNotFoundError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder}: {file} doesn't fit {CONFIG_FILE} ({error}); run `dvc repro -f` for this row's fetch"
        ) from None
    module.eval()
