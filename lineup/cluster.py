"""The Ray cluster that RAY_ADDRESS names; without that variable Ray isn't imported.

Lineup's code goes to the nodes with the job. The nodes need Ray and the packages that compute.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lineup.errors import UserError, reason

ADDRESS_VARIABLE = "RAY_ADDRESS"
CLIENT_PREFIX = "ray://"
# By which a task can be sent to a node, whose value is Node.id.
NODE_LABEL = "ray.io/node-id"
CONNECT_SECONDS = 10.0
_INSTALL = "run `pip install 'lineup[ray]'`"
_UNSET = f"or unset {ADDRESS_VARIABLE} to compute on this machine"
# Since Ray 2.59, a cluster may ask for a token, and then refuses who sends none, without a reason.
_TOKEN = "set RAY_AUTH_MODE=token if it asks for a token, "
# Files of the package that no node imports.
_NOT_SHIPPED = ["**/__pycache__", "**/*.pyc", "**/page"]


@dataclass(frozen=True)
class Node:
    """What a node has in all, in use or not. object_store_bytes: of memory for Ray's objects."""

    id: str
    ip: str
    cpus: int
    gpus: int
    object_store_bytes: int

    def described(self) -> str:
        """What it has, such as "8 CPUs, 0 GPUs, 2.3 GB of object store"."""
        store = f"{self.object_store_bytes / 1e9:.1f} GB of object store"
        return ", ".join((_counted(self.cpus, "CPU"), _counted(self.gpus, "GPU"), store))


@dataclass(frozen=True)
class Cluster:
    """The nodes that are alive."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> int:
        """The processors of all nodes."""
        return sum(node.cpus for node in self.nodes)

    def described(self) -> str:
        """The nodes, processors and GPUs, such as "3 nodes, 24 CPUs, 0 GPUs"."""
        gpus = sum(node.gpus for node in self.nodes)
        amounts = ((len(self.nodes), "node"), (self.cpus, "CPU"), (gpus, "GPU"))
        return ", ".join(_counted(count, noun) for count, noun in amounts)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def address() -> str | None:
    """The address in RAY_ADDRESS; None where it is unset or empty, and everything runs on this machine."""
    return os.environ.get(ADDRESS_VARIABLE, "").strip() or None


def is_client() -> bool:
    """Whether the address is one of Ray's client, for which this machine is no node of the cluster."""
    return (address() or "").startswith(CLIENT_PREFIX)


@cache
def connect() -> Any:
    """Connects this process to the cluster, the first time that it is called.

    Call it only where `address` returns one.

    Returns:
        The module `ray`.
    Raises:
        UserError: Ray is not installed, or the cluster can't be reached, or has other versions.
    """
    where = address()
    assert where is not None
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing calls home
    # Ray would print what it mends by itself. What it can't mend, it also raises.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    try:
        import ray
    except ImportError:
        raise UserError(
            f"{ADDRESS_VARIABLE} is set, but Ray is not installed; {_INSTALL}, {_UNSET}"
        ) from None
    _check_reachable(where)
    try:
        with _no_stderr():
            ray.init(
                address=where,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                runtime_env={"py_modules": [str(Path(__file__).parent)], "excludes": _NOT_SHIPPED},
            )
    except Exception as error:  # Ray raises almost anything: a version's mismatch is a RuntimeError
        raise _unreachable(where, reason(error), "" if _sends_token() else _TOKEN) from None
    _silence_raylets()
    return ray


def _silence_raylets() -> None:
    """Stops Ray from printing the logs of a node that dies, which `log_to_driver` has no effect on.

    Ray's own debugger uses this switch.
    """
    from ray._private import worker

    worker._worker_logs_enabled = False  # pyright: ignore[reportPrivateUsage]


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Inside, what this process writes to standard error is lost, also if it isn't Python that writes."""
    sys.stderr.flush()
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def describe(ray: Any) -> Cluster:
    """The cluster that `connect` has connected to.

    Args:
        ray: the module, as `connect` returns it.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(tuple(map(_node, nodes)))


def _node(record: dict[str, Any]) -> Node:
    amounts = (int(record["Resources"].get(name, 0)) for name in ("CPU", "GPU", "object_store_memory"))
    return Node(record["NodeID"], record["NodeManagerAddress"], *amounts)


def _check_reachable(where: str) -> None:
    """Raises UserError unless something listens at the address: Ray itself would wait for minutes."""
    try:
        host_and_port = _host_and_port(where)
        if host_and_port:
            host, _, port = host_and_port.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        raise _unreachable(where, text.lower()) from None


def _host_and_port(where: str) -> str | None:
    """The host and port to connect to; None for "local", which starts a cluster of this machine alone.

    Raises:
        ConnectionError: no cluster runs on this machine; ValueError: the address has another form.
    """
    if where == "local":
        return None
    if where.startswith(CLIENT_PREFIX):
        return where.removeprefix(CLIENT_PREFIX).partition("/")[0]
    from ray._private import services

    try:
        return services.canonicalize_bootstrap_address(where)
    except ConnectionError:
        raise ConnectionError("none runs on this machine") from None


def _sends_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").strip() == "token"


def _unreachable(where: str, fault: str, fix: str = "") -> UserError:
    return UserError(
        f"{ADDRESS_VARIABLE}: the Ray cluster {where} can't be reached ({fault}); "
        f"{fix}start it with `ray start --head`, set another address, {_UNSET}"
    )
