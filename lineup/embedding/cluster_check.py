"""Whether the engine works on the nodes of the cluster, tried on one photo."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from lineup import cluster
from lineup.cluster import Cluster
from lineup.embedding import cluster_computation
from lineup.embedding.cluster_worker import Work, Worker
from lineup.embedding.missing_photos import MissingPhoto
from lineup.engines import selection
from lineup.errors import UserError, reason
from lineup.settings.sections import Embed

# The first nodes alone are tried, since most clusters have nodes of few kinds.
_MAX_TRIED_NODES = 16
# A node whose processors are all in use doesn't answer before one is free.
_MAX_WAIT_SECONDS = 120.0
_MAX_RETRIES = 2
_PHOTO = "photo"


def try_engine(ray: Any, available: Cluster, folder: Path, photo: bytes, embed: Embed) -> tuple[str, int]:
    """Computes a photo's vector on each node that has the processor or GPU that the engine needs.

    Where a node can't compute with the preferred engine, all try the next one.

    Args:
        ray: the module, as `cluster.connect` returns it.
        available: the cluster's nodes.
        folder: an encoder's.
        photo: a prepared image, encoded.
    Returns:
        The engine, such as "openvino 2026.4.1", and the number of nodes.
    Raises:
        UserError: a node has a fault with the last engine, too, or no node has what that engine needs.
    """
    for engine in (engines := selection.candidates(embed)):
        on_gpu = engine.device.type == "cuda"
        able = [node.id for node in available.nodes if (node.gpus if on_gpu else node.cpus)]
        if able:
            nodes = able[:_MAX_TRIED_NODES]
            work = cluster_computation.work_for(ray, folder, [(_PHOTO, photo)], engine, embed.batch_size, 1)
            faults = _faults(ray, nodes, on_gpu, work, photo)
            if not faults:
                return engine.described, len(nodes)
        else:
            faults = [f"no node has a {'GPU' if on_gpu else 'processor'}, which {engine.described} needs"]
        if engine == engines[-1]:
            raise UserError(f"{cluster.ADDRESS_VARIABLE}: {faults[0]}")
    raise AssertionError("there was no engine to try")


def _faults(ray: Any, nodes: Iterable[str], on_gpu: bool, work: Work, photo: bytes) -> list[str]:
    """What is wrong with the photo's vector, on each node where something is.

    Raises:
        UserError: a node does not answer, or can't run the work at all.
    """
    # A worker that starts on a busy node may fail to import the code, so another one tries again.
    options = {"max_retries": _MAX_RETRIES, "retry_exceptions": True}
    options |= {"num_cpus": 0 if on_gpu else 1, "num_gpus": int(on_gpu)}
    task = ray.remote(_try)
    results = [
        task.options(label_selector={cluster.NODE_LABEL: node}, **options).remote(work, photo)
        for node in nodes
    ]
    try:
        return [fault for fault in ray.get(results, timeout=_MAX_WAIT_SECONDS) if fault]
    except ray.exceptions.GetTimeoutError:
        raise UserError(
            f"{cluster.ADDRESS_VARIABLE}: not every node has computed a photo in "
            f"{_MAX_WAIT_SECONDS:.0f} s; look with `ray status` at what keeps them busy"
        ) from None
    except ray.exceptions.RayError as error:
        # The message of a task's error ends with its cause.
        why = reason(getattr(error, "cause", None) or error)
        raise UserError(f"{cluster.ADDRESS_VARIABLE}: a node can't compute ({why})") from None


def _try(work: Work, photo: bytes) -> str:
    """Runs on a node: the fault of a photo's vector, or an empty string."""
    row: pa.Table = Worker(work)(cluster_computation.as_row([MissingPhoto(_PHOTO, bytes(32), photo)]))
    return row.column("fault")[0].as_py()
