"""What a row costs, put together from what its stages measured.

Of a refinement, with all that it is made of.
"""

from __future__ import annotations

from typing import Any, Literal

from lineup import paths
from lineup.errors import UserError
from lineup.storage import files

Costs = dict[str, Any]

_EMBED = ("images_per_second", "device", "engine", "precision", "peak_memory_mb", "peak_gpu_memory_mb")
_ENCODER = ("parameters", "gflops", "image_size", "resize_px", "licence")
_SUMMED = (
    "dim",
    "index_mb",
    "query_ms",
    "parameters",
    "gflops",
    "train_minutes",
)  # over the parts of a refinement
_PARTS = ("images_per_second", *_SUMMED)


def of_model(row: str) -> Costs:
    """What the row's stages measured, in the names that the comparison shows; None where a stage didn't say.

    UserError if they say that they're of another row, or that they read other vectors than `embed` wrote.
    """
    embed, index, retrieve, train = (_read(stage, row) for stage in ("embed", "index", "retrieve", "train"))
    _check_origin(row, embed, index, retrieve)
    return {
        **{fact: embed.get(fact) for fact in (*_EMBED, *_ENCODER)},
        "random": bool(embed.get("random", False)),
        "dim": index["dim"],
        "index_mb": index["index_mb"],
        "query_ms": retrieve["query_ms"],
        "search_device": retrieve["device"],
        "search_threads": retrieve["threads"],
        "train_minutes": train["minutes"],
        "train_note": train.get("note"),
        "training_curve": train.get("curve", []),
        **_approximation(index, retrieve),
        "kept_under": {  # what `lineup cache` asks branches for
            "vectors": embed.get("fingerprint"),
            "pixels": embed.get("pixels"),
            "training": train.get("fingerprint"),
        },
    }


def of_refinement(row: str, first: str, second: str) -> Costs:
    """What a query and a photo cost in all: every row that the refinement is made of counts, and each only
    once.

    first, second: the rows it's made of, scored before; equal for a method of one row.
    """
    refine = _read("refine", row)
    sources = {name: files.read_json(paths.row_metrics(name))["costs"] for name in (first, second)}
    embedded = sources[second].get("kept_under", {}).get("vectors")
    if embedded and refine.get("fingerprint") not in (None, embedded):
        raise UserError(
            f"{paths.ranking(row)}: was made of other vectors than {second} was scored by; {_again('refine', row)}"
        )
    parts: dict[str, Costs] = {}
    for source, costs in sources.items():
        for name, part in (costs.get("parts") or {source: {key: costs[key] for key in _PARTS}}).items():
            if source != first and name not in parts and not refine.get("searches_second", True):
                part = part | {"query_ms": part.get("transform_ms", 0)}
            parts[name] = _either(parts[name], part) if name in parts else part
    if refine.get(
        "builds_index"
    ):  # it is searched instead of the sources; their vectors are still transformed
        parts = {
            name: part | {"dim": 0, "index_mb": 0, "query_ms": part.get("transform_ms", 0)}
            for name, part in parts.items()
        }
    parts[row] = dict.fromkeys(_PARTS, 0) | {
        key: refine[key] for key in ("dim", "index_mb", "query_ms", "transform_ms") if key in refine
    }
    both = list(sources.values())
    return {
        **{
            key: _same([costs[key] for costs in both])
            for key in ("device", "engine", "precision", "image_size")
        },
        **{key: _sum([part[key] for part in parts.values()]) for key in _SUMMED},
        **{
            key: max((costs[key] for costs in both if costs[key] is not None), default=None)
            for key in ("peak_memory_mb", "peak_gpu_memory_mb")
        },
        "images_per_second": _one_after_the_other([part["images_per_second"] for part in parts.values()]),
        "licence": _joined([costs["licence"] for costs in both]),
        "random": any(costs["random"] for costs in both),
        "search_device": refine["device"],
        "search_threads": refine["threads"],
        "train_note": refine.get("note"),
        "training_curve": [],
        **_approximation(refine, refine),
        "parts": parts,
    }


def _read(stage: Literal["embed", "index", "retrieve", "refine", "train"], row: str) -> Costs:
    costs = files.read_json(paths.costs(stage, row))
    if costs.get("row") != row:
        raise UserError(
            f"{paths.costs(stage, row)}: says that it is of row {costs.get('row')!r}, not of {row!r}; {_again(stage, row)}"
        )
    return costs


def _again(stage: str, row: str) -> str:
    return f"run `dvc repro -f -s {stage}@{row}`, then `dvc repro`"


def _check_origin(row: str, embed: Costs, index: Costs, retrieve: Costs) -> None:
    """UserError unless what was indexed and ranked are the vectors that `embed` says it wrote, of the same
    images.
    """
    if retrieve["fingerprint"] != embed.get("fingerprint"):
        raise UserError(
            f"{paths.embeddings(row)}: holds other vectors than {paths.costs('embed', row)} tells of; {_again('embed', row)}"
        )
    if any(index.get(fact) != retrieve[fact] for fact in ("fingerprint", "images")):
        raise UserError(
            f"{paths.index(row)}: was built of other vectors than {paths.embeddings(row)} holds; {_again('index', row)}"
        )


def _either(one: Costs, other: Costs) -> Costs:
    """What a part costs that counts in both sources.

    In a whitening or approximate row of it, what isn't used any more is 0.
    """
    keys = [key for key in (*_PARTS, "transform_ms") if key in one and key in other]
    return {key: None if None in (one[key], other[key]) else max(one[key], other[key]) for key in keys}


def _approximation(built: Costs, searched: Costs) -> Costs:
    """Of an approximate index: what was chosen, what it reached where it was tuned, and on the queries. Of an
    exact one nothing.
    """
    return {"search": {**built["search"], "ann_recall": searched["ann_recall"]}} if "search" in built else {}


def _same(values: list[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else None


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 6) if len(known) == len(values) else None


def _one_after_the_other(speeds: list[float | None]) -> float | None:
    """Images per second of encoders that each see every image; a part that embeds nothing has 0."""
    if any(speed is None for speed in speeds):
        return None
    seconds = sum(1 / speed for speed in speeds if speed)
    return round(1 / seconds, 2) if seconds else None


def _joined(licences: list[str | None]) -> str | None:
    if any(licence is None for licence in licences):
        return None
    return " + ".join(dict.fromkeys(str(licence) for licence in licences))
