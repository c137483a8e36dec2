"""Encoders of transformers: CLIP, SigLIP, ViT, DINOv2, DINOv3, and others with an image processor."""

from __future__ import annotations

import inspect
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
import transformers
from PIL import Image
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from lineup.encoders import hub
from lineup.encoders.encoder import Fetched, Tokenizer, Tokens, Transform
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.libraries import versions
from lineup.encoders.measurement import measure
from lineup.encoders.meta_init import on_meta_device
from lineup.errors import UserError, explained
from lineup.settings.encoder import EncoderSettings

# Pickles are missing in this list, and so they are not even downloaded.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors")
_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "*.spm",
)
_CLS_PARAMETERS = ("cls_token", "class_token", "class_embedding")
_LOCAL: JsonObject = {"local_files_only": True, "trust_remote_code": False}
# Model types that were trained on texts padded to the full length, as their documentation says.
_PADDED_TO_MAX_LENGTH = ("siglip", "siglip2")

log = logging.getLogger(__name__)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class ImageVectors(nn.Module):
    """pixels: float32 [B, 3, H, W] -> [B, D].

    It is `get_image_features` of a dual encoder, and else the pooled last hidden state.
    """

    def __init__(self, model: PreTrainedModel, pooling: str | None, options: Mapping[str, bool]) -> None:
        super().__init__()
        self.model, self.pooling, self.options = model, pooling, options

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] -> float32 [B, D]."""
        if self.pooling is None:
            return _vector(self.model.get_image_features(pixel_values=pixels, **self.options))  # type: ignore[operator]
        output = self.model(pixel_values=pixels, **self.options)
        if self.pooling == "pooler":
            return output.pooler_output.flatten(1)  # [B, D], or [B, D, 1, 1] of convolutional networks
        hidden = output.last_hidden_state  # [B, tokens, D], or [B, D, h, w] of convolutional networks
        if self.pooling == "cls":
            return hidden[:, 0]
        return hidden.mean((2, 3)) if hidden.ndim == 4 else hidden[:, -self._patches(pixels) :].mean(1)

    def _patches(self, pixels: torch.Tensor) -> int:
        """Number of tokens that are patches of the image; CLS and register tokens come before them."""
        patch = getattr(self.model.config, "patch_size", None)
        return (pixels.shape[2] // patch) * (pixels.shape[3] // patch) if isinstance(patch, int) else 0


class TextVectors(nn.Module):
    """What the tokenizer gives -> [B, D]: `get_text_features`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tokenizer's tensors, [B, L] each -> float32 [B, D]."""
        return _vector(self.model.get_text_features(**tokens))  # type: ignore[operator]


class Processed:
    """RGB image -> float32 [3, H, W] by an image processor.

    Attributes:
        transforms: the same in two steps, as torchvision's Compose has them.
    """

    def __init__(self, processor: Any) -> None:
        self._processor, self.transforms = processor, (self._sized, Rescaled(processor))

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An upright RGB image -> float32 [3, H, W]."""
        return _pixels(self._processor, image)

    def _sized(self, image: Image.Image) -> npt.NDArray[Any]:
        """[H, W, RGB], of 8 bits where the processor resizes 8-bit images."""
        return _pixels(self._processor, image, do_rescale=False, do_normalize=False).permute(1, 2, 0).numpy()


class Rescaled:
    """RGB image -> float32 [3, H, W] of the same size: an image processor's last step alone."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._off = {
            step: False
            for step in ("do_resize", "do_center_crop", "do_pad")
            if getattr(processor, step, None)
        }

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An upright RGB image -> float32 [3, H, W]."""
        return _pixels(self._processor, image, **self._off)


class _Text(NamedTuple):
    """A dual encoder's text tower.

    Attributes:
        settings: the config's `text`.
        module: what the tokenizer gives -> [N, D].
        files: content of the tokenizer's files, by path in the encoder's folder.
    """

    settings: JsonObject
    module: nn.Module
    files: dict[str, bytes]


def fetch(spec: EncoderSettings) -> Fetched:
    """See `Library.fetch`."""
    snapshot = _snapshot(spec)
    config = _config(snapshot)
    processor = _processor(snapshot, spec)
    size = _image_size(processor, spec)
    dual = hasattr(_model_class(config), "get_image_features")
    pooling = _pooling(spec, config, dual)
    model = _pretrained(snapshot, config, pooling)
    if pooling == "cls" and not any(name.endswith(_CLS_PARAMETERS) for name, _ in model.named_parameters()):
        raise UserError(
            f"pooling: cls is for networks with a class token, and {config.model_type} has none; "
            "use mean or pooler"
        )
    options = {"interpolate_pos_encoding": True} if spec.image_size and _interpolates(model, dual) else {}
    settings = _without_origin(json.loads(model.config.to_json_string(use_diff=False)))
    image_parts = (
        _used_submodules(model, "get_image_features", pixel_values=_blank(size), **options) if dual else None
    )
    text = _text(snapshot, model, settings) if dual else None
    module = _rebuild_part(
        model, lambda: ImageVectors(_network(settings, pooling, image_parts), pooling, options)
    )
    measured = measure(module, size)
    encoder_config = EncoderConfig(
        library="transformers",
        name=spec.name,
        source={"weights": spec.weights, **snapshot.source()},
        random=False,
        config=settings,
        pooling=pooling,
        image_parts=image_parts,
        options=options,
        image_size=size,
        mean=list(processor.image_mean),
        std=list(processor.image_std),
        transform={
            "processor": type(processor).__name__,
            **_without_origin(json.loads(processor.to_json_string())),
        },
        licence=snapshot.licence(),
        versions=versions("transformers", "torchvision", "tokenizers"),
        dim=measured.dim,
        gflops=measured.gflops,
        **(_text_fields(model, text) if dual else {}),
    )
    if text is None:
        return Fetched(module, encoder_config)
    return Fetched(module, encoder_config, text.module, text.files)


def build(config: EncoderConfig) -> nn.Module:
    """The image tower: float32 [B, 3, H, W] -> [B, D]."""
    network = _network(config.config, config.pooling, config.image_parts)
    return ImageVectors(network, config.pooling, config.options)


def build_text(config: EncoderConfig) -> nn.Module:
    """The text tower: what `tokenizer` gives -> [N, D]."""
    assert config.text is not None, config.name
    return TextVectors(_network(config.config, config.pooling, config.text["parts"]))


def transform(config: EncoderConfig) -> Transform:
    """The checkpoint's own image processor."""
    settings = dict(config.transform)
    return Processed(getattr(transformers, settings.pop("processor")).from_dict(settings))


def tokenizer(config: EncoderConfig, folder: Path) -> Tokenizer:
    """Texts -> token ids [N, L] and the text tower's other inputs, by name.

    Texts that are longer than the tower's last position are cut there.
    """
    assert config.text is not None, config.name
    padding, max_length = config.text["padding"], config.text["max_length"]
    own = AutoTokenizer.from_pretrained(folder / "tokenizer", **_LOCAL)

    def tokenize(texts: list[str]) -> Tokens:
        return dict(own(texts, padding=padding, truncation=True, max_length=max_length, return_tensors="pt"))

    return tokenize


def _snapshot(spec: EncoderSettings) -> hub.Snapshot:
    """The row's repository. Raises UserError if it lacks what transformers needs."""
    scheme, _, rest = spec.weights.partition(":")
    patterns = ("config.json", *_WEIGHTS, *_PROCESSOR, *_TOKENIZER)
    if scheme not in ("hub", "file"):
        raise UserError(
            f"weights: {spec.weights} is not for transformers, whose networks come with a checkpoint; "
            "use hub or file:<folder>"
        )
    if spec.sha256 is not None:
        raise UserError(
            "sha256 is for one file, and transformers takes a repository; "
            "pin it with revision: <commit> instead"
        )
    snapshot = (
        hub.snapshot(spec.name, spec.revision, patterns) if scheme == "hub" else hub.folder(rest, patterns)
    )
    if not snapshot.has("config.json"):
        raise UserError(
            f"name: {snapshot.repository} has no config.json, so it is not for transformers; "
            "perhaps for timm or open_clip"
        )
    if not snapshot.has(*_PROCESSOR):
        raise UserError(
            f"name: {snapshot.repository} doesn't say how its images are prepared (no {_PROCESSOR[0]}); "
            "choose a checkpoint that does, or add the file to a copy of it and use weights: file:"
        )
    for name in ("config.json", *_PROCESSOR):
        if snapshot.has(name):
            snapshot.settings(name)
    if not snapshot.has("model.safetensors", "model.safetensors.index.json"):
        raise UserError(
            f"weights: {snapshot.repository} has no model.safetensors, and pickled weights are never opened; "
            f"{hub.safetensors_elsewhere(spec.name)}, or convert a copy and use weights: file:"
        )
    return snapshot


def _config(snapshot: hub.Snapshot) -> PreTrainedConfig:
    with explained(f"name: transformers {transformers.__version__} can't load {snapshot.repository}"):
        try:
            config = AutoConfig.from_pretrained(snapshot.folder, **_LOCAL)
            _model_class(config)
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            raise UserError(
                f"name: {snapshot.repository} needs code of its own, which is never run; "
                "choose another checkpoint"
            ) from None
    return config


def _processor(snapshot: hub.Snapshot, spec: EncoderSettings) -> Any:
    """The image processor, with the row's own size, mean and std where it states them."""
    with explained(f"name: the image processor of {snapshot.repository} can't be loaded"):
        processor: Any = AutoImageProcessor.from_pretrained(snapshot.folder, **_LOCAL)
    if not getattr(processor, "do_normalize", True):  # it may state a mean and std nevertheless
        processor.do_normalize = bool(spec.mean or spec.std)
        processor.image_mean, processor.image_std = [0.0] * 3, [1.0] * 3
    if getattr(processor, "image_mean", None) is None or getattr(processor, "image_std", None) is None:
        raise UserError(
            f"mean: the image processor of {snapshot.repository} names no mean and std; "
            "choose another checkpoint"
        )
    if spec.image_size:
        _resize(processor, spec.image_size)
    processor.image_mean = list(spec.mean or processor.image_mean)
    processor.image_std = list(spec.std or processor.image_std)
    return processor


def _resize(processor: Any, size: int) -> None:
    """Sets another size of the image; a size before cropping is scaled in proportion."""
    crop = dict(processor.crop_size or {}) if getattr(processor, "do_center_crop", False) else {}
    before = {key: value for key, value in dict(processor.size or {}).items() if value}
    native_px = crop.get("height") or before.get("height") or before.get("shortest_edge")
    if native_px is None or not set(before) <= {"height", "width", "shortest_edge"}:
        raise UserError(f"image_size: can't be set for an image processor with size {before}; leave it out")
    processor.size = type(processor.size)(
        **{key: round(value * size / native_px) for key, value in before.items()}
    )
    if crop:
        processor.crop_size = type(processor.crop_size)(height=size, width=size)


def _image_size(processor: Any, spec: EncoderSettings) -> int:
    """The side in pixels of the processor's output.

    Raises UserError unless that is a square of one size, whatever the photo.
    """
    with explained(f"name: the image processor of {spec.name} can't prepare a photo"):
        shapes = {
            tuple(_pixels(processor, Image.new("RGB", size, (90, 120, 150))).shape)
            for size in ((96, 64), (50, 80))
        }
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise UserError(
            f"name: the image processor of {spec.name} doesn't give one square RGB image, "
            f"but {sorted(shapes)}; choose another"
        )
    return shape[1]


def _pixels(processor: Any, image: Image.Image, **options: bool) -> torch.Tensor:
    """The processor's output for one image: [3, H, W], float32 unless an option says otherwise."""
    return processor(images=image, return_tensors="pt", **options)["pixel_values"][0]


def _pooling(spec: EncoderSettings, config: PreTrainedConfig, dual: bool) -> str | None:
    if dual and spec.pooling:
        raise UserError(
            f"pooling: {spec.pooling} is not for {config.model_type}, "
            "whose get_image_features gives the vector; remove it"
        )
    if not dual and not spec.pooling:
        raise UserError(
            f"pooling is missing for {config.model_type}; "
            "set cls (first token, usual for ViT and DINO), mean (of the patches) or pooler"
        )
    return spec.pooling


def _pretrained(snapshot: hub.Snapshot, config: PreTrainedConfig, pooling: str | None) -> PreTrainedModel:
    """The network in float32.

    Raises UserError if a tensor is missing: transformers would fill it with random numbers.
    """
    with explained(f"weights: transformers can't load {snapshot.repository}"):
        model, info = AutoModel.from_pretrained(
            snapshot.folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **_LOCAL,
            **_without_pooler(config, pooling),
        )
    missing = sorted(info["missing_keys"])
    if missing:
        hint = (
            "; use pooling: cls or mean"
            if pooling == "pooler" and any("pooler" in name for name in missing)
            else ""
        )
        raise UserError(
            f"weights: {snapshot.repository} has no tensor for {', '.join(missing[:3])} "
            f"({len(missing)} missing){hint}"
        )
    return model.eval()


def _without_pooler(config: PreTrainedConfig, pooling: str | None) -> dict[str, bool]:
    """The argument that builds a network without its pooler, which many checkpoints lack.

    Empty where the pooler gives the vector, or the network has none.
    """
    if (
        pooling in (None, "pooler")
        or "add_pooling_layer" not in inspect.signature(_model_class(config).__init__).parameters
    ):
        return {}
    return {"add_pooling_layer": False}


def _model_class(config: PreTrainedConfig) -> Any:
    classes = transformers.MODEL_MAPPING[type(config)]
    return classes[0] if isinstance(classes, (tuple, list)) else classes  # pyright: ignore


def _interpolates(model: PreTrainedModel, dual: bool) -> bool:
    """Whether the network has to be asked to interpolate its position embeddings.

    Other networks do so by themselves, or have none.
    """
    method: Any = model.get_image_features if dual else model.forward
    return "interpolate_pos_encoding" in inspect.signature(method).parameters


def _network(settings: JsonObject, pooling: str | None, parts: list[str] | None) -> PreTrainedModel:
    """The network of a config.json; parts: the submodules to keep, None for all."""
    options = dict(settings)
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    model = AutoModel.from_config(config, dtype=torch.float32, **_without_pooler(config, pooling))
    if parts is not None:
        _keep_submodules(model, parts)
    return model


def _keep_submodules(model: PreTrainedModel, parts: list[str]) -> None:
    """Removes all other submodules, and the network's own parameters.

    Those are a temperature and the like, which only scale similarities of images and texts.
    """
    for name in [name for name, _ in model.named_children() if name not in parts]:
        delattr(model, name)
    model._parameters.clear()  # pyright: ignore[reportPrivateUsage]


def _used_submodules(model: PreTrainedModel, method: str, **inputs: Any) -> list[str]:
    """Names of the network's submodules that one of its methods uses, in the order of their use."""
    used: list[str] = []
    hooks = [
        child.register_forward_pre_hook(lambda *_, name=name: used.append(name) if name not in used else None)
        for name, child in model.named_children()
    ]
    try:
        with (
            explained(f"image_size: {method} of {type(model).__name__} fails", "leave image_size out"),
            torch.inference_mode(),
        ):
            getattr(model, method)(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return used


def _rebuild_part(model: PreTrainedModel, make: Callable[[], nn.Module]) -> nn.Module:
    """The tower that `make` builds, with the model's own tensors."""
    module = on_meta_device(make)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    module.load_state_dict({name: tensors[name] for name in module.state_dict()}, assign=True)
    return module.eval()


def _text(snapshot: hub.Snapshot, model: PreTrainedModel, settings: JsonObject) -> _Text | None:
    """A dual encoder's text tower; None where the repository has no text tower or no tokenizer.

    Args:
        settings: of the network, as `_network` takes them.
    """
    if not hasattr(model, "get_text_features") or not any(
        "token" in name or "vocab" in name for name in snapshot.hashes
    ):
        return None
    try:
        with explained(f"the tokenizer of {snapshot.repository} can't be loaded"):
            own = AutoTokenizer.from_pretrained(snapshot.folder, **_LOCAL)
    except UserError as error:
        log.warning("%s, so this row can't be searched with texts", error)
        return None
    padding = "max_length" if model.config.model_type in _PADDED_TO_MAX_LENGTH else True
    lengths = {"padding": padding, "max_length": model.config.get_text_config().max_position_embeddings}
    tokens = dict(own(["a photo"], truncation=True, return_tensors="pt", **lengths))
    parts = _used_submodules(model, "get_text_features", **tokens)
    with tempfile.TemporaryDirectory() as folder:
        own.save_pretrained(folder)
        files = {
            f"tokenizer/{path.name}": path.read_bytes()
            for path in sorted(Path(folder).iterdir())
            if path.is_file()
        }
    module = _rebuild_part(model, lambda: TextVectors(_network(settings, None, parts)))
    return _Text({**lengths, "parts": parts}, module, files)


def _text_fields(model: PreTrainedModel, text: _Text | None) -> JsonObject:
    """A dual encoder's fields `text` and, where it has both a text tower and a scale, `logit_scale`."""
    if text is None:
        return {"text": None}
    scale = getattr(model, "logit_scale", None)
    scaled = {"logit_scale": float(scale.detach())} if isinstance(scale, torch.Tensor) else {}
    return {"text": text.settings, **scaled}


def _without_origin(settings: Any) -> Any:
    """Settings without the folder that they were read from and the version of transformers that read them."""
    if isinstance(settings, dict):
        return {
            key: _without_origin(value)
            for key, value in settings.items()
            if key not in ("_name_or_path", "transformers_version")
        }
    return settings


def _vector(output: Any) -> torch.Tensor:
    """The projected vectors: since transformers 5, `get_*_features` wrap them as `pooler_output`."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _blank(size: int) -> torch.Tensor:
    return torch.zeros(1, 3, size, size)
