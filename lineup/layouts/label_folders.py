"""Label folders: products/<label>/*.jpg. Deeper folders mean nothing, and loose photos have no label."""

from __future__ import annotations

import re
from pathlib import Path

from lineup.errors import UserError
from lineup.layouts import listing
from lineup.layouts.layout import Layout, Source, SourcePhoto
from lineup.layouts.source_files import counted

# Folders by date, as 2024, 2024-05 or 20240517, and those of cameras and phones.
_NO_LABEL = re.compile(
    r"(19|20)\d\d([-_. ]?(0[1-9]|1[0-2])([-_. ]?([0-2]\d|3[01]))?)?"
    r"|\d{3}(canon|apple|nikon|_fuji|msdcf|olymp|media|gopro|_pana|andro|ricoh|pentx|eos\w\w|ncd\w\w|d\d{4})"
    r"|dcim|camera|screenshots|downloads",
    re.IGNORECASE,
)


class _LabelFolders:
    def matches(self, source: Path) -> bool:
        """Most photos are in two folders or more whose names are not all those of dates or cameras.

        Raises:
            UserError: one folder holds all folders of photos.
        """
        photos = listing.read(source).photos
        tops = {name.partition("/")[0] for name in photos if "/" in name}
        if len(tops) == 1 and all("/" in name for name in photos):
            [top] = tops
            if len({name.split("/")[1] for name in photos if name.count("/") > 1}) > 1:
                raise UserError(
                    f"{source}: holds all its photos in folders of one folder; run `lineup photos` on that, "
                    f"{source / top}, or use --layout flat"
                )
        loose = sum("/" not in name for name in photos)
        return len(tops) > 1 and 2 * loose <= len(photos) and not all(map(_NO_LABEL.fullmatch, tops))

    def read(self, source: Path) -> Source:
        files = listing.read(source)
        photos = [
            SourcePhoto(name, label=name.partition("/")[0] if "/" in name else None) for name in files.photos
        ]
        labels = {photo.label for photo in photos} - {None}
        loose = sum(photo.label is None for photo in photos)
        deeper = next((name for name in files.photos if name.count("/") > 1), None)
        return Source(
            photos=photos,
            summary=f"label folders: {counted(len(labels), 'label')} with "
            + counted(len(photos) - loose, "photo")
            + (f", and {counted(loose, 'loose photo')} without a label" if loose else "")
            + (f"; folders inside them mean nothing, as in {deeper}" if deeper else ""),
            skipped=files.others,
        )


LAYOUT: Layout = _LabelFolders()
