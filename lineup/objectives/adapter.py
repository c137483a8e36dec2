"""Adapter: any loss of the other objectives, on the vectors of a frozen encoder.

`lineup/adapters/` trains it. Source: ILIAS (Kordopatis-Zilos et al., CVPR 2025), linear adaptation.
"""

from __future__ import annotations

from lineup.objectives.objective import Context, Objective, load_objective
from lineup.settings.adapter import Adapter

PACKAGES = ("pytorch-metric-learning",)


def build(settings: Adapter, context: Context) -> Objective:
    """The objective that `loss` names, with the row's `arguments`.

    Raises:
        UserError: pytorch-metric-learning has no such loss, or the loss refuses an argument.
    """
    loss = settings.loss_settings
    return load_objective(loss.name).build(loss, context)
