"""Every sentence that a user may read about a mistake, in one place: messages.txt.

A change of wording shows there as one line of a diff. `python -m tests.test_messages` writes the file again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import ROOT

GOLDEN_FILE = Path(__file__).with_name("messages.txt")
# The exceptions whose text reaches a user: as a command's error, in problems.csv, or from the search page.
EXCEPTIONS = {"UserError", "BadImage", "CannotConvert", "Refusal"}


def sentence(expression: ast.expr) -> str | None:
    """The text of a string literal, with each replaced field in braces; None for anything else."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value
    if isinstance(expression, ast.JoinedStr):
        return "".join(_part(part) for part in expression.values)
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
        left, right = sentence(expression.left), sentence(expression.right)
        return (
            f"{left or _braced(expression.left)}{right or _braced(expression.right)}"
            if left or right
            else None
        )
    return None


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else _braced(getattr(part, "value", part))


def _braced(expression: ast.expr) -> str:
    return f"{{{ast.unparse(expression)}}}"


def sentences(file: Path) -> Iterator[str]:
    """The messages of a file's exceptions, in the order of its lines."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        is_fault_of_settings = node.func.id == "ValueError" and "settings" in file.parts
        if node.func.id in EXCEPTIONS or is_fault_of_settings:
            yield from filter(None, map(sentence, node.args))


def all_messages() -> str:
    """Each file with its messages, sorted."""
    blocks = []
    for folder in ("lineup", "stages"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if messages := sorted({*sentences(file)}):
                blocks.append(
                    "\n".join([file.relative_to(ROOT).as_posix(), *(f"    {line}" for line in messages)])
                )
    return "\n\n".join(blocks) + "\n"


@pytest.mark.slow
def test_messages_txt_has_every_message_of_the_code() -> None:
    assert GOLDEN_FILE.read_text(encoding="utf-8") == all_messages(), (
        "read the changed sentences, then run `python -m tests.test_messages`"
    )


if __name__ == "__main__":
    GOLDEN_FILE.write_text(all_messages(), encoding="utf-8", newline="\n")
