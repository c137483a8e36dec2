"""Each row's transform is the one that the library publishes for its checkpoint, pixel for pixel, whatever
the photo's shape.

Rows from a hub are in test_hub_encoders.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import timm.data
import torch
from open_clip.pretrained import _PRETRAINED
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import models

from lineup.encoders import libraries, open_clip_tags, timm_tags
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.settings.encoder import EncoderSettings
from tests.support import hub_repositories
from tests.support.hub_project import PHOTOS
from tests.test_encoders import LITE0, MOBILENET, fetch, stored

Published = Callable[[Image.Image], torch.Tensor]


def same_pixels(ours: Published, published: Any) -> None:
    for photo in PHOTOS:
        assert torch.equal(ours(photo), published(photo)), photo.size


# --- what libraries list


def presets_of_torchvision() -> list[Any]:
    """One record for each transform that torchvision has."""
    listed = [
        record for name in models.list_models(module=models) for record in models.get_model_weights(name)
    ]
    return list({str(record.transforms()): record for record in listed}.values())


@pytest.mark.slow
@pytest.mark.parametrize("record", presets_of_torchvision(), ids=str)
def test_every_transform_of_torchvision_is_its_own(record: Any) -> None:
    own: Any = libraries.library("torchvision")
    spec = EncoderSettings(library="torchvision", name="any", weights="hub")
    config = EncoderConfig.model_construct(transform=own._transform(record.transforms(), spec))
    same_pixels(own.transform(config), record.transforms())


def record_of_timm(name: str) -> dict[str, Any]:
    record: Any = timm.get_pretrained_cfg(name)
    return record.to_dict()


def records_of_timm() -> dict[str, dict[str, Any]]:
    """One record for each transform that timm has, whatever its size."""
    listed = {
        name: timm.data.resolve_data_config(pretrained_cfg=record_of_timm(name))
        for name in timm.list_pretrained()
    }
    kinds: dict[str, str] = {}
    for name in sorted(listed, key=lambda name: listed[name]["input_size"][-1]):
        kinds.setdefault(str({**listed[name], "input_size": None}), name)
    return {name: listed[name] for name in kinds.values() if listed[name]["input_size"][-1] < 400}


@pytest.mark.parametrize(("name", "config"), records_of_timm().items())
def test_every_transform_of_timm_is_its_own(name: str, config: dict[str, Any]) -> None:
    own: Any = libraries.library("timm")
    how = timm_tags.transform_settings(
        record_of_timm(name), EncoderSettings(library="timm", name=name, weights="hub")
    )
    ours = own.transform(EncoderConfig.model_construct(transform=how))
    same_pixels(ours, timm.data.create_transform(**config, is_training=False))


@pytest.mark.parametrize(
    "name", [name for name in open_clip.list_models() if open_clip.list_pretrained_tags_by_model(name)]
)
def test_a_file_of_any_architecture_of_open_clip_gets_the_transform_of_its_tags(name: str) -> None:
    own: Any = libraries.library("open_clip")
    config = open_clip.get_model_config(name)
    assert config is not None
    size = config["vision_cfg"]["image_size"]
    for tag in open_clip.list_pretrained_tags_by_model(name):
        listed: Any = open_clip.get_pretrained_cfg(name, tag)
        if bool(listed.get("quick_gelu")) != bool(config.get("quick_gelu")):
            continue
        how = {key: listed[key] for key in ("mean", "std", "resize_mode", "interpolation") if key in listed}
        published: Any = open_clip.image_transform(size, is_train=False, **how)
        asked = tag if name in ("ViT-L-14", "ViT-H-14-quickgelu") else None  # whose tags differ
        spec = EncoderSettings(library="open_clip", name=name, weights="file:x", transform=asked)
        chosen = open_clip_tags.tag_of_file(spec, config)
        assert chosen is not None
        record = open_clip.get_pretrained_cfg(name, chosen)
        preprocess = open_clip_tags.transform_settings(record, spec) | {"size": size}
        ours = own.transform(EncoderConfig.model_construct(transform=preprocess))
        assert torch.equal(ours(PHOTOS[0]), published(PHOTOS[0]))


# --- weights from a file, through the whole of fetch


def file_of(folder: Path, network: torch.nn.Module) -> str:
    save_file(network.state_dict(), folder / "mine.safetensors")
    return f"file:{folder / 'mine.safetensors'}"


V1, V2 = models.MobileNet_V2_Weights.IMAGENET1K_V1, models.MobileNet_V2_Weights.IMAGENET1K_V2
BRIGHT: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "published"),
    [
        (MOBILENET, V1.transforms()),  # by its hash
        ({**MOBILENET, "image_size": 96}, V1.transforms(crop_size=96, resize_size=110)),
        ({**MOBILENET, **BRIGHT}, V1.transforms(**BRIGHT)),
        ({"name": "mobilenet_v2", "transform": "IMAGENET1K_V1"}, V1.transforms()),
        ({"name": "mobilenet_v2", "transform": "IMAGENET1K_V2"}, V2.transforms()),
        (
            {"name": "mobilenet_v2", "transform": "IMAGENET1K_V2", "image_size": 96},
            V2.transforms(crop_size=96, resize_size=99),
        ),
        ({"name": "squeezenet1_1"}, models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()),
    ],
)
def test_a_file_for_torchvision_gets_its_record_s_transform(
    tmp_path: Path, settings: dict[str, Any], published: Any
) -> None:
    own_file = (
        {} if "weights" in settings else {"weights": file_of(tmp_path, models.get_model(settings["name"]))}
    )
    row = {"library": "torchvision", **settings, **own_file}
    same_pixels(stored(tmp_path / "encoder", fetch(**row)).transform, published)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "record", "changes"),
    [
        (LITE0, "tf_efficientnet_lite0.in1k", {}),
        ({**LITE0, "image_size": 128}, "tf_efficientnet_lite0.in1k", {"input_size": (3, 128, 128)}),
        ({**LITE0, **BRIGHT}, "tf_efficientnet_lite0.in1k", BRIGHT),
        ({"name": "tf_efficientnet_b0", "transform": "ap_in1k"}, "tf_efficientnet_b0.ap_in1k", {}),
        ({"name": "tf_efficientnet_b0.ap_in1k"}, "tf_efficientnet_b0.ap_in1k", {}),
        (
            {"name": "tf_efficientnet_b0.ns_jft_in1k", "image_size": 96},
            "tf_efficientnet_b0.ns_jft_in1k",
            {"input_size": (3, 96, 96)},
        ),
        ({"name": "tf_efficientnet_b0", **BRIGHT}, "tf_efficientnet_b0.ap_in1k", BRIGHT),  # all else is alike
        (
            {"name": "mobilenetv4_conv_small", "transform": "e3600_r256_in1k"},
            "mobilenetv4_conv_small.e3600_r256_in1k",
            {},
        ),
        ({"name": "test_vit"}, "test_vit.r160_in1k", {}),
        ({"name": "vit_tiny_patch16_384"}, "vit_tiny_patch16_384", {}),
        (
            {"name": "mobilenetv2_035"},
            "mobilenetv2_035",
            {},
        ),  # no weights are listed: timm's default for the network
    ],
)
def test_a_file_for_timm_gets_its_record_s_transform(
    tmp_path: Path, settings: dict[str, Any], record: str, changes: dict[str, Any]
) -> None:
    own_file = {} if "weights" in settings else {"weights": file_of(tmp_path, timm.create_model(record))}
    row = {"library": "timm", **settings, **own_file}
    config = timm.data.resolve_data_config(changes, pretrained_cfg=record_of_timm(record))
    same_pixels(
        stored(tmp_path / "encoder", fetch(**row)).transform,
        timm.data.create_transform(**config, is_training=False),
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """A small architecture that open_clip knows by the name of "tiny".

    The tags that open_clip lists for it, to be filled.
    """
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", hub_repositories.OPEN_CLIP)
    listed: dict[str, dict[str, Any]] = {}
    monkeypatch.setitem(_PRETRAINED, "tiny", listed)
    return listed


PE_CORE: dict[str, Any] = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
    "resize_mode": "squash",
}
MOBILE_CLIP: dict[str, Any] = {
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "interpolation": "bilinear",
    "resize_mode": "shortest",
}
QUICK: dict[str, Any] = {"mean": (0.4, 0.4, 0.4), "std": (0.3, 0.3, 0.3), "quick_gelu": True}


@pytest.mark.parametrize(
    ("listed", "settings", "published"),
    [
        ({"meta": PE_CORE}, {}, PE_CORE),
        ({"meta": PE_CORE}, {"image_size": 48}, PE_CORE),
        ({"meta": PE_CORE}, BRIGHT, {**PE_CORE, **BRIGHT}),
        ({"apple": MOBILE_CLIP, "apple_2": MOBILE_CLIP}, {}, MOBILE_CLIP),
        (
            {"meta": PE_CORE, "other": QUICK},
            {},
            PE_CORE,
        ),  # which is of another network: its activation differs
        ({"meta": PE_CORE, "apple": MOBILE_CLIP}, {"transform": "meta"}, PE_CORE),
        ({"meta": PE_CORE, "apple": MOBILE_CLIP}, {"transform": "apple", "image_size": 48}, MOBILE_CLIP),
        ({"meta": PE_CORE, "apple": {**PE_CORE, "mean": (0.4, 0.4, 0.4)}}, BRIGHT, {**PE_CORE, **BRIGHT}),
        ({}, BRIGHT, BRIGHT),
    ],
)
def test_a_file_for_open_clip_gets_its_architecture_s_transform(
    tmp_path: Path,
    tiny: dict[str, Any],
    listed: dict[str, Any],
    settings: dict[str, Any],
    published: dict[str, Any],
) -> None:
    tiny |= listed
    row = {
        "library": "open_clip",
        "name": "tiny",
        "weights": file_of(tmp_path, open_clip.CLIP(**hub_repositories.OPEN_CLIP)),
        **settings,
    }
    transform = {key: value for key, value in published.items() if key != "quick_gelu"}
    reference = open_clip.image_transform(
        settings.get("image_size", hub_repositories.SIZE), is_train=False, **transform
    )
    same_pixels(stored(tmp_path / "encoder", fetch(**row)).transform, reference)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torchvision", "timm", "open_clip"])
def test_a_file_whose_transform_nothing_tells_is_refused(
    tmp_path: Path, tiny: dict[str, Any], library: str
) -> None:
    tiny |= {"meta": PE_CORE, "apple": MOBILE_CLIP}
    name, tag, differing = {
        "torchvision": ("mobilenet_v2", "IMAGENET1K_V1", "resize 256; IMAGENET1K_V2: resize 232"),
        "timm": ("tf_efficientnet_b0", "ns_jft_in1k", "std"),
        "open_clip": ("tiny", "meta", "resize_mode squash; apple: "),
    }[library]
    networks = {
        "torchvision": models.get_model,
        "timm": timm.create_model,
        "open_clip": lambda _: open_clip.CLIP(**hub_repositories.OPEN_CLIP),
    }
    row: dict[str, Any] = {
        "library": library,
        "name": name,
        "weights": file_of(tmp_path, networks[library](name)),
    }
    with pytest.raises(UserError, match=f"transform is missing.*{differing}.*such as transform: {tag}"):
        fetch(**row)
    with pytest.raises(
        UserError, match=rf"transform: {library} lists no '{tag}_' for {name}; did you mean '{tag}'"
    ):
        fetch(**row, transform=f"{tag}_")
    fetch(
        library=library, name=name, weights="none", allow_random=True
    )  # a baseline of chance, whatever its transform


def test_a_tag_of_another_activation_is_told_as_that() -> None:
    """open_clip does list it."""
    with pytest.raises(
        UserError,
        match="openai was trained with another activation than ViT-B-32's; use name: ViT-B-32-quickgelu",
    ):
        fetch(library="open_clip", name="ViT-B-32", weights="file:mine.safetensors", transform="openai")


def test_an_architecture_of_which_open_clip_lists_no_checkpoint_needs_mean_and_std(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    row = {
        "library": "open_clip",
        "name": "tiny",
        "weights": file_of(tmp_path, open_clip.CLIP(**hub_repositories.OPEN_CLIP)),
    }
    with pytest.raises(UserError, match=r"mean and std are missing.*open_clip_config\.json"):
        fetch(**row)
    with pytest.raises(UserError, match="set mean and std instead"):
        fetch(**row, transform="openai")
    assert tiny == {}


@pytest.mark.parametrize(
    "row",
    [
        {"library": "torchvision", "name": "resnet50", "weights": "hub:IMAGENET1K_V1"},
        {"library": "timm", "name": "hf-hub:a/b", "weights": "hub"},
        {"library": "open_clip", "name": "ViT-B-32", "weights": "hub:openai"},
        {"library": "transformers", "name": "mine", "weights": "file:mine"},
    ],
)
def test_a_transform_is_refused_where_the_weights_bring_one(row: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match="transform: x is for a single file, and these weights bring their own"
    ):
        EncoderSettings(**row, transform="x")


# --- weights from a folder


@pytest.mark.parametrize("settings", [{}, {"image_size": 64}, BRIGHT])
def test_a_folder_for_timm_has_its_own_transform(tmp_path: Path, settings: dict[str, Any]) -> None:
    own: dict[str, Any] = {
        "mean": (0.4, 0.3, 0.2),
        "std": (0.3, 0.2, 0.1),
        "interpolation": "bilinear",
        "crop_pct": 0.8,
        "crop_mode": "border",
    }
    network = timm.create_model("test_resnet", pretrained_cfg_overlay={**own, "input_size": (3, 96, 96)})
    timm.models.save_for_hf(network, str(tmp_path / "mine"), safe_serialization=True)
    row = {"library": "timm", "name": "mine", "weights": f"file:{tmp_path / 'mine'}", **settings}
    size = settings.get("image_size", 96)
    changes = {name: value for name, value in settings.items() if name != "image_size"}
    published = timm.data.create_transform(
        input_size=(3, size, size), **{**own, **changes}, is_training=False
    )
    encoder = stored(tmp_path / "encoder", fetch(**row))
    same_pixels(encoder.transform, published)
    assert all(
        torch.equal(tensor, network.state_dict()[name])
        for name, tensor in encoder.module.state_dict().items()
    )


@pytest.mark.slow
def test_a_folder_s_other_weights_are_left_alone(tmp_path: Path) -> None:
    folder = hub_repositories.timm_repository(tmp_path / "mine")
    torch.save(timm.create_model("test_vit").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    fetched = fetch(library="timm", name="mine", weights=f"file:{folder}")
    written = load_file(folder / "open_clip_model.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in fetched.module.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_a_transform_is_refused_where_a_folder_has_its_own(tmp_path: Path, library: str) -> None:
    make = {"timm": hub_repositories.timm_repository, "open_clip": hub_repositories.open_clip_repository}[
        library
    ]
    with pytest.raises(UserError, match=r"transform: meta is for a single file, and .* has its own"):
        fetch(library=library, name="mine", weights=f"file:{make(tmp_path / 'mine')}", transform="meta")


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", pretrained_cfg_overlay={"input_size": (3, 96, 64)})
    timm.models.save_for_hf(network, str(tmp_path / "mine"), safe_serialization=True)
    with pytest.raises(UserError, match="name: mine takes images of 3 x 96 x 64"):
        fetch(library="timm", name="mine", weights=f"file:{tmp_path / 'mine'}")
