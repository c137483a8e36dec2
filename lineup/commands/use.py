"""`lineup use`: replaces params.yaml with a preset, and keeps a copy of the settings that were there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from lineup import paths
from lineup.errors import UserError, suggest
from lineup.photos import raw_counts
from lineup.settings import params, preset_text, trained_rows
from lineup.settings.training_photos import Counts
from lineup.storage import files

PRESETS = Path("presets")
DEMO, PHOTOS, STRONG = "demo", "photos", "strong"


@dataclass(frozen=True)
class Replacement:
    """What `use_preset` did to params.yaml.

    Attributes:
        backup: where the replaced settings were copied to; None if they equal a preset or an earlier copy.
        left_out: by row, why it can't be trained on the photos.
        refinements: the rows that are left out because they are made of these.
    """

    backup: Path | None
    left_out: Mapping[str, str]
    refinements: tuple[str, ...]


def use_preset(preset: str, counts: Counts | None = None) -> Replacement:
    """Writes presets/<preset>.yaml to params.yaml, with the rows that can't be trained as comments.

    Args:
        counts: how many training images each label has; None writes every row.
    Raises:
        UserError: the preset does not exist.
    """
    known = _presets()
    if preset not in known:
        raise UserError(f"{PRESETS}/{preset}.yaml: does not exist{suggest(preset, known)}")
    settings = params.load(known[preset])
    left_out = {} if counts is None else trained_rows.faults(settings, counts)
    if counts is not None and not any(counts.values()):
        left_out = dict.fromkeys(left_out, f"{paths.RAW / 'train'} holds no photos")
    refinements = trained_rows.refinements_of(settings, left_out)
    text = known[preset].read_text(encoding="utf-8")
    backup = _back_up() if paths.PARAMS.exists() and unedited_preset() is None else None
    files.write_text(paths.PARAMS, preset_text.without_rows(text, {*left_out, *refinements}))
    return Replacement(backup, left_out, refinements)


def unedited_preset() -> str | None:
    """The preset that `use_preset` wrote to params.yaml; None if anybody has edited the file since."""
    try:
        text = paths.PARAMS.read_text(encoding="utf-8")
        rows = preset_text.models(text)
    except (OSError, ValueError, yaml.YAMLError):  # These settings are not even well formed.
        return None
    for preset, file in _presets().items():
        try:
            settings = params.load(file)
        except UserError:  # A preset of somebody's own has a fault, which `lineup use` reports.
            continue
        left_out = {*settings.models} - rows
        left_out |= {*trained_rows.refinements_of(settings, left_out)}
        if text == preset_text.without_rows(file.read_text(encoding="utf-8"), left_out):
            return preset
    return None


def _presets() -> dict[str, Path]:
    return {file.stem: file for file in sorted(PRESETS.glob("*.yaml"))}


def _back_up() -> Path | None:
    """Copies params.yaml, unless an earlier copy equals it."""
    settings = paths.PARAMS.read_bytes()
    if any(file.read_bytes() == settings for file in Path().glob(f"{paths.PARAMS}.before*")):
        return None
    backup = _free_name()
    shutil.copyfile(paths.PARAMS, backup)
    return backup


def _free_name() -> Path:
    """params.yaml.before, or, if that exists, params.yaml.before.<the first free number from 2>."""
    name, number = Path(f"{paths.PARAMS}.before"), 1
    while name.exists():
        number += 1
        name = Path(f"{paths.PARAMS}.before.{number}")
    return name


def describe(preset: str, replacement: Replacement) -> list[str]:
    """What a person has to know of the replacement, a line each."""
    lines = [f"copied your {paths.PARAMS} to {replacement.backup}"] if replacement.backup else []
    lines.append(f"{paths.PARAMS} is now {PRESETS}/{preset}.yaml")
    if replacement.left_out:
        rows = ", ".join([*replacement.left_out, *replacement.refinements])
        reason = next(iter(replacement.left_out.values()))
        lines.append(f"without the rows {rows}, which it holds as comments: {reason}")
    if preset == PHOTOS:
        lines.append(
            f"its networks are small and need no hub; `lineup use {STRONG}` takes those that are strong today"
        )
    return lines


def fit_to_photos() -> list[str]:
    """Replaces the demo's settings with presets/photos.yaml, since settings for emoji suit no photos.

    Writes presets/photos.yaml again where it is in use already, since added photos may let more rows train.
    Settings that anybody has edited stay as they are.

    Returns:
        What a person has to know, a line each; none if params.yaml stays as it is.
    """
    if unedited_preset() not in (DEMO, PHOTOS):
        return []
    before = paths.PARAMS.read_bytes()
    replacement = use_preset(PHOTOS, raw_counts.training(paths.RAW))
    return describe(PHOTOS, replacement) if paths.PARAMS.read_bytes() != before else []


@click.command("use")
@click.argument("preset")
def command(preset: str) -> None:
    """Replace params.yaml with a preset.

    PRESET is the name of a file in presets/, without .yaml. Settings of your own are copied first. Rows that
    can't be trained on the photos of data/raw are written as comments.
    """
    counts = raw_counts.training(paths.RAW)
    for line in describe(preset, use_preset(preset, counts)):
        click.echo(line)
    if counts is None:
        photos = (
            "the demo's photos with `lineup demo`" if preset == DEMO else "photos with `lineup photos FOLDER`"
        )
        click.echo(f"next: lay out {photos}, then run `dvc repro`")
    else:
        click.echo("next: `lineup check`, then `dvc repro`")
