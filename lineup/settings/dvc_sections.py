"""What params.yaml must spell out: the settings that dvc.yaml names, as DVC knows no defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lineup.errors import UserError
from lineup.settings.params import Params
from lineup.settings.schema import Strict

# Sections for which dvc.yaml has a default.
OPTIONAL = ("export",)
# Sections of which dvc.yaml names single settings; it names every other section as a whole.
NEEDED = {"embed": ("device", "engine", "precision"), "score": ("cutoffs",), "near_copies": ("rows",)}


def check(path: Path, params: Params) -> None:
    """Raises UserError if the file lacks a setting that dvc.yaml names, as DVC knows no defaults."""
    for name in (name for name in Params.model_fields if name not in OPTIONAL):
        section = getattr(params, name)
        given = section.model_fields_set if isinstance(section, Strict) else ()
        missing = [key for key in NEEDED.get(name, ()) if key not in given]
        has_section = name in params.model_fields_set
        if has_section and not missing:
            continue
        defaults = ", ".join(f"{key}: {_as_yaml(getattr(section, key))}" for key in missing)
        example = f"{{{defaults}}}" if isinstance(section, Strict | dict) else section
        where = f"{name}.{missing[0]}" if has_section else name
        raise UserError(f"{path}: {where} is missing, which DVC needs; set `{name}: {example}`")


def _as_yaml(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value
