"""Encoders of transformers: CLIP, SigLIP, ViT, DINOv2, DINOv3, and what else AutoModel loads with an image
processor.
"""

from __future__ import annotations

import inspect
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

from lineup.encoders import encoder as encoders
from lineup.encoders import hub
from lineup.encoders.encoder import Fetched, Tokenizer, Transform
from lineup.errors import UserError, explained
from lineup.settings.params import Encoder

# Never pickles: those are not asked for, so they are not even downloaded.
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
_CLS_TOKENS = ("cls_token", "class_token", "class_embedding")  # as its parameter is called
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# Trained on text that was always filled up to the full length, as their documentation says.
_PADDED_TO_THE_END = ("siglip", "siglip2")

log = logging.getLogger(__name__)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class ImageVectors(nn.Module):
    """pixels: float32 [B, 3, H, W] -> [B, D]: `get_image_features` of a dual encoder, else the pooled last
    hidden state.
    """

    def __init__(self, model: PreTrainedModel, pooling: str | None, options: dict[str, bool]) -> None:
        super().__init__()
        self.model, self.pooling, self.options = model, pooling, options

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
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
        """How many tokens at the end are patches of the image; CLS and register tokens come before them."""
        patch = getattr(self.model.config, "patch_size", None)
        return (pixels.shape[2] // patch) * (pixels.shape[3] // patch) if isinstance(patch, int) else 0


class TextVectors(nn.Module):
    """What the tokenizer gives -> [B, D]: `get_text_features`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return _vector(self.model.get_text_features(**tokens))  # type: ignore[operator]


class Processed:
    """RGB image -> float32 [3, H, W] by an image processor.

    transforms: the same in steps, as a Compose has them.
    """

    def __init__(self, processor: Any) -> None:
        self._processor, self.transforms = processor, (self._sized, Rescaled(processor))

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return _pixels(self._processor, image)

    def _sized(self, image: Image.Image) -> npt.NDArray[Any]:
        """[H, W, RGB], of 8 bits where the processor resizes such."""
        return _pixels(self._processor, image, do_rescale=False, do_normalize=False).permute(1, 2, 0).numpy()


class Rescaled:
    """RGB image -> float32 [3, H, W] of its size: an image processor's last step alone."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._off = {
            step: False
            for step in ("do_resize", "do_center_crop", "do_pad")
            if getattr(processor, step, None)
        }

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return _pixels(self._processor, image, **self._off)


def fetch(spec: Encoder) -> Fetched:
    snapshot = _snapshot(spec)
    config = _config(snapshot)
    processor = _processor(snapshot, spec)
    size = _image_size(processor, spec)
    dual = hasattr(_model_class(config), "get_image_features")
    pooling = _pooling(spec, config, dual)
    model = _pretrained(snapshot, config, pooling)
    if pooling == "cls" and not any(name.endswith(_CLS_TOKENS) for name, _ in model.named_parameters()):
        raise UserError(
            f"pooling: cls is for networks with a class token, and {config.model_type} has none; say mean or pooler"
        )
    options = {"interpolate_pos_encoding": True} if spec.image_size and _interpolates(model, dual) else {}
    facts: dict[str, Any] = {
        "library": "transformers",
        "name": spec.name,
        "source": {"weights": spec.weights, **snapshot.source()},
        "random": False,
        "config": _lasting(json.loads(model.config.to_json_string(use_diff=False))),
        "pooling": pooling,
        "image_parts": _called(model, "get_image_features", pixel_values=_blank(size), **options)
        if dual
        else None,
        "options": options,
        "image_size": size,
        "mean": list(processor.image_mean),
        "std": list(processor.image_std),
        "transform": {
            "processor": type(processor).__name__,
            **_lasting(json.loads(processor.to_json_string())),
        },
        "licence": snapshot.licence(),
        "versions": encoders.versions("transformers", "torchvision", "tokenizers"),
    }
    text, files = _text(snapshot, model, facts) if dual else (None, {})
    module = _part(model, build, facts)
    return Fetched(module, {**facts, **encoders.measure(module, size)}, text, files)


def build(facts: dict[str, Any]) -> nn.Module:
    """float32 [B, 3, H, W] -> [B, D]; without the text tower."""
    return ImageVectors(_only(facts, facts["image_parts"]), facts["pooling"], facts["options"])


def build_text(facts: dict[str, Any]) -> nn.Module:
    """What `tokenizer` gives -> [B, D]; without the image tower."""
    return TextVectors(_only(facts, facts["text"]["parts"]))


def transform(facts: dict[str, Any]) -> Transform:
    """The checkpoint's own image processor."""
    how = dict(facts["transform"])
    return Processed(getattr(transformers, how.pop("processor")).from_dict(how))


def tokenizer(facts: dict[str, Any], folder: Path) -> Tokenizer:
    """texts -> token ids [N, L] and what else the text tower takes.

    Longer texts are cut at its last position.
    """
    own = AutoTokenizer.from_pretrained(folder / "tokenizer", **_LOCAL)

    def tokenize(texts: list[str]) -> Mapping[str, torch.Tensor]:
        how = facts["text"]
        return dict(
            own(
                texts,
                padding=how["padding"],
                truncation=True,
                max_length=how["max_length"],
                return_tensors="pt",
            )
        )

    return tokenize


def _snapshot(spec: Encoder) -> hub.Snapshot:
    scheme, _, rest = spec.weights.partition(":")
    patterns = ("config.json", *_WEIGHTS, *_PROCESSOR, *_TOKENIZER)
    if scheme not in ("hub", "file"):
        raise UserError(
            f"weights: {spec.weights} is not for transformers, whose networks come with a checkpoint; say hub or file:<folder>"
        )
    if spec.sha256 is not None:
        raise UserError(
            "sha256 is for one file, and transformers takes a repository; pin it with revision: <commit> instead"
        )
    found = (
        hub.snapshot(spec.name, spec.revision, patterns) if scheme == "hub" else hub.folder(rest, patterns)
    )
    if not found.has("config.json"):
        raise UserError(
            f"name: {found.repository} has no config.json, so it is not for transformers; perhaps for timm or open_clip"
        )
    if not found.has(*_PROCESSOR):
        raise UserError(
            f"name: {found.repository} doesn't say how its images are prepared (no {_PROCESSOR[0]}); choose a checkpoint that does, "
            "or add the file to a copy of it and name that with weights: file:"
        )
    for name in ("config.json", *_PROCESSOR):
        if found.has(name):
            found.settings(name)
    if not found.has("model.safetensors", "model.safetensors.index.json"):
        raise UserError(
            f"weights: {found.repository} has no model.safetensors, and pickled weights are never opened; "
            f"{hub.safetensors_elsewhere(spec.name)}, or convert a copy and name that with weights: file:"
        )
    return found


def _config(snapshot: hub.Snapshot) -> PreTrainedConfig:
    with explained(f"name: transformers {transformers.__version__} can't load {snapshot.repository}"):
        try:
            config = AutoConfig.from_pretrained(snapshot.folder, **_LOCAL)
            _model_class(config)
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            raise UserError(
                f"name: {snapshot.repository} needs code of its own, which is never run; choose another checkpoint"
            ) from None
    return config


def _processor(snapshot: hub.Snapshot, spec: Encoder) -> Any:
    """The image processor, with the row's own size, mean and std where it names some."""
    with explained(f"name: the image processor of {snapshot.repository} can't be loaded"):
        processor: Any = AutoImageProcessor.from_pretrained(snapshot.folder, **_LOCAL)
    if not getattr(processor, "do_normalize", True):  # it may name a mean and std all the same
        processor.do_normalize = bool(spec.mean or spec.std)
        processor.image_mean, processor.image_std = [0.0] * 3, [1.0] * 3
    if getattr(processor, "image_mean", None) is None or getattr(processor, "image_std", None) is None:
        raise UserError(
            f"mean: the image processor of {snapshot.repository} names no mean and std; choose another checkpoint"
        )
    if spec.image_size:
        _resize(processor, spec.image_size)
    processor.image_mean = list(spec.mean or processor.image_mean)
    processor.image_std = list(spec.std or processor.image_std)
    return processor


def _resize(processor: Any, size: int) -> None:
    """Another size of the image; what is resized first and cropped then keeps its proportion."""
    crop = dict(processor.crop_size or {}) if getattr(processor, "do_center_crop", False) else {}
    before = {key: value for key, value in dict(processor.size or {}).items() if value}
    made_for = crop.get("height") or before.get("height") or before.get("shortest_edge")
    if made_for is None or not set(before) <= {"height", "width", "shortest_edge"}:
        raise UserError(f"image_size: can't be set for an image processor with size {before}; leave it out")
    processor.size = type(processor.size)(
        **{key: round(value * size / made_for) for key, value in before.items()}
    )
    if crop:
        processor.crop_size = type(processor.crop_size)(height=size, width=size)


def _image_size(processor: Any, spec: Encoder) -> int:
    """The side of what the processor gives, which must be one square whatever the photo."""
    with explained(f"name: the image processor of {spec.name} can't prepare a photo"):
        shapes = {
            tuple(_pixels(processor, Image.new("RGB", size, (90, 120, 150))).shape)
            for size in ((96, 64), (50, 80))
        }
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise UserError(
            f"name: the image processor of {spec.name} doesn't give one square RGB image, but {sorted(shapes)}; choose another"
        )
    return shape[1]


def _pixels(processor: Any, image: Image.Image, **options: bool) -> torch.Tensor:
    """[3, H, W], float32 unless an option says otherwise."""
    return processor(images=image, return_tensors="pt", **options)["pixel_values"][0]


def _pooling(spec: Encoder, config: PreTrainedConfig, dual: bool) -> str | None:
    if dual and spec.pooling:
        raise UserError(
            f"pooling: {spec.pooling} is not for {config.model_type}, whose get_image_features gives the vector; remove it"
        )
    if not dual and not spec.pooling:
        raise UserError(
            f"pooling is missing for {config.model_type}: say cls (first token, usual for ViT and DINO), mean (of the patches) or pooler"
        )
    return spec.pooling


def _pretrained(snapshot: hub.Snapshot, config: PreTrainedConfig, pooling: str | None) -> PreTrainedModel:
    """The network in float32.

    UserError where a tensor is missing, which transformers would fill with random numbers.
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
            "; say pooling: cls or mean"
            if pooling == "pooler" and any("pooler" in name for name in missing)
            else ""
        )
        raise UserError(
            f"weights: {snapshot.repository} has no tensor for {', '.join(missing[:3])} ({len(missing)} missing){hint}"
        )
    return model.eval()


def _without_pooler(config: PreTrainedConfig, pooling: str | None) -> dict[str, bool]:
    """Many checkpoints have no pooler; where it isn't asked for, none is built."""
    if (
        pooling in (None, "pooler")
        or "add_pooling_layer" not in inspect.signature(_model_class(config).__init__).parameters
    ):
        return {}
    return {"add_pooling_layer": False}


def _model_class(config: PreTrainedConfig) -> Any:
    found = transformers.MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, (tuple, list)) else found


def _interpolates(model: PreTrainedModel, dual: bool) -> bool:
    """Whether position embeddings are only fitted to another image size on demand.

    Others do so themselves, or have none.
    """
    method: Any = model.get_image_features if dual else model.forward
    return "interpolate_pos_encoding" in inspect.signature(method).parameters


def _only(facts: dict[str, Any], parts: list[str] | None) -> PreTrainedModel:
    """The network of `facts`, with just those of its parts; None: all."""
    options = dict(facts["config"])
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    model = AutoModel.from_config(config, dtype=torch.float32, **_without_pooler(config, facts["pooling"]))
    if parts is not None:
        for name in [name for name, _ in model.named_children() if name not in parts]:
            delattr(model, name)
        model._parameters.clear()  # a temperature and the like: they scale similarities of images and texts
    return model


def _called(model: PreTrainedModel, method: str, **inputs: Any) -> list[str]:
    """The parts of a network that one of its methods uses."""
    called: list[str] = []
    hooks = [
        child.register_forward_pre_hook(
            lambda *_, name=name: called.append(name) if name not in called else None
        )
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
    return called


def _part(model: PreTrainedModel, make: Any, facts: dict[str, Any]) -> nn.Module:
    """What `make` (`build`, `build_text`) rebuilds from the facts, sharing the model's tensors."""
    module = encoders.empty(lambda: make(facts))
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    module.load_state_dict({name: tensors[name] for name in module.state_dict()}, assign=True)
    return module.eval()


def _text(
    snapshot: hub.Snapshot, model: PreTrainedModel, facts: dict[str, Any]
) -> tuple[nn.Module | None, dict[str, bytes]]:
    """The text tower and its tokenizer's files.

    Nothing where a checkpoint has none of its own. Adds the facts `text` and `logit_scale`.
    """
    facts["text"] = None
    if not hasattr(model, "get_text_features") or not any(
        "token" in name or "vocab" in name for name in snapshot.hashes
    ):
        return None, {}
    try:
        with explained(f"the tokenizer of {snapshot.repository} can't be loaded"):
            own = AutoTokenizer.from_pretrained(snapshot.folder, **_LOCAL)
    except UserError as error:
        log.warning("%s, so this row can't be searched with texts", error)
        return None, {}
    kind = model.config.model_type
    longest = model.config.get_text_config().max_position_embeddings
    how = {"padding": "max_length" if kind in _PADDED_TO_THE_END else True, "max_length": longest}
    if isinstance(scale := getattr(model, "logit_scale", None), torch.Tensor):
        facts["logit_scale"] = float(scale.detach())
    tokens = dict(own(["a photo"], truncation=True, return_tensors="pt", **how))
    facts["text"] = {**how, "parts": _called(model, "get_text_features", **tokens)}
    with tempfile.TemporaryDirectory() as folder:
        own.save_pretrained(folder)
        files = {
            f"tokenizer/{path.name}": path.read_bytes()
            for path in sorted(Path(folder).iterdir())
            if path.is_file()
        }
    return _part(model, build_text, facts), files


def _lasting(settings: Any) -> Any:
    """Without what differs between machines: the folder that a configuration was read from, the version that
    read it.
    """
    if isinstance(settings, dict):
        return {
            key: _lasting(value)
            for key, value in settings.items()
            if key not in ("_name_or_path", "transformers_version")
        }
    return settings


def _vector(output: Any) -> torch.Tensor:
    """Since transformers 5, `get_*_features` give an output whose `pooler_output` is the projected vector."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _blank(size: int) -> torch.Tensor:
    return torch.zeros(1, 3, size, size)
