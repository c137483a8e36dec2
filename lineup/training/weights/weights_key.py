"""What LoRA and a blend change in the key under which the checkpoints of a training are cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lineup.encoders import libraries
from lineup.fingerprint import code_digest
from lineup.settings.training import Train
from lineup.training.weights import linear_attention, lora


def with_lora(key: dict[str, Any], settings: Train) -> dict[str, Any]:
    """The key of a training, with what decides its LoRA matrices, if it has any.

    A row without LoRA has the key that it had before there was LoRA. Rows that differ in `blend` alone share
    a training.

    Args:
        key: as `cache_key` returns it.
        settings: the training loop's, for the row.
    """
    left_out = {"blend"} | (set() if settings.lora else {"lora"})
    key = {**key, "settings": {name: key["settings"][name] for name in key["settings"].keys() - left_out}}
    if settings.lora is None:
        return key
    code = code_digest(Path(lora.__file__), Path(linear_attention.__file__))
    return {**key, "lora": {"versions": libraries.versions("peft"), "code": code}}
