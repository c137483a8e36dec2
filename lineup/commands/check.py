"""`lineup check`: reports what is wrong in params.yaml before DVC reads it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lineup import paths
from lineup.settings import params, training_photos


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=paths.PARAMS)
def command(file: Path) -> None:
    """Check a settings file, and report the first fault with its fix.

    FILE is params.yaml by default. DVC itself would only report a missing file.
    """
    settings = params.load(file)
    params.check_sections(file, settings)
    if file == paths.PARAMS and paths.RAW.is_dir() and not _has_files(paths.RAW / "train"):
        training_photos.check_rows(
            {row: model.objective for row, model in settings.models.items()}, settings.train, {}
        )
    refinements = f" and {len(settings.refinements)} refinements" if settings.refinements else ""
    click.echo(f"{file}: {len(settings.models)} models{refinements}, all well formed")


def _has_files(folder: Path) -> bool:
    """Whether a folder has any file that is not hidden; which of them are photos, preprocess finds out."""
    return any(
        not name.startswith(".") for _, _, names in os.walk(folder, followlinks=True) for name in names
    )
