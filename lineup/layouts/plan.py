"""What data/raw will hold: the photos of a source, those that are there already, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lineup.errors import UserError, printable
from lineup.layouts import names, record, roles, tables
from lineup.layouts.layout import Role, Source, SourcePhoto
from lineup.layouts.record import Entry
from lineup.layouts.roles import Choices
from lineup.photos import raw_attributes, raw_folder, raw_tables

_ELSEWHERE = "move it away"


@dataclass
class Plan:
    """What to write.

    Attributes:
        photos: path below data/raw -> the photo of the source, sorted by path.
        removed: paths of photos whose label or role is another now; they get another path.
        gone: entries whose photo is no longer in the source, and which stay.
        relabelled: names of photos with another label than before.
        text_files: name -> content of each table that is new or changes.
        notes: a sentence for each thing that the user did not expect.
    """

    photos: dict[str, SourcePhoto]
    removed: set[str] = field(default_factory=set)
    gone: list[Entry] = field(default_factory=list)
    relabelled: set[str] = field(default_factory=set)
    text_files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def make(source: Source, choices: Choices, root: Path, earlier: Sequence[Entry]) -> Plan:
    """Decides where each photo goes.

    Args:
        root: data/raw. Only its tables are read.
        earlier: what `record.read` has for it.
    Raises:
        UserError: the photos do not fit those that data/raw holds, or can't make a test.
    """
    shown = {raw_folder.shown(photo.name): photo for photo in source.photos}
    known: dict[str, dict[Role, Entry]] = {}
    for entry in earlier:
        if entry.source in shown and (role := names.role_of(entry.path)):
            known.setdefault(shown[entry.source].name, {})[role] = entry
    if earlier and not known:
        raise UserError(
            f"{root}: was laid out from another folder: none of its {len(earlier):,} photos is in this one; "
            f"{_ELSEWHERE}"
        )
    labels = {photo.name: raw_tables.normal_label(photo.label or "") or "" for photo in source.photos}
    same = {
        name: entries
        for name, entries in known.items()
        if all(entry.label == labels[name] for entry in entries.values())
    }
    _check_labels(root, known, same, labels)
    assignment = roles.assign(
        source.photos, choices, {name: tuple(entries) for name, entries in same.items()}
    )
    chosen = names.paths(source.photos, assignment.roles, (entry.path for entry in earlier))
    for name, entries in same.items():
        chosen[name] |= {role: entries[role].path for role in chosen[name] if role in entries}
    by_name = {photo.name: photo for photo in source.photos}
    placed = {path: by_name[name] for name, by_role in chosen.items() for path in by_role.values()}
    before = {entry.path for entries in known.values() for entry in entries.values()}
    plan = Plan(
        photos=dict(sorted(placed.items())),
        removed=before - placed.keys(),
        gone=[entry for entry in earlier if entry.source not in shown],
        relabelled=known.keys() - same.keys(),
        notes=assignment.notes,
    )
    entries = [
        Entry(path, raw_folder.shown(photo.name), labels[photo.name]) for path, photo in plan.photos.items()
    ]
    plan.text_files = _tables(source, plan, root, chosen, entries)
    return plan


def _check_labels(
    root: Path,
    known: Mapping[str, Mapping[Role, Entry]],
    same: Mapping[str, object],
    labels: Mapping[str, str],
) -> None:
    """Refuses labels that are not corrected but others, as with another layout."""
    changed = [name for name in known if name not in same]
    if 2 * len(changed) > len(known):
        first = min(changed)
        label = next(iter(known[first].values())).label
        raise UserError(
            f"{root}: was laid out with other labels: {len(changed):,} of {len(known):,} photos differ, as "
            f"{printable(first)} with {printable(label)!r}, now {printable(labels[first])!r}; {_ELSEWHERE}"
        )


def _attributes(source: Source, plan: Plan, path: Path) -> str | None:
    """The changed content of attributes.csv, in which no column has a name that Lineup writes."""
    if source.attributes_file is not None:
        text = source.attributes_file.read_text(encoding="utf-8-sig")
        if not path.exists():
            return text
        if path.read_text(encoding="utf-8-sig") != text:
            plan.notes.append(f"{path} differs from {source.attributes_file}, and stays as it is")
        return None
    columns = {
        column: None for photo in plan.photos.values() for column in photo.attributes if column.strip()
    }
    if not columns:
        return None
    lines = [
        (path, *(photo.attributes.get(column, "") for column in columns))
        for path, photo in plan.photos.items()
    ]
    header = [f"my_{name}" if name in raw_attributes.RESERVED else name for name in map(str.strip, columns)]
    return tables.merged(path, ("path", *header), lines, replace=True, removed=plan.removed)


def _tables(
    source: Source,
    plan: Plan,
    root: Path,
    paths: Mapping[str, Mapping[Role, str]],
    entries: Sequence[Entry],
) -> dict[str, str]:
    labelled = [
        (entry.path, entry.label) for entry in entries if (names.label_of(entry.path) or "") != entry.label
    ]
    texts = {
        "labels.csv": tables.merged(root / "labels.csv", ("path", "label"), labelled, removed=plan.removed)
    }
    for table, judgements in source.judgements.items():
        lines = [
            (paths[line.query]["query"], paths[line.gallery]["gallery"], str(line.relevance))
            for line in judgements
        ]
        texts[table] = tables.merged(
            root / table, ("query", "gallery", "relevance"), lines, key_columns=2, removed=plan.removed
        )
    texts[raw_attributes.FILE_NAME] = _attributes(source, plan, root / raw_attributes.FILE_NAME)
    changed = {name: text for name, text in texts.items() if text is not None}
    sources = record.text([*entries, *plan.gone])
    file = root / raw_folder.SOURCES
    if not file.is_file() or file.read_text(encoding="utf-8") != sources:
        changed[raw_folder.SOURCES] = sources
    return changed
