"""What `latency` measures of a row, made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lineup import paths
from lineup.costs.latency import Embedding, Latency, Queries, Times
from lineup.storage import files


def times(total_ms: float) -> Times:
    """A quarter of decoding, half of the network, and a quarter of searching."""
    return Times(decode=total_ms / 4, embed=total_ms / 2, search=total_ms / 4, refine=0, total=total_ms)


def queries(p50_ms: float, p95_ms: float, per_second: Sequence[float], slowdown: Sequence[float]) -> Queries:
    return Queries(
        queries=200,
        p50=times(p50_ms),
        p95=times(p95_ms),
        per_second=tuple(per_second),
        slowdown=tuple(slowdown),
    )


def latency(
    row: str,
    *,
    p50_ms: float = 4.0,
    p95_ms: float = 5.0,
    per_second: Sequence[float] = (400.0,),
    images_per_second: Sequence[float] = (),
    slowdown: float = 1.0,
    **changes: Any,
) -> Latency:
    """A model's, or a refinement's where there are no images per second."""
    embedding = Embedding(
        images_per_second=tuple(images_per_second), slowdown=(slowdown,) * len(images_per_second)
    )
    measured = Latency(
        row=row,
        network="torchvision resnet18, 128/112 px, 16" if images_per_second else None,
        engine="torch 2.9",
        precision="float32",
        device="Some CPU",
        gpu=False,
        threads=2,
        gallery=200,
        uploads=200,
        load_seconds=1.0,
        first=times(50.0),
        alone=queries(p50_ms, p95_ms, (1000 / p50_ms,), (1.0,)),
        together=queries(p50_ms, p95_ms, per_second, (slowdown,) * len(per_second)),
        embedding=embedding if images_per_second else None,
    )
    return measured.model_copy(update=changes)


def write(row: str, **measured: Any) -> None:
    """Where `compare` reads it."""
    files.write_json(paths.latency(row), latency(row, **measured).model_dump())
