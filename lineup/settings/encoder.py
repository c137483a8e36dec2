"""The `encoder` of a row: which network it is, and where its weights come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lineup.settings.schema import SHA256_PATTERN, WEIGHTS_PATTERN, Strict

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
RedGreenBlue = tuple[float, float, float]


class EncoderSettings(Strict):
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
    def _check_random_weights(self) -> EncoderSettings:
        if self.weights == "none" and not self.allow_random:
            raise ValueError("weights: none means random vectors; set allow_random: true to use them anyway")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0 in every channel")
        return self

    @model_validator(mode="after")
    def _check_transform_and_pooling(self) -> EncoderSettings:
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
    def _check_source(self) -> EncoderSettings:
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
