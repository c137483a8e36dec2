"""The layers of an adapter in training."""

from __future__ import annotations

import torch
from torch import nn

from lineup.adapters.whitening import Start
from lineup.encoders.adapter import Adapter, linear


class Change(nn.Module):
    """A weight matrix as its start plus a change, so that weight decay pulls it back to its start.

    Source: Li, Grandvalet & Davoine, ICML 2018 (L2-SP).
    """

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.start = nn.Buffer(start)
        self.change = nn.Parameter(torch.zeros_like(start))

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """The matrix. `parametrize` passes the one it started from."""
        return self.start + self.change


class Layers(nn.Module):
    """The adapter after its start: (I + C) z, and with a second layer (I + C) z + V relu(U z).

    V starts at 0, so that untrained layers change nothing: [B, dim] -> [B, dim].
    """

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.direct = linear(torch.eye(dim))
        self.hidden = nn.Linear(dim, dim, bias=False) if layers == 2 else None
        self.out = linear(torch.zeros(dim, dim)) if layers == 2 else None

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The adapted vectors."""
        adapted = self.direct(vectors)
        if self.hidden is not None and self.out is not None:
            adapted = adapted + self.out(torch.relu(self.hidden(vectors)))
        return adapted

    def after(self, start: Start) -> Adapter:
        """The start and these layers as one adapter."""
        direct = self.direct.weight @ start.matrix
        if self.hidden is None or self.out is None:
            return Adapter(direct, start.mean)
        return Adapter(direct, start.mean, self.hidden.weight @ start.matrix, self.out.weight)
