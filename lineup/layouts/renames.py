"""Photos that were renamed in the source, or moved to another label, since they were laid out."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from lineup.layouts.layout import Source
from lineup.layouts.record import Entry
from lineup.photos import raw_folder


def follow(earlier: Sequence[Entry], source: Source, folder: Path, root: Path) -> list[Entry]:
    """The record of data/raw with the names that photos have now.

    A photo was renamed if its name is gone and its bytes have a name that is new.

    Args:
        earlier: what `record.read` has.
        folder: of the source.
        root: data/raw.
    """
    known = {entry.source for entry in earlier}
    new = {
        shown: photo
        for photo in source.photos
        if photo.crop is None and (shown := raw_folder.shown(photo.name)) not in known
    }
    names = {raw_folder.shown(photo.name) for photo in source.photos}
    gone = {entry.source: root / entry.path for entry in earlier if entry.source not in names}
    if not new or not gone:
        return [*earlier]
    by_size: dict[int, dict[str, Path]] = {}
    for shown, photo in new.items():
        path = folder / photo.name
        by_size.setdefault(path.stat().st_size, {})[shown] = path
    renamed: dict[str, str] = {}
    for name, file in sorted(gone.items()):
        candidates = by_size.get(file.stat().st_size, {}) if file.is_file() else {}
        if (now := _of_same_bytes(name, file, candidates)) is not None:
            renamed[name] = now
            del candidates[now]
    return [entry._replace(source=renamed.get(entry.source, entry.source)) for entry in earlier]


def _of_same_bytes(name: str, file: Path, candidates: Mapping[str, Path]) -> str | None:
    """The candidate with the bytes of a file, rather one of the same file name."""
    file_name = PurePosixPath(name).name
    order = sorted(candidates, key=lambda other: (PurePosixPath(other).name != file_name, other))
    return next((other for other in order if filecmp.cmp(file, candidates[other], shallow=False)), None)
