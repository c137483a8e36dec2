"""Encoders: networks that map an image to a vector, one library per file.

A library's file (`torchvision.py`, `timm.py`, ...) is found by its name and offers three functions:

    fetch(spec: params.Encoder) -> Fetched        the network with its weights, and all facts needed to
        rebuild it
    build(facts: dict) -> nn.Module               the network without weights: float32 [B, 3, H, W] -> [B, D]
    transform(facts: dict) -> Transform           upright RGB image -> float32 [3, H, W], as the checkpoint
        was trained

An encoder on disk is a folder of `model.safetensors` and `encoder.json` (the facts); it needs no network.

Facts that every library gives: library, name, source (`weights` as the row says, `sha256` of its file or
null, what else names it), random, dim, image_size, mean, std, transform (in words and numbers), gflops,
licence, versions. The stage adds
`resize_px` (see the function). All facts but those in `NOT_DECIDING` decide the vectors: they are part of the
fingerprint under which `embed` keeps them. A dual encoder has those in `OF_TEXT` too: how its text tower is
built, and the scale of cosines that it was trained with.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lineup.errors import UserError, explained
from lineup.storage.files import read_json, replace_atomically, write_json

Transform = Callable[[Image.Image], torch.Tensor]
Tokenizer = Callable[[list[str]], Any]
WEIGHTS_FILE, TEXT_FILE, FACTS_FILE = "model.safetensors", "text.safetensors", "encoder.json"
# `versions` are those at fetch; the fingerprint takes the ones that run. The weights count by
# `weights_sha256`.
OF_TEXT = frozenset({"text", "text_sha256", "text_files", "logit_scale"})
NOT_DECIDING = (
    frozenset({"source", "random", "resize_px", "gflops", "licence", "parameters", "versions"}) | OF_TEXT
)
Made = TypeVar("Made", bound=nn.Module)


@dataclass(frozen=True)
class Fetched:
    """What a library hands over: the network with weights, and JSON facts to rebuild it (`build`,
    `transform`).
    """

    module: nn.Module
    facts: dict[str, Any] = field(default_factory=dict)
    text: nn.Module | None = None  # a dual encoder's text tower
    files: Mapping[str, bytes] = field(
        default_factory=dict
    )  # by path in the folder: what the tokenizer needs


@dataclass(frozen=True)
class Encoder:
    """A network ready to use: module: float32 [B, 3, H, W] -> [B, D]; transform: RGB image -> float32 [3, H,
    W].
    """

    module: nn.Module
    transform: Transform
    facts: dict[str, Any]

    @property
    def dim(self) -> int:
        return self.facts["dim"]


@dataclass(frozen=True)
class TextEncoder:
    """A text tower ready to use: module(tokenize(texts)) -> float32 [N, D], in the space of the images'
    vectors.
    """

    module: nn.Module
    tokenize: Tokenizer
    facts: dict[str, Any]


def library(name: str) -> ModuleType:
    return importlib.import_module(f"lineup.encoders.{name}")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of what computes a vector: torch, pillow, numpy, and a library's own packages."""
    return {
        name: importlib.metadata.version(name) for name in sorted({"torch", "pillow", "numpy", *packages})
    }


def measure(module: nn.Module, image_size: int) -> dict[str, Any]:
    """`dim` of the network's vectors and `gflops` of one image (a multiply-add is two operations), by running
    it once.

    UserError if the network can't take images of this size, gives no vector, or another one each time.
    """
    blank = torch.zeros(1, 3, image_size, image_size)
    counter = FlopCounterMode(display=False)
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in (
        trainable
    ):  # the counter asks for the gradient of one that is passed on, such as an attention pool's query
        parameter.requires_grad_(False)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter doesn't see fused attention
    try:
        with (
            explained(f"image_size: the network can't take {image_size} px"),
            torch.inference_mode(),
            sdpa_kernel(SDPBackend.MATH),
            counter,
        ):
            vector = module.eval()(blank)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for parameter in trainable:
            parameter.requires_grad_(True)
    if not isinstance(vector, torch.Tensor) or vector.ndim != 2:
        raise UserError(
            "name: this network gives no single vector per image; choose an image classification or embedding model"
        )
    noise = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, second = module(noise), module(noise)
    if not torch.allclose(first, second, rtol=1e-2, atol=1e-3 * float(first.abs().max())):
        raise UserError(
            "name: this network gives one image another vector each time (a masked autoencoder does); choose another"
        )
    return {"dim": vector.shape[1], "gflops": round(counter.get_total_flops() / 1e9, 4)}


def resize_px(transform: Transform, image_size: int) -> int:
    """The shorter side, in pixels, to which a transform resizes a photo before it crops `image_size` pixels
    out of it.

    Of transforms that squash a photo, or fit its longer side, it is that side. It is measured, so it holds
    for any library: a square gets brighter from left to right, and how fast the result does so is the scale.
    UserError if the transform only crops: its vectors would depend on how far `preprocess` has shrunk a
        photo.
    """
    side = 3 * image_size
    across, down = np.meshgrid(np.arange(side) / side, np.arange(side) / side)
    middle = slice(image_size // 4, image_size - image_size // 4)  # without borders that the transform adds

    def transformed(grey: np.ndarray) -> np.ndarray:
        pixels = np.repeat(np.round(grey).astype(np.uint8)[:, :, None], 3, axis=2)
        return transform(Image.fromarray(pixels))[0, middle, middle].double().numpy()

    black, white = transformed(0 * across), transformed(0 * across + 255)
    # Each row begins a little brighter than the one above, so that the rounding to 8 bits cancels out in
    # their mean.
    brightness = (transformed(240 * across + 15 * down) - black).mean(axis=0) / (white - black).mean(axis=0)
    resized = round(240 / 255 / np.polyfit(np.arange(len(brightness)), brightness, 1)[0])
    if resized == side:
        raise UserError(
            "name: its transform crops photos without resizing them, which is not supported; choose another checkpoint"
        )
    return resized


def save(
    folder: Path,
    module: nn.Module,
    facts: dict[str, Any],
    text: nn.Module | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes the folder; facts gain `weights_sha256` (of model.safetensors), `parameters`, `text_sha256` and
    the hashes of `text_files`.
    """

    def write(temporary: Path) -> None:
        temporary.mkdir()
        told = {**facts, "weights_sha256": _save_module(temporary / WEIGHTS_FILE, module)}
        told["parameters"] = sum(p.numel() for p in module.parameters())
        if text is not None:
            told["text_sha256"] = _save_module(temporary / TEXT_FILE, text)
        for name, content in (files or {}).items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
            told.setdefault("text_files", {})[name] = hashlib.sha256(content).hexdigest()
        write_json(temporary / FACTS_FILE, told)

    replace_atomically(folder, write)


def _save_module(file: Path, module: nn.Module) -> str:
    """Writes a module's tensors; the file's SHA-256."""
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}, file
    )
    return _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check(folder: Path, file: str, sha256: str) -> None:
    """UserError unless a file of an encoder's folder is the one that its facts tell of."""
    if not (folder / file).exists() or _digest(folder / file) != sha256:
        fault = "is damaged (not the file" if (folder / file).exists() else "is not there (it is the file"
        raise UserError(f"{folder}: {file} {fault} of {FACTS_FILE}); `dvc checkout --force` it")


def load(folder: Path) -> Encoder:
    """The encoder of a folder that `save` wrote, in eval mode, on the CPU; its weights are in memory once.

    `facts["head"]`, if there, is `{"dim": D}`: a linear embedding head that fine-tuning put behind the
        network.
    """
    facts = read_json(folder / FACTS_FILE)
    own = library(facts["library"])
    module = empty(lambda: own.build(facts))
    if "head" in facts:
        module = with_head(module, facts["head"]["in_dim"], facts["head"]["dim"])
    return Encoder(_fill(module, folder, WEIGHTS_FILE, facts["weights_sha256"]), own.transform(facts), facts)


def load_text(folder: Path) -> TextEncoder:
    """The text tower of a folder that `save` wrote. UserError if the encoder has none."""
    facts = read_json(folder / FACTS_FILE)
    if not (folder / TEXT_FILE).exists():
        raise UserError(
            f"{folder}: {facts['name']} has no text tower; search with a photo, or with a row whose encoder is a CLIP or SigLIP"
        )
    own = library(facts["library"])
    for name, sha256 in facts.get("text_files", {}).items():
        check(folder, name, sha256)
    module = empty(lambda: own.build_text(facts))
    return TextEncoder(
        _fill(module, folder, TEXT_FILE, facts["text_sha256"]), own.tokenizer(facts, folder), facts
    )


def _fill(module: nn.Module, folder: Path, file: str, sha256: str) -> nn.Module:
    check(folder, file, sha256)
    try:
        module.load_state_dict(with_versions(module, load_file(folder / file)), strict=True, assign=True)
    except (FileNotFoundError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder}: {file} doesn't fit {FACTS_FILE} ({error}); run `dvc repro -f` for this row's fetch"
        ) from None
    return module.eval()


def with_versions(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with what its layers note beside their tensors.

    Torchvision's MNASNet doesn't load without.
    """
    whole = module.state_dict()
    whole.clear()  # but for those notes, which are an attribute
    whole.update(tensors)
    return whole


def empty(make: Callable[[], Made]) -> Made:
    """What `make` gives, a network: its parameters without memory, or already those of the file that `make`
    loads.

    So weights are in memory once. Of the few networks that compute with their parameters while they are built
    (Swin, hybrids), they are there twice for a moment.
    """
    try:
        with _empty_parameters():
            made = make()
    except RuntimeError:  # of torch: no data on `meta`, or not the same device
        return make()
    return make() if any(buffer.is_meta for buffer in made.buffers()) else made


@contextmanager
def _empty_parameters() -> Iterator[None]:
    """Networks built inside get parameters on `meta`, and `load_state_dict` puts the file's own into their
    place.

    Buffers stay real: those that are not persistent (causal masks, position ids) come from no file.
    """
    register_parameter, load_state_dict = nn.Module.register_parameter, nn.Module.load_state_dict

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:  # one already on `meta` may be shared: keep it as it is
            param = nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
        register_parameter(self, name, param)

    def assign(
        self: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = True
    ) -> Any:
        nn.Module.register_parameter = register_parameter  # which assigning calls, too
        try:
            return load_state_dict(self, state_dict, strict, assign)
        finally:
            nn.Module.register_parameter = register

    nn.Module.register_parameter, nn.Module.load_state_dict = register, assign  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter, nn.Module.load_state_dict = register_parameter, load_state_dict


def with_head(backbone: nn.Module, in_dim: int, dim: int) -> nn.Module:
    """backbone: [B, 3, H, W] -> [B, in_dim]; the result maps to [B, dim]."""
    return nn.Sequential(backbone, nn.Linear(in_dim, dim))
