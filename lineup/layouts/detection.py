"""Finds out how photos lie: each file of this folder that has `LAYOUT` is asked, or named by the user."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from lineup import layouts
from lineup.errors import UserError, suggest
from lineup.layouts.layout import Layout

# Asked last, in this order: they match almost anything.
_GENERAL = ("label_folders", "flat")


def known() -> dict[str, Layout]:
    """File name -> layout, in the order in which they are asked."""
    modules = {
        module.name: importlib.import_module(f"{layouts.__name__}.{module.name}")
        for module in pkgutil.iter_modules(layouts.__path__)
    }
    by_name = {name: module.LAYOUT for name, module in sorted(modules.items()) if hasattr(module, "LAYOUT")}
    general = {name: by_name.pop(name) for name in _GENERAL}
    return by_name | general


def choose(source: Path, name: str | None) -> tuple[str, Layout]:
    """The layout that the user names, else the first that matches.

    Raises:
        UserError: no layout has the name.
    """
    all_layouts = known()
    if name is None:
        return next((name, layout) for name, layout in all_layouts.items() if layout.matches(source))
    spelt = name.replace("-", "_")
    if spelt not in all_layouts:
        raise UserError(f"--layout {name}: is unknown{suggest(spelt, all_layouts)}")
    return spelt, all_layouts[spelt]
