"""Photos that a table names: an export of a shop system, a spreadsheet, a data frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lineup.errors import UserError, suggest
from lineup.layouts import listing, table_files, table_photos
from lineup.layouts.layout import Source
from lineup.layouts.photo_finder import PhotoFinder
from lineup.layouts.source_files import counted
from lineup.layouts.table_files import TableFile

# As `_plain` writes them: "Image Path" and "image_path" are one name.
_PATH_COLUMNS = frozenset(
    """
    image images img imgs photo photos picture pictures path paths file files filename filenames
    file_name file_names filepath file_path image_path img_path photo_path picture_path image_file
    img_file photo_file image_filename image_file_name image_name img_name photo_name picture_name
    image_src image_url image_link main_image product_image bild bilder foto fotos datei dateiname
    """.split()  # noqa: SIM905
)
_LABEL_COLUMNS = frozenset(
    """
    label labels sku skus product_id product product_code product_key product_sku parent_sku item
    item_id item_number item_code article article_id article_number article_no artikel artikelnummer
    artikel_nr class class_id class_name category category_id identity person_id group group_id handle
    style style_id style_code model model_id asin ean gtin upc barcode
    """.split()  # noqa: SIM905
)
_SURE_LABEL_COLUMN = "label"
_CELLS_TRIED = 100


def read_table(source: Path, table: Path, path_column: str | None, label_column: str | None) -> Source:
    """The photos that a table names, with labels and attributes.

    Args:
        source: the folder of the photos. Paths in the table are relative to it, to its parent, or to the
            table's own folder if that is inside.
        table: CSV, TSV, Parquet, JSON lines or a JSON array.
        path_column: the column of the photo's path; None to take the only one that looks like it.
        label_column: the column of the label; None to take the only one that looks like it, "" for no labels.
    Raises:
        UserError: the table has a fault, lacks a column, names photos that do not exist, or gives a photo two
            labels.
    """
    content = table_files.read(table, [name for name in (path_column, label_column) if name])
    files = listing.read(source)
    finder = PhotoFinder(source, [*files.photos, *files.others])
    paths = _path_column(content, path_column, finder)
    labels = _label_column(content, label_column, paths)
    rows = table_photos.read_rows(content, finder, paths, labels)
    others = len(content.columns) - 1 - (labels is not None)
    parts = [
        f"photos in the column {paths!r}, {f'labels in {labels!r}' if labels else 'no labels'}",
        *([f"{counted(others, 'further column')} as attributes"] if others else []),
        content.form,
        *rows.notes(),
    ]
    used = {*rows.mentions} | {_below(table, source)}
    skipped = sorted(name for name in files.others if name not in used)
    unnamed = sum(name not in used for name in files.photos)
    if unnamed:
        them = "it" if unnamed == 1 else "them"
        parts.append(
            f"{counted(unnamed, 'photo')} of {source} left out, since the table does not name {them}"
        )
    return Source(rows.photos(paths, labels), {}, f"{table}: {'; '.join(parts)}", skipped)


def _below(table: Path, source: Path) -> str | None:
    path, top = table.resolve(), source.resolve()
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else None


def _path_column(table: TableFile, wanted: str | None, finder: PhotoFinder) -> str:
    if wanted is not None:
        return _existing(table, wanted)

    def names_photos(column: str) -> bool:
        cells = [cell for cell in table.columns[column] if cell.strip()][:_CELLS_TRIED]
        to_name, _ = finder.base_of(cells, table.path)
        return any(finder.split(cell, to_name)[0] for cell in cells)

    named = [column for column in table.columns if _plain(column) in _PATH_COLUMNS]
    # A column of another name may hold paths, and one of the right name may not.
    plausible = [column for column in named if names_photos(column)] or named
    plausible = plausible or [column for column in table.columns if names_photos(column)]
    return _only(table, plausible, "the photos' paths", "--path-column")


def _label_column(table: TableFile, wanted: str | None, path_column: str) -> str | None:
    if wanted is not None:
        if wanted and _existing(table, wanted) == path_column:
            raise UserError(
                f"{table.path}: the column {wanted!r} can't be both the path and the label; name another one "
                "with --label-column"
            )
        return wanted or None
    columns = [column for column in table.columns if column != path_column]
    if not columns:
        return None
    sure = [column for column in columns if _plain(column) == _SURE_LABEL_COLUMN]
    plausible = sure or [column for column in columns if _plain(column) in _LABEL_COLUMNS]
    return _only(table, plausible, "the labels", "--label-column", ", or --label-column '' for no labels")


def _existing(table: TableFile, column: str) -> str:
    if column not in table.columns:
        alike = [name for name in table.columns if _plain(name) == _plain(column)]
        fix = f"; did you mean {alike[0]!r}?" if alike else suggest(column, table.columns)
        raise UserError(f"{table.path}: has no column {column!r}{fix}")
    return column


def _only(table: TableFile, plausible: Sequence[str], what: str, option: str, otherwise: str = "") -> str:
    if len(plausible) == 1:
        return plausible[0]
    names = ", ".join(map(repr, plausible or table.columns))
    fault = f"{names} may each hold {what}" if plausible else f"it is unclear which of {names} holds {what}"
    raise UserError(f"{table.path}: {fault}; choose one with {option}{otherwise}")


def _plain(column: str) -> str:
    """A column's name in lower case with underscores: "Image Src" -> "image_src"."""
    return re.sub(r"\W+", "_", column.strip().casefold()).strip("_")
