"""params.yaml, read and checked as a whole before any stage does work.

`lineup check [file]` checks it alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from lineup import paths
from lineup.errors import UserError, suggest
from lineup.settings import prepared_size, refinement, yaml_file
from lineup.settings.objective import NoObjective, Objective
from lineup.settings.refinement import RefinementSettings
from lineup.settings.schema import SHA256_PATTERN, WEIGHTS_PATTERN, RowName, Strict, explain
from lineup.settings.search import Index
from lineup.settings.training import Train, settings_of

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
RedGreenBlue = tuple[float, float, float]
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


class Encoder(Strict):
    """A network that maps an image to a vector, and where its weights come from."""

    library: Literal["torchvision", "timm", "transformers", "open_clip"]
    name: str = Field(min_length=1)
    weights: str = Field(pattern=WEIGHTS_PATTERN)
    revision: str | None = Field(
        default=None, min_length=1, description="commit, tag or branch of the hub's repository; default: main"
    )
    pooling: Literal["cls", "mean", "pooler"] | None = Field(
        default=None, description="transformers without get_image_features only"
    )
    sha256: Sha256 | None = Field(
        default=None, description="of the weights file; required unless it is safetensors"
    )
    assign_by: Literal["name", "order"] = Field(
        default="name", description="how the file's tensors are assigned to the network's"
    )
    image_size: int | None = Field(
        default=None, ge=16, le=2048, description="pixels; default: as the checkpoint was trained"
    )
    mean: RedGreenBlue | None = Field(
        default=None, strict=False, description="per channel, of pixels in 0..1; default: the checkpoint's"
    )
    std: RedGreenBlue | None = Field(default=None, strict=False, description="as mean")
    transform: str | None = Field(
        default=None,
        min_length=1,
        description="for weights from a file: the tag whose transform they were trained with",
    )
    licence: str | None = Field(
        default=None, min_length=1, description="of the weights, where their source states none"
    )
    allow_random: bool = Field(default=False, description="weights: none is refused unless this is set")

    @model_validator(mode="after")
    def _check_random_weights(self) -> Encoder:
        if self.weights == "none" and not self.allow_random:
            raise ValueError("weights: none means random vectors; set allow_random: true to use them anyway")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0 in every channel")
        return self

    @model_validator(mode="after")
    def _check_transform_and_pooling(self) -> Encoder:
        """`transform` and `pooling` are for weights that do not bring theirs."""
        if self.transform and (self.library == "transformers" or self.weights.startswith("hub")):
            raise ValueError(
                f"transform: {self.transform} is for a single file, and these weights bring their own "
                "transform; remove it"
            )
        if self.pooling and self.library != "transformers":
            raise ValueError(
                f"pooling: {self.pooling} is for transformers; {self.library} pools as the checkpoint says, "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _check_source(self) -> Encoder:
        """Each library has its own way of naming weights on a hub."""
        source, _, tag = self.weights.partition(":")
        if self.name.startswith("hf-hub:") and source != "hub":
            raise ValueError(
                f"weights: {self.weights} doesn't go with name: {self.name}, which has its own; "
                "set weights: hub, or name the architecture"
            )
        if self.revision and source != "hub":
            raise ValueError(
                f"revision: {self.revision} is for weights from a hub; with weights: {self.weights} remove it"
            )
        if self.revision and self.library == "torchvision":
            raise ValueError(
                "revision is unknown to torchvision, whose hub has none; "
                "name the weights instead: hub:IMAGENET1K_V2"
            )
        if self.library == "transformers" and tag and source == "hub":
            raise ValueError(
                f"weights: {self.weights} is unknown to transformers; set weights: hub and revision: {tag}"
            )
        if self.library == "open_clip" and source == "hub" and bool(tag) == self.name.startswith("hf-hub:"):
            raise ValueError(
                f"weights: {self.weights} doesn't go with name: {self.name}; open_clip takes name: ViT-B-32 "
                "with weights: hub:TAG, or name: hf-hub:ORGANISATION/REPOSITORY with weights: hub"
            )
        return self


class Embed(Strict):
    """What computes the vectors; engine, precision and the kind of device decide them, batch_size doesn't."""

    batch_size: int = Field(default=32, ge=1, le=4096)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "torch", "openvino", "onnxruntime"] = "auto"
    precision: Precision = Field(default="float32", description="of the rows that name none of their own")
    pixel_cache_gb: float = Field(
        default=10, ge=0, description="disk for decoded pixels, which rows with the same transform share"
    )


class Search(Index):
    """How a model's vectors are compared and indexed."""

    metric: Literal["cosine", "l2"]
    part_rows: int | None = Field(
        default=None,
        ge=1,
        description="a larger gallery is searched in parts of so many images or fewer; default: in one piece",
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


class Model(Strict):
    """One row of the comparison table."""

    encoder: Encoder
    objective: Objective
    search: Search
    precision: Precision | None = Field(
        default=None, description="in which the network computes; default: embed.precision"
    )


class Params(Strict):
    """The whole of params.yaml."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    preprocess: Preprocess = Preprocess()
    train: Train = Train()
    embed: Embed = Embed()
    relevance: Relevance = Relevance()
    retrieve: Retrieve = Retrieve()
    score: Score = Score()
    near_copies: NearCopies = NearCopies()
    map: dict[RowName, Map] = Field(
        default={}, description="rows of models of which the report has a map: {arcface: {}}"
    )
    transfer: Transfer = Transfer()
    export: Export = Export()
    models: dict[RowName, Model] = Field(min_length=1)
    refinements: dict[RowName, RefinementSettings] = Field(
        default={}, description="rows made of what other rows computed"
    )

    @model_validator(mode="after")
    def _check_near_copies(self) -> Params:
        for position, row in enumerate(self.near_copies.rows):
            if row not in self.models:
                raise ValueError(
                    f"near_copies.rows names {row!r}, which is not a row of models{suggest(row, self.models)}"
                )
            if row in self.near_copies.rows[:position]:
                raise ValueError(f"near_copies.rows names {row!r} twice; remove one")
        return self

    @model_validator(mode="after")
    def _check_map(self) -> Params:
        for row in self.map:
            if row not in self.models:
                raise ValueError(
                    f"map names {row!r}, which is not a row of models{suggest(row, self.models)}"
                )
        return self

    @model_validator(mode="after")
    def _check_transfer(self) -> Params:
        sets = self.transfer.sets
        for row, name in self.transfer.rows.items():
            if row in self.refinements:
                raise ValueError(
                    f"transfer.rows names {row!r}, which is a refinement, and only models are measured on a "
                    "second test set; name the rows that it is made of"
                )
            if row not in self.models:
                raise ValueError(
                    f"transfer.rows names {row!r}, which is not a row of models{suggest(row, self.models)}"
                )
            if name not in sets:
                fix = suggest(name, sets) if sets else "; name its folder there, as `{outside: data/outside}`"
                raise ValueError(f"transfer.rows.{row} is {name!r}, which transfer.sets lacks{fix}")
        return self

    @model_validator(mode="after")
    def _check_export(self) -> Params:
        rows, row = {**self.models, **self.refinements}, self.export.row
        if row is None and "row" in self.export.model_fields_set:
            raise ValueError("export.row is empty; name a row, or set export to {}")
        if row is not None and row not in rows:
            raise ValueError(f"export.row names {row!r}, which is not a row{suggest(row, rows)}")
        return self

    @model_validator(mode="after")
    def _check_prepared_size(self) -> Params:
        for row, model in self.models.items():
            training_px = (
                None
                if isinstance(model.objective, NoObjective)
                else settings_of(self.train, model.objective).image_size
            )
            resize_px = max(model.encoder.image_size or 0, training_px or 0)
            if fault := prepared_size.fault(row, resize_px, self.preprocess.shorter_side_px):
                raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> Params:
        """An objective that compares pairs needs two images of a label in a batch."""
        for row, model in self.models.items():
            if isinstance(model.objective, NoObjective) or not model.objective.needs.pairs:
                continue
            if settings_of(self.train, model.objective).images_per_label < 2:
                own = f"models.{row}.objective.images_per_label"
                is_own = "images_per_label" in model.objective.model_fields_set
                raise ValueError(
                    f"{own if is_own else 'train.images_per_label'} is 1, but {model.objective.name} of "
                    f"models.{row} learns from pairs of images of one label; set {own} to 2 or more"
                )
        return self

    @model_validator(mode="after")
    def _check_lora(self) -> Params:
        """LoRA decides which weights of the network are trained; so do two other settings."""
        for row, model in self.models.items():
            if isinstance(model.objective, NoObjective):
                continue
            settings = settings_of(self.train, model.objective)
            if settings.lora and (settings.freeze or settings.backbone_lr_scale == 0):
                other = f"freeze is {settings.freeze}" if settings.freeze else "backbone_lr_scale is 0"
                raise ValueError(
                    f"models.{row}.objective: {other}, and lora freezes the network already, "
                    f"all but its own matrices; remove {other.split()[0]}, or lora"
                )
        return self

    @model_validator(mode="after")
    def _check_precision(self) -> Params:
        for row, model in self.models.items():
            if model.objective.name == "adapter" and self.embed_of(row).precision == "int8":
                raise ValueError(
                    f"models.{row}: its precision is int8, and an adapter is applied to vectors in "
                    "float32 or bfloat16; set precision: bfloat16 for the row"
                )
        return self

    @model_validator(mode="after")
    def _check_refinements(self) -> Params:
        refinement.check(self.models, self.refinements)
        return self

    def model_of(self, row: str) -> str:
        """The row of models that a row's vectors come from."""
        while row in self.refinements:
            row = self.refinements[row].second
        return row

    def embed_of(self, row: str) -> Embed:
        """The section `embed` with the precision of a row of models."""
        precision = self.models[row].precision or self.embed.precision
        return self.embed.model_copy(update={"precision": precision})


# Sections for which dvc.yaml has a default.
OPTIONAL = ("export",)
# Sections of which dvc.yaml names single settings; it names every other section as a whole.
NEEDED = {"embed": ("device", "engine", "precision"), "score": ("cutoffs",), "near_copies": ("rows",)}


def load(path: Path = paths.PARAMS) -> Params:
    """The checked settings.

    Raises:
        UserError: the message names the setting, the first fault and the nearest fix.
    """
    document = yaml_file.read(path)
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Params, document)}") from None


def check_sections(path: Path, params: Params) -> None:
    """Raises UserError if the file lacks a setting that dvc.yaml names, as DVC knows no defaults."""
    for name in (name for name in Params.model_fields if name not in OPTIONAL):
        section = getattr(params, name)
        given = section.model_fields_set if isinstance(section, Strict) else ()
        missing = [key for key in NEEDED.get(name, ()) if key not in given]
        has_section = name in params.model_fields_set
        if has_section and not missing:
            continue
        defaults = ", ".join(f"{key}: {_as_yaml(getattr(section, key))}" for key in missing)
        example = f"{{{defaults}}}" if isinstance(section, Strict | dict) else section
        where = f"{name}.{missing[0]}" if has_section else name
        raise UserError(f"{path}: {where} is missing, which DVC needs; set `{name}: {example}`")


def _as_yaml(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value
