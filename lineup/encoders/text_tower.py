"""A dual encoder's text tower, as the file of a library hands it over, with its tokenizer as files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lineup.encoders.encoder import Fetched
from lineup.encoders.encoder_config import EncoderConfig, JsonObject

# The folder of the tokenizer's files in an encoder's folder.
TOKENIZER_FOLDER = "tokenizer"


@dataclass(frozen=True)
class TextTower:
    """A text tower.

    Attributes:
        module: what the tokenizer gives -> [N, D].
        settings: the config's `text`.
        files: content of the tokenizer's files, by path in the encoder's folder.
        logit_scale: the logarithm of what cosines are multiplied by; None where the encoder has no such
            scale.
    """

    module: nn.Module
    settings: JsonObject
    files: Mapping[str, bytes]
    logit_scale: float | None


def config_fields(text: TextTower | None) -> JsonObject:
    """The fields `text` and, where there is a scale, `logit_scale` of a dual encoder's config."""
    if text is None:
        return {"text": None}
    scale = {} if text.logit_scale is None else {"logit_scale": text.logit_scale}
    return {"text": text.settings, **scale}


def fetched(module: nn.Module, config: EncoderConfig, text: TextTower | None) -> Fetched:
    """What a library hands over of an encoder that may have a text tower."""
    return Fetched(module, config, text.module, text.files) if text else Fetched(module, config)


def tokenizer_files(tokenizer: Any) -> dict[str, bytes]:
    """What the tokenizer's `save_pretrained` writes, by path in the encoder's folder."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {
            f"{TOKENIZER_FOLDER}/{path.name}": path.read_bytes()
            for path in sorted(Path(folder).iterdir())
            if path.is_file()
        }
