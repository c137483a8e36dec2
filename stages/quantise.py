"""quantise@row: the precision in which `embed` computes the row, and in int8 the row's network.

A network in int8 is calibrated on training photos, or on gallery photos where there are none. Of a row in
another precision this only writes down which, so that a change of it runs that row alone.
"""

from __future__ import annotations

from pathlib import Path

from lineup import cli, paths
from lineup.settings.params import Params
from lineup.settings.sections import Embed
from lineup.storage import files

INT8 = "int8"


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("quantise", argv)
    embed = params.embed_of(row)
    files.replace_atomically(paths.quantised(row), lambda folder: write(row, embed, params, folder))


def write(row: str, embed: Embed, params: Params, folder: Path) -> None:
    """Writes precision.json to a folder that does not exist yet, and the row's network if it is int8."""
    folder.mkdir()
    if embed.precision != INT8:
        files.write_json(folder / "precision.json", {"precision": embed.precision})
        return
    from lineup.embedding import quantised_network  # importing torch takes seconds
    from lineup.encoders import origin
    from lineup.engines import quantisation

    origin.model_config(row, params)
    quantised_network.quantise(row, quantisation.candidates(row, embed)[0], params.seed, folder)


if __name__ == "__main__":
    cli.run(main)
