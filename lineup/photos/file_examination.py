"""What a raw file holds: examined in this process, or in a process of its own, whose end is its problem."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path

from lineup import launch
from lineup.errors import UserError
from lineup.photos.attribute_cache import AttributeCache
from lineup.photos.image_cache import FileRecord, ReserveMemory, read_file
from lineup.photos.image_opening import BadImage
from lineup.photos.scan_processes import PROCESS_CONTEXT, WORKER_LOST, become_worker

# Only test photos are searched with and for, so only theirs say where a row fails.
_TEST_FOLDER = "test/"


def examine_file(cache: AttributeCache, root: Path, name: str, reserve: ReserveMemory) -> FileRecord | None:
    """The file's record, which is nothing but a problem if it can't be read; None where memory runs out."""
    try:
        data = read_file(root / name)
        record = cache.images.examine(data, reserve)
        if name.startswith(_TEST_FOLDER) and not record.problem:
            cache.fill(data, record, root / name, reserve)
        return record
    except BadImage as error:
        return FileRecord("", problem=str(error))
    except MemoryError:
        return None


def examine_alone(cache: AttributeCache, root: Path, name: str) -> FileRecord:
    """Examines a file in a process of its own, with no other beside it; its end is the photo's problem.

    Raises:
        UserError: the process did not start.
    """
    receiver, sender = PROCESS_CONTEXT.Pipe(duplex=False)
    process = PROCESS_CONTEXT.Process(target=_send_record, args=(sender, cache, root, name), daemon=True)
    with launch.uninterrupted():
        process.start()
    sender.close()
    try:
        record = receiver.recv()
    except EOFError:
        record = None
    process.join()
    exit_code = process.exitcode or 0
    if exit_code > 0:  # Python itself failed, not the photo.
        raise UserError(WORKER_LOST)
    return record or FileRecord("", problem=_explain_exit(exit_code))


def _send_record(sender: Connection, cache: AttributeCache, root: Path, name: str) -> None:
    become_worker()
    sender.send(examine_file(cache, root, name, nullcontext))


def _explain_exit(exit_code: int) -> str:
    """The problem of a photo whose process ended.

    Args:
        exit_code: 0 if the process itself ran out of memory, else minus the signal that ended it.
    """
    if exit_code in (0, -signal.SIGKILL):  # A system that is short of memory sends SIGKILL.
        return (
            "takes more memory than there is; make it smaller, "
            "or provide more memory and run `dvc repro -f preprocess`"
        )
    return f"crashes the decoder ({signal.Signals(-exit_code).name}); save it again, in another format"
