"""Stanford Online Products: product photos of eBay, for training and test in two lists."""

from __future__ import annotations

from pathlib import Path

from lineup.errors import UserError
from lineup.layouts import listing
from lineup.layouts.layout import Role, Source, SourcePhoto
from lineup.layouts.list_files import read_lines, read_rows
from lineup.layouts.source_files import (
    counted,
    folder_with,
    prefix_of,
    require_folder,
    require_once,
    require_photos,
    unused,
)

_TITLE = "Stanford Online Products"
_COLUMNS = "image_id class_id super_class_id path"
_ROLES: dict[str, tuple[Role, ...]] = {
    "Ebay_train.txt": ("train",),
    "Ebay_test.txt": ("query", "gallery"),
}
_INFO = "Ebay_info.txt"  # The two lists in one.


class StanfordOnlineProducts:
    """Ebay_train.txt and Ebay_test.txt, with lines of "image_id class_id super_class_id path" and a header.

    The products of the two lists differ. Every test photo is a query in all others, so that it is both a
    query and a gallery photo. The attribute super_class is the photo's folder without "_final": bicycle.
    Source: Oh Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016, section
        5. Its Recall@K is Lineup's `top_k`.
    """

    def matches(self, source: Path) -> bool:
        """See `Layout.matches`."""
        return folder_with(source, *_ROLES) is not None

    def read(self, source: Path) -> Source:
        """See `Layout.read`."""
        root = require_folder(folder_with(source, *_ROLES), source, _TITLE, *_ROLES)
        files = listing.read(source)
        prefix, existing = prefix_of(root, source), set(files.photos)
        photos: list[SourcePhoto] = []
        parts = []
        for list_name, roles in _ROLES.items():
            path = root / list_name
            header = (read_lines(path, _TITLE) or [""])[0]
            if header.split() != _COLUMNS.split():
                raise UserError(f"{path}: line 1: is {header[:80]!r}; it must be the header {_COLUMNS!r}")
            listed = [
                SourcePhoto(prefix + name, label, roles, attributes={"super_class": _super_class(name)})
                for _, (_, label, _, name) in read_rows(path, _TITLE, _COLUMNS, header_lines=1)
            ]
            require_photos([photo.name for photo in listed], existing, path)
            photos += listed
            products = len({photo.label for photo in listed})
            use = "training photo" if roles == ("train",) else "test photo"
            parts.append(f"{counted(len(listed), use)} of {counted(products, 'product')}")
        require_once(photos, root)
        skipped = unused(files, source, photos, *(root / name for name in (*_ROLES, _INFO)))
        summary = f"{_TITLE}: {' and '.join(parts)}; every test photo is a query and a gallery photo"
        return Source(photos, {}, summary, skipped)


def _super_class(name: str) -> str:
    return name.partition("/")[0].removesuffix("_final")


LAYOUT = StanfordOnlineProducts()
