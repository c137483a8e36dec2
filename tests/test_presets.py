"""What the presets say of the encoders that they fetch, against the records of the libraries themselves."""

from __future__ import annotations

import math
import re

import open_clip
import pytest
import timm
import torch

from lineup.settings import prepared_size
from tests.support.project import ROOT

# A row, commented out or not, with its licence and its parameters in millions.
ROW = re.compile(
    r"^ +(?:# )?(?P<row>\w+): +# (?P<licence>[\w.-]+)[^\n]*?(?P<millions>[\d.]+) M\b"
    r".*?library: (?P<library>\w+).*?name: (?P<name>\S+)",
    re.MULTILINE | re.DOTALL,
)
ROWS = [
    (file.stem, *match.group("row", "licence", "millions", "library", "name"))
    for file in (ROOT / "presets/strong.yaml", ROOT / "presets/small.yaml")
    for match in ROW.finditer(file.read_text(encoding="utf-8"))
]
TIMM = [row for row in ROWS if row[4] == "timm"]
OPEN_CLIP = [row for row in ROWS if row[4] == "open_clip"]


def parameters(module: torch.nn.Module) -> float:
    """In millions."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_every_row_says_its_licence_and_size() -> None:
    for file in ("strong", "small"):
        text = (ROOT / f"presets/{file}.yaml").read_text(encoding="utf-8")
        assert len(re.findall(r"^ +(?:# +)? +encoder:", text, re.MULTILINE)) == sum(
            r[0] == file for r in ROWS
        )


@pytest.mark.parametrize(("preset", "row", "licence", "millions", "library", "name"), TIMM)
def test_licence_and_parameters_are_those_of_timms_records(
    preset: str, row: str, licence: str, millions: str, library: str, name: str
) -> None:
    record = timm.models.get_pretrained_cfg(name)
    assert record is not None and record.license == licence
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False, num_classes=0)
    tolerance = 0.06 if "." in millions else 0.02 * float(millions)
    assert parameters(module) == pytest.approx(float(millions), abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "row", "licence", "millions", "library", "name"), OPEN_CLIP)
def test_parameters_are_those_of_open_clips_image_tower(
    preset: str, row: str, licence: str, millions: str, library: str, name: str
) -> None:
    with torch.device("meta"):
        module = open_clip.create_model(name, load_weights=False, device="meta")
    assert isinstance(module.visual, torch.nn.Module)
    assert parameters(module.visual) == pytest.approx(float(millions), rel=0.02)


@pytest.mark.parametrize("preset", ["strong", "small"])
def test_photos_are_kept_as_large_as_every_timm_row_needs(preset: str) -> None:
    text = (ROOT / f"presets/{preset}.yaml").read_text(encoding="utf-8")
    [stored] = re.findall(r"shorter_side_px: (\d+)", text)
    for row in TIMM:
        record = timm.models.get_pretrained_cfg(row[5])
        assert record is not None
        set_size = re.search(rf"{re.escape(row[5])}\n(?:(?!\n\n).)*?image_size: (\d+)", text, re.DOTALL)
        side = int(set_size[1]) if set_size else record.input_size[1]
        if row[0] == preset:
            assert prepared_size.required_px(math.floor(side / record.crop_pct)) <= int(stored), row
