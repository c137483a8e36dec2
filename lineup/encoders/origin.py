"""Whether a folder holds the encoder that its row names.

DVC's cache may be shared, and it hands back whatever was stored under a stage's inputs. What is not the row's
own must not be embedded under its name.
"""

from __future__ import annotations

from lineup import paths
from lineup.encoders import model_folder
from lineup.encoders.encoder_config import EncoderConfig, JsonObject, read_config
from lineup.errors import UserError, printable
from lineup.settings.encoder import EncoderSettings
from lineup.settings.objective import NoObjective
from lineup.settings.params import Params
from lineup.settings.training import Train, settings_of


def fetched_config(row: str, params: Params) -> EncoderConfig:
    """The configuration of the row's fetched encoder.

    Raises:
        UserError: encoder.json is missing or damaged, or describes another encoder than the row's.
    """
    config = read_config(paths.weights(row))
    _check_encoder(row, config, params.models[row].encoder)
    return config


def model_config(row: str, params: Params) -> EncoderConfig:
    """The configuration of the row's network, trained or as it was fetched.

    Raises:
        UserError: encoder.json is missing or damaged, or describes another encoder than the row's, or one
            that was trained otherwise.
    """
    config = read_config(model_folder.resolve(paths.model(row)))
    _check_encoder(row, config, params.models[row].encoder)
    objective = params.models[row].objective
    if isinstance(objective, NoObjective):
        same = config.trained is None
    else:
        trained = config.trained or {}
        settings = settings_of(params.train, objective).model_dump(mode="json")
        same = trained.get("objective") == objective.model_dump(mode="json", exclude=set(Train.model_fields))
        same = same and _agrees(trained.get("settings", {}), settings)
    if not same:
        raise UserError(
            f"{paths.model(row)}: says that it was trained otherwise than row {row!r} is; "
            f"run `dvc repro -f -s train@{row}`"
        )
    return config


def _check_encoder(row: str, config: EncoderConfig, settings: EncoderSettings) -> None:
    own = (settings.library, settings.name, settings.weights)
    stored = (config.library, config.name, config.source.get("weights"))
    if stored != own or settings.image_size not in (None, config.image_size):
        library, name, weights = (printable(str(value)) for value in stored)
        raise UserError(
            f"{paths.weights(row)}: says that it holds {name} of {library} with weights {weights} "
            f"at {config.image_size} px, which row {row!r} does not name; run `dvc repro -f -s fetch@{row}`"
        )


def _agrees(stored: JsonObject, settings: JsonObject) -> bool:
    """Whether what a training stored of its settings is the row's; what decides no weight is not stored."""
    return bool(stored) and all(settings.get(name) == value for name, value in stored.items())
