"""What `latency` measured of a row: its queries by part, and its embedding."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lineup import paths
from lineup.errors import UserError
from lineup.storage import files

PARTS = ("decode", "embed", "search", "refine")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Times(_Record):
    """Milliseconds of a query: of each part, and in all.

    As percentiles, the parts do not add up to the total: each has its own.
    """

    decode: float
    embed: float
    search: float
    refine: float
    total: float


class Queries(_Record):
    """Queries that one thread, or several at once, answered in passes over the same photos.

    p50, p95: over photos, of each photo's fastest pass. per_second: of all threads together, in each pass;
    slowdown: by which factor other processes slowed it down.
    """

    queries: int
    p50: Times
    p95: Times
    per_second: tuple[float, ...]
    slowdown: tuple[float, ...]


class Embedding(_Record):
    """Rounds in which all threads embedded prepared images in batches; slowdown: as in `Queries`."""

    images_per_second: tuple[float, ...]
    slowdown: tuple[float, ...]


class Latency(_Record):
    """What was measured of a row, on which machine.

    network: of a model, what decides its speed besides the machine; None of a refinement.
    device, gpu: what computes the network; threads: of the processor.
    uploads: how many of the queries' photos were files of their owner; the others were prepared images.
    load_seconds: until the row can answer; first: the time of the first query after that.
    alone: one query at a time, by one thread; together: as many at once as there are threads.
    embedding: None of a refinement, which embeds by the networks of others.
    """

    row: str
    network: str | None
    engine: str
    precision: str
    device: str
    gpu: bool
    threads: int
    gallery: int
    uploads: int
    load_seconds: float
    first: Times
    alone: Queries
    together: Queries
    embedding: Embedding | None


def write(latency: Latency) -> None:
    """Writes what was measured of a row to its costs, which DVC caches."""
    files.write_json(paths.costs("latency", latency.row), latency.model_dump())


def publish(row: str) -> None:
    """Copies what was measured of a row to where git keeps it; nothing where the row was not measured."""
    if paths.costs("latency", row).exists():
        files.write_json(paths.latency(row), _read(paths.costs("latency", row), row).model_dump())


def read_all(rows: Iterable[str]) -> dict[str, Latency]:
    """What was measured, by row; rows that were not measured are left out.

    Raises:
        UserError: a file is another row's, or is not what this version writes.
    """
    return {row: _read(paths.latency(row), row) for row in rows if paths.latency(row).exists()}


def _read(path: Path, row: str) -> Latency:
    try:
        latency = Latency.model_validate(files.read_json(path))
    except ValidationError:
        latency = None
    if latency is None or latency.row != row:
        raise UserError(
            f"{path}: isn't what this version writes for {row}; run `dvc repro -f -s latency@{row}`, "
            f"or latency_refined@{row} for a refinement, then `dvc repro`"
        )
    return latency
