"""fetch@model: the row's encoder, with weights and all facts that rebuild it.

The only stage that may need the network.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from lineup import cli, paths
from lineup.encoders import encoder as encoders
from lineup.encoders.encoder import Fetched
from lineup.errors import UserError, explained
from lineup.settings import prepared_size
from lineup.settings.params import Encoder

log = logging.getLogger(__name__)


def fetch(spec: Encoder) -> Fetched:
    """The network that a row names, with the licence that the row states, if it does, else the one that its
    source states.
    """
    torch.manual_seed(
        0
    )  # for `weights: none`; not the seed of params.yaml, which would fetch every row again
    library = encoders.library(spec.library)
    fetched = library.fetch(spec)
    with explained(f"name: {spec.library} can't prepare photos as {spec.name} says"):
        resize_px = encoders.resize_px(library.transform(fetched.facts), fetched.facts["image_size"])
    return replace(
        fetched,
        facts=fetched.facts | {"resize_px": resize_px} | ({"licence": spec.licence} if spec.licence else {}),
    )


def main(argv: list[str] | None = None) -> None:
    model, params = cli.start("fetch", argv)
    try:
        fetched = fetch(params.models[model].encoder)
    except UserError as error:
        raise UserError(f"{paths.PARAMS}: models.{model}.encoder.{error}") from None
    prepared_size.check(model, fetched.facts["resize_px"], params.preprocess.shorter_side_px)
    encoders.save(paths.weights(model), fetched.module, fetched.facts, fetched.text, fetched.files)
    facts = fetched.facts
    if facts["random"]:
        log.warning("%s has random weights: it is a baseline of chance, not a result", model)
    log.info(
        "%s of %s: %d dimensions at %d px", facts["name"], facts["library"], facts["dim"], facts["image_size"]
    )


if __name__ == "__main__":
    cli.run(main)
