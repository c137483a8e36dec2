"""`lineup use`: replaces params.yaml with a preset, and keeps a copy of the settings that were there."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from lineup import paths
from lineup.errors import UserError, suggest
from lineup.storage import files

PRESETS = Path("presets")


def use_preset(preset: str) -> Path | None:
    """Copies presets/<preset>.yaml to params.yaml.

    Returns:
        Where the replaced settings were copied to; None if they equal a preset or an earlier copy.
    Raises:
        UserError: the preset does not exist.
    """
    known = {file.stem: file for file in sorted(PRESETS.glob("*.yaml"))}
    if preset not in known:
        raise UserError(f"{PRESETS}/{preset}.yaml: does not exist{suggest(preset, known)}")
    backup = None
    if paths.PARAMS.exists():
        settings = paths.PARAMS.read_bytes()
        backups = sorted(Path().glob(f"{paths.PARAMS}.before*"))
        if not any(file.read_bytes() == settings for file in (*known.values(), *backups)):
            backup = _free_name()
            shutil.copyfile(paths.PARAMS, backup)
    files.write_text(paths.PARAMS, known[preset].read_text(encoding="utf-8"))
    return backup


def _free_name() -> Path:
    """params.yaml.before, or, if that exists, params.yaml.before.<the first free number from 2>."""
    name, number = Path(f"{paths.PARAMS}.before"), 1
    while name.exists():
        number += 1
        name = Path(f"{paths.PARAMS}.before.{number}")
    return name


@click.command("use")
@click.argument("preset")
def command(preset: str) -> None:
    """Replace params.yaml with a preset.

    PRESET is the name of a file in presets/, without .yaml. Settings of your own are copied first.
    """
    if backup := use_preset(preset):
        click.echo(f"copied your {paths.PARAMS} to {backup}")
    click.echo(
        f"{paths.PARAMS} is now {PRESETS}/{preset}.yaml; put your photos into {paths.RAW} and run: dvc repro"
    )
