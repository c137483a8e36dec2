"""Market-1501, and data sets with its folders and file names, such as DukeMTMC-reID."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lineup.layouts import listing, pedestrians
from lineup.layouts.layout import Source
from lineup.layouts.source_files import counted, unused

_TITLE = "Market-1501"
_DISTRACTOR = "0000"


class Market1501:
    """bounding_box_train/, query/ and bounding_box_test/, with files such as 0002_c1s1_000451_03.jpg.

    Person -1 is junk and left out; 0000 are distractors, which belong to the gallery and have no label.
    Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015, and the README of
        Market-1501-v15.09.15.
    """

    def matches(self, source: Path) -> bool:
        """See `Layout.matches`."""
        folder = pedestrians.market_folder(source)
        return folder is not None and not pedestrians.is_msmt17(folder)

    def read(self, source: Path) -> Source:
        """See `Layout.read`."""
        root, files = pedestrians.require_market_folder(source, _TITLE), listing.read(source)
        people, junk = pedestrians.read_market_folders(source, root, files, _TITLE)
        people = [replace(one, identity=None) if one.identity == _DISTRACTOR else one for one in people]
        distractors = sum(one.identity is None for one in people)
        notes = [f"{counted(distractors, 'distractor')} (0000) without a label"] if distractors else []
        if junk:
            notes.append(f"{counted(len(junk), 'junk photo')} (-1) left out")
        return pedestrians.make_source(_TITLE, people, notes, unused(files, source, people))


LAYOUT = Market1501()
