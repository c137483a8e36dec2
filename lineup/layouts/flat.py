"""A pile of photos without labels: loose ones, or in folders that mean no label, as one for each year."""

from __future__ import annotations

from pathlib import Path

from lineup.layouts import listing
from lineup.layouts.layout import Layout, Source, SourcePhoto


class _Flat:
    def matches(self, source: Path) -> bool:
        """Every folder is at least a pile."""
        return True

    def read(self, source: Path) -> Source:
        files = listing.read(source)
        folders = {name.rpartition("/")[0] for name in files.photos} - {""}
        where = f" in {len(folders):,} folders" if folders else ""
        return Source(
            photos=[SourcePhoto(name) for name in files.photos],
            summary=f"a pile without labels: {len(files.photos):,} photos{where}",
            skipped=files.others,
        )


LAYOUT: Layout = _Flat()
