"""embed on a Ray cluster of three nodes on this machine, against the local engine on the same cores.

Run: python -m benchmarks.ray_embed [mobilenet_v2] [clip] [--pairs N]
Takes about 8 minutes on two cores.
All weights are RANDOM: this measures speed and nothing else. The photos are made here (512 x 384 px). The
cluster has a head without processors and two nodes that share this machine's; everything is there twice that
real nodes have once, such as the reading of shards beside the computing.

Local and cluster take turns, and the ratio of each pair counts. A ratio is between speeds in the middle of a
run, from the first quarter of the photos to the last: neither starting the workers nor waiting for the last
ones is in it. Both are in "whole run", which shows what a small set of photos gains or loses.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks import command
from benchmarks.embed import lay_out
from lineup import cli, cluster, machine
from lineup.embedding import cluster_computation, computation, job
from lineup.embedding.job import EmbedJob
from lineup.embedding.vector_cache import VectorCache
from lineup.settings.sections import Embed
from tests.support.photographs import photograph

PHOTOS = {"mobilenet_v2": 3_072, "clip": 768}
PAIRS = 5
# How much slower than on this machine alone the cluster may be.
TARGET = 1.10
_OBJECT_STORE_BYTES = 200 * 2**20


@dataclass
class Recorder:
    """Takes the place of a progress bar: the time at which each batch was done, and its images."""

    start: float = field(default_factory=time.perf_counter)
    done: list[tuple[float, int]] = field(default_factory=list)

    def update(self, images: int) -> None:
        self.done.append((time.perf_counter(), images))

    def seconds_per_image(self) -> float:
        """In the middle half of the run."""
        total, so_far = sum(images for _, images in self.done), 0
        middle: list[tuple[float, int]] = []
        for moment, images in self.done:
            so_far += images
            if total / 4 <= so_far <= 3 * total / 4:
                middle.append((moment, so_far))
        (first, before), (last, after) = middle[0], middle[-1]
        return (last - first) / (after - before)

    def whole_run_seconds(self) -> float:
        return self.done[-1][0] - self.start


@contextmanager
def three_nodes() -> Iterator[None]:
    """A cluster on this machine, to which RAY_ADDRESS leads."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    for cpus in (machine.threads() // 2, machine.threads() - machine.threads() // 2):
        nodes.add_node(num_cpus=cpus, object_store_memory=_OBJECT_STORE_BYTES)
    os.environ[cluster.ADDRESS_VARIABLE] = str(nodes.address)
    try:
        cluster.connect()
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()


def recorded(work: Callable[[EmbedJob, Any], object], prepared: EmbedJob, count: int) -> Recorder:
    """Runs with an empty cache, and checks that each photo got its vector."""
    with tempfile.TemporaryDirectory() as folder:
        cache = VectorCache(Path(folder), prepared.cache.dim)
        recorder = Recorder()
        work(replace(prepared, cache=cache, missing=count), recorder)
        assert len(cache.ids()) == count
    return recorder


def locally(prepared: EmbedJob, settings: Embed, recorder: Any) -> None:
    """As the stage computes without a cluster; pixels aren't cached."""
    assert prepared.network is not None
    compute = computation._Computation  # pyright: ignore[reportPrivateUsage]
    for _ in compute(prepared, prepared.network, settings.batch_size, recorder).batches(None, None):
        pass


def measure(name: str, settings: Embed, pairs: int) -> None:
    """Measures one model and prints its table."""
    count = PHOTOS[name]
    lay_out(name, [photograph(seed, 512, 384) for seed in range(count)])
    prepared = job.prepare_job("row", "test", settings)
    runs: list[tuple[Recorder, Recorder]] = []
    print(f"\n{name} at 224 px, {count} photos, {prepared.engine.described}")
    print("      images/s in the middle      times as long      whole run, s")
    print("          local    cluster                          local    cluster")
    for pair in range(pairs + 1):  # the first one warms up
        local = recorded(lambda empty, bar: locally(empty, settings, bar), prepared, count)
        remote = recorded(
            lambda empty, bar: cluster_computation.compute(empty, settings, bar), prepared, count
        )
        if pair:
            runs.append((local, remote))
            times = [run.seconds_per_image() for run in (local, remote)]
            whole = [run.whole_run_seconds() for run in (local, remote)]
            print(
                f"{pair:>4}  {1 / times[0]:9.1f}  {1 / times[1]:9.1f}  {times[1] / times[0]:17.3f}  "
                f"{whole[0]:11.1f}  {whole[1]:9.1f}",
                flush=True,
            )
    ratios = sorted(remote.seconds_per_image() / local.seconds_per_image() for local, remote in runs)
    median = statistics.median(ratios)
    print(
        f"median {median:.3f} times as long ({ratios[0]:.3f} to {ratios[-1]:.3f}); target {TARGET:.2f} "
        f"{'ok' if median <= TARGET else 'MISS'}"
    )


def main() -> None:
    parser = command.parser("ray_embed")
    parser.add_argument("models", nargs="*", type=command.one_of(*PHOTOS), default=list(PHOTOS))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    asked = parser.parse_args()
    pa.set_memory_pool(pa.system_memory_pool())  # as the stage embed does
    warnings.filterwarnings("ignore")
    settings = Embed.model_validate({"device": "cpu", "pixel_cache_gb": 0})
    print("RANDOM WEIGHTS: this measures speed and nothing else.")
    print(f"{machine.cpu_name()}, {machine.threads()} threads")
    home = Path.cwd()
    with three_nodes():
        for name in asked.models:
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                measure(name, settings, asked.pairs)
                os.chdir(home)


if __name__ == "__main__":
    cli.run(main)
