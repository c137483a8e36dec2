"""torchvision's weights by way of torch.hub: the enum's URL points to a server on this machine, all else is
the real thing.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

from lineup.encoders import encoder_folder
from tests.support import local_hub
from tests.support.hub_project import PHOTOS, environment, row, write

pytestmark = pytest.mark.slow

ROWS = {
    "resnet18": row(library="torchvision", name="resnet18", weights="hub:IMAGENET1K_V1"),
    "resnet50": row(library="torchvision", name="resnet50", weights="hub"),  # its default is V2
}
_FETCH = """
import sys
from torchvision import models
from stages import fetch
from lineup import cli
base, resnet18, resnet50, *rows = sys.argv[1:]
for record, file in ((models.ResNet18_Weights.IMAGENET1K_V1, resnet18), (models.ResNet50_Weights.IMAGENET1K_V2, resnet50)):
    object.__setattr__(record.value, "url", base + file)
for row in rows:
    cli.run(lambda: fetch.main(["--row", row]))
"""
Fetch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights under names as torchvision gives them: with the first digits of their SHA-256."""
    folder = tmp_path_factory.mktemp("files")
    found = {}
    for name in ROWS:
        torch.manual_seed(9)
        torch.save(models.get_model(name, weights=None).state_dict(), folder / "new")
        found[name] = (folder / "new").rename(folder / f"{name}-{local_hub.sha256(folder / 'new')[:8]}.pth")
    return found


@pytest.fixture(scope="module")
def server(files: dict[str, Path]) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(files["resnet18"].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}/"
        served.shutdown()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def fetch(project: Path, files: dict[str, Path], server: str) -> Fetch:
    def run(
        *rows: str, base: str = server, resnet18: str = files["resnet18"].name
    ) -> subprocess.CompletedProcess[str]:
        command = ["python", "-c", _FETCH, base, resnet18, files["resnet50"].name, *rows]
        return subprocess.run(
            command, cwd=project, env=environment(project, base), capture_output=True, text=True, check=False
        )

    return run


def test_features_are_those_before_the_last_layer(
    project: Path, files: dict[str, Path], fetch: Fetch
) -> None:
    done = fetch(*ROWS)
    assert done.returncode == 0, done.stderr
    records: dict[str, Any] = {
        "resnet18": models.ResNet18_Weights.IMAGENET1K_V1,
        "resnet50": models.ResNet50_Weights.IMAGENET1K_V2,
    }
    for name, record in records.items():
        model = models.get_model(name, weights=None)
        model.load_state_dict(torch.load(files[name], weights_only=True))
        model.fc = torch.nn.Identity()  # the documented way to a ResNet's features
        preset = record.transforms()
        encoder = encoder_folder.load(project / "data/weights" / name)
        with torch.inference_mode():
            expected = model.eval()(torch.stack([preset(photo) for photo in PHOTOS])).numpy()
            np.testing.assert_allclose(
                encoder.module(torch.stack([encoder.transform(photo) for photo in PHOTOS])).numpy(),
                expected,
                rtol=1e-5,
                atol=1e-5,
            )
        facts = json.loads((project / "data/weights" / name / "encoder.json").read_text())
        assert facts["source"]["sha256"] == local_hub.sha256(files[name])

    # From torch.hub's cache, once the server is gone.
    shutil.rmtree(project / "data")
    done = fetch("resnet18", base="http://127.0.0.1:9/")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("case", "told"),
    [("404", "it answered 404"), ("other bytes", "the download broke off"), ("refused", "refused")],
)
def test_what_goes_wrong_is_told(
    project: Path, files: dict[str, Path], fetch: Fetch, case: str, told: str
) -> None:
    shutil.rmtree(project / "torch", ignore_errors=True)
    if case == "404":
        done = fetch("resnet18", resnet18="resnet18-00000000.pth")
    elif case == "other bytes":
        half = files["resnet18"].with_name("resnet18-0123abcd.pth")
        half.write_bytes(files["resnet18"].read_bytes()[:100_000])
        done = fetch("resnet18", resnet18=half.name)
    else:
        done = fetch("resnet18", base="http://127.0.0.1:9/")
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert (
        errors[-1].startswith("error: params.yaml: models.resnet18.encoder.weights: resnet18-")
        and told in errors[-1]
    ), done.stderr
    assert "`dvc pull`" in errors[-1] and "Traceback" not in done.stderr
    assert not list((project / "torch").rglob("*.pth"))
