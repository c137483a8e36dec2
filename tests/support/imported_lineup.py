"""The checkout's `lineup`, imported by the fork server for the forks in whose project it is the same.

A stage would import some 80 modules of its own project, for longer than most stages of the tests work.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

# `project.create` lets tests' projects measure briefly: it changes this stage, and a module that only it imports.
_CHANGED_STAGE = "latency"


class ImportedLineup:
    """What the stages import of a checkout's `lineup`, with the bytes of its files.

    A path that a module makes of `__file__` as it is imported still leads to the checkout when the module is
    adopted. Files of a project that the stages don't import are not compared.
    """

    def __init__(self, checkout: Path) -> None:
        """Imports it from sys.path, and forgets `stages`: importing that prepares a process for its stage."""
        for stage in sorted((checkout / "stages").glob("[!_]*.py")):
            if stage.stem != _CHANGED_STAGE:
                importlib.import_module(f"stages.{stage.stem}")
        _forget("stages")
        files = {Path(str(module.__file__)) for module in _modules("lineup").values()}
        files |= {file for file in (checkout / "lineup").rglob("page/**/*") if file.is_file()}
        self._checkout = checkout
        self._contents = {str(file.relative_to(checkout)): file.read_bytes() for file in files}

    def adopt(self) -> None:
        """Makes these modules those of the `lineup` that this process would import, or forgets them."""
        spec = importlib.machinery.PathFinder.find_spec("lineup")
        project = Path(spec.origin).parents[1] if spec and spec.origin else None
        # `lineup.paths` looks at the working directory as it is imported: an experiment, which DVC runs below
        # .dvc, shares the cache of its project.
        if project and ".dvc" not in Path.cwd().parts and self._is_the_same_in(project):
            self._move(project)
        else:
            _forget("lineup")

    def _is_the_same_in(self, folder: Path) -> bool:
        try:
            return all((folder / name).read_bytes() == content for name, content in self._contents.items())
        except FileNotFoundError:
            return False

    def _move(self, folder: Path) -> None:
        """Points the modules into that folder: some read files beside their own, or import others later."""
        for module in _modules("lineup").values():
            file = folder / Path(str(module.__file__)).relative_to(self._checkout)
            module.__file__ = str(file)
            if hasattr(module, "__path__"):
                module.__path__ = [str(file.parent)]


def _modules(package: str) -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}


def _forget(package: str) -> None:
    for name in _modules(package):
        del sys.modules[name]
