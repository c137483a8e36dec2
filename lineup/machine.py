"""The machine that a measurement was taken on: its processor, its cores, its memory, its load."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

# Where control groups state the limit, in version 2 and in version 1.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

# The kinds of time, of those that the system counts, in which a core is not free.
_BUSY_TIMES = ("user", "nice", "system", "irq", "softirq", "steal")
# From this share on, cores count as fully used.
_FULL_SHARE = 0.9


def cpu_name() -> str:
    """The processor's model, such as "AMD EPYC 7763 64-Core Processor", or its architecture if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def lacks_bfloat16() -> bool:
    """Whether the processor is known to have no instructions for bfloat16; False where it can't be known."""
    try:
        content = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in content.splitlines() if line.startswith(("flags", "Features"))), "")
    return bool(flags) and not {"amx_bf16", "avx512_bf16", "bf16"} & {*flags.split()}


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


class Load(NamedTuple):
    """Who used this process's cores: this process, and all others; shares of the time that the cores have.

    What a virtual machine's host took counts as others.
    """

    own: float
    others: float

    @property
    def slowdown(self) -> float:
        """By which factor others slowed this process down; 1 while cores were free, as nobody waited then."""
        used = self.own + self.others
        return used / self.own if used >= _FULL_SHARE and self.own > 0 else 1.0


class LoadMeter:
    """Measures the load from its creation on."""

    def __init__(self) -> None:
        self._start = _used_seconds()

    def load(self) -> Load:
        """The load since the meter was created, which should be some tenths of a second ago."""
        wall, own, used = (after - before for before, after in zip(self._start, _used_seconds(), strict=True))
        capacity = wall * threads()
        return Load(own / capacity, max(0.0, used - own) / capacity)


def _used_seconds() -> tuple[float, float, float]:
    """Seconds so far: of the clock, of this process on all cores, and of everything on its cores."""
    cores = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(cores))
    used = sum(sum(getattr(cores[core], kind, 0.0) for kind in _BUSY_TIMES) for core in allowed)
    return time.perf_counter(), time.process_time(), used
