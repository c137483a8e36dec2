"""What decides a vector, and what decides the pixels that a network sees: the keys of the local cache.

A key's parts are JSON. `lineup.fingerprint.fingerprint` hashes them into the key, and KEY_PARTS_FILE in the
cache's folder holds them for people to read.
"""

from __future__ import annotations

from pathlib import Path

from lineup.embedding import inference, quantised_network
from lineup.encoders import encoder_folder, libraries
from lineup.encoders.encoder_config import JsonObject, read_config
from lineup.engines import conversion, engine, lookup_transform, quantisation, selection, tracing
from lineup.engines.engine import Engine
from lineup.fingerprint import code_digest
from lineup.photos import decoding

KEY_PARTS_FILE = "ingredients.json"


def vector_key_parts(folder: Path, computed_by: Engine, quantised: Path | None = None) -> JsonObject:
    """All that decides a vector besides the image.

    Args:
        folder: of the encoder.
        quantised: the folder of its network in int8; None in other precisions.
    Raises:
        UserError: the weights aren't those that encoder.json names, or the network in int8 isn't theirs.
    """
    parts = _float_key_parts(folder, computed_by)
    if quantised is None:
        return parts
    modules = (quantised_network, quantisation)
    parts["quantised"] = {
        **quantised_network.read_record(quantised, folder),
        "code": code_digest(
            *(Path(str(module.__file__)) for module in modules),
            Path(engine.__file__).with_name(f"{computed_by.name}_int8.py"),
        ),
    }
    return parts


def _float_key_parts(folder: Path, computed_by: Engine) -> JsonObject:
    """The parts that every precision has; without int8 they are all."""
    config = read_config(folder)
    encoder_folder.check_file(folder, encoder_folder.WEIGHTS_FILE, config.weights_sha256)
    modules = (inference, lookup_transform, engine, selection, conversion, tracing)
    return {
        "encoder": config.deciding(),
        "versions": libraries.versions(*config.versions, *computed_by.library.PACKAGES),
        "code": code_digest(
            *decoding.CODE,
            *encoder_folder.CODE,
            *libraries.source_files(config.library),
            *(Path(str(module.__file__)) for module in modules),
            Path(engine.__file__).with_name(f"{computed_by.name}.py"),
        ),
        "engine": computed_by.name,
        "precision": computed_by.precision,
        "device": computed_by.device.type,
    }


def pixel_key_parts(folder: Path) -> JsonObject:
    """All that decides the pixels that a network sees besides the image: what defines its transform."""
    config = read_config(folder)
    return {
        "encoder": {
            "library": config.library,
            "image_size": config.image_size,
            "transform": config.transform,
        },
        "versions": libraries.versions(*config.versions),
        "code": code_digest(
            *decoding.CODE,
            *encoder_folder.CODE,
            *libraries.source_files(config.library),
            Path(lookup_transform.__file__),
        ),
    }
