"""What a row costs, put together from what its stages measured.

The costs of a refinement include those of the rows that it is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

from lineup import paths
from lineup.errors import UserError
from lineup.evaluation import row_metrics
from lineup.evaluation.cost_records import ApproximateIndex, PartCosts, RowCosts
from lineup.evaluation.row_metrics import TrainingLabels
from lineup.storage import files

T = TypeVar("T")
Number = TypeVar("Number", int, float)
Stage = Literal["embed", "index", "retrieve", "refine", "train"]
StageCosts = Mapping[str, Any]  # data/costs/<row>/<stage>.json

_FROM_EMBED = (
    "images_per_second",
    "device",
    "engine",
    "precision",
    "peak_memory_mb",
    "peak_gpu_memory_mb",
    "parameters",
    "gflops",
    "image_size",
    "resize_px",
    "licence",
)
_SEARCH_COSTS = ("dim", "index_mb", "query_ms")


def model_costs(row: str) -> RowCosts:
    """The costs of a row with an encoder.

    Raises:
        UserError: a stage measured another row, or worked on other vectors than `embed` wrote.
    """
    embed, index, retrieve, train = (_read(stage, row) for stage in ("embed", "index", "retrieve", "train"))
    _check_same_vectors(row, embed, index, retrieve)
    embed_costs: StageCosts = {name: embed.get(name) for name in _FROM_EMBED}
    return RowCosts(
        **embed_costs,
        random=bool(embed.get("random", False)),
        dim=index["dim"],
        index_mb=index["index_mb"],
        query_ms=retrieve["query_ms"],
        search_device=retrieve["device"],
        search_threads=retrieve["threads"],
        train_minutes=train["minutes"],
        train_note=train.get("note"),
        training_curve=train.get("curve", ()),
        search=_approximate_index(index, retrieve),
        vectors_fingerprint=embed.get("fingerprint"),
    )


def training_labels(row: str, query_labels: Iterable[str | None]) -> TrainingLabels | None:
    """The labels that a row with an encoder was trained with; None if it wasn't trained."""
    train = _read("train", row)
    if "labelled_photos" not in train:
        return None
    labels = {*train["labels"]}
    in_test = sorted(labels.intersection(query_labels))
    return TrainingLabels(
        labelled_photos=train["labelled_photos"], labels=len(labels), in_test=tuple(in_test)
    )


def refinement_costs(row: str, first: str, second: str) -> RowCosts:
    """The costs of a refinement: those of every row that it is made of, each counted once, and its own.

    Args:
        row: the refinement.
        first, second: the rows that it is made of, scored before; equal where the method takes one row.
    Raises:
        UserError: the refinement was computed from other vectors than the second row was scored by.
    """
    refine = _read("refine", row)
    sources = {name: row_metrics.read(name).costs for name in (first, second)}
    _check_refined_vectors(row, refine, second, sources[second])
    parts = _parts(row, refine, first, sources)
    costs = list(sources.values())
    all_parts = list(parts.values())
    return RowCosts(
        images_per_second=combined_throughput([part.images_per_second for part in all_parts]),
        dim=_sum_if_known([part.dim for part in all_parts]),
        index_mb=_sum_if_known([part.index_mb for part in all_parts]),
        query_ms=_sum_if_known([part.query_ms for part in all_parts]),
        parameters=_sum_if_known([part.parameters for part in all_parts]),
        gflops=_sum_if_known([part.gflops for part in all_parts]),
        train_minutes=_sum_if_known([part.train_minutes for part in all_parts]),
        device=_if_equal([source.device for source in costs]),
        engine=_if_equal([source.engine for source in costs]),
        precision=_if_equal([source.precision for source in costs]),
        image_size=_if_equal([source.image_size for source in costs]),
        peak_memory_mb=_largest_known([source.peak_memory_mb for source in costs]),
        peak_gpu_memory_mb=_largest_known([source.peak_gpu_memory_mb for source in costs]),
        licence=_joined_licences([source.licence for source in costs]),
        random=any(source.random for source in costs),
        search_device=refine["device"],
        search_threads=refine["threads"],
        train_note=refine.get("note"),
        search=_approximate_index(refine, refine),
        parts=parts,
    )


def _parts(row: str, refine: StageCosts, first: str, sources: Mapping[str, RowCosts]) -> dict[str, PartCosts]:
    """What each row that a refinement is made of adds to its costs, by name; its own part comes last."""
    searches_second = refine.get("searches_second", True)
    parts: dict[str, PartCosts] = {}
    for source, costs in sources.items():
        for name, part in (costs.parts or {source: costs.as_part()}).items():
            if name in parts:
                parts[name] = max_costs(parts[name], part)
            elif source != first and not searches_second:
                parts[name] = part.model_copy(update={"query_ms": part.transform_ms})
            else:
                parts[name] = part
    if refine.get("builds_index"):
        # The refinement's own index replaces its sources' indexes, but queries are still transformed.
        parts = {
            name: part.model_copy(update={"dim": 0, "index_mb": 0.0, "query_ms": part.transform_ms})
            for name, part in parts.items()
        }
    own = {name: refine[name] for name in (*_SEARCH_COSTS, "transform_ms") if name in refine}
    parts[row] = PartCosts.model_validate(dict.fromkeys(PartCosts.model_fields, 0) | own)
    return parts


def max_costs(one: PartCosts, other: PartCosts) -> PartCosts:
    """The costs of a part that both rows of a refinement share: of each figure the larger value.

    They differ where one of the rows no longer uses a part's index or search, which then cost it 0.
    """
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in PartCosts.model_fields}
    return PartCosts.model_validate(
        {name: None if None in pair else max(pair) for name, pair in pairs.items()}
    )


def combined_throughput(speeds: Sequence[float | None]) -> float | None:
    """Images per second of several encoders that each embed every image, one after the other.

    Args:
        speeds: images per second of each part, 0 for one that embeds nothing.
    Returns:
        1 / sum(1 / speed); None where a speed is unknown, or nothing is embedded.
    """
    seconds_per_image = 0.0
    for speed in speeds:
        if speed is None:
            return None
        seconds_per_image += 1 / speed if speed else 0
    return round(1 / seconds_per_image, 2) if seconds_per_image else None


def _read(stage: Stage, row: str) -> StageCosts:
    costs = files.read_json(paths.costs(stage, row))
    if costs.get("row") != row:
        raise UserError(
            f"{paths.costs(stage, row)}: says that it is of row {costs.get('row')!r}, not of {row!r}; "
            f"{_run_again(stage, row)}"
        )
    return costs


def _run_again(stage: Stage, row: str) -> str:
    return f"run `dvc repro -f -s {stage}@{row}`, then `dvc repro`"


def _check_same_vectors(row: str, embed: StageCosts, index: StageCosts, retrieve: StageCosts) -> None:
    """UserError unless the vectors that were indexed and ranked are those that `embed` measured."""
    if retrieve["fingerprint"] != embed.get("fingerprint"):
        raise UserError(
            f"{paths.embeddings(row)}: holds other vectors than {paths.costs('embed', row)} was measured on; "
            f"{_run_again('embed', row)}"
        )
    if any(index.get(name) != retrieve[name] for name in ("fingerprint", "images")):
        raise UserError(
            f"{paths.index(row)}: was built of other vectors than {paths.embeddings(row)} holds; "
            f"{_run_again('index', row)}"
        )


def _check_refined_vectors(row: str, refine: StageCosts, second: str, costs: RowCosts) -> None:
    """UserError if the refinement was computed from other vectors than its second row was scored by."""
    scored = costs.vectors_fingerprint
    if scored and refine.get("fingerprint") not in (None, scored):
        raise UserError(
            f"{paths.ranking(row)}: was made of other vectors than {second} was scored by; "
            f"{_run_again('refine', row)}"
        )


def _approximate_index(built: StageCosts, searched: StageCosts) -> ApproximateIndex | None:
    """How an approximate index was built, and its recall; None for an exact index."""
    if "search" not in built:
        return None
    return ApproximateIndex(**built["search"], ann_recall=searched["ann_recall"])


def _if_equal(values: Sequence[T]) -> T | None:
    return values[0] if all(value == values[0] for value in values) else None


def _sum_if_known(values: Sequence[Number | None]) -> Number | None:
    """The sum, rounded to six decimals; None where one of the values is unknown."""
    known = [value for value in values if value is not None]
    return cast(Number, round(sum(known), 6)) if len(known) == len(values) else None


def _largest_known(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _joined_licences(licences: Sequence[str | None]) -> str | None:
    known = [licence for licence in licences if licence is not None]
    return " + ".join(dict.fromkeys(known)) if len(known) == len(licences) else None
