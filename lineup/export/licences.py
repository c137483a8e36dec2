"""What is known of the rights in an exported row: its weights, their training data, and the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files as resources

from lineup.encoders.encoder_config import EncoderConfig

# Licences that allow research and the like only, by the words that they or their names use.
_NON_COMMERCIAL = re.compile(
    r"\bnc\b|non[- ]?commercial|research[- ]only|academic|personal use", re.IGNORECASE
)
_CODE = "handed_over/Apache-2.0.txt"


@dataclass(frozen=True)
class Rights:
    """Of one model. source: where the weights come from; training_data: what is known of them."""

    model: str
    licence: str | None
    source: str
    training_data: str

    @property
    def forbids_business(self) -> bool:
        """Whether the licence forbids commercial use, as far as its name tells."""
        return self.licence is not None and _NON_COMMERCIAL.search(self.licence) is not None

    @property
    def warning(self) -> str | None:
        """What to know before the row is used, in a sentence; None if there is nothing."""
        if self.forbids_business:
            return f"{self.model}: its weights' licence, {self.licence}, forbids commercial use"
        if self.licence is None:
            return (
                f"{self.model}: its weights state no licence; "
                "find out at their source whether you may use them"
            )
        return None


def of_model(model: str, config: EncoderConfig) -> Rights:
    """The rights in a model, from what its encoder's source states."""
    weights = str(config.source.get("weights"))
    details = [
        f"{key} {value}" for key in ("record", "repository", "commit") if (value := config.source.get(key))
    ]
    source = f"{config.name} of {config.library}, weights `{weights}`" + "".join(f", {d}" for d in details)
    data = "what the weights' source was trained on, which it states itself if at all"
    if config.trained is not None:
        objective = config.trained.get("objective", {}).get("name", "an objective of Lineup")
        data += f"; then fine-tuned ({objective}) on the training photos of this project"
    return Rights(model, config.licence, source, data)


def text(rights: list[Rights]) -> str:
    """The content of LICENSES."""
    parts = ["This folder joins parts with rights of their own.\n"]
    for each in rights:
        parts.append(
            f"Weights of {each.model}\n"
            f"  licence: {each.licence or 'unknown: the source states none'}\n"
            f"  source: {each.source.replace('`', '')}\n"
            f"  training data: {each.training_data}\n"
            + (f"  WARNING: {each.warning}.\n" if each.warning else "")
        )
    parts.append(
        "Photos, labels and vectors (gallery.parquet, gallery.csv, index*.faiss, selftest/)\n"
        "  They belong to whoever owns the photos.\n"
    )
    parts.append("Code (lineup_row.py, selftest.py)\n  licence: Apache-2.0, as follows.\n")
    code = resources("lineup.export").joinpath(_CODE).read_text(encoding="utf-8")
    return "\n".join(parts) + "\n" + code
