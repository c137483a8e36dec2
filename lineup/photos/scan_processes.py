"""How the processes of a scan begin: without Ctrl-C, and with an end when their parent ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver, resource_tracker

from lineup import launch

LIKELY_CAUSE = "a worker process was killed, most likely because memory ran out"
WORKER_LOST = f"{LIKELY_CAUSE}; run again to go on: nothing finished is lost"

# Not fork, which would copy pyarrow's threads with their locks held.
_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()
PROCESS_CONTEXT = (
    multiprocessing.get_context("forkserver") if _FORKSERVER else multiprocessing.get_context("spawn")
)


def start_forkserver() -> None:
    """Call this before the first process is started."""
    if _FORKSERVER:
        resource_tracker.ensure_running()  # This comes first, as it unblocks the signal once it has started.
        with launch.uninterrupted():
            forkserver.ensure_running()


def become_worker() -> None:
    """Leaves Ctrl-C to the parent, ends with the parent, and keeps libraries from printing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def die_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()
    launch.silence_libraries()
