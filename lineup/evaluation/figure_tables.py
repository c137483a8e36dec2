"""Tables of figures in metrics/: six decimals, a cell that is empty where nothing can be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from lineup.errors import UserError
from lineup.storage import csv_files

Record = TypeVar("Record")


class Difference(NamedTuple):
    """A difference of two means.

    low, high: its 95% interval; p_holm: of its randomisation test, adjusted. These three are None where there
    are too few queries or labels to tell.
    """

    value: float
    low: float | None
    high: float | None
    p_holm: float | None


def cells(values: Iterable[float | None]) -> list[str]:
    """Numbers as they are written."""
    return ["" if value is None else f"{value:.6f}" for value in values]


def of_difference(difference: Difference | None) -> tuple[float | None, ...]:
    """The numbers of a difference, for `cells`."""
    return difference or (None,) * len(Difference._fields)


def number(line: Mapping[str, str], name: str) -> float | None:
    """The number in a column. Raises ValueError or KeyError if the table is damaged."""
    return float(line[name]) if line[name] else None


def difference(line: Mapping[str, str], name: str) -> Difference | None:
    """The difference in the four columns of a name; None if they are empty. Raises as `number`."""
    value = number(line, name)
    if value is None:
        return None
    return Difference(value, *(number(line, f"{name}{end}") for end in ("_low", "_high", "_p_holm")))


def read(path: Path, record: Callable[[Mapping[str, str]], Record], stage: str) -> list[Record]:
    """A table's lines as records. Raises UserError if it does not exist, or isn't what the stage writes."""
    lines = csv_files.read_csv(path)
    try:
        return [record(line) for line in lines]
    except (KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path}: isn't what this version writes ({reason}); run `dvc repro -f -s {stage}`"
        ) from None
