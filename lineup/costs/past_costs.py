"""What earlier runs measured of rows, for an estimate of the next run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineup import machine, paths
from lineup.costs.run_estimate import TRAINED_PER_EMBEDDED, Speed
from lineup.errors import UserError
from lineup.settings.encoder import EncoderSettings
from lineup.settings.model import Model
from lineup.settings.objective import NoObjective
from lineup.settings.params import Params
from lineup.settings.training import settings_of
from lineup.storage import files


@dataclass(frozen=True)
class Past:
    """A row's figures of an earlier run; None where there are none.

    Attributes:
        speed: of embedding. Its origin names the file.
        trained: images per second of training.
    """

    row: str
    image_size: int
    dim: int | None
    parameters: int | None
    speed: Speed | None
    trained: Speed | None


def read(row: str) -> Past | None:
    """The row's last costs: those of this checkout's own run, or else those in git; None without either."""
    costs, file = _json(paths.costs("embed", row)), paths.costs("embed", row)
    if not costs.get("image_size"):
        costs, file = _json(paths.row_metrics(row)).get("costs") or {}, paths.row_metrics(row)
    if not isinstance(costs.get("image_size"), int):
        return None
    return Past(
        row,
        costs["image_size"],
        costs.get("dim"),
        costs.get("parameters"),
        _speed(costs, file),
        _speed(_json(paths.costs("train", row)), paths.costs("train", row)),
    )


def this_device() -> str:
    """The processor as costs name it."""
    return f"{machine.cpu_name()}, {machine.threads()} threads"


@dataclass(frozen=True)
class Known:
    """What is known of a row's network before it runs; None where nothing is."""

    embedding: Speed | None = None
    training: Speed | None = None
    dim: int | None = None
    parameters: int | None = None
    image_size: int | None = None


def known(row: str, params: Params, past: Mapping[str, Past], measured: Mapping[str, Speed]) -> Known:
    """What is known of a row: from its own earlier run, or from a row with the same network.

    Args:
        past: by row, its earlier figures.
        measured: by row, the speed that was measured just now.
    """
    model = params.models[row]
    alike = [past[other] for other in _alike(row, params) if other in past]
    size = model.encoder.image_size or next((other.image_size for other in alike), None)
    first = next(iter(alike), None)
    embedding = measured.get(row) or _best(
        other.speed.at_size(other.image_size, size) for other in alike if other.speed and size
    )
    return Known(
        embedding,
        _training_speed(row, model, params, past, embedding, size),
        first and first.dim,
        first and first.parameters,
        size,
    )


def _training_speed(
    row: str,
    model: Model,
    params: Params,
    past: Mapping[str, Past],
    embedding: Speed | None,
    size: int | None,
) -> Speed | None:
    """The speed of the row's last training, or a share of the speed at which it embeds."""
    if isinstance(model.objective, NoObjective):
        return None
    if row in past and past[row].trained:
        return past[row].trained
    if embedding is None or size is None:
        return None
    at_size = embedding.at_size(size, settings_of(params.train, model.objective).image_size or size)
    return Speed(
        at_size.images_per_second * TRAINED_PER_EMBEDDED, "guessed", "a seventh of the speed of embedding"
    )


def _alike(row: str, params: Params) -> list[str]:
    """The rows with this row's network: itself, then those of its image size, then the others."""
    wanted = params.models[row].encoder
    others = [
        other
        for other, model in params.models.items()
        if other != row and _network(model.encoder) == _network(wanted)
    ]
    others.sort(key=lambda other: params.models[other].encoder.image_size != wanted.image_size)
    return [row, *others]


def _network(encoder: EncoderSettings) -> tuple[str, str, str | None]:
    return encoder.library, encoder.name, encoder.pooling


def _best(speeds: Iterable[Speed]) -> Speed | None:
    """The first speed that was measured here, or else the first one."""
    candidates = [*speeds]
    return next((speed for speed in candidates if speed.basis == "measured"), next(iter(candidates), None))


def _speed(costs: Mapping[str, Any], file: Path) -> Speed | None:
    images_per_second = costs.get("images_per_second")
    if not isinstance(images_per_second, int | float) or images_per_second <= 0:
        return None
    device = costs.get("device")
    if device == this_device():
        return Speed(images_per_second, "measured", str(file))
    return Speed(images_per_second, "guessed", f"{file}, measured on {device}")


def _json(path: Path) -> dict[str, Any]:
    """An estimate does without a file that is missing or damaged; the stage that reads it will say so."""
    try:
        content = files.read_json(path)
    except (OSError, UserError):
        return {}
    return content if isinstance(content, dict) else {}
