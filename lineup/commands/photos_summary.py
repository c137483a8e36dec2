"""What `lineup photos` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path, PurePosixPath

from lineup import paths
from lineup.errors import printable
from lineup.judging import address
from lineup.layouts import names
from lineup.layouts.layout import Source
from lineup.layouts.placement import Placer
from lineup.layouts.plan import Plan
from lineup.layouts.source_files import counted

_TITLES = {"train": "training", "query": "queries", "gallery": "gallery"}
_MAX_SHOWN, _MAX_NAME_CHARACTERS = 3, 60
# Below, intervals of most metrics are wider than 0.1.
_FEW_QUERIES = 100
# From here on, a copy is worth a word.
_LARGE_COPY_BYTES = 10**9


def understood(layout: str, listed: Source) -> str:
    """What was read, and how to say that it was something else."""
    alternative = ""
    if layout == "label_folders":
        alternative = " (if the folders mean no label: --layout flat)"
    elif layout == "flat" and any("/" in photo.name for photo in listed.photos):
        alternative = " (if the folders are labels: --layout label_folders)"
    left_out = f"; left out: {skipped(listed.skipped)}" if listed.skipped else ""
    return printable(f"{listed.summary}{alternative}{left_out}")


def skipped(files: Sequence[str]) -> str:
    """How many files were left out: "12 other files (8 .txt, 4 .nef), 1 hidden photo"; empty if none."""
    hidden = sum(PurePosixPath(name).name.startswith(".") for name in files)
    endings = Counter(
        PurePosixPath(name).suffix.lower() or "without an ending"
        for name in files
        if not PurePosixPath(name).name.startswith(".")
    )
    shown = ", ".join(
        f"{count:,} {printable(ending, _MAX_NAME_CHARACTERS)}"
        for ending, count in endings.most_common(_MAX_SHOWN)
    )
    more = ", …" if len(endings) > _MAX_SHOWN else ""
    parts = [f"{counted(endings.total(), 'other file')} ({shown}{more})"] if endings else []
    parts += [counted(hidden, "hidden photo")] if hidden else []
    return ", ".join(parts)


def written(plan: Plan, new: Sequence[str], before: Set[str], placer: Placer, to: Path) -> str:
    """What became of the photos, in one line."""
    added = {plan.photos[path].name for path in new if path not in before}
    replaced = {plan.photos[path].name for path in new if path in before} - added
    groups = {
        "added" if before else "laid out": added - plan.relabelled,
        "replaced, since their files changed or were missing": replaced,
        "given another label": plan.relabelled,
    }
    parts = [f"{counted(len(group), 'photo')} {what}" for what, group in groups.items() if group]
    ways = ", ".join(f"{counted(count, 'file')} {way}" for way, count in sorted(placer.counts.items()))
    if parts:
        return f"{to}: {', '.join(parts)}" + (f" ({ways})" if ways else "")
    if plan.text_files:
        return f"{to}: no new photo; {', '.join(sorted(plan.text_files))} brought up to date"
    return f"{to}: nothing to do, as all photos are there already"


def splits(plan: Plan) -> Iterator[str]:
    """A line for each split of data/raw."""
    photos: Counter[str] = Counter()
    labels: dict[str, set[str]] = {}
    for path, photo in plan.photos.items():
        split = names.role_of(path) or ""
        photos[split] += 1
        if photo.label:
            labels.setdefault(split, set()).add(photo.label)
    for split, title in _TITLES.items():
        if photos[split]:
            of_labels = f" of {counted(len(labels[split]), 'label')}" if split in labels else ""
            yield f"  {title:<8} {counted(photos[split], 'photo'):>14}{of_labels}"


def needs_judging(plan: Plan) -> bool:
    """Whether nothing says which gallery photos are right."""
    labelled = any(photo.label for photo in plan.photos.values())
    return not labelled and not {"qrels.csv", "labels.csv"} & plan.text_files.keys()


def hints(plan: Plan, to: Path) -> Iterator[str]:
    """What makes the comparison say more."""
    queries = [path for path in plan.photos if names.role_of(path) == "query"]
    if needs_judging(plan):
        yield (
            "without labels nothing is scored until you judge it; --queries-from edits makes queries "
            "whose right answer is known"
        )
    elif any(photo.label for photo in plan.photos.values()) and len(queries) < _FEW_QUERIES:
        yield (
            f"{counted(len(queries), 'query', 'queries')} give wide intervals; for more, move {to} away "
            "and use --queries-per-label"
        )


def gone(plan: Plan, to: Path) -> Iterator[str]:
    """A line on photos of data/raw that the source has no longer."""
    if plan.gone:
        shown = ", ".join(printable(entry.source, _MAX_NAME_CHARACTERS) for entry in plan.gone[:_MAX_SHOWN])
        more = ", …" if len(plan.gone) > _MAX_SHOWN else ""
        yield (
            f"{to} also holds {counted(len(plan.gone), 'photo')} that the source has no longer "
            f"({shown}{more}); to drop them, move {to} away and run this again"
        )


def next_steps(to: Path, placer: Placer, shares_files: bool, judge: bool) -> Iterator[str]:
    """What to do with the photos.

    Args:
        shares_files: whether some photos of data/raw are hard links to those of the source.
        judge: whether a person has to say which answers are right.
    """
    if placer.copied_bytes >= _LARGE_COPY_BYTES:
        yield (
            f"the copies take {placer.copied_bytes / 1e9:.1f} GB, as this disk has no reflinks; "
            "hard links (--hard-links) would take none"
        )
    if to == paths.RAW:
        yield "next: `lineup check`, then `dvc repro`"
        if judge:
            yield (
                "then say which answers are right: `lineup judge --open` serves a page for it at "
                f"{address.URL}, and `dvc repro` takes your judgements into the table"
            )
    if shares_files:
        yield (
            f"to keep versions of the photos, or to share them: `dvc add --no-relink {to}` "
            "(without --no-relink, DVC makes the photos of the source read-only, and part of its cache)"
        )
    elif to == paths.RAW:
        yield f"to keep versions of the photos, or to share them: `dvc add {to}`"
