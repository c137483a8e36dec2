"""How fast a row was embedded, and in how much memory: a file beside its vectors in the local cache.

Where every vector was reused, nothing can be measured, and the earlier measurement stands. What `fetch`
measures of an encoder is in `lineup/encoders/measurement.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from lineup import machine
from lineup.embedding import dvc_cache
from lineup.fingerprint import fingerprint
from lineup.storage import files

MEASUREMENT_FILE = "measurement.json"


@dataclass(frozen=True)
class Measurement:
    """The speed and memory of one run.

    measured_images: how many images it was measured over; 0 if nothing was measured.
    peak_gpu_memory_mb: None on a CPU.
    device: the processor and its threads, or the GPU.
    """

    images_per_second: float | None = None
    measured_images: int = 0
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None
    device: str | None = None


NOT_MEASURED = Measurement()


def read(folder: Path) -> Measurement:
    """The measurement in a folder of the cache. A file that is damaged in any way counts as absent."""
    try:
        content = json.loads((folder / MEASUREMENT_FILE).read_bytes())
        if content["sha256"] != fingerprint(content["measurement"]):
            return NOT_MEASURED
        return Measurement(**content["measurement"])
    except (OSError, ValueError, KeyError, TypeError):
        return NOT_MEASURED


def _write(folder: Path, measurement: Measurement) -> None:
    content = asdict(measurement)
    files.write_json(folder / MEASUREMENT_FILE, {"measurement": content, "sha256": fingerprint(content)})


def restore(row: str, key: str, folder: Path) -> None:
    """Takes the measurement of the row's last result from the DVC cache, if the folder has none."""
    costs = dvc_cache.costs(row, key)
    names = [field.name for field in fields(Measurement)]
    if costs and costs.keys() >= {*names} and read(folder) == NOT_MEASURED:
        _write(folder, Measurement(**{name: costs[name] for name in names}))


def update(folder: Path, images: int, seconds: float, device: torch.device) -> Measurement:
    """Writes a run's measurement, unless an earlier one is over more images; returns the one that stands.

    A handful of new photos doesn't replace the measurement of a full run.

    Args:
        folder: the cache's, with the row's vectors.
        images: how many were computed in `seconds`; 0 if nothing was measured.
    """
    earlier = read(folder)
    if earlier.measured_images > images or not images:
        return earlier
    on_gpu = device.type == "cuda"
    measurement = Measurement(
        images_per_second=round(images / seconds, 2),
        measured_images=images,
        peak_memory_mb=round(machine.peak_memory_mb(), 1),
        peak_gpu_memory_mb=round(torch.cuda.max_memory_allocated() / 1e6, 1) if on_gpu else None,
        device=torch.cuda.get_device_name()
        if on_gpu
        else f"{machine.cpu_name()}, {machine.threads()} threads",
    )
    _write(folder, measurement)
    return measurement
