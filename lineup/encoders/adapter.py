"""An adapter: one or two linear layers on a frozen encoder's vectors, and the folder of a row with one.

The folder holds a pointer to the encoder's weights (`model_folder.py`), `adapter.safetensors`, and an
encoder.json that describes the network as a whole: the encoder, then the adapter.

Source of the method: ILIAS (Kordopatis-Zilos et al., CVPR 2025), linear adaptation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from lineup.encoders import encoder_folder, model_folder
from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import CONFIG_FILE, EncoderConfig, JsonObject, read_config
from lineup.encoders.model_folder import ADAPTER_FILE
from lineup.errors import UserError
from lineup.fingerprint import code_digest, file_digest, fingerprint
from lineup.storage import files

Vectors = npt.NDArray[np.float32]
_ROWS_PER_PRODUCT = 64


class Adapter(nn.Module):
    """W z, and with a second layer W z + V relu(U z), of z = x / |x| - mean: [B, in_dim] -> [B, dim].

    Args:
        direct: W, float32 [dim, in_dim].
        mean: float32 [in_dim].
        hidden: U, float32 [hidden_dim, in_dim]; None for one layer.
        out: V, float32 [dim, hidden_dim].
    """

    def __init__(
        self,
        direct: torch.Tensor,
        mean: torch.Tensor,
        hidden: torch.Tensor | None = None,
        out: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.mean = nn.Buffer(mean.clone())
        self.direct = linear(direct)
        self.hidden = None if hidden is None else linear(hidden)
        self.out = None if out is None else linear(out)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """[B, in_dim] -> [B, dim]."""
        centred = functional.normalize(vectors) - self.mean
        adapted = self.direct(centred)
        if self.hidden is not None and self.out is not None:
            adapted = adapted + self.out(torch.relu(self.hidden(centred)))
        return adapted


def linear(weight: torch.Tensor) -> nn.Linear:
    """The layer x -> weight x."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data.copy_(weight)
    return layer


def save(model: Path, weights: Path, adapter: Adapter, trained: JsonObject, log: str) -> None:
    """Writes the folder of a row that has an adapter; it appears as a whole.

    Args:
        weights: the folder of the fetched encoder.
        trained: what decided the training.
        log: the content of log.csv.
    """
    pointer = model_folder.pointer_to(weights)
    base = read_config(weights)

    def write(folder: Path) -> None:
        model_folder.write_pointer(folder, pointer)
        save_file(adapter.state_dict(), folder / ADAPTER_FILE)
        digest = file_digest(folder / ADAPTER_FILE)
        config = base.without_text().model_copy(
            update={
                "dim": adapter.direct.out_features,
                "parameters": base.parameters + sum(weight.numel() for weight in adapter.parameters()),
                "weights_sha256": fingerprint({"encoder": base.weights_sha256, "adapter": digest}),
                "trained": {**trained, "adapter_sha256": digest},
            }
        )
        files.write_json(folder / CONFIG_FILE, config.to_json())
        files.write_text(folder / "log.csv", log)

    files.replace_atomically(model, write)


def load(folder: Path) -> Encoder:
    """The network of a row's folder as `model_folder.resolve` gives it, with its adapter if it has one.

    Raises:
        UserError: a file is missing or damaged.
    """
    if not (folder / ADAPTER_FILE).exists():
        return encoder_folder.load(folder)
    config = read_config(folder)
    base = encoder_folder.load(model_folder.weights_of(folder))
    module = nn.Sequential(base.module, load_adapter(folder, config)).eval()
    return Encoder(module, base.transform, config)


def load_adapter(folder: Path, config: EncoderConfig) -> Adapter:
    """The adapter of a row's folder, on the CPU. Raises UserError if its file is damaged."""
    file = folder / ADAPTER_FILE
    if file_digest(file) != (config.trained or {}).get("adapter_sha256"):
        raise UserError(
            f"{folder}: {ADAPTER_FILE} is damaged (not the file of {CONFIG_FILE}); `dvc checkout --force` it"
        )
    try:
        tensors = load_file(file)
        hidden, out = tensors.get("hidden.weight"), tensors.get("out.weight")
        adapter = Adapter(tensors["direct.weight"], tensors["mean"], hidden, out)
    except (KeyError, RuntimeError, SafetensorError):
        raise UserError(f"{file}: is damaged; {files.REPAIR}") from None
    return adapter.eval().requires_grad_(False)


def apply(adapter: Adapter, vectors: Vectors) -> Vectors:
    """The adapted vectors of an encoder's: float32 [N, in_dim] -> [N, dim].

    A vector depends on neither N nor its position: products always have the same shape, are computed in
    float64 by one thread, and are rounded to float32.
    """
    adapter = adapter.double()
    adapted = np.empty((len(vectors), adapter.direct.out_features), np.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for first in range(0, len(vectors), _ROWS_PER_PRODUCT):
                some = vectors[first : first + _ROWS_PER_PRODUCT]
                padded = np.zeros((_ROWS_PER_PRODUCT, vectors.shape[1]))
                padded[: len(some)] = some
                adapted[first : first + len(some)] = adapter(torch.from_numpy(padded))[: len(some)].numpy()
    finally:
        torch.set_num_threads(threads)
    return adapted


def vector_key(base_key: str, config: EncoderConfig) -> str:
    """The fingerprint of all that decides an adapted vector besides the image.

    Args:
        base_key: that of the encoder's vectors.
        config: of the row's folder.
    """
    return fingerprint(
        {
            "encoder": base_key,
            "adapter": (config.trained or {}).get("adapter_sha256"),
            "code": code_digest(Path(__file__)),
        }
    )
