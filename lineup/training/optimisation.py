"""The optimiser of a training, and the learning rate of each of its steps."""

from __future__ import annotations

import math

import torch
from torch import nn

from lineup.errors import UserError
from lineup.objectives.objective import Objective
from lineup.settings.training import Train


def optimiser(
    module: nn.Module, backbone: nn.Module, objective: Objective, settings: Train
) -> torch.optim.AdamW:
    """AdamW over all weights that are trained; a group's "peak" is its highest learning rate.

    The learning rate of weights that were trained before, the backbone's and those of `objective.pretrained`,
    is scaled by backbone_lr_scale; a new head and the objective's other weights get the full rate. Biases and
    norms don't decay, as in timm and nanoGPT.

    Args:
        module: the backbone, perhaps with a head.
        backbone: the fetched network.
        objective: what the network is trained with.
        settings: the training loop's, for this row.
    Raises:
        UserError: no weight is left to train.
    """
    pretrained = [
        *backbone.parameters(),
        *(objective.pretrained.parameters() if objective.pretrained else []),
    ]
    pretrained_ids = {id(parameter) for parameter in pretrained}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in [*module.parameters(), *objective.loss.parameters()]:
        if parameter.requires_grad:
            scale = settings.backbone_lr_scale if id(parameter) in pretrained_ids else 1
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((settings.learning_rate * scale, decay), []).append(parameter)
    trained = [
        {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay}
        for (peak, decay), parameters in groups.items()
        if peak > 0
    ]
    if not trained:
        raise UserError(
            "backbone_lr_scale is 0 and there is no head or objective weight to train; set dim or raise it"
        )
    return torch.optim.AdamW(trained, fused=True)


def rate(step: int, steps: int, warmup_share: float) -> float:
    """The learning rate of a step, 0 to `steps` - 1, as a share of its peak.

    It rises linearly during the warm-up, then follows half a cosine down to 0.
    """
    warmup = warmup_share * steps
    if step + 1 < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - warmup) / max(steps - warmup, 1)))
