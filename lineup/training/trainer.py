"""A network in training, and the step that changes it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lineup.objectives.objective import Objective
from lineup.settings.training import Train
from lineup.training import checkpoint, network, optimisation
from lineup.training.checkpoint import Tensors
from lineup.training.device import choose_device, precision
from lineup.training.pixel_scaling import PixelScaling


class Step(NamedTuple):
    """What a step reports: the loss, and the length of its gradient before it is clipped."""

    loss: float
    gradient_norm: float


class Trainer:
    """A network and all that a step of its training changes: objective, optimiser, scaler, moving average.

    Args:
        module: the network that is trained: the backbone, perhaps with a head.
        backbone: the fetched network, which is a part of `module` or `module` itself.
        objective: what the network is trained with.
        settings: the training loop's, for this row.
        scaling: how the network sees pixels.
    Raises:
        UserError: the settings leave nothing to train, or name a device that this machine lacks.
    """

    def __init__(
        self,
        module: nn.Module,
        backbone: nn.Module,
        objective: Objective,
        settings: Train,
        scaling: PixelScaling,
    ) -> None:
        self.settings, self.scaling, self.objective = settings, scaling, objective
        self.device = choose_device(settings.device)
        self.module = module.to(device=self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective.loss.to(self.device)
        self.frozen = network.freeze(backbone, settings)
        self.optimiser = optimisation.optimiser(self.module, backbone, objective, settings)
        self.average = (
            AveragedModel(self.module, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
            if settings.ema
            else None
        )
        self.precision = precision(settings.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)

    @property
    def trained(self) -> nn.Module:
        """The network as it would be used now: the moving average of its weights, where there is one."""
        return self.average.module if self.average else self.module

    def train_mode(self) -> None:
        """Prepares for steps: frozen layers stay in evaluation mode."""
        network.train_mode(self.module, self.frozen, self.settings.batch_norm)
        self.objective.loss.train()

    def set_learning_rate(self, step: int, steps: int) -> None:
        """Sets the learning rate of a step, 0 to `steps` - 1, of the whole training."""
        share = optimisation.rate(step, steps, self.settings.warmup_share)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> Step:
        """Trains on one batch.

        Args:
            images: uint8 [B, 3, S, S].
            labels: int64 [B].
        """
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device)
        with torch.autocast(
            self.device.type, self.precision or torch.bfloat16, enabled=self.precision is not None
        ):
            vectors = self.module(self.scaling.normalise(images))  # [B, D]
        loss = self.objective.loss(vectors.float(), labels)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        gradient_norm = nn.utils.clip_grad_norm_(trained, self.settings.max_gradient_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.module)
        return Step(loss.item(), gradient_norm.item())

    def state(self) -> dict[str, Tensors]:
        """All tensors that the next step depends on; the scaler's numbers are not among them."""
        state: dict[str, Tensors] = {
            "module": self.module.state_dict(),
            "objective": self.objective.loss.state_dict(),
            "optimiser": checkpoint.optimiser_tensors(self.optimiser),
        }
        return state | ({"averaged": self.average.state_dict()} if self.average else {})

    def load_state(self, state: dict[str, Tensors], scaler: dict[str, float]) -> None:
        """Goes back to where `state` and the scaler's state dict were taken."""
        self.module.load_state_dict(state["module"])
        self.objective.loss.load_state_dict(state.get("objective", {}))
        if self.average:
            self.average.load_state_dict(state["averaged"])
        checkpoint.restore_optimiser(self.optimiser, state["optimiser"])
        self.scaler.load_state_dict(scaler)

    def finish(self, weights: Tensors) -> nn.Module:
        """The network with these weights, ready for use: on the CPU and in evaluation mode."""
        self.module.load_state_dict(weights)
        return self.module.cpu().eval()
