"""Who goes where: labels into train or test, and the photos of a test label into queries or gallery.

A label's side follows from a hash of the label, a photo's role from a hash of its name. Exactly N queries for
each label can't follow from hashes alone and yet stay as photos are added: the N smallest hashes of a label
change with it. So photos that data/raw already holds stay where they are, and new ones take what is free.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lineup.errors import UserError, printable
from lineup.layouts.layout import Role, SourcePhoto
from lineup.photos import raw_tables

# A test with one label has only right answers, and a training on one label learns nothing.
MIN_LABELS_PER_SIDE = 2
_SEED = "lineup photos"
_WITHOUT_LABELS = "to search without labels, use --layout flat, or with a table --label-column ''"
_HASHED_DIGITS = 16
_MAX_SHOWN_CHARACTERS = 60


class Choices(NamedTuple):
    """What the user decides.

    Attributes:
        train_share: the share of the labels that are trained on, 0 to below 1.
        queries_per_label: how many photos of a test label are queries; at least one stays in the gallery.
        queries: how many photos of a pile without labels are queries, too.
    """

    train_share: float = 0.5
    queries_per_label: int = 1
    queries: int = 200


@dataclass
class Assignment:
    """roles: by the photo's name. notes: what the user did not expect, a sentence for each."""

    roles: dict[str, tuple[Role, ...]]
    notes: list[str] = field(default_factory=list)


def digest(text: str) -> str:
    """64 hex digits that depend on the text alone, in whichever Unicode form the disk has it."""
    normal = f"{_SEED}: {unicodedata.normalize('NFC', text)}"
    return hashlib.sha256(normal.encode(errors="surrogateescape")).hexdigest()


def assign(
    photos: Sequence[SourcePhoto], choices: Choices, earlier: Mapping[str, tuple[Role, ...]] | None = None
) -> Assignment:
    """Gives each photo its roles: as the layout prescribes them, else as data/raw has them, else free ones.

    Args:
        earlier: roles that photos have in data/raw, by name.
    Raises:
        UserError: nothing can be searched for, as all photos have the same label, or each its own.
    """
    assignment = Assignment(
        {photo.name: photo.roles or (earlier or {}).get(photo.name, ()) for photo in photos}
    )
    labels: dict[str, list[SourcePhoto]] = {}
    unlabelled: list[str] = []
    for photo in photos:
        label = raw_tables.normal_label(photo.label or "")
        if label is None:
            unlabelled.append(photo.name)
        else:
            labels.setdefault(label, []).append(photo)
    free = {label: members for label, members in labels.items() if _without_role(members, assignment)}
    if free:
        _check(labels, unlabelled)
        trained = _trained_labels(labels, free, choices.train_share, assignment)
        for label, members in free.items():
            _assign_label(members, label in trained, choices.queries_per_label, assignment)
    _assign_unlabelled(unlabelled, 0 if labels else choices.queries, assignment)
    if earlier:
        _note_missing_queries(labels, unlabelled, choices, assignment)
        _note_other_sides(labels, choices.train_share, assignment)
    return assignment


def _without_role(members: Iterable[SourcePhoto], assignment: Assignment) -> list[SourcePhoto]:
    return [photo for photo in members if not assignment.roles[photo.name]]


def _check(labels: Mapping[str, Sequence[SourcePhoto]], unlabelled: Sequence[str]) -> None:
    if all(len(members) == 1 for members in labels.values()):
        label, [photo] = next(iter(labels.items()))
        raise UserError(
            f"each of the {len(labels):,} labels has one photo, as {_shown(label)!r} has "
            f"{_shown(photo.name)!r}, so that no query has a right answer; "
            f"{_WITHOUT_LABELS}"
        )
    if len(labels) == 1 and not unlabelled:
        [label] = labels
        raise UserError(
            f"all photos have one label, {_shown(label)!r}, so that every answer is right; {_WITHOUT_LABELS}"
        )


def _shown(name: str) -> str:
    return printable(name, _MAX_SHOWN_CHARACTERS)


def _trained_labels(
    labels: Mapping[str, Sequence[SourcePhoto]],
    free: Iterable[str],
    train_share: float,
    assignment: Assignment,
) -> set[str]:
    """The labels whose free photos are trained on."""
    sides = {
        label: _decided_side(members, assignment) for label, members in labels.items() if len(members) > 1
    }
    trained = {label for label, side in sides.items() if side == "train"}
    hashes = {label: digest(f"label {label}") for label in free if label in sides and sides[label] is None}
    if not train_share or not hashes:
        return trained
    if len(sides) < 2 * MIN_LABELS_PER_SIDE:
        assignment.notes.append(
            f"too few labels have several photos ({len(sides)}) to train on some and to test on others, "
            "so that nothing is for training"
        )
        return trained
    by_hash = sorted(hashes, key=hashes.__getitem__)
    count = sum(_is_trained_by_hash(label, train_share) for label in by_hash)
    if len(hashes) == len(sides):
        possible = min(max(count, MIN_LABELS_PER_SIDE), len(sides) - MIN_LABELS_PER_SIDE)
        if possible != count:
            assignment.notes.append(
                f"{possible} of {len(sides)} labels are for training instead of {count}, "
                f"so that training and test have at least {MIN_LABELS_PER_SIDE} labels each"
            )
        count = possible
    return trained | {*by_hash[:count]}


def _is_trained_by_hash(label: str, train_share: float) -> bool:
    return int(digest(f"label {label}")[:_HASHED_DIGITS], 16) < train_share * 16**_HASHED_DIGITS


def _decided_side(members: Iterable[SourcePhoto], assignment: Assignment) -> str | None:
    """train or test, as the roles of a label's other photos say; None if the hash decides."""
    roles = {role for photo in members for role in assignment.roles[photo.name]}
    if "train" in roles:
        return "train"
    return "test" if roles or any(photo.test_only for photo in members) else None


def _assign_label(
    members: Sequence[SourcePhoto], trained: bool, queries_per_label: int, assignment: Assignment
) -> None:
    """Assigns the free photos of one label."""
    roles = assignment.roles
    free = sorted(_without_role(members, assignment), key=lambda photo: digest(photo.name))
    tested = [photo.name for photo in free if photo.test_only or not trained]
    decided = [role for photo in members for role in roles[photo.name]]
    last_of_gallery = 0 if "gallery" in decided else 1
    queries = max(min(queries_per_label - decided.count("query"), len(tested) - last_of_gallery), 0)
    roles.update((photo.name, ("train",)) for photo in free)
    roles.update((name, ("gallery",)) for name in tested)
    roles.update((name, ("query",)) for name in tested[:queries])


def _note_missing_queries(
    labels: Mapping[str, Sequence[SourcePhoto]],
    unlabelled: Sequence[str],
    choices: Choices,
    assignment: Assignment,
) -> None:
    """Says that there are fewer queries than the user wants, as photos that were laid out do not move."""

    def lacks(names: Sequence[str], wanted: int) -> bool:
        roles = [assignment.roles[name] for name in names]
        return "train" not in roles[0] and sum("query" in each for each in roles) < wanted

    short = sum(
        lacks([photo.name for photo in members], min(choices.queries_per_label, len(members) - 1))
        for members in labels.values()
        if not any(photo.roles for photo in members)
    )
    if short or (not labels and lacks(unlabelled, min(choices.queries, len(unlabelled)))):
        where = f"{short:,} of {len(labels):,} labels have" if short else "there are"
        assignment.notes.append(
            f"{where} fewer queries than asked for, since photos that are there already stay where they are; "
            "to choose anew, move data/raw away"
        )


def _note_other_sides(
    labels: Mapping[str, Sequence[SourcePhoto]], train_share: float, assignment: Assignment
) -> None:
    """Says it if labels are not where their hashes and this share of training would put them."""
    others = 0
    for label, members in labels.items():
        if len(members) > 1 and not any(photo.roles or photo.test_only for photo in members):
            is_trained = _decided_side(members, assignment) == "train"
            others += is_trained != _is_trained_by_hash(label, train_share)
    # A few may be elsewhere so that both sides have enough labels.
    if others > MIN_LABELS_PER_SIDE:
        assignment.notes.append(
            f"{others:,} of {len(labels):,} labels are not where --train-share {train_share:g} would put "
            "them, since photos that are there already stay where they are; "
            "to choose anew, move data/raw away"
        )


def _assign_unlabelled(names: Iterable[str], queries: int, assignment: Assignment) -> None:
    """Everything is gallery; some photos are queries, too, since a query never finds itself."""
    roles, names = assignment.roles, [*names]
    missing = max(queries - sum("query" in roles[name] for name in names), 0)
    free = sorted((name for name in names if not roles[name]), key=digest)
    roles.update((name, ("gallery",)) for name in free)
    roles.update((name, ("query", "gallery")) for name in free[:missing])
