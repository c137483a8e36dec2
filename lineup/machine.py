"""What a measurement was taken on, and what memory there is."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

import psutil

_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)  # version 2, version 1


def cpu_name() -> str:
    """The processor's model name, as "AMD EPYC 7763 64-Core Processor"; else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def threads() -> int:
    """Cores that this process may use (a container's share, not the machine's)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts the process that started this one, too
        held = next(
            line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")
        )
        return int(held.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def available_memory_bytes() -> int:
    """What processes may take before memory runs out: the machine's, or what its container is limited to."""
    available = [psutil.virtual_memory().available]
    for file in _CONTAINER_LIMITS:
        try:
            available.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is no such limit
            continue
    return min(available)
