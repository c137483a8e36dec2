"""The same picture, or the same label, in two places. Pure functions of names and ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from operator import attrgetter
from typing import NamedTuple

SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True, slots=True)
class Photo:
    """One readable file."""

    path: str
    split: str
    image_id: str
    pixels_id: str
    label: str | None


class Leak(NamedTuple):
    kind: str  # same_bytes | same_pixels | same_label
    path_a: str
    path_b: str
    across: str  # "gallery" (within it) or "train-query"


def part(split: str) -> str:
    """Train and test are prepared apart: a new test photo must not train anything again."""
    return "train" if split == "train" else "test"


def leaks(photos: Iterable[Photo]) -> list[Leak]:
    """Pairs of files with the same bytes, other bytes but the same pixels, or (of train and test) the same label.

    Of n equal files in a split, n - 1 pairs are told; between two splits one, and of a label one per test split.
    """
    photos = sorted(photos, key=lambda photo: photo.path)
    found = [_leak("same_bytes", a, b) for group in _groups(photos, "image_id") for a, b in _pairs(group)]
    for group in _groups(photos, "pixels_id"):
        distinct = {(photo.split, photo.image_id): photo for photo in reversed(group)}  # the first of each
        pairs = _pairs(sorted(distinct.values(), key=lambda photo: photo.path))
        found += [_leak("same_pixels", a, b) for a, b in pairs if a.image_id != b.image_id]
    for group in _groups([photo for photo in photos if photo.label is not None], "label"):
        first = _first_of_split(group)
        found += [_leak("same_label", first["train"], first[split]) for split in ("query", "gallery") if {"train", split} <= first.keys()]
    return sorted(found)


def contradictions(photos: Iterable[Photo]) -> list[tuple[Photo, Photo]]:
    """Pairs of files that show one picture under two labels: the first file, and each that contradicts it.

    Within train and within test; between the two, one pair per picture.
    """
    found = []
    for group in _groups(sorted((p for p in photos if p.label is not None), key=lambda photo: photo.path), "pixels_id"):
        parts = [[photo for photo in group if part(photo.split) == name] for name in ("train", "test")]
        for same_part in filter(None, parts):
            found += [(same_part[0], photo) for photo in same_part[1:] if photo.label != same_part[0].label]
        found += [(a, b) for a in parts[0][:1] for b in parts[1][:1] if a.label != b.label]
    return found


def _groups(photos: Iterable[Photo], attribute: str) -> list[list[Photo]]:
    """Photos that share an attribute with another one; memory grows with their number only."""
    photos = list(photos)
    often = Counter(map(attrgetter(attribute), photos))
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        key = getattr(photo, attribute)
        if often[key] > 1:
            groups.setdefault(key, []).append(photo)
    return list(groups.values())


def _pairs(group: list[Photo]) -> list[tuple[Photo, Photo]]:
    first = _first_of_split(group)
    within = [(first[photo.split], photo) for photo in group if photo is not first[photo.split]]
    return within + [(first[a], first[b]) for a, b in combinations(SPLITS, 2) if a in first and b in first]


def _first_of_split(group: list[Photo]) -> dict[str, Photo]:
    return {photo.split: photo for photo in reversed(group)}


def _leak(kind: str, a: Photo, b: Photo) -> Leak:
    return Leak(kind, a.path, b.path, a.split if a.split == b.split else f"{a.split}-{b.split}")
