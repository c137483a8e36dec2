"""duplicates.py: pairs of equal pictures and labels, against a hand-worked case and a naive definition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineup.photos import duplicates, photo_register
from lineup.photos.duplicates import SPLITS, Contradiction, Leak


@dataclass(frozen=True)
class Photo:
    path: str
    split: str
    image_id: str
    pixels_id: str
    label: str | None

    @property
    def part(self) -> str:
        return "train" if self.split == "train" else "test"


def photo(path: str, image: str, pixels: str, label: str | None = None) -> Photo:
    split = {"train": "train", "q": "query", "g": "gallery"}[path.split("/")[0]]
    return Photo(path, split, image, pixels, label)


def found(photos: Iterable[Photo]) -> tuple[list[Leak], list[Contradiction]]:
    with photo_register.temporary() as register:
        rows = [(p.path, p.split, p.label, p.image_id, p.pixels_id) for p in photos]
        register.executemany("INSERT INTO photo VALUES (?, ?, ?, ?, ?, 1, 1, 'PNG', NULL)", rows)
        duplicates.find_leaks(register)
        return list(duplicates.leaks(register)), list(duplicates.contradictions(register))


def test_a_hand_worked_case() -> None:
    photos = [
        photo("train/a", "1", "A", "cat"),
        photo("train/b", "1", "A", "cat"),
        photo("q/a", "1", "A", "cat"),
        photo("g/a", "2", "A", "dog"),  # the same picture in another container, under another label
        photo("g/b", "3", "B", "fox"),
        photo("g/c", "3", "B", None),
        photo("q/d", "4", "D", "owl"),
    ]
    leaks, contradictions = found(photos)
    assert leaks == [
        Leak("same_bytes", "g/b", "g/c", "gallery"),
        Leak("same_bytes", "train/a", "q/a", "train-query"),
        Leak("same_bytes", "train/a", "train/b", "train"),
        Leak("same_label", "train/a", "q/a", "train-query"),
        Leak("same_pixels", "q/a", "g/a", "query-gallery"),
        Leak("same_pixels", "train/a", "g/a", "train-gallery"),
    ]
    assert contradictions == [("g/a", "dog", "q/a", "cat", False), ("train/a", "cat", "g/a", "dog", True)]


PHOTOS = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.integers(0, 4), st.sampled_from([None, "x", "y"])),
    max_size=12,
).map(
    lambda rows: [
        Photo(f"{split}/{number}", split, str(image), "AB"[image % 2], label)
        for number, (split, image, label) in enumerate(rows)
    ]
)


@pytest.mark.slow
@given(PHOTOS, st.randoms())
def test_every_equal_pair_of_splits_is_told_and_nothing_else(photos: list[Photo], random: Random) -> None:
    told, contradictions = found(photos)
    by_path = {p.path: p for p in photos}
    for leak in told:
        a, b = by_path[leak.path_a], by_path[leak.path_b]
        assert leak.across == (a.split if a.split == b.split else f"{a.split}-{b.split}")
        assert {
            "same_bytes": a.image_id == b.image_id,
            "same_pixels": a.pixels_id == b.pixels_id and a.image_id != b.image_id,
            "same_label": a.label == b.label is not None and a.part != b.part,
        }[leak.kind]
    naive = {
        (kind, tuple(sorted((a.split, b.split))))
        for a in photos
        for b in photos
        if a is not b
        for kind, same in (
            ("same_bytes", a.image_id == b.image_id),
            ("same_label", a.label == b.label is not None and a.part != b.part),
        )
        if same
    }
    assert {
        (leak.kind, tuple(sorted((by_path[leak.path_a].split, by_path[leak.path_b].split))))
        for leak in told
        if leak.kind != "same_pixels"
    } == naive
    # Whoever deletes all but the first of the told pairs has no equal files left in a split.
    for name in SPLITS:
        gone = {leak.path_b for leak in told if leak.across == name}
        left = [p.pixels_id for p in photos if p.split == name and p.path not in gone]
        assert len(left) == len(set(left))
    shuffled = list(photos)
    random.shuffle(shuffled)
    assert found(shuffled) == (told, contradictions) and told == sorted(told)


@pytest.mark.slow
@given(PHOTOS)
def test_a_picture_is_contradicted_exactly_where_its_labels_differ(photos: list[Photo]) -> None:
    _, told = found(photos)
    by_path = {p.path: p for p in photos}
    pairs = [(by_path[pair.path_a], by_path[pair.path_b]) for pair in told]
    assert all(
        a.pixels_id == b.pixels_id and None not in (a.label, b.label) and a.label != b.label for a, b in pairs
    )
    for pair, (a, b) in zip(told, pairs, strict=True):
        assert (pair.label_a, pair.label_b, pair.crosses_parts) == (a.label, b.label, a.part != b.part)
    for part in ("train", "test"):
        labels: dict[str, set[str]] = {}
        for p in photos:
            if p.part == part and p.label is not None:
                labels.setdefault(p.pixels_id, set()).add(p.label)
        doubtful = {pixels for pixels, seen in labels.items() if len(seen) > 1}
        assert {a.pixels_id for a, b in pairs if a.part == b.part == part} == doubtful
