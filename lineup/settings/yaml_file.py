"""A settings file as plain values: read within bounds, so that no file hangs a command, and no row vanishes
from it.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml

from lineup.errors import UserError

_START = "presets/ has files to start from"
# A row takes some 400 bytes and 20 values.
_MOST_BYTES = 1_000_000
_MOST_VALUES = 100_000  # where each alias counts as what it stands for
_LONGEST_VALUE = 10_000  # characters


def read(path: Path) -> dict[Any, Any]:
    """The file's sections. UserError names the place and the nearest fix."""
    try:
        loader = yaml.SafeLoader(_text(path))
        root = loader.get_single_node()
        if root is not None:
            _Check(path).node(root)
        content = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        mark, fault = (
            getattr(error, "problem_mark", None),
            getattr(error, "problem", None) or getattr(error, "reason", error),
        )
        raise UserError(
            f"{path}:{f' line {mark.line + 1}:' if mark else ''} is not valid YAML ({fault})"
        ) from None
    except ValueError as error:  # of a date or a number, which the loader makes of what looks like one
        raise UserError(f"{path}: holds a value that is none ({error}); quote it if it's a text") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply; {_START}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: {'is empty' if content is None else 'holds no sections'}; {_START}")
    return content


def _text(path: Path) -> str:
    """Waits for nothing: a pipe or a device is refused, not read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(
                f"{path}: is {'a folder' if path.is_dir() else 'no file but a pipe or a device'}; {_START}"
            )
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(
                f"{path}: is larger than {_MOST_BYTES:,} bytes, more than settings take; {_START}"
            )
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error}); run from the repository's root") from None


class _Check:
    """What must hold before values are made of a document: aliases grow as they are made and shown, and YAML
    lets the last of two equal keys win silently."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[yaml.Node, int | None] = {}  # of values in each node; None while it is counted

    def node(self, node: yaml.Node) -> int:
        """How many values a node holds, with every alias written out. UserError if they are too many."""
        if node not in self.counts:
            self.counts[node] = None
            self.counts[node] = self._count(node)
        count = self.counts[node]
        if count is None:
            raise self._fault(node, "is part of itself; write out what its alias (*) stands for")
        if count > _MOST_VALUES:
            raise self._fault(
                node,
                f"holds more than {_MOST_VALUES:,} values, counting what each alias (*) stands for; write less",
            )
        return count

    def _count(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.MappingNode):
            self._keys(node)
            return 1 + sum(self.node(part) for pair in node.value for part in pair)
        if isinstance(node, yaml.SequenceNode):
            return 1 + sum(self.node(part) for part in node.value)
        if len(node.value) > _LONGEST_VALUE:
            raise self._fault(node, f"holds a value of more than {_LONGEST_VALUE:,} characters")
        return 1

    def _keys(self, mapping: yaml.MappingNode) -> None:
        seen: set[tuple[str, str]] = set()
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise self._fault(key, f"'{key.value}' is there twice; remove one")
                seen.add((key.tag, key.value))

    def _fault(self, node: yaml.Node, fault: str) -> UserError:
        return UserError(f"{self.path}: line {node.start_mark.line + 1}: {fault}")
