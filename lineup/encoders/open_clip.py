"""Encoders of open_clip: each architecture with each of its tags, and repositories with their own config."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.model import _build_text_tower, _build_vision_tower  # pyright: ignore[reportPrivateUsage]
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torch import nn

from lineup.encoders import hub, records, weights
from lineup.encoders.encoder import Fetched, Tokenizer, Transform
from lineup.encoders.encoder_config import EncoderConfig, JsonObject
from lineup.encoders.libraries import versions
from lineup.encoders.measurement import measure
from lineup.encoders.meta_init import on_meta_device
from lineup.errors import UserError, explained, suggest
from lineup.settings.encoder import EncoderSettings

REPOSITORY = "hf-hub:"
_CONFIG = "open_clip_config.json"
_TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
# What a repository must state of its images; open_clip has defaults for the rest.
_REQUIRED_PREPROCESS = {"mean", "std"}


class ImageVectors(nn.Module):
    """pixels: float32 [B, 3, H, W] -> [B, D]: `encode_image`, not normalised."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] -> float32 [B, D]."""
        output = self.visual(pixels)
        return output[0] if isinstance(output, tuple) else output  # CoCa's tower returns its tokens, too


class TextVectors(nn.Module):
    """tokens: int64 [N, L] -> [N, D]: `encode_text`, not normalised."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [B, L] -> float32 [B, D]."""
        output = self.text(tokens)
        return output[0] if isinstance(output, tuple) else output


@dataclass
class _Checkpoint:
    """What a row names.

    Attributes:
        config: open_clip's settings of the architecture.
        preprocess: open_clip's settings of the transform.
        file: the weights, None for random ones.
        source: see `EncoderConfig.source`.
        tokenizer: the folder of the checkpoint's own tokenizer; None for the architecture's.
    """

    config: JsonObject
    preprocess: JsonObject
    file: Path | None
    source: JsonObject
    licence: str | None = None
    tokenizer: Path | None = None


class _Text(NamedTuple):
    """A text tower.

    Attributes:
        settings: the config's `text`.
        logit_scale: the logarithm of what cosines are multiplied by.
        module: tokens int64 [N, L] -> [N, D].
        files: content of the tokenizer's files, by path in the encoder's folder.
    """

    settings: JsonObject
    logit_scale: float
    module: nn.Module
    files: dict[str, bytes]


def fetch(spec: EncoderSettings) -> Fetched:
    """See `Library.fetch`."""
    checkpoint = _checkpoint(spec)
    config = checkpoint.config
    # All weights come from the checkpoint.
    config["vision_cfg"]["timm_model_pretrained"] = config["text_cfg"]["hf_model_pretrained"] = False
    if spec.image_size:
        config["vision_cfg"]["image_size"] = spec.image_size
    model = _model(spec, checkpoint)
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UserError(
            f"name: {spec.name} takes images of {height} x {width}, and only square ones are supported; "
            "choose another"
        )
    with explained(f"name: open_clip can't tell how {spec.name} prepares photos"):
        preprocess: JsonObject = {**_preprocess(checkpoint.preprocess, spec), "size": height}
    text = _text(spec, checkpoint, model)
    module = ImageVectors(model.visual).eval()
    measured = measure(module, height)
    scale: JsonObject = {"logit_scale": text.logit_scale} if text else {}
    encoder_config = EncoderConfig(
        library="open_clip",
        name=spec.name,
        source={"weights": spec.weights, **checkpoint.source},
        random=checkpoint.file is None,
        config=config,
        image_size=height,
        mean=preprocess["mean"],
        std=preprocess["std"],
        transform=preprocess,
        licence=checkpoint.licence,
        versions=versions("open_clip_torch", "timm", "torchvision"),
        dim=measured.dim,
        gflops=measured.gflops,
        text=text.settings if text else None,
        **scale,
    )
    if text is None:
        return Fetched(module, encoder_config)
    return Fetched(module, encoder_config, text.module, text.files)


def build(config: EncoderConfig) -> nn.Module:
    """The image tower: float32 [B, 3, H, W] -> [B, D]."""
    settings = config.config
    return ImageVectors(
        _build_vision_tower(settings["embed_dim"], settings["vision_cfg"], settings.get("quick_gelu", False))
    )


def build_text(config: EncoderConfig) -> nn.Module:
    """The text tower: tokens int64 [N, L] -> [N, D]."""
    return _text_tower(config.config)


def _text_tower(settings: JsonObject) -> nn.Module:
    return TextVectors(
        _build_text_tower(settings["embed_dim"], settings["text_cfg"], settings.get("quick_gelu", False))
    )


def transform(config: EncoderConfig) -> Transform:
    """open_clip's own transform for inference."""
    settings = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.transform.items()
    }
    return image_transform_v2(PreprocessCfg(**settings), is_train=False)  # type: ignore[return-value]


def tokenizer(config: EncoderConfig, folder: Path) -> Tokenizer:
    """Texts -> tokens int64 [N, L], by open_clip's tokenizer for the files that `fetch` handed over."""
    return open_clip.get_tokenizer(f"local-dir:{folder / 'tokenizer'}")


def _checkpoint(spec: EncoderSettings) -> _Checkpoint:
    scheme, _, rest = spec.weights.partition(":")
    if spec.name.startswith(REPOSITORY):
        return _repository(
            hub.snapshot(spec.name.removeprefix(REPOSITORY), spec.revision, _patterns(spec)), spec
        )
    if scheme == "file" and Path(rest).expanduser().is_dir():
        return _repository(hub.folder(rest, _patterns(spec)), spec)
    config = open_clip.get_model_config(spec.name)
    if config is None:
        raise UserError(
            f"name: open_clip has no architecture '{spec.name}'{suggest(spec.name, open_clip.list_models())}"
        )
    if scheme == "hub":
        return _tagged(spec, config, rest)
    tag = _tag(spec, config)
    preprocess = open_clip.get_pretrained_cfg(spec.name, tag) if tag else {}
    if scheme == "none":
        return _Checkpoint(config, preprocess, None, {"record": tag, "sha256": None})
    path = weights.find(spec.weights)
    weights.read(path, spec.sha256)  # to check the hash, and that the file holds nothing but tensors
    return _Checkpoint(config, preprocess, path, {"record": tag, "sha256": weights.digest(path)})


def _tag(spec: EncoderSettings, config: JsonObject) -> str | None:
    """The tag whose transform the weights of a single file get; None for open_clip's default transform.

    Raises UserError if nothing states which transform the file was trained with.
    """
    listed = {
        tag: open_clip.get_pretrained_cfg(spec.name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(spec.name)
    }
    if spec.transform and spec.transform in listed:
        _check_activation(spec, spec.transform, listed[spec.transform], config)
    transforms = {
        tag: _preprocess(record, spec)
        for tag, record in listed.items()
        if _activation(record) == _activation(config)
    }
    if transforms:
        return records.tag(spec, transforms)
    if spec.transform:
        raise UserError(f"transform: open_clip lists no checkpoint of {spec.name}; set mean and std instead")
    if spec.weights != "none" and not (spec.mean and spec.std):
        default = PreprocessCfg()
        raise UserError(
            f"mean and std are missing: open_clip lists no checkpoint of {spec.name} that states them; "
            f"set those that the file was trained with (open_clip's default is mean: {[*default.mean]} and "
            f"std: {[*default.std]}), or name a folder that has its {_CONFIG}"
        )
    return None


def _preprocess(record: JsonObject, spec: EncoderSettings) -> JsonObject:
    """A record's settings of the transform, with the row's own mean and std where it states them."""
    stated = merge_preprocess_dict(PreprocessCfg(), record)
    return stated | {"mean": list(spec.mean or stated["mean"]), "std": list(spec.std or stated["std"])}


def _activation(settings: JsonObject) -> str:
    return "QuickGELU" if settings.get("quick_gelu") else "GELU"


def _check_activation(spec: EncoderSettings, tag: str, record: JsonObject, config: JsonObject) -> None:
    if _activation(record) != _activation(config):
        other = spec.name.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{spec.name}-quickgelu"
        raise UserError(
            f"name: {tag} was trained with another activation than {spec.name}'s; use name: {other}"
        )


def _patterns(spec: EncoderSettings) -> tuple[str, ...]:
    """A repository's files that are downloaded.

    Pickled weights are among them only where the row vouches for them by their hash.
    """
    return (
        _CONFIG,
        "open_clip_model.safetensors",
        *_TOKENIZER,
        *(("open_clip_pytorch_model.bin",) if spec.sha256 else ()),
    )


def _repository(snapshot: hub.Snapshot, spec: EncoderSettings) -> _Checkpoint:
    """A repository as open_clip's push_to_hf_hub writes it, or a folder with its files."""
    records.refuse_transform(spec, snapshot.repository)
    if not snapshot.has(_CONFIG):
        raise UserError(
            f"name: {snapshot.repository} has no {_CONFIG}, so it is not for open_clip; "
            "perhaps for transformers or timm"
        )
    content = snapshot.settings(_CONFIG)
    config: Any = content.get("model_cfg")
    preprocess = content.get("preprocess_cfg")
    has_towers = isinstance(config, dict) and all(
        isinstance(config.get(tower), dict) for tower in ("vision_cfg", "text_cfg")
    )
    if not has_towers or not isinstance(preprocess, dict) or not preprocess.keys() >= _REQUIRED_PREPROCESS:
        missing = "preprocess_cfg with mean and std" if has_towers else "model_cfg"
        raise UserError(
            f"name: {_CONFIG} of {snapshot.repository} lacks {missing}; "
            "choose another checkpoint, or correct a copy of it and use weights: file:"
        )
    tokenizer = snapshot.folder if snapshot.has("tokenizer.json", "tokenizer_config.json") else None
    return _Checkpoint(
        config, preprocess, _weights_file(snapshot, spec), snapshot.source(), snapshot.licence(), tokenizer
    )


def _tagged(spec: EncoderSettings, config: JsonObject, tag: str) -> _Checkpoint:
    """One of the architecture's pretrained tags, as open_clip lists them, with its own transform."""
    listed = open_clip.get_pretrained_cfg(spec.name, tag)
    if not listed:
        tags = open_clip.list_pretrained_tags_by_model(spec.name)
        raise UserError(f"weights: open_clip has no '{tag}' for {spec.name}{suggest(tag, tags)}")
    _check_activation(spec, tag, listed, config)
    repository, _, file = listed["hf_hub"].rpartition("/")  # pyright: ignore[reportAttributeAccessIssue]
    if not repository:
        raise UserError(
            f"weights: {tag} of {spec.name} is on no hub but {listed['url']}; "
            "download the file and use weights: file:"
        )
    snapshot = hub.snapshot(repository, spec.revision, (*_patterns(spec), *_safe_names(file, spec)))
    return _Checkpoint(
        config, listed, _weights_file(snapshot, spec, file), snapshot.source(), snapshot.licence()
    )


def _safe_names(file: str, spec: EncoderSettings) -> tuple[str, ...]:
    """The files that may be opened in place of `file`, which a tag names; empty if it names none.

    It is the safetensors file beside it, and the file itself where the row vouches for it by its hash.
    """
    if not file:
        return ()
    return (
        f"{Path(file).stem}.safetensors",
        *((file,) if spec.sha256 or file.endswith(".safetensors") else ()),
    )


def _weights_file(snapshot: hub.Snapshot, spec: EncoderSettings, file: str = "") -> Path:
    """The weights in a snapshot. Raises UserError if there are none that may be opened."""
    for name in (
        *_safe_names(file, spec),
        *(n for n in _patterns(spec) if n.endswith((".safetensors", ".bin"))),
    ):
        path = snapshot.folder / name
        if path.is_file():
            if spec.sha256:
                weights.read(path, spec.sha256)
            return path
    raise UserError(
        f"weights: {snapshot.repository} has no safetensors, "
        "and pickled weights are opened only if you vouch for them with sha256:; "
        "set a revision that has safetensors, or use a copy with weights: file:"
    )


def _model(spec: EncoderSettings, checkpoint: _Checkpoint) -> Any:
    """open_clip's network of both towers, with its weights in memory once."""
    config, file = checkpoint.config, checkpoint.file
    if file is None:
        with explained(f"name: open_clip can't build {spec.name}"):
            return _create(config).eval()
    with explained(f"weights: {file.name} doesn't fit {spec.name}"):
        return on_meta_device(lambda: _loaded(config, str(file))).float().eval()


def _loaded(config: JsonObject, file: str) -> Any:
    model = _create(config)
    load_checkpoint(model, file)
    return model


def _create(config: JsonObject) -> Any:
    """The network of a configuration, of the class that open_clip's factory chooses."""
    options = {name: value for name, value in config.items() if name != "custom_text"}
    if name := config["text_cfg"].get("hf_model_name"):
        # open_clip would ask the hub for this config each time that a network is built.
        options["text_cfg"] = {
            **config["text_cfg"],
            "hf_model_name": str(hub.snapshot(name, None, ("config.json",)).folder),
        }
    if "multimodal_cfg" in config:
        kind: Any = open_clip.CoCa
    else:
        kind = (
            open_clip.CustomTextCLIP
            if config.get("custom_text") or "hf_model_name" in config["text_cfg"]
            else open_clip.CLIP
        )
    return kind(**options)


def _text(spec: EncoderSettings, checkpoint: _Checkpoint, model: Any) -> _Text | None:
    """The text tower of `model`; None where it is a network of another library, or CoCa's."""
    config = checkpoint.config
    if "hf_model_name" in config["text_cfg"] or "multimodal_cfg" in config:
        return None
    files = {f"tokenizer/{_CONFIG}": json.dumps({"model_cfg": config}, indent=1, sort_keys=True).encode()}
    if name := config["text_cfg"].get("hf_tokenizer_name"):
        source = checkpoint.tokenizer or hub.snapshot(name, None, ("config.json", *_TOKENIZER)).folder
        with (
            explained(f"name: the tokenizer of {spec.name} can't be loaded"),
            tempfile.TemporaryDirectory() as folder,
        ):
            HFTokenizer(str(source), **config["text_cfg"].get("tokenizer_kwargs", {})).save_pretrained(folder)
            files |= {
                f"tokenizer/{path.name}": path.read_bytes()
                for path in sorted(Path(folder).iterdir())
                if path.is_file()
            }
    module = on_meta_device(lambda: _text_tower(config))
    # The class CLIP holds the parts of its text tower itself.
    tensors = model.text.state_dict() if hasattr(model, "text") else model.state_dict()
    module.load_state_dict(
        {name: tensors[name.removeprefix("text.")] for name in module.state_dict()}, assign=True
    )
    return _Text(
        settings={"context_length": config["text_cfg"].get("context_length", 77)},
        logit_scale=float(model.logit_scale.detach()),
        module=module.eval(),
        files=files,
    )
