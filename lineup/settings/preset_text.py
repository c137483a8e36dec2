"""The text of a settings file with rows as comments, or with more rows; whatever else it holds stays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import yaml

from lineup import paths

_SECTIONS = ("models", "refinements")
_NOTE = f"# Left out, as {paths.RAW / 'train'} has too few photos to train on:"


def without_rows(text: str, rows: Collection[str]) -> str:
    """The text of a settings file, in which these rows are comments.

    Comments and blank lines stay where they are. A section that has no row left becomes {}.
    """
    lines = text.splitlines(keepends=True)
    for section, blocks in _blocks(text):
        chosen = [block for block in blocks if block.name in rows]
        for block in chosen:
            for number in range(block.first, block.last + 1):
                line, indent = lines[number], block.indent
                lines[number] = f"{line[:indent]}# {line[indent:]}" if line.strip() else line
        if chosen:
            first = chosen[0]
            lines[first.first] = f"{' ' * first.indent}{_NOTE}\n{lines[first.first]}"
        if chosen and len(chosen) == len(blocks):
            name, colon, comment = lines[section].partition(":")
            lines[section] = f"{name}{colon} {{}}{comment}"
    return "".join(lines)


def with_rows(text: str, row: str, written: Callable[[int], str]) -> str:
    """The text of a settings file with more rows behind one of them.

    Args:
        written: gives the rows for a number of columns before their names.
    """
    lines = text.splitlines(keepends=True)
    [block] = [block for _, blocks in _blocks(text) for block in blocks if block.name == row]
    last = lines[block.last]
    lines[block.last] = f"{last}{'' if last.endswith(chr(10)) else chr(10)}{written(block.indent)}"
    return "".join(lines)


def models(text: str) -> set[str]:
    """The names of the rows of `models`.

    Raises:
        yaml.YAMLError: the text is no YAML.
    """
    return {
        row
        for _, blocks in _blocks(text)
        for row in (block.name for block in blocks if block.section == "models")
    }


class _Block(NamedTuple):
    """The lines of a row, from `first` to `last`, counted from 0; indent: columns before its name."""

    section: str
    name: str
    first: int
    last: int
    indent: int


def _blocks(text: str) -> Iterator[tuple[int, list[_Block]]]:
    """Of each section that has rows: the line of its name, and its rows."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = text.splitlines()
    for key, section in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value not in _SECTIONS or not isinstance(section, yaml.MappingNode):
            continue
        blocks = []
        for name, row in section.value:
            first, indent = name.start_mark.line, name.start_mark.column
            # A block ends where the next one begins, after blank lines and comments.
            end = row.end_mark.line + (row.end_mark.column > indent)
            last = max(number for number in range(first, max(end, first + 1)) if _is_content(lines[number]))
            blocks.append(_Block(key.value, name.value, first, last, indent))
        yield key.start_mark.line, blocks


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")
