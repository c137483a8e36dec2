"""`lineup sweep`: adds rows to params.yaml that differ from one row in a single setting."""

from __future__ import annotations

from typing import Any

import click
import yaml
from pydantic import ValidationError

from lineup import paths
from lineup.errors import UserError
from lineup.settings import explanation, params, preset_text, sweep, yaml_file
from lineup.settings.params import Params
from lineup.storage import files

_IMAGE_SIZE, _LABEL_SHARE, _PRECISION = "encoder.image_size", "objective.label_share", "precision"


def add_rows(row: str, setting: str, values: list[Any]) -> list[str]:
    """Writes the rows behind the one that they are made of, and returns their names.

    Comments and the order of params.yaml stay as they are. Nothing is written if a row would be refused.

    Raises:
        UserError: the row or the setting does not exist, or a value is not valid.
    """
    params.load()
    rows = sweep.variants(yaml_file.read(paths.PARAMS), row, setting, values)
    if not rows:
        return []
    text = paths.PARAMS.read_text(encoding="utf-8")
    changed = preset_text.with_rows(text, row, lambda indent: sweep.as_yaml(rows, indent))
    document = yaml_file.parse(changed, paths.PARAMS)
    try:
        Params.model_validate(document)
    except ValidationError as error:
        raise UserError(
            f"{paths.PARAMS}: {explanation.explain(error, Params, document)}; nothing was written"
        ) from None
    files.write_text(paths.PARAMS, changed)
    return [*rows]


def _parsed(values: str) -> list[Any]:
    """The values between commas, as YAML reads them."""
    try:
        parsed = [yaml_file.parse_value(value) for value in values.split(",")]
    except (yaml.YAMLError, ValueError):
        parsed = []
    if not parsed or any(value is None for value in parsed):
        raise UserError(f"{values!r} is not a list of values; write them with commas between, as in 160,224")
    return parsed


def _chosen(
    image_size: str | None, label_share: str | None, precision: str | None, settings: tuple[str, ...]
) -> tuple[str, list[Any]]:
    """The one setting that is varied, and its values."""
    named = {_IMAGE_SIZE: image_size, _LABEL_SHARE: label_share, _PRECISION: precision}
    pairs = [(name, values) for name, values in named.items() if values]
    for text in settings:
        name, equals, values = text.partition("=")
        if not equals:
            raise UserError(f"--set {text!r} has no values; write --set {name}=VALUE,VALUE")
        pairs.append((name.strip(), values))
    if len(pairs) != 1:
        raise UserError(
            f"a sweep varies one setting, and {len(pairs)} are given; "
            "use --image-size 160,224, --label-share 0.25,0.5, --precision float32,bfloat16 or "
            "--set objective.margin=0.2,0.3"
        )
    [(name, values)] = pairs
    return name, _parsed(values)


@click.command("sweep")
@click.argument("row")
@click.option("--image-size", metavar="PX,PX", help="The sides in pixels to try.")
@click.option("--label-share", metavar="SHARE,SHARE", help="The shares of the training labels to see.")
@click.option("--precision", metavar="NAME,NAME", help="The precisions to compute the vectors in.")
@click.option("--set", "settings", multiple=True, metavar="SETTING=V,V", help="Any other setting of the row.")
def command(
    row: str,
    image_size: str | None,
    label_share: str | None,
    precision: str | None,
    settings: tuple[str, ...],
) -> None:
    """Add rows to params.yaml that differ from ROW in one setting.

    For example: lineup sweep mobilenet_v2 --image-size 160,224,320, or
    lineup sweep arcface --label-share 0.1,0.25,0.5,1, or
    lineup sweep arcface --precision float32,bfloat16,int8, or
    lineup sweep arcface --set objective.margin=0.2,0.3,0.5. `dvc repro` then runs the new rows only.
    """
    name, values = _chosen(image_size, label_share, precision, settings)
    rows = add_rows(row, name, values)
    if not rows:
        print(f"{paths.PARAMS} has these rows already")
        return
    print(f"added to {paths.PARAMS}: {', '.join(rows)}")
    print("`dvc repro` runs them; `lineup show` compares them")
