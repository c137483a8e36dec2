"""What people judged: data/judgements.csv, one line for each pair of a query and a gallery image.

The file is in git. Its lines name photos by image_id, so that a photo's new name loses no judgement. Whoever
judges appends lines; `tidy` sorts them, so that git merges the files of two people.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lineup.errors import UserError, naming, printable
from lineup.locks import file_lock
from lineup.storage.csv_files import plain_csv_text
from lineup.storage.files import replace_atomically

log = logging.getLogger(__name__)

COLUMNS = ("query", "gallery", "relevance", "judge", "time")
RELEVANT, NOT_RELEVANT, JUNK = 1, 0, -1
# Where as many judges say one as another, the first of these counts.
STRICTEST_FIRST = (NOT_RELEVANT, JUNK, RELEVANT)
MAX_JUDGE_CHARACTERS = 40

_HEADER = ",".join(COLUMNS) + "\n"
_RELEVANCE = {"1": RELEVANT, "0": NOT_RELEVANT, "-1": JUNK, "": None}
_is_image_id = re.compile(r"[0-9a-f]{64}").fullmatch
_is_judge = re.compile(rf"\w[\w .@-]{{0,{MAX_JUDGE_CHARACTERS - 1}}}").fullmatch
_is_time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII).fullmatch
_is_conflict_marker = re.compile(r"<{7} |={7}$|>{7} |\|{7} ").match


class Judgement(NamedTuple):
    """What one person said about one gallery image as an answer to one query.

    Attributes:
        query, gallery: image ids.
        relevance: RELEVANT, NOT_RELEVANT or JUNK. None means that the judge can't tell, or has taken an
            earlier judgement back: the pair counts as one that this judge did not judge.
        judge: a short name, as `judge_name` returns it.
        time: of the judgement, as `time_now` returns it.
    """

    query: str
    gallery: str
    relevance: int | None
    judge: str
    time: str


def judge_name(text: str) -> str:
    """A judge's name as it is stored, in Unicode's form NFC and without spaces around it.

    Raises:
        UserError: it has characters that a table, a terminal or a page would have to escape, or is too long.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not _is_judge(name):
        raise UserError(
            f"the judge's name {printable(name, 60)!r} can't be used; take 1 to {MAX_JUDGE_CHARACTERS} "
            "letters and digits, with spaces, dots, hyphens, underscores and @ between them"
        )
    return name


def time_now() -> str:
    """The present time, UTC, to the second: "2026-11-27T05:00:00Z"."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(path: Path) -> list[Judgement]:
    """Every line of the file, in its order; none if the file does not exist.

    `latest` picks those that count. A last line that a crash cut off does not count, which a warning says.

    Raises:
        UserError: a line has a fault; the message names the file, the line and the fix.
    """
    try:
        with naming(path):
            content = path.read_bytes()
    except FileNotFoundError:
        return []
    whole, cut_off = _without_cut_off_line(content)
    if cut_off:
        log.warning("%s", _cut_off_warning(path, "does not count"))
    return list(_parsed(whole, path))


def append(path: Path, judgements: Sequence[Judgement]) -> None:
    """Adds lines to the file, which is created if it does not exist, and waits until the disk has them.

    All of them are added or, if the disk fails, none. Several processes and threads may append at a time,
    also while another tidies.

    Raises:
        ValueError: a judgement holds what `read` would refuse.
        OSError: the disk fails; it names the file.
    """
    text = _lines(judgements)
    try:
        parsed = [*_parsed(text.encode(), path)]
    except UserError as error:
        raise ValueError(str(error)) from None
    if parsed != list(judgements):
        raise ValueError(f"{path}: a judgement has characters that its line can't hold")
    with naming(path), _opened(path) as file:
        end = _end_of_whole_lines(file, path)
        content = (text if end else _HEADER + text).encode()
        try:
            # One write, so that a reader without the lock sees all lines or none.
            if os.write(file, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file)
        except OSError:
            os.ftruncate(file, end)
            raise


def tidy(path: Path) -> None:
    """Rewrites the file as `tidied` orders it, unless it is so already; nothing happens without the file.

    Lines that others append at the same time are not lost.

    Raises:
        UserError: as `read`.
    """
    if not path.exists():
        return
    with naming(path), _opened(path):
        text = _HEADER + _lines(tidied(read(path)))
        if path.read_bytes() != text.encode():
            replace_atomically(path, lambda temporary: _write_to_disk(temporary, text))


def latest(judgements: Iterable[Judgement]) -> dict[tuple[str, str, str], Judgement]:
    """What counts of each judge: the latest judgement of each (query, gallery, judge), by time.

    Of those at the same second the later one in the given order counts.
    """
    counting: dict[tuple[str, str, str], Judgement] = {}
    for judgement in judgements:
        key = (judgement.query, judgement.gallery, judgement.judge)
        if key not in counting or counting[key].time <= judgement.time:
            counting[key] = judgement
    return counting


def tidied(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The judgements that count, also those without a relevance, sorted by query, gallery and judge."""
    counting = latest(judgements)
    return [counting[key] for key in sorted(counting)]


def resolved(judgements: Iterable[Judgement]) -> dict[tuple[str, str], int]:
    """What counts of each pair that was judged: {(query, gallery): relevance}, sorted by pair.

    Judges have one vote each, their latest, and the majority decides, as in other collections with several
    assessors. Of relevances with equally many votes the strictest counts: not relevant, then junk, then
    relevant, so that no row gets credit for an answer that people dispute. A pair on which nobody has a vote
    is absent.

    The result depends on the order of the judgements only where one judge spoke twice within a second.
    """
    votes: dict[tuple[str, str], Counter[int]] = {}
    for (query, gallery, _), judgement in latest(judgements).items():
        if judgement.relevance is not None:
            votes.setdefault((query, gallery), Counter())[judgement.relevance] += 1
    return {
        pair: max(STRICTEST_FIRST, key=lambda relevance, counts=votes[pair]: counts[relevance])
        for pair in sorted(votes)
    }


def _lines(judgements: Iterable[Judgement]) -> str:
    return plain_csv_text(judgements)  # csv writes None as an empty cell


def _parsed(content: bytes, path: Path) -> Iterator[Judgement]:
    """The judgements of whole lines. Git repeats the header where it has merged two new files."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        number = content.count(b"\n", 0, fault.start) + 1
        raise UserError(f"{path}: line {number}: is not UTF-8; save the file as UTF-8") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and (cells := _cells(line)) != COLUMNS:
            yield _judgement(line, cells, f"{path}: line {number}")


def _cells(line: str) -> tuple[str, ...]:
    """The cells of a line; a spreadsheet may have quoted them, but none needs it."""
    return tuple(cell.strip('"') for cell in line.removesuffix("\r").split(","))


def _judgement(line: str, cells: tuple[str, ...], source: str) -> Judgement:
    """The judgement of a line. Raises UserError if it has a fault; `source` begins the message."""
    if _is_conflict_marker(line):
        raise UserError(f"{source}: is left from a merge; keep the lines of both sides, and remove this one")
    if len(cells) != len(COLUMNS):
        raise UserError(
            f"{source}: has {len(cells)} cells, not {len(COLUMNS)} ({', '.join(COLUMNS)}); "
            "mend or remove the line"
        )
    query, gallery, relevance, judge, time = cells
    for name, image_id in (("query", query), ("gallery", gallery)):
        if not _is_image_id(image_id):
            raise UserError(
                f"{source}: {name}: {printable(image_id, 80)!r} is not an image_id; "
                "remove the line, or restore it from git"
            )
    if relevance not in _RELEVANCE:
        shown = printable(relevance, 80)
        raise UserError(f"{source}: relevance: {shown!r} is unknown; use 1, 0 or -1, or leave it empty")
    if not _is_judge(judge):
        raise UserError(f"{source}: judge: {printable(judge, 80)!r} can't be used; use letters and digits")
    if not _is_time(time):
        raise UserError(
            f"{source}: time: {printable(time, 80)!r} is not a time in UTC; write it as 2026-11-27T05:00:00Z"
        )
    return Judgement(query, gallery, _RELEVANCE[relevance], judge, time)


def _without_cut_off_line(content: bytes) -> tuple[bytes, bool]:
    """The whole lines, and whether a last line that a crash cut off was behind them.

    An editor may leave out the last line's end: such a line counts if nothing else is missing.
    """
    end = content.rfind(b"\n") + 1
    last = content[end:]
    if not last.strip():
        return content, False
    cells = _cells(last.decode(errors="replace"))
    is_whole = cells == COLUMNS or (len(cells) == len(COLUMNS) and _is_time(cells[-1]) is not None)
    return (content, False) if is_whole else (content[:end], True)


def _cut_off_warning(path: Path, consequence: str) -> str:
    return f"{path}: its last line was cut off by a crash, and {consequence}; judge that pair again"


def _write_to_disk(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file, open for reading and appending, locked against others that append or tidy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(path) as file:
        yield file


def _end_of_whole_lines(file: int, path: Path) -> int:
    """Ends the last line if an editor did not, or removes it if a crash cut it off: the file's new size."""
    size = os.fstat(file).st_size
    start = max(0, size - 4096)
    tail = os.pread(file, size - start, start)
    if not tail or tail.endswith(b"\n"):
        return size
    whole, cut_off = _without_cut_off_line(tail)
    if cut_off:
        log.warning("%s", _cut_off_warning(path, "was removed"))
        os.ftruncate(file, start + len(whole))
        return start + len(whole)
    return size + os.write(file, b"\n")
