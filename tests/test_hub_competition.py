"""presets/competition.yaml through `dvc repro`: its twelve rows fetched from hubs on this machine, trained,
embedded, compared.

The networks of transformers are small, those of torchvision and timm as large as their names say; all weights
are random, so the figures mean nothing.
"""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from torchvision import models

from tests.support import hub_repositories, local_hub, project
from tests.support.hub_project import photo

pytestmark = pytest.mark.slow

PRESET = project.ROOT / "presets" / "competition.yaml"
# Loaded by every Python that fetches: where torchvision's weights enum is imported, its URLs point to this
# machine.
_REDIRECT = """
import importlib.abc, importlib.util, os, sys

NAME = "torchvision.models.resnet"

def redirect(module):
    resnet18, resnet50 = os.environ["TEST_RESNET18"], os.environ["TEST_RESNET50"]
    object.__setattr__(module.ResNet18_Weights.IMAGENET1K_V1.value, "url", resnet18)
    object.__setattr__(module.ResNet50_Weights.IMAGENET1K_V2.value, "url", resnet50)

class Redirect(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            redirect(module)

        spec.loader.exec_module = exec_module
        return spec

if NAME in sys.modules:
    redirect(sys.modules[NAME])
else:
    sys.meta_path.insert(0, Redirect())
"""


def params() -> dict[str, Any]:
    """The preset; its rows as they are but for the size of images, and a training of one short epoch."""
    preset = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
    preset["train"] |= {
        "epochs": 1,
        "labels_per_batch": 4,
        "images_per_label": 2,
        "validation_share": 0.3,
        "patience": None,
    }
    preset["score"]["bootstrap_samples"] = 100
    for model in preset["models"].values():
        if model["encoder"]["library"] in ("torchvision", "timm"):
            model["encoder"] = {**model["encoder"], "image_size": 32}
        short = {"labels_per_batch": 4, "images_per_label": 2, "batch_size": 8}
        model["objective"] = {name: short.get(name, value) for name, value in model["objective"].items()}
    return preset


def photos(raw: Path) -> None:
    for number in range(10 * 4):
        folder = raw / f"train/label {number // 4}"
        folder.mkdir(parents=True, exist_ok=True)
        photo(40, 40, number).save(folder / f"{number}.png")
    for number in range(6):
        for place in (f"test/query/thing {number}", f"test/gallery/thing {number}"):
            (raw / place).mkdir(parents=True)
        photo(40, 44, 100 + number).save(raw / f"test/query/thing {number}/q.png")
        photo(44, 40, 100 + number).save(raw / f"test/gallery/thing {number}/a.png")
        photo(48, 48, 200 + number).save(raw / f"test/gallery/thing {number}/b.png")


@contextmanager
def hubs(root: Path) -> Iterator[dict[str, Any]]:
    """Both hubs, and the environment that leads to them."""
    root.mkdir()
    urls, rows = {}, params()["models"]
    for name in ("resnet18", "resnet50"):
        torch.manual_seed(0)
        torch.save(models.get_model(name, weights=None).state_dict(), root / "new")
        urls[name] = (root / "new").rename(root / f"{name}-{local_hub.sha256(root / 'new')[:8]}.pth").name
    with (
        local_hub.serve() as hub,
        ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(root))) as files,
    ):
        threading.Thread(target=files.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{files.server_address[1]}/"
        for row, make in (("clip_zero_shot", hub_repositories.clip), ("hf_vit", hub_repositories.vit)):
            encoder = rows[row]["encoder"]
            hub.add(encoder["name"], make(root / row))
            hub.repositories[encoder["name"]].revisions[encoder["revision"]] = root / row
        record = timm.get_pretrained_cfg(rows["timm"]["encoder"]["name"])
        assert record and record.hf_hub_id and record.architecture
        hub.add(record.hf_hub_id, hub_repositories.timm_repository(root / "timm", record.architecture))
        yield {
            "HF_ENDPOINT": hub.url,
            "TEST_RESNET18": base + urls["resnet18"],
            "TEST_RESNET50": base + urls["resnet50"],
        }
        files.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_the_twelve_rows_run_end_to_end(tmp_path: Path) -> None:
    settings = params()
    rows = list(settings["models"])
    assert len(rows) == 12
    folder = project.create(tmp_path / "project", settings)
    photos(folder / "data/raw")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(_REDIRECT, encoding="utf-8")
    own: dict[str, Any] = {
        "HF_HOME": str(tmp_path / "hf"),
        "TORCH_HOME": str(tmp_path / "torch"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    site = {"PYTHONPATH": str(tmp_path / "site")}
    with hubs(tmp_path / "repositories") as found:
        project.run(
            "dvc", "repro", "--glob", "fetch@*", cwd=folder, **own, **site, **found, HF_HUB_OFFLINE="0"
        )
    # Only `fetch` uses the network: the hubs are gone.
    project.run("dvc", "repro", cwd=folder, **own)
    figures = json.loads((folder / "metrics/metrics.json").read_text(encoding="utf-8"))
    assert set(figures) == set(rows)
    assert all(0 <= row["map_at_r"] <= 1 and row["top_1"] is not None for row in figures.values())
    table = (folder / "metrics/comparison.md").read_text(encoding="utf-8")
    assert all(row in table for row in rows)

    # Both hubs and all caches are gone: what was fetched is complete, for images and for texts.
    shutil.rmtree(tmp_path / "hf")
    shutil.rmtree(tmp_path / "torch")
    offline: dict[str, Any] = {
        **own,
        "HF_ENDPOINT": "http://hub.invalid",
        "TEST_RESNET18": "http://hub.invalid/",
        "TEST_RESNET50": "http://hub.invalid/",
    }
    project.run(
        "dvc",
        "repro",
        "--force",
        "--single-item",
        "embed@clip_zero_shot",
        "embed@timm",
        cwd=folder,
        **offline,
    )
    done = project.run(
        "python",
        "-m",
        "lineup",
        "search",
        "--row",
        "clip_zero_shot",
        "a thing",
        "--json",
        cwd=folder,
        **offline,
    )
    assert len(json.loads(done.stdout)["hits"]) == 10
