"""Engines: each gives torch's vectors, the same bytes whatever the batch size, order and threads.

Faults are told.
"""

from __future__ import annotations

import importlib.metadata
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lineup.embedding import inference
from lineup.encoders import libraries
from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import EncoderConfig
from lineup.engines import conversion, selection
from lineup.engines.engine import CannotConvert, Engine
from lineup.engines.lookup_transform import fused
from lineup.errors import UserError
from lineup.settings.encoder import EncoderSettings
from lineup.settings.sections import Embed
from tests.support.photographs import identify, photograph
from tests.support.project import ROOT

if TYPE_CHECKING:  # pyright checks that the file of each engine keeps its contract
    from lineup.engines import onnxruntime as onnxruntime_file
    from lineup.engines import openvino as openvino_file
    from lineup.engines import torch as torch_file
    from lineup.engines.engine import EngineLibrary

    ENGINES: tuple[EngineLibrary, ...] = (torch_file, openvino_file, onnxruntime_file)

CPU = torch.device("cpu")
PHOTOS = [photograph(seed) for seed in range(20)]
NAMED = [(identify(photo), photo) for photo in PHOTOS]
ALL = ("torch", "openvino", "onnxruntime")
CONVERTING = ("openvino", "onnxruntime")
# As in the engine's file: with it, every conversion would fork processes that report to the vendor.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
COMPUTES_BFLOAT16 = "BF16" in __import__("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def of_library(library: str, name: str, image_size: int | None = None) -> Callable[[], Encoder]:
    def make() -> Encoder:
        torch.manual_seed(0)
        spec = EncoderSettings.model_validate(
            {
                "library": library,
                "name": name,
                "weights": "none",
                "allow_random": True,
                "image_size": image_size,
            }
        )
        fetched = libraries.library(library).fetch(spec)
        return Encoder(fetched.module, libraries.library(library).transform(fetched.config), fetched.config)

    return make


def transformer(kind: str) -> Encoder:
    """A network of the transformers library, made small here."""
    import transformers as tf

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    sizes |= {"image_size": 32, "patch_size": 8}

    class Vector(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            told = self.network(pixel_values=pixels)
            return told.image_embeds if kind == "clip" else told.last_hidden_state[:, 0]

    torch.manual_seed(0)
    made = (
        tf.CLIPVisionModelWithProjection(tf.CLIPVisionConfig(**sizes, projection_dim=16))
        if kind == "clip"
        else tf.ViTModel(tf.ViTConfig(**sizes))
    )

    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image.resize((32, 32)), np.float32) / 255).permute(2, 0, 1)

    return Encoder(Vector(made), transform, EncoderConfig.model_construct(image_size=32))


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "torchvision squeezenet": of_library("torchvision", "squeezenet1_1", 64),
    "torchvision mobilenet_v3": of_library("torchvision", "mobilenet_v3_small", 96),
    "timm vit": of_library("timm", "test_vit"),
    "timm convnext": of_library("timm", "test_convnext"),
    "timm efficientnet": of_library("timm", "test_efficientnet"),
    "transformers vit": lambda: transformer("vit"),
    "transformers clip": lambda: transformer("clip"),
}


def vectors(
    encoder: Encoder,
    engine: str,
    precision: str = "float32",
    photos: Any = NAMED,
    batch_size: int = 8,
    threads: int = 1,
) -> Any:
    tried = [inference.decoded(photo, encoder.transform) for photo in NAMED[:4]]
    network = conversion.prepare(Engine(engine, precision, CPU), encoder, tried, batch_size, threads)
    return {
        i: v
        for batch in inference.vectors(network, photos, batch_size, threads)
        for i, v in zip(batch.ids, batch.vectors, strict=True)
    }


def plain(encoder: Encoder) -> dict[str, np.ndarray]:
    """One image at a time, as the library itself computes it."""
    with torch.inference_mode():
        return {
            i: encoder.module.eval()(encoder.transform(Image.open(io.BytesIO(photo)).convert("RGB"))[None])[0]
            .float()
            .numpy()
            for i, photo in NAMED
        }


def cosines(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> list[float]:
    assert [*found] == [*wanted]
    pairs = ((found[i].astype(np.float64), wanted[i].astype(np.float64)) for i in wanted)
    return [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ALL)
@pytest.mark.parametrize("name", ENCODERS)
def test_vectors_are_those_of_the_library_itself(name: str, engine: str) -> None:
    encoder = ENCODERS[name]()
    wanted = plain(encoder)
    found = vectors(encoder, engine)
    assert min(cosines(found, wanted)) >= 0.999999
    scale = max(np.abs(vector).max() for vector in wanted.values())
    assert max(np.abs(found[i] - wanted[i]).max() for i in wanted) <= 1e-4 * scale


@pytest.mark.slow
@pytest.mark.parametrize("engine", ALL)
@pytest.mark.parametrize(
    "name",
    [
        "torchvision squeezenet",
        "torchvision mobilenet_v3",
        "timm vit",
        "timm convnext",
        "timm efficientnet",
        "transformers clip",
    ],
)
def test_neither_batch_size_nor_order_nor_threads_change_a_byte(name: str, engine: str) -> None:
    def computed(**how: Any) -> dict[str, bytes]:
        return {i: vector.tobytes() for i, vector in vectors(ENCODERS[name](), engine, **how).items()}

    reference = computed()
    own_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for batch_size, threads in ((32, 1), (1, 2), (16, 3)):
            assert computed(batch_size=batch_size, threads=threads) == reference
    finally:
        torch.set_num_threads(own_threads)
    assert computed(photos=NAMED[::-1], threads=2) == reference
    assert computed(photos=NAMED[7:8]) == {NAMED[7][0]: reference[NAMED[7][0]]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            "openvino", marks=pytest.mark.skipif(not COMPUTES_BFLOAT16, reason="not this processor")
        ),
        "torch",
    ],
)
@pytest.mark.parametrize("name", ["torchvision mobilenet_v3", "timm vit", "transformers clip"])
def test_bfloat16_keeps_the_direction_within_its_tolerance(name: str, engine: str) -> None:
    encoder = ENCODERS[name]()
    exact = plain(encoder)
    found = vectors(encoder, engine, "bfloat16")
    assert all(vector.dtype == np.float32 for vector in found.values())
    assert conversion.PARITY["bfloat16"] <= min(cosines(found, exact)) < 0.9999999, (
        "less precise, but not by more than stated"
    )


# --- which engine computes


def names(**settings: Any) -> list[tuple[str, str]]:
    return [
        (engine.name, engine.precision)
        for engine in selection.candidates(Embed.model_validate({"device": "cpu", **settings}))
    ]


def test_auto_prefers_what_was_measured_fastest_and_ends_in_torch() -> None:
    assert names() == [("openvino", "float32"), ("onnxruntime", "float32"), ("torch", "float32")]
    assert names(precision="bfloat16") == [("openvino", "bfloat16"), ("torch", "bfloat16")]
    assert names(engine="onnxruntime") == [("onnxruntime", "float32")]


def uninstall(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)


def test_auto_leaves_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch, "openvino")
    assert names() == [("onnxruntime", "float32"), ("torch", "float32")]
    uninstall(monkeypatch, "onnx", "openvino")
    assert names() == [("torch", "float32")]


def test_an_engine_that_is_named_but_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch, "onnx")
    told = r"params\.yaml: embed\.engine: onnxruntime is not installed \(onnx is missing\); run `pip install 'lineup\[onnxruntime\]'`"
    with pytest.raises(UserError, match=told):
        names(engine="onnxruntime")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"engine": "torch", "precision": "float16"},
            "torch computes on a processor in float32 or bfloat16, not in float16; set precision: ",
        ),
        ({"precision": "float16"}, "not in float16; set precision: float32 or bfloat16"),
        (
            {"engine": "openvino", "precision": "float16"},
            "openvino computes on a processor in float32 or bfloat16, not in float16",
        ),
        (
            {"engine": "onnxruntime", "precision": "bfloat16"},
            "in float32, not in bfloat16; set precision: float32, or engine: openvino or torch",
        ),
        (
            {"engine": "onnxruntime", "precision": "float16"},
            "in float32, not in float16; set precision: float32 or bfloat16",
        ),
    ],
)
def test_a_precision_that_an_engine_has_not_is_told(settings: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        names(**settings)


def test_engines_for_processors_are_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(
        UserError,
        match=r"embed\.engine: openvino computes on processors only; set device: cpu, or engine: auto",
    ):
        names(engine="openvino", device="cuda")
    assert names(device="auto") == [("torch", "float32")]
    assert names(device="auto", precision="float16") == [("torch", "float16")]
    assert [engine.device.type for engine in selection.candidates(Embed(engine="openvino"))] == ["cpu"]


# --- what an engine can't compute


class OwnOperation(torch.autograd.Function):
    """What neither ONNX nor OpenVINO knows."""

    @staticmethod
    def forward(context: Any, pixels: torch.Tensor) -> torch.Tensor:
        return torch.special.i1e(pixels.mean(dim=(2, 3)) + 1)


class Unconvertible(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return OwnOperation.apply(pixels)  # type: ignore[return-value]


class Unlike(nn.Module):
    """Computes something else once it was traced."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        means = pixels.mean(dim=(2, 3))
        return means * torch.tensor([1.0, -1.0, 1.0]) if torch.jit.is_tracing() else means


def small(module: nn.Module) -> Encoder:
    return Encoder(
        module,
        lambda image: torch.from_numpy(np.asarray(image.resize((8, 8)), np.float32) / 255).permute(2, 0, 1),
        EncoderConfig.model_construct(image_size=8),
    )


@pytest.mark.parametrize("engine", CONVERTING)
@pytest.mark.parametrize(
    ("module", "told"),
    [(Unconvertible(), "^[A-Z][A-Za-z]+: ."), (Unlike(), "its vectors differ from torch's, cosine")],
)
def test_what_an_engine_can_not_compute_is_told_in_one_line(
    engine: str, module: nn.Module, told: str
) -> None:
    with pytest.raises(CannotConvert, match=told) as raised:
        vectors(small(module), engine)
    assert len(str(raised.value).splitlines()) == 1


def test_torch_computes_it_still() -> None:
    encoder = small(Unconvertible())
    assert min(cosines(vectors(encoder, "torch"), plain(encoder))) > 0.999999


# --- nothing calls home


@pytest.mark.slow
def test_converting_does_not_call_home(tmp_path: Path) -> None:
    """Neither a connection nor a file in the user's home: the vendor's telemetry keeps an id there."""
    code = """
import socket, sys
def refuse(*_, **__): raise SystemExit("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
import torch
from torch import nn
from lineup.engines import openvino, onnxruntime
module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
for engine in (openvino, onnxruntime):
    print(engine.compile(module, torch.zeros(2, 3, 8, 8), "float32", torch.device("cpu"), 1)(torch.zeros(2, 3, 8, 8)).shape)
print(sorted(name for name, loaded in sys.modules.items() if "telemetry" in name.split(".")[0] and loaded))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["(2, 4)", "(2, 4)", "[]"]
    assert not list(tmp_path.iterdir())


# --- the look-up in place of a transform's last steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("torchvision", "mobilenet_v2"),
        ("timm", "test_vit"),
        ("timm", "tf_efficientnet_lite0"),
        ("open_clip", "ViT-B-32"),
    ],
)
def test_the_look_up_gives_the_transform_s_bytes(library: str, name: str) -> None:
    if library == "open_clip":
        from open_clip.transform import PreprocessCfg, image_transform_v2

        transform: Any = image_transform_v2(PreprocessCfg(), is_train=False)
    else:
        transform = of_library(library, name)().transform
    faster = fused(transform)
    assert faster is not transform, "nothing was gained"
    for photo in PHOTOS[:8]:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        found, wanted = faster(image), transform(image)
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        assert found.numpy().tobytes() == wanted.contiguous().numpy().tobytes()


def test_other_transforms_stay_as_they_are() -> None:
    from torchvision import transforms as T

    def black_box(image: Image.Image) -> torch.Tensor:
        return T.PILToTensor()(image).float()

    class Normalize:
        """Named like the real one, and looks at neighbouring pixels."""

        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels - pixels.mean()

    for transform in (
        black_box,
        T.Compose([T.Resize(8)]),
        T.Compose([T.ToTensor(), Normalize()]),
        T.Compose([T.Grayscale(), T.ToTensor()]),
    ):
        assert fused(transform) is transform  # type: ignore[arg-type]
