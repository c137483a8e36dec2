"""Photos that lie as data/raw needs them: test/query, test/gallery, perhaps train and tables."""

from __future__ import annotations

from pathlib import Path

from lineup.layouts import listing, names
from lineup.layouts.layout import Judgement, Layout, Source, SourcePhoto
from lineup.layouts.source_files import counted
from lineup.photos import photo_register, raw_attributes, raw_folder, raw_tables

_TABLES = ("labels.csv", "qrels.csv", raw_attributes.FILE_NAME, raw_folder.SOURCES)


class _AsIs:
    def matches(self, source: Path) -> bool:
        return all((source / folder).is_dir() for folder in ("test/query", "test/gallery"))

    def read(self, source: Path) -> Source:
        """Reads it as preprocess does, with the same errors."""
        with photo_register.temporary() as register:
            raw_folder.read(register, source)
            raw_attributes.read(register, source)
            judgements = raw_tables.read_judgements(register, source)
            labels = dict(register.execute("SELECT path, label FROM file"))
            lines = [
                Judgement(*line)
                for line in register.execute("SELECT query, gallery, relevance FROM judgement ORDER BY line")
            ]
        files, attributes = listing.read(source), source / raw_attributes.FILE_NAME
        judged = {name for line in lines for name in (line.query, line.gallery)}
        photos = sorted(labels.keys() & {*files.photos, *judged})
        count = len({*labels.values()} - {None})
        return Source(
            photos=[_photo(name, labels[name]) for name in photos],
            judgements={} if judgements is None else {"qrels.csv": lines},
            attributes_file=attributes if attributes.is_file() else None,
            summary=f"test/query and test/gallery as they are: {counted(len(photos), 'photo')}, "
            + counted(count, "label")
            + ("" if judgements is None else f", {counted(judgements, 'judgement')}"),
            skipped=sorted({*files.photos, *files.others} - {*photos, *_TABLES}),
        )


def _photo(name: str, label: str | None) -> SourcePhoto:
    role = names.role_of(name)
    return SourcePhoto(name, label, roles=(role,) if role else (), path=name)


LAYOUT: Layout = _AsIs()
