"""An adapter in training, and the step that changes it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lineup.adapters.layers import Change, Layers
from lineup.objectives.objective import Objective
from lineup.settings.training import Train
from lineup.training import optimisation
from lineup.training.best_weights import BestWeights


class AdapterTrainer:
    """The layers of an adapter and all that a step of their training changes."""

    def __init__(
        self,
        settings: Train,
        adapter: Layers,
        objective: Objective,
        vectors: torch.Tensor,
        device: torch.device,
    ) -> None:
        self.settings, self.adapter, self.objective = settings, adapter, objective
        self.vectors, self.device = vectors, device
        layers = [layer for layer in adapter.modules() if isinstance(layer, nn.Linear)]
        for layer in layers:
            nn.utils.parametrize.register_parametrization(
                layer, "weight", Change(layer.weight.detach().clone()), unsafe=True
            )
            layer.parametrizations.weight.original.requires_grad_(False)  # type: ignore[union-attr]
        adapter.to(device)
        objective.loss.to(device).train()
        self.optimiser = optimisation.optimiser(adapter, adapter, objective, settings)
        self.trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        # Validation takes images, [B, D, 1, 1] here.
        self.on_images = nn.Sequential(nn.Flatten(), adapter)

    def imprint(self, labels: torch.Tensor, count: int) -> None:
        """Starts the loss at the mean direction of each label's vectors; labels: int64 [N]."""
        if self.objective.imprint is None:
            return
        with torch.inference_mode():
            adapted = functional.normalize(self.adapter(self.vectors))
            centres = torch.zeros(count, adapted.shape[1], device=self.device)
            centres.index_add_(0, labels.to(self.device), adapted)
        self.objective.imprint(functional.normalize(centres))

    def step(self, rows: torch.Tensor, labels: torch.Tensor, rate: float) -> tuple[float, float]:
        """Trains on one batch, and returns the loss and the length of its gradient before it is clipped."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        loss = self.objective.loss(self.adapter(self.vectors[rows]), labels.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        length = nn.utils.clip_grad_norm_(self.trained, self.settings.max_gradient_norm)
        self.optimiser.step()
        return loss.item(), length.item()

    def finish(self, best: BestWeights) -> Layers:
        """The layers with their best weights, plain and on the CPU."""
        self.on_images.load_state_dict(best.tensors)
        for layer in self.adapter.modules():
            if nn.utils.parametrize.is_parametrized(layer):
                nn.utils.parametrize.remove_parametrizations(layer, "weight")
        return self.adapter.cpu().eval().requires_grad_(False)
