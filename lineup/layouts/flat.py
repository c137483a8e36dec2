"""A pile of photos without labels: loose ones, or in folders that mean no label, as one for each year."""

from __future__ import annotations

from pathlib import Path

from lineup.layouts import listing
from lineup.layouts.layout import Layout, Source, SourcePhoto
from lineup.layouts.source_files import counted


class _Flat:
    def matches(self, source: Path) -> bool:
        """Every folder is at least a pile."""
        return True

    def read(self, source: Path) -> Source:
        files = listing.read(source)
        folders = {name.rpartition("/")[0] for name in files.photos} - {""}
        where = f" in {counted(len(folders), 'folder')}" if folders else ""
        return Source(
            photos=[SourcePhoto(name) for name in files.photos],
            summary=f"a pile without labels: {counted(len(files.photos), 'photo')}{where}",
            skipped=files.others,
        )


LAYOUT: Layout = _Flat()
