"""fetch@row: the row's encoder, as a folder of its weights and encoder.json.

No other stage may use the network.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from lineup import cli, paths
from lineup.encoders import encoder_folder, libraries, measurement
from lineup.encoders.encoder import Fetched
from lineup.errors import UserError, explained
from lineup.settings import prepared_size
from lineup.settings.encoder import EncoderSettings

log = logging.getLogger(__name__)

# Seeds the weights of `weights: none`. With the seed of params.yaml, a new seed would fetch every row again.
RANDOM_WEIGHTS_SEED = 0


def fetch(spec: EncoderSettings) -> Fetched:
    """The encoder that a row names, with `resize_px` measured, and the row's licence where it states one."""
    torch.manual_seed(RANDOM_WEIGHTS_SEED)
    library = libraries.library(spec.library)
    fetched = library.fetch(spec)
    with explained(f"name: {spec.library} can't prepare photos as {spec.name} says"):
        transform = library.transform(fetched.config)
        resize_px = measurement.resize_px(transform, fetched.config.image_size)
    licence = spec.licence or fetched.config.licence
    return replace(
        fetched, config=fetched.config.model_copy(update={"resize_px": resize_px, "licence": licence})
    )


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("fetch", argv)
    try:
        fetched = fetch(params.models[row].encoder)
    except UserError as error:
        raise UserError(f"{paths.PARAMS}: models.{row}.encoder.{error}") from None
    config = fetched.config
    prepared_size.check(row, config.resize_px, params.preprocess.shorter_side_px)
    encoder_folder.save(paths.weights(row), fetched.module, config, fetched.text, fetched.files)
    if config.random:
        log.warning("%s has random weights: it is a baseline of chance, not a result", row)
    log.info("%s of %s: %d dimensions at %d px", config.name, config.library, config.dim, config.image_size)


if __name__ == "__main__":
    cli.run(main)
