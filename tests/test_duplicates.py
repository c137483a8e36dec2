"""duplicates.py: pairs of equal pictures and labels, against a hand-worked case and a naive definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.lib.duplicates import SPLITS, Leak, Photo, contradictions, leaks, part


def photo(path: str, image: str, pixels: str, label: str | None = None) -> Photo:
    split = {"train": "train", "q": "query", "g": "gallery"}[path.split("/")[0]]
    return Photo(path, split, image, pixels, label)


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
    assert leaks(photos) == [
        Leak("same_bytes", "g/b", "g/c", "gallery"),
        Leak("same_bytes", "train/a", "q/a", "train-query"),
        Leak("same_bytes", "train/a", "train/b", "train"),
        Leak("same_label", "train/a", "q/a", "train-query"),
        Leak("same_pixels", "q/a", "g/a", "query-gallery"),
        Leak("same_pixels", "train/a", "g/a", "train-gallery"),
    ]
    assert [(a.path, b.path) for a, b in contradictions(photos)] == [("g/a", "q/a"), ("train/a", "g/a")]


PHOTOS = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.integers(0, 4), st.sampled_from([None, "x", "y"])),
    max_size=12,
).map(
    lambda rows: [
        Photo(f"{split}/{number}", split, str(image), "AB"[image % 2], label) for number, (split, image, label) in enumerate(rows)
    ]
)


@given(PHOTOS, st.randoms())
def test_every_equal_pair_of_splits_is_told_and_nothing_else(photos: list[Photo], random: object) -> None:
    told = leaks(photos)
    by_path = {p.path: p for p in photos}
    for leak in told:
        a, b = by_path[leak.path_a], by_path[leak.path_b]
        assert leak.across == (a.split if a.split == b.split else f"{a.split}-{b.split}")
        assert {
            "same_bytes": a.image_id == b.image_id,
            "same_pixels": a.pixels_id == b.pixels_id and a.image_id != b.image_id,
            "same_label": a.label == b.label is not None and part(a.split) != part(b.split),
        }[leak.kind]
    naive = {
        (kind, tuple(sorted((a.split, b.split))))
        for a in photos
        for b in photos
        if a is not b
        for kind, same in (
            ("same_bytes", a.image_id == b.image_id),
            ("same_label", a.label == b.label is not None and part(a.split) != part(b.split)),
        )
        if same
    }
    assert {
        (leak.kind, tuple(sorted((by_path[leak.path_a].split, by_path[leak.path_b].split)))) for leak in told if leak.kind != "same_pixels"
    } == naive
    # Whoever deletes all but the first of the told pairs has no equal files left in a split.
    for name in SPLITS:
        gone = {leak.path_b for leak in told if leak.across == name}
        left = [p.pixels_id for p in photos if p.split == name and p.path not in gone]
        assert len(left) == len(set(left))
    shuffled = list(photos)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert leaks(shuffled) == told and contradictions(shuffled) == contradictions(photos)


@given(PHOTOS)
def test_a_picture_is_contradicted_exactly_where_its_labels_differ(photos: list[Photo]) -> None:
    told = contradictions(photos)
    assert all(a.pixels_id == b.pixels_id and None not in (a.label, b.label) and a.label != b.label for a, b in told)
    for name in ("train", "test"):
        found = {a.pixels_id for a, b in told if part(a.split) == part(b.split) == name}
        labels: dict[str, set[str]] = {}
        for p in photos:
            if part(p.split) == name and p.label is not None:
                labels.setdefault(p.pixels_id, set()).add(p.label)
        assert found == {pixels for pixels, seen in labels.items() if len(seen) > 1}
