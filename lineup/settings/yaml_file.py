"""A settings file as plain values.

It is read within bounds, so that no file hangs a command. A repeated key is an error, so no row vanishes.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from lineup.errors import UserError

_START = "presets/ has files to start from"
# A row takes some 400 bytes and 20 values. An alias counts as all the values that it stands for.
_MAX_BYTES = 1_000_000
_MAX_VALUES = 100_000
_MAX_CHARACTERS_PER_VALUE = 10_000


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as YAML 1.2 does and thus DVC; PyYAML would read it as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read(path: Path) -> dict[Any, Any]:
    """The file's sections.

    Raises:
        UserError: the message names the file, the fault and the nearest fix.
    """
    return parse(_read_text(path), path)


def parse(text: str, path: Path) -> dict[Any, Any]:
    """The sections of a text; errors name the file that it is for. Raises UserError as `read` does."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _Checker(path).count(root)
        content = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        fault = getattr(error, "problem", None) or getattr(error, "reason", error)
        line = f" line {mark.line + 1}:" if mark else ""
        raise UserError(f"{path}:{line} is not valid YAML ({fault})") from None
    except ValueError as error:  # The loader builds a date or a number from whatever looks like one.
        raise UserError(f"{path}: has an invalid value ({error}); quote it if it is text") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply; {_START}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: {'is empty' if content is None else 'holds no sections'}; {_START}")
    return content


def parse_value(text: str) -> Any:
    """A single value as the file would have it. Raises yaml.YAMLError or ValueError if it is none."""
    return _Loader(text).get_single_data()


def _read_text(path: Path) -> str:
    """The file's text. A pipe or a device is refused, since reading it could wait for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise UserError(f"{path}: is {kind}, not a file; {_START}")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UserError(f"{path}: is larger than {_MAX_BYTES:,} bytes, too large for settings; {_START}")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error}); run from the repository's root") from None


class _Checker:
    """What must hold before values are built from a document.

    Aliases grow as they are built and shown, and YAML lets the last of two equal keys win silently.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The number of values in each node; None while a node is being counted.
        self.counts: dict[yaml.Node, int | None] = {}

    def count(self, node: yaml.Node) -> int:
        """The number of values that a node holds, with every alias written out.

        Raises:
            UserError: there are too many, a key is there twice, or a value is too long.
        """
        if node not in self.counts:
            self.counts[node] = None
            self.counts[node] = self._count(node)
        count = self.counts[node]
        if count is None:
            raise self._fault(node, "contains itself; write out what its alias (*) stands for")
        if count > _MAX_VALUES:
            raise self._fault(
                node,
                f"holds more than {_MAX_VALUES:,} values, counting what each alias (*) stands for; "
                "remove some aliases",
            )
        return count

    def _count(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.MappingNode):
            self._keys(node)
            return 1 + sum(self.count(part) for pair in node.value for part in pair)
        if isinstance(node, yaml.SequenceNode):
            return 1 + sum(self.count(part) for part in node.value)
        if len(node.value) > _MAX_CHARACTERS_PER_VALUE:
            raise self._fault(node, f"holds a value of more than {_MAX_CHARACTERS_PER_VALUE:,} characters")
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
