"""The machine that a measurement was taken on: its processor, its cores, its memory."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

import psutil

# Where control groups state the limit, in version 2 and in version 1.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def cpu_name() -> str:
    """The processor's model, such as "AMD EPYC 7763 64-Core Processor", or its architecture if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def threads() -> int:
    """The number of cores that this process may use: its container's, not the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in units of 10^6 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process that started this one, too.
        held = next(
            line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")
        )
        return int(held.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def available_memory_bytes() -> int:
    """The memory that is free on this machine, or the limit of its container if that is less."""
    available = [psutil.virtual_memory().available]
    for file in _CONTAINER_LIMITS:
        try:
            available.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # This machine has no such limit.
            continue
    return min(available)
