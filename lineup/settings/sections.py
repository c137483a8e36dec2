"""The sections of params.yaml that hold for all rows: a class each, in the order of the stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lineup.settings.schema import RowName, Strict

Exclude = Literal["pixels", "bytes"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


class Preprocess(Strict):
    """How raw photos are prepared, once for all models."""

    shorter_side_px: int = Field(
        default=512,
        ge=32,
        le=16384,
        description="a photo is shrunk until its shorter side has this many pixels",
    )
    on_bad_image: Literal["skip", "fail"] = "skip"


class Embed(Strict):
    """What computes the vectors; engine, precision and the kind of device decide them, batch_size doesn't."""

    batch_size: int = Field(default=32, ge=1, le=4096)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "torch", "openvino", "onnxruntime"] = "auto"
    precision: Precision = Field(default="float32", description="of the rows that name none of their own")
    pixel_cache_gb: float = Field(
        default=10, ge=0, description="disk for decoded pixels, which rows with the same transform share"
    )


class Relevance(Strict):
    """What counts as a right answer, beside labels and judgements."""

    exclude: Exclude = Field(
        default="pixels",
        description="what is the query itself, and so no answer: its pixels, or only its bytes",
    )


class Retrieve(Strict):
    """How the gallery is searched."""

    depth: int = Field(default=100, ge=1, description="depth of the rankings; deeper where a metric needs it")


class Score(Strict):
    """What is measured of a ranking, and how certain it is."""

    cutoffs: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        default=(1, 5, 10), strict=False, min_length=1, description="the k of metrics such as top_k"
    )
    bootstrap_samples: int = Field(default=1000, ge=100, le=100_000)
    fpir: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.01, 0.001),
        strict=False,
        description="shares of queries without a match that may get an answer: a threshold for each",
    )


class NearCopies(Strict):
    """Test photos that look like a training photo are looked for by the vectors of these rows."""

    rows: tuple[RowName, ...] = Field(
        default=(),
        strict=False,
        description="rows of models; pretrained ones, as training pulls photos of one label together",
    )


class Map(Strict):
    """A map of the test photos by a row's vectors, in the report; it takes the package umap-learn."""

    neighbours: int = Field(
        default=15,
        ge=2,
        le=200,
        description="of each photo that stay near it: fewer show detail, more show the whole",
    )


class Transfer(Strict):
    """Second test sets, which show what training has forgotten of photos unlike the training photos."""

    sets: dict[RowName, Annotated[str, Field(min_length=1)]] = Field(
        default={}, description="folders with test/query and test/gallery, as in data/raw, by a name for each"
    )
    rows: dict[RowName, str] = Field(
        default={},
        description="the set of each row that is measured on one; of trained rows, name the start, too",
    )


class Export(Strict):
    """What `dvc repro` exports as the artifact best-row; without a row it exports nothing."""

    row: RowName | None = Field(default=None, description="a row of models or refinements")
