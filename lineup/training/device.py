"""The device that a network is trained on."""

from __future__ import annotations

import torch

from lineup import machine
from lineup.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device that the setting `device` names; `auto` is CUDA where there is one.

    Raises:
        UserError: the setting is `cuda`, and torch finds no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch finds no CUDA device; set it to auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The name of a device, as the comparison shows it."""
    if device.type == "cpu":
        return f"{machine.cpu_name()}, {machine.threads()} threads"
    return torch.cuda.get_device_name()
