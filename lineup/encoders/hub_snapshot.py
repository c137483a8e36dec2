"""A repository's files on this machine, and what its settings and its card say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load

from lineup.encoders.encoder_config import JsonObject
from lineup.errors import UserError

CARD_FILE = "README.md"
_MAX_SETTINGS_MB, _MAX_JSON_LEVELS = 16, 64


@dataclass(frozen=True)
class Snapshot:
    """A repository's files at one commit.

    Attributes:
        commit: None for a folder of the user's.
        hashes: SHA-256 of each file, by its path in the folder.
    """

    folder: Path
    repository: str
    commit: str | None
    hashes: dict[str, str]

    def has(self, *names: str) -> bool:
        """Whether the repository has any of these files."""
        return any((self.folder / name).is_file() for name in names)

    def source(self) -> JsonObject:
        """The `EncoderConfig.source` of an encoder from this repository."""
        hashes = {name: digest for name, digest in self.hashes.items() if name != CARD_FILE}
        safetensors = [digest for name, digest in hashes.items() if name.endswith(".safetensors")]
        return {
            "repository": self.repository,
            "revision": self.commit,
            "files": hashes,
            "sha256": safetensors[0] if len(safetensors) == 1 else None,
        }

    def settings(self, name: str) -> JsonObject:
        """The content of a JSON file.

        Raises UserError if it isn't a JSON object, or is so large or deep that a library would run out of
        memory or stack.
        """
        path = self.folder / name
        fault = f"weights: {name} of {self.repository}"
        if path.stat().st_size > _MAX_SETTINGS_MB * 2**20:
            raise UserError(
                f"{fault} is larger than {_MAX_SETTINGS_MB} MB, which settings never are; "
                "choose another checkpoint"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or not _is_shallow(content):
            raise UserError(
                f"{fault} is damaged: it must be a JSON object of at most {_MAX_JSON_LEVELS} levels; "
                "choose another checkpoint, or correct a copy"
            )
        return content

    def licence(self) -> str | None:
        """What the repository's card states: "apache-2.0", "other (dinov3-license)", or None."""
        try:
            card = metadata_load(self.folder / CARD_FILE) or {}
        except Exception:  # the card is for people to read, and its faults don't touch the weights
            return None
        licence, name = card.get("license"), card.get("license_name")
        # Only strings are taken, because a few bytes of YAML (nested aliases) can expand to gigabytes.
        stated = ", ".join(
            part for part in (licence if isinstance(licence, list) else [licence]) if isinstance(part, str)
        )
        return f"{stated} ({name})" if stated and isinstance(name, str) else stated or None


def _is_shallow(content: Any) -> bool:
    level = [content]
    for _ in range(_MAX_JSON_LEVELS):
        level = [
            child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        level = [child for child in level if isinstance(child, dict | list)]
    return not level
