"""The content of encoder.json: all that rebuilds an encoder, and what the comparison shows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, SkipValidation, ValidationError

from lineup.errors import UserError
from lineup.storage.files import REPAIR, read_json

CONFIG_FILE = "encoder.json"
# How the text tower is built, and the scale of cosines that a dual encoder was trained with.
TEXT_FIELDS = frozenset({"text", "text_sha256", "text_files", "logit_scale"})
# Fields that don't decide a vector. `versions` are those at the time of the fetch; a cache key takes the
# installed ones instead. The weights are identified by `weights_sha256`.
NOT_DECIDING = (
    frozenset({"source", "random", "resize_px", "gflops", "licence", "parameters", "versions"}) | TEXT_FIELDS
)

# A library's own settings, in the form in which that library writes and reads them.
JsonObject: TypeAlias = dict[str, Any]


class Head(BaseModel):
    """The linear layer that fine-tuning put behind the network: [B, in_dim] -> [B, dim]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_dim: int
    dim: int


class EncoderConfig(BaseModel):
    """An encoder without its weights. Fields that were never set are not written.

    Attributes:
        library: the file in `lineup/encoders/` that builds the network.
        name: of the network, as params.yaml states it.
        source: of the weights: `weights` as params.yaml states them, the `sha256` of their file or null, and
            what identifies the download, such as a repository and its commit.
        random: whether the weights are random.
        dim: length of the network's vectors.
        image_size: side in pixels of the square that the network sees.
        mean, std: per channel, of pixels in 0..1.
        transform: the steps from a photo to that square, in the library's own terms.
        gflops: operations for one image, in 10^9; a multiply-add counts as two.
        licence: of the weights, null where their source states none.
        versions: of the packages that decide a vector, when the encoder was fetched.
        architecture, options, config, pooling, image_parts: what the library builds the network from; which
            of them there are depends on the library.
        text: what the library builds the text tower from, null for an encoder without one.
        logit_scale: the logarithm of what a dual encoder multiplies cosines by.
        resize_px: side in pixels to which the transform resizes a photo before it crops; `fetch` measures it.
        weights_sha256, parameters, text_sha256, text_files: of the files on disk; `save` adds them.
        head: see `Head`; `train` adds it.
        trained: what decided the training, and its best epoch; `train` adds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: str
    name: str
    source: JsonObject
    random: bool
    dim: int
    image_size: int
    # Not validated, so they are written as the checkpoint has them; the transform repeats and checks them.
    mean: SkipValidation[list[float]]
    std: SkipValidation[list[float]]
    transform: JsonObject
    gflops: float
    licence: str | None
    versions: dict[str, str]
    architecture: str = ""
    options: JsonObject = {}
    config: JsonObject = {}
    pooling: str | None = None
    image_parts: list[str] | None = None
    text: JsonObject | None = None
    logit_scale: float | None = None
    resize_px: int = 0
    weights_sha256: str = ""
    parameters: int = 0
    text_sha256: str | None = None
    text_files: dict[str, str] = {}
    head: Head | None = None
    trained: JsonObject | None = None

    def to_json(self) -> JsonObject:
        """The content of encoder.json."""
        return self.model_dump(exclude_unset=True, warnings=False)

    def deciding(self) -> JsonObject:
        """All that decides a vector besides the image and the software."""
        return {name: value for name, value in self.to_json().items() if name not in NOT_DECIDING}

    def transform_arguments(self) -> JsonObject:
        """`transform` with tuples for JSON's lists, as timm and open_clip take it."""
        return {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.transform.items()
        }

    def without_text(self) -> EncoderConfig:
        """The configuration of the image tower alone."""
        return EncoderConfig.model_validate(
            {name: value for name, value in self.to_json().items() if name not in TEXT_FIELDS}
        )


def read_config(folder: Path) -> EncoderConfig:
    """Reads an encoder's configuration from its folder. Raises UserError if it is missing or damaged."""
    file = folder / CONFIG_FILE
    try:
        return EncoderConfig.model_validate(read_json(file))
    except ValidationError:
        raise UserError(f"{file}: is damaged; {REPAIR}") from None
