"""Weights from a file: located, checked, read safely, and put into a network."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import nn

from lineup.encoders.meta_init import with_versions
from lineup.errors import UserError, explained
from lineup.fingerprint import file_digest

Tensors = dict[str, torch.Tensor]
DEMO_REQUIREMENTS = Path("requirements-demo.txt")
# Keys under which training scripts store a state dict (torchvision's and timm's references, lightning,
# MMEngine).
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_MAX_WRAPPINGS = 8
# The prefix that DataParallel puts before every name, once for each time that it is applied.
_DATA_PARALLEL = re.compile(r"(?:module\.)*")
# BatchNorm's counter of steps: it is used in training only, and missing in files older than torch 0.4.1.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint in memory. sha256: of the file; tensors: by name, in the file's order."""

    path: Path
    sha256: str
    tensors: Tensors


def find(source: str) -> Path:
    """The file of "package:<module>/<path inside>" (an installed package's) or "file:<path>"."""
    scheme, _, rest = source.partition(":")
    if scheme == "file":
        path = Path(rest).expanduser()
        if not path.is_file():
            raise UserError(
                f"weights: {path} does not exist; a relative path starts at the repository's root"
            )
        return path
    assert scheme == "package", source
    module, _, inside = rest.partition("/")
    try:
        package = importlib.util.find_spec(module) if module.isidentifier() else None
    except (ImportError, ValueError):
        package = None
    if package is None or not package.submodule_search_locations:
        raise UserError(f"weights: package '{module}' is not installed; run `{_install_command(module)}`")
    for root in map(Path, package.submodule_search_locations):
        path = root / inside
        if path.resolve().is_relative_to(root.resolve()) and path.is_file():
            return path
    raise UserError(
        f"weights: package '{module}' has no file '{inside}'; list its files with `pip show -f {module}`"
    )


def _install_command(module: str) -> str:
    """How to install a package; those of the demo without dependencies, which they pin to old versions."""
    listed = (
        re.sub(r"[-_.]+", "_", DEMO_REQUIREMENTS.read_text(encoding="utf-8").lower())
        if DEMO_REQUIREMENTS.exists()
        else ""
    )
    if re.search(rf"^{re.escape(module.lower())}\b", listed, flags=re.MULTILINE):
        return f"pip install --no-deps -r {DEMO_REQUIREMENTS}"
    return f"pip install {module.replace('_', '-')}"


def read(path: Path, sha256: str | None) -> WeightsFile:
    """The tensors of a safetensors or torch file; only tensors are unpickled, after the check of the hash.

    Args:
        sha256: of the file; only a safetensors file may be read without.
    Raises:
        UserError: the hash is missing where it is required, or differs, or the file holds no state dict.
    """
    actual = file_digest(path)
    if sha256 is None and path.suffix != ".safetensors":
        raise UserError(
            f"sha256 is missing, and {path.name} is not safetensors; "
            f"if you trust the file, add `sha256: {actual}`"
        )
    if sha256 is not None and sha256 != actual:
        raise UserError(
            f"sha256 is {sha256}, but {path} has {actual}; "
            "use the right file, or set that hash if you trust it"
        )
    with explained(f"weights: {path} can't be read as tensors alone", "save its state dict as safetensors"):
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    return WeightsFile(path, actual, _state_dict(content, path))


def _state_dict(content: object, path: Path) -> Tensors:
    for _ in range(_MAX_WRAPPINGS):  # a pickle may refer to itself
        if not isinstance(content, Mapping) or _is_state_dict(content):
            break
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        raise UserError(
            f"weights: {path} holds no state dict (tensors by name), neither at the top nor under "
            f"{', '.join(_WRAPPERS)}; save one with torch.save(model.state_dict(), ...) or as safetensors"
        )
    tensors = {str(name): tensor for name, tensor in content.items()}
    prefix = min(len(_DATA_PARALLEL.match(name)[0]) for name in tensors)  # type: ignore[index]  # it matches nothing, too
    return {name[prefix:]: tensor for name, tensor in tensors.items()}


def _is_state_dict(content: Mapping[object, object]) -> bool:
    return bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())


def assign(module: nn.Module, tensors: Tensors, assign_by: Literal["name", "order"] = "name") -> list[str]:
    """Puts a file's tensors into `module`.

    Args:
        assign_by: "name", or "order" for a file whose names differ. Then shapes and the names' last parts
            must agree, and tensors that aren't used come last.
    Returns:
        The names of the file's tensors that aren't used, such as those of a classifier.
    Raises:
        UserError: names the first few tensors that are missing, or have another shape.
    """
    expected = module.state_dict()
    if not any(_COUNTER in name for name in tensors):
        expected = {name: tensor for name, tensor in expected.items() if _COUNTER not in name}
    pairs = (
        dict(zip(expected, tensors, strict=False))
        if assign_by == "order"
        else {name: name for name in expected if name in tensors}
    )
    missing = [name for name in expected if name not in pairs]
    if missing:
        hint = _order_hint(expected, tensors) if assign_by == "name" else ""
        raise UserError(f"weights: the file has no tensor for {_first_few(missing)} of {len(expected)}{hint}")
    unfit = [
        f"{name} {_shape(expected[name])}: {file_name} {_shape(tensors[file_name])}"
        for name, file_name in pairs.items()
        if expected[name].shape != tensors[file_name].shape
        or (assign_by == "order" and _leaf(name) != _leaf(file_name))
    ]
    if unfit:
        raise UserError(
            f"weights: tensors of the file don't fit the network's (network: file): {_first_few(unfit)}"
        )
    fitting = {name: tensors[file_name].to(expected[name].dtype) for name, file_name in pairs.items()}
    module.load_state_dict(with_versions(module, fitting), strict=False)
    used = set(pairs.values())
    return [name for name in tensors if name not in used]


def _order_hint(own: Tensors, tensors: Tensors) -> str:
    """Suggests `assign_by: order` where it would work."""
    alike = len(tensors) >= len(own) and all(
        a.shape == b.shape and _leaf(n) == _leaf(m)
        for (n, a), (m, b) in zip(own.items(), tensors.items(), strict=False)
    )
    return (
        "; the shapes agree in order, so `assign_by: order` would fit"
        if alike
        else "; is this file of another network?"
    )


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _shape(tensor: torch.Tensor) -> str:
    return str(list(tensor.shape))


def _first_few(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
