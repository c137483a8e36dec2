"""The weights that a training ends with: those of its best epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from lineup.training.checkpoint import Tensors
from lineup.training.progress import Epoch, Progress


@dataclass
class BestWeights:
    """The weights of the best epoch so far.

    Args:
        progress: of the training; its `best_epoch` is the epoch of these weights.
        may_choose: whether the score of the held-out images may choose the epoch.
        tensors: the network's state dict, on the CPU; empty until an epoch was trained.
    """

    progress: Progress
    may_choose: bool
    tensors: Tensors = field(default_factory=dict)

    def offer(self, epoch: Epoch, module: nn.Module, cut_short: bool) -> None:
        """Keeps the weights of `module` if the epoch, which ends with them, is the best so far.

        Of equal epochs the last is kept. So is the last epoch of all where the held-out images may not
        choose, or have no score.

        An epoch that the deadline cut short is kept only if it is better than all others, or the only one:
        a training that resumes can train the other epochs again, but never this one.
        """
        if not self.tensors or self._is_best(epoch, cut_short):
            self.keep(epoch.epoch, module)

    def _is_best(self, epoch: Epoch, cut_short: bool) -> bool:
        best = self.progress.score(self.progress.best_epoch)
        if epoch.map_at_r is None or best is None or not self.may_choose:
            return not cut_short
        return epoch.map_at_r > best or (epoch.map_at_r == best and not cut_short)

    def keep(self, epoch: float, module: nn.Module) -> None:
        """Copies the weights of `module` to the CPU, as those of `epoch`."""
        self.tensors = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        self.progress.best_epoch = epoch
