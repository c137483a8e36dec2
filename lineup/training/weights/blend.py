"""Trained weights that are moved back towards their start.

Source: WiSE-FT, Wortsman et al., CVPR 2022, equation 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def blend(module: nn.Module, start: Mapping[str, torch.Tensor], share: float) -> None:
    """Sets each weight to (1 - share) * start + share * trained, batch norms' statistics included.

    With a share of 1 the weights are the trained ones, and with 0 those of the start, bit for bit. A whole
    number, such as how many batches a batch norm has seen, is that of the nearer network.

    Args:
        module: the trained network, which is changed.
        start: its state dict before training.
        share: 0..1, of the trained weights.
    """
    with torch.no_grad():
        for name, trained in module.state_dict().items():
            first = start[name].to(trained.device)
            if trained.is_floating_point():
                trained.lerp_(first, 1 - share) if share >= 0.5 else trained.copy_(first.lerp(trained, share))
            elif share < 0.5:
                trained.copy_(first)
