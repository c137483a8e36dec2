"""Sentences with marked parts, which the Markdown page and the HTML report each render in their own way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Code:
    """A name to be shown in a typewriter face, such as a row's."""

    text: str


@dataclass(frozen=True)
class Data:
    """Text that comes from outside, such as a licence: its characters must never be taken for markup."""

    text: str


@dataclass(frozen=True)
class Strong:
    """What is shown in bold."""

    spans: tuple[str | Code | Data, ...]


Span = str | Code | Data | Strong  # a str is text of ours, which needs no mark
Text = tuple[Span, ...]


class Listing(NamedTuple):
    """A sentence and the items that it introduces; without items it stands alone."""

    introduction: Text
    items: list[Text]


def escaped(content: object) -> str:
    """A text in one line whose characters Markdown shows as they are, whatever they mean there."""
    return re.sub(r"([\\`*_\[\]<>|&~#])", r"\\\1", " ".join(str(content).split()))


def names(rows: Iterable[str]) -> tuple[str | Code, ...]:
    """The names of rows, with commas between them."""
    spans = [span for row in rows for span in (", ", Code(row))]
    return tuple(spans[1:])
