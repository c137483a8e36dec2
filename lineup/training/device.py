"""The device that a network is trained on, and the precision that it computes in."""

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


def precision(setting: str, device: torch.device) -> torch.dtype | None:
    """The type that a step computes with beside float32; None where it computes in float32 alone.

    `auto` is float32 on a CPU, and on CUDA bfloat16, or float16 where the GPU lacks it.
    """
    if setting == "auto":
        setting = (
            "float32"
            if device.type == "cpu"
            else "bfloat16"
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else "float16"
        )
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[setting]
