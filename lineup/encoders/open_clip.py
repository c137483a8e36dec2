"""Encoders of open_clip: any architecture with any pretrained tag, and repositories with a configuration of
their own.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.model import _build_text_tower, _build_vision_tower
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torch import nn

from lineup.encoders import encoder as encoders
from lineup.encoders import hub, records, weights
from lineup.encoders.encoder import Fetched, Tokenizer, Transform
from lineup.errors import UserError, explained, suggest
from lineup.settings.params import Encoder

REPOSITORY = "hf-hub:"
_CONFIG = "open_clip_config.json"
_TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
_PREPARED = {
    "mean",
    "std",
}  # what a checkpoint must say about its images; the rest has defaults of open_clip's own


class ImageVectors(nn.Module):
    """pixels: float32 [B, 3, H, W] -> [B, D]: `encode_image`, not normalised."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output = self.visual(pixels)
        return output[0] if isinstance(output, tuple) else output  # CoCa's tower gives its tokens too


class TextVectors(nn.Module):
    """tokens: int64 [N, L] -> [N, D]: `encode_text`, not normalised."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        output = self.text(tokens)
        return output[0] if isinstance(output, tuple) else output


@dataclass
class _Checkpoint:
    """What a row names. config: the architecture; preprocess: of its images; file: null for random weights."""

    config: dict[str, Any]
    preprocess: dict[str, Any]
    file: Path | None
    source: dict[str, Any]
    licence: str | None = None
    tokenizer: Path | None = None  # a folder that has its own; null: the architecture's


def fetch(spec: Encoder) -> Fetched:
    checkpoint = _checkpoint(spec)
    config = checkpoint.config
    config["vision_cfg"]["timm_model_pretrained"] = config["text_cfg"]["hf_model_pretrained"] = (
        False  # weights come from the checkpoint
    )
    if spec.image_size:
        config["vision_cfg"]["image_size"] = spec.image_size
    model = _model(spec, checkpoint)
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UserError(
            f"name: {spec.name} takes images of {height} x {width}, and only square ones are supported; choose another"
        )
    with explained(f"name: open_clip can't tell how {spec.name} prepares photos"):
        preprocess = _preprocess(checkpoint.preprocess, spec) | {"size": height}
    facts: dict[str, Any] = {
        "library": "open_clip",
        "name": spec.name,
        "source": {"weights": spec.weights, **checkpoint.source},
        "random": checkpoint.file is None,
        "config": config,
        "image_size": height,
        "mean": preprocess["mean"],
        "std": preprocess["std"],
        "transform": preprocess,
        "licence": checkpoint.licence,
        "versions": encoders.versions("open_clip_torch", "timm", "torchvision"),
    }
    text, files = _text(spec, checkpoint, model, facts)
    module = ImageVectors(model.visual).eval()
    return Fetched(module, {**facts, **encoders.measure(module, height)}, text, files)


def build(facts: dict[str, Any]) -> nn.Module:
    """float32 [B, 3, H, W] -> [B, D]; without the text tower."""
    config = facts["config"]
    return ImageVectors(
        _build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))
    )


def build_text(facts: dict[str, Any]) -> nn.Module:
    """int64 [N, L] -> [N, D]; without the image tower."""
    config = facts["config"]
    return TextVectors(
        _build_text_tower(config["embed_dim"], config["text_cfg"], config.get("quick_gelu", False))
    )


def transform(facts: dict[str, Any]) -> Transform:
    """open_clip's own transform for inference."""
    how = {
        key: tuple(value) if isinstance(value, list) else value for key, value in facts["transform"].items()
    }
    return image_transform_v2(PreprocessCfg(**how), is_train=False)  # type: ignore[return-value]


def tokenizer(facts: dict[str, Any], folder: Path) -> Tokenizer:
    """texts -> int64 [N, L], as open_clip's get_tokenizer makes it from a repository in a folder."""
    return open_clip.get_tokenizer(f"local-dir:{folder / 'tokenizer'}")


def _checkpoint(spec: Encoder) -> _Checkpoint:
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
    weights.read(path, spec.sha256)  # checks the hash, and that nothing but tensors is in it
    return _Checkpoint(config, preprocess, path, {"record": tag, "sha256": weights.digest(path)})


def _tag(spec: Encoder, config: dict[str, Any]) -> str | None:
    """The architecture's tag whose transform a single file gets; null for the transform of open_clip's own
    trainings.

    UserError if nothing says which transform it is.
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
        raise UserError(f"transform: open_clip lists no checkpoint of {spec.name}; say mean and std instead")
    if spec.weights != "none" and not (spec.mean and spec.std):
        default = PreprocessCfg()
        raise UserError(
            f"mean and std are missing: open_clip lists no checkpoint of {spec.name} that tells them; say how the file was trained, "
            f"as open_clip does by default with mean: {[*default.mean]} and std: {[*default.std]}, or name a folder that has its {_CONFIG}"
        )
    return None


def _preprocess(record: dict[str, Any], spec: Encoder) -> dict[str, Any]:
    """open_clip's settings of a transform as a record states them, with the row's own mean and std where it
    names some.
    """
    stated = merge_preprocess_dict(PreprocessCfg(), record)
    return stated | {"mean": list(spec.mean or stated["mean"]), "std": list(spec.std or stated["std"])}


def _activation(settings: dict[str, Any]) -> str:
    return "QuickGELU" if settings.get("quick_gelu") else "GELU"


def _check_activation(spec: Encoder, tag: str, record: dict[str, Any], config: dict[str, Any]) -> None:
    if _activation(record) != _activation(config):
        other = spec.name.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{spec.name}-quickgelu"
        raise UserError(
            f"name: {tag} was trained with another activation than {spec.name}'s; say name: {other}"
        )


def _patterns(spec: Encoder) -> tuple[str, ...]:
    """Pickled weights are asked for only where the row vouches for them by their hash."""
    return (
        _CONFIG,
        "open_clip_model.safetensors",
        *_TOKENIZER,
        *(("open_clip_pytorch_model.bin",) if spec.sha256 else ()),
    )


def _repository(snapshot: hub.Snapshot, spec: Encoder) -> _Checkpoint:
    """A repository as open_clip's push_to_hf_hub writes it, or a folder with its files."""
    records.refuse_transform(spec, snapshot.repository)
    if not snapshot.has(_CONFIG):
        raise UserError(
            f"name: {snapshot.repository} has no {_CONFIG}, so it is not for open_clip; perhaps for transformers or timm"
        )
    content = snapshot.settings(_CONFIG)
    config: Any = content.get("model_cfg")
    preprocess = content.get("preprocess_cfg")
    known = isinstance(config, dict) and all(
        isinstance(config.get(tower), dict) for tower in ("vision_cfg", "text_cfg")
    )
    if not known or not isinstance(preprocess, dict) or not preprocess.keys() >= _PREPARED:
        raise UserError(
            f"name: {_CONFIG} of {snapshot.repository} lacks {'preprocess_cfg with mean and std' if known else 'model_cfg'}; "
            "choose another checkpoint, or mend a copy of it and name that with weights: file:"
        )
    tokenizer = snapshot.folder if snapshot.has("tokenizer.json", "tokenizer_config.json") else None
    return _Checkpoint(
        config, preprocess, _weights_file(snapshot, spec), snapshot.source(), snapshot.licence(), tokenizer
    )


def _tagged(spec: Encoder, config: dict[str, Any], tag: str) -> _Checkpoint:
    """One of the architecture's pretrained tags, as open_clip lists them, with its own preprocessing."""
    listed = open_clip.get_pretrained_cfg(spec.name, tag)
    if not listed:
        tags = open_clip.list_pretrained_tags_by_model(spec.name)
        raise UserError(f"weights: open_clip has no '{tag}' for {spec.name}{suggest(tag, tags)}")
    _check_activation(spec, tag, listed, config)
    repository, _, file = listed["hf_hub"].rpartition("/")
    if not repository:
        raise UserError(
            f"weights: {tag} of {spec.name} is on no hub but {listed['url']}; get the file and name it with weights: file:"
        )
    snapshot = hub.snapshot(repository, spec.revision, (*_patterns(spec), *_safe_names(file, spec)))
    return _Checkpoint(
        config, listed, _weights_file(snapshot, spec, file), snapshot.source(), snapshot.licence()
    )


def _safe_names(file: str, spec: Encoder) -> tuple[str, ...]:
    """A tag may name its own file.

    The safetensors beside it is taken, or itself where the row vouches for it.
    """
    if not file:
        return ()
    return (
        f"{Path(file).stem}.safetensors",
        *((file,) if spec.sha256 or file.endswith(".safetensors") else ()),
    )


def _weights_file(snapshot: hub.Snapshot, spec: Encoder, file: str = "") -> Path:
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
        f"weights: {snapshot.repository} has no safetensors, and pickled weights are opened only if you vouch for them with sha256:; "
        "name a revision that has them, or a copy of yours with weights: file:"
    )


def _model(spec: Encoder, checkpoint: _Checkpoint) -> Any:
    """open_clip's whole network, with its weights in memory once."""
    config, file = checkpoint.config, checkpoint.file
    if file is None:
        with explained(f"name: open_clip can't build {spec.name}"):
            return _create(config).eval()
    with explained(f"weights: {file.name} doesn't fit {spec.name}"):
        return encoders.empty(lambda: _loaded(config, str(file))).float().eval()


def _loaded(config: dict[str, Any], file: str) -> Any:
    model = _create(config)
    load_checkpoint(model, file)
    return model


def _create(config: dict[str, Any]) -> Any:
    """The network of a configuration, as open_clip's factory chooses its class."""
    options = {name: value for name, value in config.items() if name != "custom_text"}
    if name := config["text_cfg"].get(
        "hf_model_name"
    ):  # open_clip would ask the hub for it by itself, again and again
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


def _text(
    spec: Encoder, checkpoint: _Checkpoint, model: Any, facts: dict[str, Any]
) -> tuple[nn.Module | None, dict[str, bytes]]:
    """The text tower and its tokenizer's files.

    Adds the facts `text` (null for a network of another library) and `logit_scale`.
    """
    facts["text"] = None
    config = checkpoint.config
    if "hf_model_name" in config["text_cfg"] or "multimodal_cfg" in config:
        return None, {}
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
    facts["text"] = {"context_length": config["text_cfg"].get("context_length", 77)}
    facts["logit_scale"] = float(model.logit_scale.detach())
    module = encoders.empty(lambda: build_text(facts))
    own = (
        model.text.state_dict() if hasattr(model, "text") else model.state_dict()
    )  # CLIP keeps its text tower's parts itself
    module.load_state_dict(
        {name: own[name.removeprefix("text.")] for name in module.state_dict()}, assign=True
    )
    return module.eval(), files
