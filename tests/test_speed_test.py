"""`lineup check --measure` embeds a few photos with each network whose weights are here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lineup import cli, paths
from lineup.commands import group
from lineup.encoders import encoder_folder, libraries
from lineup.settings.encoder import EncoderSettings
from tests.support import project
from tests.support.photographs import photograph

SQUEEZENET = {
    "library": "torchvision",
    "name": "squeezenet1_1",
    "weights": "none",
    "allow_random": True,
    "image_size": 64,
}


@pytest.mark.slow
def test_measured_rows_are_no_longer_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`twin` is the same network as `here`; the weights of `elsewhere` are not here."""
    monkeypatch.chdir(tmp_path)
    settings = project.demo_params("mobilenet_v2")
    row = settings["models"]["mobilenet_v2"]
    settings["models"] = {
        "here": row | {"encoder": SQUEEZENET},
        "twin": row | {"encoder": SQUEEZENET},
        "elsewhere": row,
    }
    project.write_params(tmp_path, settings)
    Path("dvc.yaml").symlink_to(project.ROOT / "dvc.yaml")
    for seed, name in enumerate(("query/a", "gallery/b")):
        photo = paths.RAW / f"test/{name}.jpg"
        photo.parent.mkdir(parents=True)
        photo.write_bytes(photograph(seed))
    torch.manual_seed(0)
    fetched = libraries.library("torchvision").fetch(EncoderSettings.model_validate(SQUEEZENET))
    for name in ("here", "twin"):
        encoder_folder.save(
            paths.weights(name), fetched.module, fetched.config.model_copy(update={"resize_px": 64})
        )
    cli.run(lambda: group.run(["check", "--measure"]))
    printed = capsys.readouterr().out
    assert "measured from a short run just now" in printed
    assert "known yet: elsewhere;" in printed
