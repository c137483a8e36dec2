"""The text tower of a dual encoder of transformers, and its tokenizer."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel

from lineup.encoders.encoder import Tokenizer, Tokens
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.hub_snapshot import Snapshot
from lineup.encoders.text_tower import TOKENIZER_FOLDER, TextTower, tokenizer_files
from lineup.encoders.transformers_checkpoint import LOCAL
from lineup.encoders.transformers_network import TextVectors, build_network, rebuild_part, used_submodules
from lineup.errors import UserError, explained

# Model types that were trained on texts padded to the full length, as their documentation says.
_PADDED_TO_MAX_LENGTH = ("siglip", "siglip2")

log = logging.getLogger(__name__)


def text_tower(snapshot: Snapshot, model: PreTrainedModel, settings: JsonObject) -> TextTower | None:
    """A dual encoder's text tower; None where the repository has no text tower or no tokenizer.

    Args:
        settings: of the network, as `build_network` takes them.
    """
    if not hasattr(model, "get_text_features") or not any(
        "token" in name or "vocab" in name for name in snapshot.hashes
    ):
        return None
    try:
        with explained(f"the tokenizer of {snapshot.repository} can't be loaded"):
            own = AutoTokenizer.from_pretrained(snapshot.folder, **LOCAL)
    except UserError as error:
        log.warning("%s, so this row can't be searched with texts", error)
        return None
    padding = "max_length" if model.config.model_type in _PADDED_TO_MAX_LENGTH else True
    lengths = {"padding": padding, "max_length": model.config.get_text_config().max_position_embeddings}
    tokens = dict(own(["a photo"], truncation=True, return_tensors="pt", **lengths))
    parts = used_submodules(model, "get_text_features", **tokens)
    scale = getattr(model, "logit_scale", None)
    return TextTower(
        module=rebuild_part(model, lambda: TextVectors(build_network(settings, None, parts))),
        settings={**lengths, "parts": parts},
        files=tokenizer_files(own),
        logit_scale=float(scale.detach()) if isinstance(scale, torch.Tensor) else None,
    )


def load_tokenizer(config: EncoderConfig, folder: Path) -> Tokenizer:
    """The tokenizer in an encoder's folder. It cuts texts that are longer than the tower's last position."""
    assert config.text is not None, config.name
    padding, max_length = config.text["padding"], config.text["max_length"]
    own = AutoTokenizer.from_pretrained(folder / TOKENIZER_FOLDER, **LOCAL)

    def tokenize(texts: list[str]) -> Tokens:
        return dict(own(texts, padding=padding, truncation=True, max_length=max_length, return_tensors="pt"))

    return tokenize
