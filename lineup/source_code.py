"""The project's own modules: which ones a module imports, directly or through others."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

from lineup.errors import UserError

PACKAGES = ("lineup", "stages")


def file_of(module: str) -> Path:
    """The file of a module, relative to the project's folder."""
    return Path(*module.split(".")).with_suffix(".py")


def closure(modules: Iterable[str]) -> set[str]:
    """The modules, and all that they import, also where an import stands in a function.

    Imports for type checkers alone don't count, nor do packages, whose `__init__.py` is a docstring.
    """
    reached: set[str] = set()
    waiting = [*modules]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += imports(file_of(module))
    return reached


@functools.cache
def imports(file: Path) -> set[str]:
    """The project's modules that a Python file imports itself.

    Raises:
        UserError: it is not valid Python.
    """
    visitor = _Imports()
    try:
        visitor.visit(ast.parse(file.read_text(encoding="utf-8")))
    except SyntaxError as error:
        raise UserError(
            f"{file}: line {error.lineno}: is not valid Python ({error.msg}); correct it"
        ) from None
    return {module for module in visitor.names if file_of(module).is_file()}


class _Imports(ast.NodeVisitor):
    """Collects what may be the name of a module: of `from a import b`, both `a` and `a.b`."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        self._add(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            self._add([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])

    def visit_If(self, node: ast.If) -> None:
        branches = (
            node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else [*node.body, *node.orelse]
        )
        for statement in branches:
            self.visit(statement)

    def _add(self, names: Iterable[str]) -> None:
        self.names.update(name for name in names if name.split(".")[0] in PACKAGES)
