"""Any loss of pytorch-metric-learning, by its class name: MultiSimilarityLoss, SupConLoss, CircleLoss,
ProxyAnchorLoss, ...
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from pytorch_metric_learning import losses
from torch import nn

from lineup.errors import UserError, suggest
from lineup.objectives.objective import Context
from lineup.settings.training import MetricLoss

PACKAGES = ("pytorch-metric-learning",)

# What needs other inputs than vectors and labels, wraps another loss, or is a mix-in; DynamicSoftMarginLoss
# fails at its second step.
_NOT_HERE = {
    "CrossBatchMemory",
    "DynamicSoftMarginLoss",
    "ManifoldLoss",
    "MultipleLosses",
    "SelfSupervisedLoss",
}
_NOT_HERE |= {"ThresholdConsistentMarginLoss", "VICRegLoss"}


def known() -> dict[str, Any]:
    """Every loss that takes vectors and labels, by its name."""
    found = inspect.getmembers(losses, inspect.isclass)
    return {
        name: kind
        for name, kind in found
        if name.endswith("Loss") and not name.startswith(("Base", "Generic")) and name not in _NOT_HERE
    }


def build(settings: MetricLoss, context: Context) -> nn.Module:
    """The loss with the row's `arguments`; class-wise ones get the number of labels and the vectors' size."""
    taken = arguments_of(settings.loss)
    unknown = sorted(settings.arguments.keys() - taken)
    if unknown:
        raise UserError(f"arguments.{unknown[0]} is unknown to {settings.loss}{suggest(unknown[0], taken)}")
    given = {
        "num_classes": len(context.labels),
        "embedding_size": context.dim,
        "descriptors_dim": context.dim,
    }
    try:
        loss = known()[settings.loss](
            **{name: value for name, value in given.items() if name in taken}, **settings.arguments
        )
        copy.deepcopy(loss)(
            torch.eye(4, context.dim), torch.tensor([0, 0, 1, 1])
        )  # some look at their arguments only here
    except (TypeError, ValueError, AssertionError, AttributeError, RuntimeError) as error:
        raise UserError(f"arguments: {settings.loss} refuses them ({error})") from None
    return loss


def arguments_of(loss: str) -> set[str]:
    """The names that a loss's constructor takes, its base classes' included.

    UserError where there is no such loss.
    """
    kinds = known()
    if loss not in kinds:
        raise UserError(f"loss is {loss!r}, which pytorch-metric-learning doesn't have{suggest(loss, kinds)}")
    constructors = [
        vars(base)["__init__"]
        for base in inspect.getmro(kinds[loss])
        if base.__module__.startswith("pytorch_metric_learning") and "__init__" in vars(base)
    ]
    names = {
        name
        for function in constructors
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is not p.VAR_KEYWORD
    }
    return names - {"self", "args"}
