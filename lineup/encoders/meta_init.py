"""Networks that are built without memory for their weights, and then take those of a file.

PyTorch's `meta` device holds shapes and no numbers. A network that is built there and loads its state dict
with `assign=True` has its weights in memory once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def on_meta_device(make: Callable[[], Network]) -> Network:
    """The network that `make` builds: its parameters on `meta`, or those of the file that `make` loads.

    A few networks compute with their parameters while they are built (Swin, hybrids). They are built on the
    CPU, and so their weights are in memory twice for a moment.
    """
    try:
        with _meta_parameters():
            network = make()
    except RuntimeError:  # from torch: no data on `meta`, or not the same device
        return make()
    return make() if any(buffer.is_meta for buffer in network.buffers()) else network


def rebuilt(make: Callable[[], Network], tensors: Mapping[str, torch.Tensor]) -> Network:
    """The network that `make` builds, in eval mode, with those of the tensors that it needs."""
    network = on_meta_device(make)
    network.load_state_dict({name: tensors[name] for name in network.state_dict()}, assign=True)
    return network.eval()


@contextmanager
def _meta_parameters() -> Iterator[None]:
    """In the block, parameters are registered on `meta`, and `load_state_dict` replaces them by the file's.

    Buffers stay real, because those that aren't persistent (causal masks, position ids) come from no file. It
    patches nn.Module for the whole process while it lasts, as accelerate's init_empty_weights does.
    """
    register_parameter, load_state_dict = nn.Module.register_parameter, nn.Module.load_state_dict

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        # A parameter that is on `meta` already may be shared by two layers: it stays the same object.
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
        register_parameter(self, name, param)

    def assign(
        self: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = True
    ) -> Any:
        nn.Module.register_parameter = register_parameter  # assigning registers parameters, too
        try:
            return load_state_dict(self, state_dict, strict, assign)
        finally:
            nn.Module.register_parameter = register

    nn.Module.register_parameter, nn.Module.load_state_dict = register, assign  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter, nn.Module.load_state_dict = register_parameter, load_state_dict


def with_head(backbone: nn.Module, in_dim: int, dim: int) -> nn.Module:
    """A backbone [B, 3, H, W] -> [B, in_dim] and a linear layer: [B, 3, H, W] -> [B, dim]."""
    return nn.Sequential(backbone, nn.Linear(in_dim, dim))


def with_versions(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as a state dict of `module`, with the versions that its layers note in one.

    torchvision's MNASNet reads a state dict without a version as one of its old layout.
    """
    state_dict = module.state_dict()
    state_dict.clear()  # the versions are an attribute, which stays
    state_dict.update(tensors)
    return state_dict
