"""Any loss of pytorch-metric-learning by its class name, such as MultiSimilarityLoss or ProxyAnchorLoss."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from pytorch_metric_learning import losses

from lineup.errors import UserError, suggest
from lineup.objectives.objective import Context, Objective
from lineup.settings.metric_loss import MetricLoss

PACKAGES = ("pytorch-metric-learning",)

# Losses that need other inputs than vectors and labels, wrap another loss, or are mix-ins. And
# DynamicSoftMarginLoss, which fails at its second step.
_UNSUPPORTED = {
    "CrossBatchMemory",
    "DynamicSoftMarginLoss",
    "ManifoldLoss",
    "MultipleLosses",
    "SelfSupervisedLoss",
    "ThresholdConsistentMarginLoss",
    "VICRegLoss",
}


def supported() -> dict[str, Any]:
    """The classes of all losses that take vectors and labels, by name."""
    return {
        name: loss
        for name, loss in inspect.getmembers(losses, inspect.isclass)
        if name.endswith("Loss") and not name.startswith(("Base", "Generic")) and name not in _UNSUPPORTED
    }


def build(settings: MetricLoss, context: Context) -> Objective:
    """The loss with the row's `arguments`; a class-wise one also gets the number of labels and D.

    Raises:
        UserError: the library has no such loss, or the loss refuses an argument.
    """
    names = argument_names(settings.loss)
    unknown = sorted(settings.arguments.keys() - names)
    if unknown:
        raise UserError(f"arguments.{unknown[0]} is unknown to {settings.loss}{suggest(unknown[0], names)}")
    sizes = {
        "num_classes": len(context.labels),
        "embedding_size": context.dim,
        "descriptors_dim": context.dim,
    }
    try:
        loss = supported()[settings.loss](
            **{name: size for name, size in sizes.items() if name in names}, **settings.arguments
        )
        # Some losses check their arguments at the first call only.
        copy.deepcopy(loss)(torch.eye(4, context.dim), torch.tensor([0, 0, 1, 1]))
    except (TypeError, ValueError, AssertionError, AttributeError, RuntimeError) as error:
        raise UserError(f"arguments: {settings.loss} refuses them ({error})") from None
    return Objective(loss)


def argument_names(loss: str) -> set[str]:
    """The names of the arguments of a loss's constructor, and of its base classes' constructors.

    Raises:
        UserError: the library has no such loss.
    """
    classes = supported()
    if loss not in classes:
        raise UserError(
            f"loss is {loss!r}, which pytorch-metric-learning doesn't have{suggest(loss, classes)}"
        )
    constructors = [
        vars(base)["__init__"]
        for base in inspect.getmro(classes[loss])
        if base.__module__.startswith("pytorch_metric_learning") and "__init__" in vars(base)
    ]
    names = {
        name
        for constructor in constructors
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    return names - {"self", "args"}
