"""fetch@model: the row's encoder, with weights and all facts that rebuild it; the only stage that may need the network."""

from __future__ import annotations

from dataclasses import replace

import torch

from stages.lib import cli, encoders, paths, prepared_size
from stages.lib.encoders import Fetched
from stages.lib.errors import UserError, explained
from stages.lib.params import Encoder


def fetch(spec: Encoder) -> Fetched:
    """The network that a row names, with the licence that the row states, if it does, else the one that its source states."""
    torch.manual_seed(0)  # for `weights: none`; not the seed of params.yaml, which would fetch every row again
    library = encoders.library(spec.library)
    fetched = library.fetch(spec)
    with explained(f"name: {spec.library} can't prepare photos as {spec.name} says"):
        resize_px = encoders.resize_px(library.transform(fetched.facts), fetched.facts["image_size"])
    return replace(fetched, facts=fetched.facts | {"resize_px": resize_px} | ({"licence": spec.licence} if spec.licence else {}))


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
        cli.log.warning("%s has random weights: it is a baseline of chance, not a result", model)
    cli.log.info("%s of %s: %d dimensions at %d px", facts["name"], facts["library"], facts["dim"], facts["image_size"])


if __name__ == "__main__":
    cli.run(main)
