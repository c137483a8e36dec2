"""What metrics/rows/<row>.json says of a row's costs, as typed records."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from lineup.evaluation.record import Record


class TrainingEpoch(BaseModel):
    """An epoch of a row's fine-tuning; epoch 0 is the encoder before training, which has no loss.

    It may have more fields, which the comparison does not show.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    epoch: float
    map_at_r: float | None = None
    loss: float | None = None
    learning_rate: float | None = None


class ApproximateIndex(Record):
    """What was chosen for an approximate index, and which share of the nearest images it finds.

    ann_recall: {"k": share of the k nearest images by exact search that it finds}, of the queries.
    ann_recall_tuned: the same share where the index was tuned.
    """

    index: str
    storage: str
    parameters: dict[str, int | float]
    ann_recall: dict[str, float]
    recall_target: float | None = None
    ann_recall_tuned: float | None = None


class PartCosts(Record):
    """What one of the rows that a row is made of adds to its costs; None where it was not measured.

    transform_ms: the share of query_ms that takes a query's vector into the row's own space.
    """

    images_per_second: float | None
    dim: int | None
    index_mb: float | None
    query_ms: float | None
    parameters: int | None
    gflops: float | None
    train_minutes: float | None
    transform_ms: float = 0.0


class RowCosts(PartCosts):
    """What a row costs in all; None where it was not measured, or differs between the rows it is made of.

    images_per_second: images embedded per second; dim: dimensions of a vector; index_mb: size of the index on
    disk; query_ms: time to search for one query; gflops: of one image; image_size: side in pixels of the
    images that the network gets; resize_px: shorter side in pixels to which the transform resizes, before it
    crops; parts: of a refinement, by row; search: of an approximate index.
    """

    device: str | None = None
    engine: str | None = None
    precision: str | None = None
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None
    image_size: int | None = None
    resize_px: int | None = None
    licence: str | None = None
    random: bool
    search_device: str
    search_threads: int
    train_note: str | None = None
    training_curve: tuple[TrainingEpoch, ...] = ()
    search: ApproximateIndex | None = None
    parts: dict[str, PartCosts] | None = None
    vectors_fingerprint: str | None = None

    def as_part(self) -> PartCosts:
        """What the row adds to the costs of a refinement that is made of it."""
        return PartCosts(**{name: getattr(self, name) for name in PartCosts.model_fields})
