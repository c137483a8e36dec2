"""Rows that differ from one of params.yaml in a single setting."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import yaml

from lineup import paths
from lineup.errors import UserError, suggest

# Settings that rows leave out at this value: such a row of a sweep is the row without the setting.
_WITHOUT_EFFECT = {"objective.label_share": 1}
_PRECISION = "precision"
_INDENT = 2
_MAX_COLUMNS = 110


def variants(settings: dict[str, Any], row: str, setting: str, values: Sequence[Any]) -> dict[str, Any]:
    """The rows of a sweep by name: the row's settings with one value each.

    A row of the same name that has these settings already is left out.

    Args:
        settings: params.yaml as plain values.
        setting: with dots, such as "encoder.image_size"; the last part may be new to the row.
    Raises:
        UserError: there is no such row, or a row of that name has other settings.
    """
    section = _section_of(settings, row)
    rows: dict[str, Any] = {}
    for value in values:
        if setting == _PRECISION and value == _own_precision(settings, row):
            continue
        content = copy.deepcopy(settings[section][row])
        _set(content, row, setting, value)
        name = _name(row, setting, value)
        existing = {**settings.get("models", {}), **settings.get("refinements", {})}.get(name)
        if existing not in (None, content):
            raise UserError(
                f"{paths.PARAMS}: {name} has other settings than {row} with {setting}: {value}; "
                f"rename or remove {name}"
            )
        if existing is None and content != settings[section][row]:
            rows[name] = content
    return rows


def _section_of(settings: dict[str, Any], row: str) -> str:
    for section in ("models", "refinements"):
        if row in settings.get(section, {}):
            return section
    known = [*settings.get("models", {}), *settings.get("refinements", {})]
    raise UserError(f"{paths.PARAMS}: {row!r} is not a row{suggest(row, known)}")


def _own_precision(settings: dict[str, Any], row: str) -> Any:
    """The precision of a row of models, which may be that of the section embed."""
    own = settings.get("models", {}).get(row, {}).get(_PRECISION)
    return own or (settings.get("embed") or {}).get(_PRECISION, "float32")


def _set(content: dict[str, Any], row: str, setting: str, value: Any) -> None:
    *sections, last = setting.split(".")
    for section in sections:
        if not isinstance(content.get(section), dict):
            known = [key for key, inner in content.items() if isinstance(inner, dict)]
            raise UserError(f"{paths.PARAMS}: {row} has no section {section!r}{suggest(section, known)}")
        content = content[section]
    if _WITHOUT_EFFECT.get(setting) == value:
        content.pop(last, None)
    else:
        content[last] = value


def _name(row: str, setting: str, value: Any) -> str:
    """The row's name with its value: mobilenet_v2_160px, arcface_margin_0_3."""
    last = setting.split(".")[-1]
    words = re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")
    if setting == _PRECISION:
        return f"{row}_{words}"
    return f"{row}_{words}px" if last == "image_size" else f"{row}_{last}_{words}"


def as_yaml(rows: dict[str, Any], indent: int) -> str:
    """Rows as they stand in params.yaml, an empty line before each; what fits into a line takes one.

    Args:
        indent: columns before a row's name.
    """
    return "".join(f"\n{_written(name, content, indent)}" for name, content in rows.items())


def _written(name: str, content: Any, indent: int) -> str:
    line = yaml.safe_dump({name: content}, default_flow_style=True, sort_keys=False, width=10_000)
    line = f"{' ' * indent}{line.strip()[1:-1]}\n"  # without the braces of the mapping that holds the name
    holds_sections = isinstance(content, dict) and any(isinstance(value, dict) for value in content.values())
    if not isinstance(content, dict) or (len(line) <= _MAX_COLUMNS and not holds_sections):
        return line
    lines = (_written(key, value, indent + _INDENT) for key, value in content.items())
    quoted = yaml.safe_dump([name], default_flow_style=True).strip()[1:-1]  # where YAML reads it as no text
    return f"{' ' * indent}{quoted}:\n{''.join(lines)}"
