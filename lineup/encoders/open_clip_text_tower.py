"""The text tower of open_clip's networks, and its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer

from lineup.encoders import hub, open_clip_network
from lineup.encoders.encoder import Tokenizer
from lineup.encoders.encoder_config import JsonObject
from lineup.encoders.meta_init import rebuilt
from lineup.encoders.open_clip_checkpoint import TOKENIZER, Checkpoint
from lineup.encoders.text_tower import TOKENIZER_FOLDER, TextTower, tokenizer_files
from lineup.errors import explained


def text_tower(name: str, checkpoint: Checkpoint, network: Any) -> TextTower | None:
    """The text tower of `network`; None where it is a network of another library, or CoCa's.

    Args:
        name: as params.yaml states it.
    """
    config = checkpoint.config
    if "hf_model_name" in config["text_cfg"] or "multimodal_cfg" in config:
        return None
    # The class CLIP holds the parts of its text tower itself.
    tower = network.text if hasattr(network, "text") else network
    tensors = {f"text.{part}": tensor for part, tensor in tower.state_dict().items()}
    return TextTower(
        module=rebuilt(lambda: open_clip_network.text_tower(config), tensors),
        settings={"context_length": config["text_cfg"].get("context_length", 77)},
        files=_files(name, config, checkpoint.tokenizer),
        logit_scale=float(network.logit_scale.detach()),
    )


def _files(name: str, config: JsonObject, folder: Path | None) -> dict[str, bytes]:
    """What `load_tokenizer` reads: the network's settings and, where they name one, a tokenizer of the hub.

    Args:
        folder: of the checkpoint's own tokenizer; None for the one that the settings name.
    """
    settings = json.dumps({"model_cfg": config}, indent=1, sort_keys=True).encode()
    files = {f"{TOKENIZER_FOLDER}/{open_clip_network.NETWORK_FILE}": settings}
    repository = config["text_cfg"].get("hf_tokenizer_name")
    if not repository:
        return files
    source = folder or hub.snapshot(repository, None, ("config.json", *TOKENIZER)).folder
    with explained(f"name: the tokenizer of {name} can't be loaded"):
        tokenizer = HFTokenizer(str(source), **config["text_cfg"].get("tokenizer_kwargs", {}))
        return files | tokenizer_files(tokenizer)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in an encoder's folder."""
    return open_clip.get_tokenizer(f"local-dir:{folder / TOKENIZER_FOLDER}")
