"""What computes vectors on a node of the cluster: an actor of Ray Data, and the records that reach it.

The node has Ray, the engine and the encoder's library, but none of Lineup's data. Whatever is missing there,
or is another version, is reported by the first batch rather than raised: Ray would start the actor again.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lineup.errors import UserError, reason

if TYPE_CHECKING:
    from lineup.embedding.inference import Batch, EncodedImage
    from lineup.engines.engine import Network

# The number of workers that a photo may end. The first ends with all photos of its batch under way; after it,
# they are computed one at a time.
MAX_ENDED_WORKERS = 3
# Where a network in int8 lies in the encoder's folder on its way to a worker.
QUANTISED = "quantised"
# A batch of photos on its way to a worker, and the vectors on their way back, are one row each.
PHOTOS = pa.schema(
    [
        pa.field("image_ids", pa.list_(pa.string())),
        pa.field("keys", pa.list_(pa.binary())),
        pa.field("images", pa.list_(pa.large_binary())),
    ]
)
VECTORS = pa.schema(
    [pa.field("keys", pa.binary()), pa.field("vectors", pa.large_binary()), pa.field("fault", pa.string())]
)


@dataclass(frozen=True)
class Work:
    """What a worker needs besides the photos.

    Attributes:
        files: Ray's reference to the content of the encoder's folder, by name: uint8 arrays.
        sample: the prepared images on which the engine is compared with torch.
        key_parts: all that decides a vector on the machine that started the run.
        attempts: the handle of the actor `Attempts`.
    """

    files: Any
    sample: tuple[tuple[str, bytes], ...]
    engine: str
    precision: str
    device: str
    batch_size: int
    threads: int
    key_parts: dict[str, Any]
    attempts: Any


class Worker:
    """Computes the vectors of batches of photos; several threads call it at once."""

    def __init__(self, work: Work) -> None:
        import ray

        self._work, self._ray = work, ray
        self._node = ray.get_runtime_context().get_node_id()
        self._one_at_a_time = threading.Lock()
        self._fault, self._network = "", None
        try:
            with tempfile.TemporaryDirectory(prefix="lineup-") as folder:
                self._network = self._load(Path(folder))
        except Exception as error:
            self._fault = f"node {ray.util.get_node_ip_address()}: {reason(error)}"
        # Threads wait for Python's lock and for the engine, as in `inference`.
        self._pool = ThreadPoolExecutor(work.threads + 2, initializer=_compute_alone)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """PHOTOS -> VECTORS: one row of each."""
        [row] = rows.to_pylist()
        photos = list(zip(row["image_ids"], row["images"], strict=True))
        keys = dict(zip(row["image_ids"], row["keys"], strict=True))
        done: list[Batch] = []
        fault = self._fault
        if not fault:
            try:
                done.extend(self._vectors(photos))
            except _PhotoFault as error:
                done.extend(error.done)
                fault = str(error)
        return _result(done, keys, fault)

    def _load(self, folder: Path) -> Network:
        """The network, as `job` loads it on the machine that started the run.

        Raises:
            UserError: something that decides a vector differs from that machine.
        """
        from torch import device

        from lineup.embedding import cache_key, inference, quantised_network
        from lineup.encoders import encoder_folder
        from lineup.engines import conversion
        from lineup.engines.engine import Engine

        work = self._work
        for name, content in self._ray.get(work.files).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        engine = Engine(work.engine, work.precision, device(work.device))
        quantised = folder / QUANTISED if (folder / QUANTISED).exists() else None
        _check_same(work.key_parts, cache_key.vector_key_parts(folder, engine, quantised))
        encoder = encoder_folder.load(folder)
        if quantised:
            return quantised_network.load(engine, quantised, encoder, None, work.threads)
        pixels = [inference.decoded(image, encoder.transform) for image in work.sample]
        return conversion.prepare(engine, encoder, pixels, work.batch_size, work.threads)

    def _vectors(self, photos: list[EncodedImage]) -> list[Batch]:
        """Of a batch that ended a worker before, one photo at a time.

        Raises:
            _PhotoFault: names the first photo that has no vector.
        """
        attempts, batch = self._work.attempts, photos[0][0]
        ended = self._ray.get(attempts.begin.remote(f"batch {batch}", self._node))
        done = [*self._singly(photos)] if ended else self._together(photos)
        attempts.finish.remote(f"batch {batch}")
        return done

    def _together(self, photos: list[EncodedImage]) -> list[Batch]:
        from lineup.embedding import inference

        assert self._network is not None
        if self._network.engine.device.type != "cpu":
            return _until_fault(
                inference.vectors(self._network, photos, self._work.batch_size, self._work.threads)
            )
        groups = _parts(photos, max(self._network.shape, inference.IMAGES_PER_TASK))
        return _until_fault(self._pool.map(self._group, groups))

    def _group(self, photos: list[EncodedImage]) -> Batch:
        """The vectors of some photos by the calling thread alone.

        A thread of this actor lasts, where each call of `inference.vectors` starts threads of its own, for
        each of which OpenVINO prepares the network again. `inference` has no public name for this step: its
        code decides vectors, and a new name there would compute all of them again.
        """
        from lineup.embedding import inference

        assert self._network is not None
        parts = []
        for part in _parts(photos, self._network.shape):
            pixels = [(image[0], inference.decoded(image, self._network.transform)) for image in part]
            parts.append(inference._forward(self._network, pixels))  # pyright: ignore[reportPrivateUsage]
        return inference._joined(parts)  # pyright: ignore[reportPrivateUsage]

    def _singly(self, photos: list[EncodedImage]) -> Iterator[Batch]:
        attempts = self._work.attempts
        done: list[Batch] = []
        for photo in photos:
            with self._one_at_a_time:
                ended = 1 + self._ray.get(attempts.begin.remote(photo[0], self._node))
                if ended >= MAX_ENDED_WORKERS:
                    raise _PhotoFault(
                        f"image_id {photo[0]} has ended {ended} worker processes; remove that photo, or give "
                        "the nodes more memory",
                        done,
                    )
                done = [*done, *self._together([photo])]
                self._ray.get(attempts.finish.remote(photo[0]))
        yield from done


class _PhotoFault(Exception):
    """Why a photo has no vector; done: the vectors of the photos before it."""

    def __init__(self, fault: str, done: list[Batch]) -> None:
        super().__init__(fault)
        self.done = done


def _parts(photos: list[EncodedImage], size: int) -> Iterator[list[EncodedImage]]:
    for start in range(0, len(photos), size):
        yield photos[start : start + size]


def _until_fault(batches: Iterator[Batch]) -> list[Batch]:
    done: list[Batch] = []
    try:
        done.extend(batches)
    except UserError as error:
        raise _PhotoFault(str(error), done) from None
    return done


def _compute_alone() -> None:
    """A thread of the actor computes with itself alone, as the vectors' last bit depends on it."""
    import torch

    torch.set_num_threads(1)


def _check_same(wanted: dict[str, Any], present: dict[str, Any]) -> None:
    """Raises UserError if what decides a vector differs between this node and where the run began."""
    for name, value in wanted["versions"].items():
        other = present["versions"].get(name)
        if other != value:
            raise UserError(
                f"{name} is {other} there and {value} here, which gives other vectors; "
                "install the same version on all nodes"
            )
    if present != wanted:
        raise UserError("this node has another copy of Lineup, which comes first; uninstall it there")


def _result(done: list[Batch], keys: dict[str, bytes], fault: str) -> pa.Table:
    ids = [image_id for batch in done for image_id in batch.ids]
    vectors = np.concatenate([batch.vectors for batch in done]).tobytes() if done else b""
    columns = [[np.array([keys[image_id] for image_id in ids], "S32").tobytes()], [vectors], [fault]]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, VECTORS, strict=True)], schema=VECTORS
    )
