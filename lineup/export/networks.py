"""A row's networks as ONNX files that take any number of images, or of texts, at once."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lineup.encoders import adapter, encoder_folder
from lineup.encoders.encoder import Encoder, TextEncoder
from lineup.engines import onnxruntime as graphs
from lineup.engines.engine import CannotConvert
from lineup.errors import UserError
from lineup.export import tokenizer_file
from lineup.export.tokenizer_file import TokenizerFile

log = logging.getLogger(__name__)

# Protocol buffers, of which ONNX files consist, end at 2 GB.
EXTERNAL_DATA_FROM_BYTES = 1_900_000_000
_TRACED_IMAGES = 2
_CHECKED_BATCHES = (1, 3)
# The largest difference from PyTorch's output, as a share of the vector's length.
_MOST_DIFFERENT = 1e-3
_TEXTS = ("a photo", "A café, 3 x 4 metres: is it open?", "x", "It's  naïve: 日本語", "red shoes " * 60)


@dataclass(frozen=True)
class TextFile:
    """A text tower: the names of its inputs, and its tokenizer, which is None where it is no file."""

    inputs: tuple[str, ...]
    tokenizer: TokenizerFile | None

    def to_json(self) -> dict[str, Any]:
        """As settings.json has it, without the tower's own file."""
        return {
            "inputs": [*self.inputs],
            **(asdict(self.tokenizer) if self.tokenizer else {"tokenizer": None}),
        }


def check_installed() -> None:
    """UserError unless the packages that write and read ONNX are installed."""
    for package in graphs.PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"lineup export: {package} is not installed; run `pip install 'lineup[onnxruntime]'`"
            )


def write_encoder(row: str, encoder: Encoder, file: Path) -> None:
    """Writes the image tower: input `pixels` float32 [B, 3, H, W], output `vectors` float32 [B, D].

    Raises:
        UserError: ONNX lacks one of its operations, or computes something else for another number of images.
    """
    side = encoder.config.image_size
    random = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 3, side, side, generator=random) for n in (_TRACED_IMAGES, *_CHECKED_BATCHES)]
    try:
        _write(encoder.module.eval(), {"pixels": batches[0]}, file, ("batch",))
        _check(encoder.module, file, [{"pixels": pixels} for pixels in batches[1:]])
    except CannotConvert as reason:
        raise UserError(
            f"models.{row}: its network can't be exported as ONNX ({reason}); export another row"
        ) from None


def write_text(row: str, encoder: TextEncoder, source: Path, folder: Path, name: str) -> TextFile | None:
    """Writes the text tower and its tokenizer; None, with a warning, where ONNX lacks an operation.

    Args:
        source: the encoder's folder.
        folder: where to write.
        name: of the file.
    """
    by_text = {text: _named(encoder.tokenize([text])) for text in _TEXTS}
    samples = [*by_text.values()]
    inputs = tuple(samples[0])
    lengths = {sample[inputs[0]].shape[1] for sample in samples}
    free = ("batch", "length") if len(lengths) > 1 else ("batch",)
    traced = _named(encoder.tokenize([*_TEXTS[:2]]))
    module = _ByPosition(encoder, inputs)
    try:
        _write(module, traced, folder / name, free)
        _check(module, folder / name, [*samples, _named(encoder.tokenize([*_TEXTS]))])
    except CannotConvert as reason:
        log.warning("models.%s: its text tower is left out, as ONNX can't compute it (%s)", row, reason)
        (folder / name).unlink(missing_ok=True)
        return None
    file = folder / f"{Path(name).stem}_tokenizer.json"
    return TextFile(inputs, tokenizer_file.write(encoder, source, file, by_text))


class _ByPosition(nn.Module):
    """A text tower that takes its inputs one by one, as a graph needs them."""

    def __init__(self, encoder: TextEncoder, names: Sequence[str]) -> None:
        super().__init__()
        self._tower, self._names = encoder.module, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """int64 [B, L] each -> float32 [B, D]."""
        named = dict(zip(self._names, inputs, strict=True))
        return self._tower(inputs[0] if self._names == ("tokens",) else named)


def _named(tokens: torch.Tensor | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"tokens": tokens} if isinstance(tokens, torch.Tensor) else dict(tokens)


def _write(module: nn.Module, inputs: Mapping[str, torch.Tensor], file: Path, free: Sequence[str]) -> None:
    """Writes a graph as one file, or with a second one, `<file>.data`, for weights of many bytes."""
    import onnx

    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".graph.") as folder:
        written = Path(folder) / "graph.onnx"
        try:
            graphs.write_graph(module, inputs, written, free)
        except Exception as error:  # torch raises errors of several kinds at an operation that ONNX lacks
            raise CannotConvert.because(error) from None
        if _weight_bytes(module) < EXTERNAL_DATA_FROM_BYTES:
            shutil.move(written, file)
            return
        data = f"{file.name}.data"
        onnx.save_model(
            onnx.load(written), file, save_as_external_data=True, location=data, size_threshold=1_024
        )


def _weight_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def _check(module: nn.Module, file: Path, batches: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Raises CannotConvert unless the graph gives what PyTorch gives, for batches of any size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for inputs in batches:
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in inputs.items()}
            with torch.inference_mode():
                wanted = module(*inputs.values()).float().numpy()
            given: Any = session.run([graphs.OUTPUT], arrays)[0]
            if given.shape != wanted.shape or _difference(given, wanted) > _MOST_DIFFERENT:
                raise CannotConvert(f"its vectors of {len(wanted)} inputs at once differ from torch's")
    except CannotConvert:
        raise
    except Exception as error:  # ONNX Runtime raises errors of its own
        raise CannotConvert.because(error) from None


def _difference(given: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference between two vectors, as a share of the length. Both: [N, D]."""
    lengths = np.maximum(np.linalg.norm(wanted, axis=1), 1e-30)
    return float((np.linalg.norm(given - wanted, axis=1) / lengths).max())


def load(folder: Path) -> tuple[Encoder, TextEncoder | None]:
    """The towers in an encoder's folder; None where there is no text tower."""
    has_text = (folder / encoder_folder.TEXT_FILE).exists()
    return adapter.load(folder), encoder_folder.load_text(folder) if has_text else None
