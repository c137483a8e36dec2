"""The contract of a layout: what a file of this folder says about the photos that a user has.

`lineup photos` finds a layout by the name of its file, which holds an object `LAYOUT`. A layout only reads
the source; `lineup.layouts.listing` walks through it. `lineup.layouts.roles` decides what the layout leaves
open, and `lineup.layouts.placement` writes data/raw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Role = Literal["train", "query", "gallery"]


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """A photo of the source.

    Args:
        name: path below the source, as `listing.read` has it. The photo's role follows from its hash,
            never from the order.
        label: any text; None if it has none.
        roles: where the photo goes, as the layout prescribes it; a photo may be a query and a gallery photo.
            Empty if Lineup is to decide by the hashes of the label and of the name.
        test_only: the photo belongs to the test, but its role there is for Lineup to decide.
        path: its path below data/raw, as "test/query/x.jpg", if the layout prescribes even that, besides one
            role. None if it follows from the role and the label.
        crop: left, top, right, bottom in pixels of the upright photo, if only this part of it is the photo.
        attributes: further columns of a table, as text.
    """

    name: str
    label: str | None = None
    roles: tuple[Role, ...] = ()
    test_only: bool = False
    path: str | None = None
    crop: tuple[float, float, float, float] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


class Judgement(NamedTuple):
    """A line of qrels.csv, with names of the source. relevance: 1 relevant, 0 not relevant, -1 junk."""

    query: str
    gallery: str
    relevance: int


@dataclass(frozen=True, slots=True)
class Source:
    """What a layout read.

    Args:
        photos: in any order; no name occurs twice.
        judgements: name of the table in data/raw -> its lines. "qrels.csv" is the one that Lineup reads.
        summary: what the layout understood, as a sentence without a full stop: "Market-1501: ...".
        skipped: names of files below the source that were left out, though not hidden: no photos, or photos
            that the layout does not use.
        attributes_file: an attributes.csv whose lines are about paths below data/raw, or about labels.
    """

    photos: Sequence[SourcePhoto]
    judgements: Mapping[str, Sequence[Judgement]] = field(default_factory=dict)
    summary: str = ""
    skipped: Sequence[str] = ()
    attributes_file: Path | None = None


class Layout(Protocol):
    """A layout that people know by name. Its docstring names the source of its protocol."""

    def matches(self, source: Path) -> bool:
        """Whether the folder looks like this layout. It looks at a few names, and opens no photo."""
        ...

    def read(self, source: Path) -> Source:
        """Lists the photos.

        Raises:
            UserError: the folder lacks something that the layout needs, or a table has a fault.
        """
        ...
