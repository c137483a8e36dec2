"""embed on a Ray cluster: the same bytes as on one machine, whatever dies meanwhile.

The cluster is a real one of three nodes on this machine.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tqdm import tqdm

from lineup import cluster, paths
from lineup.commands import check
from lineup.embedding import (
    cluster_check,
    cluster_computation,
    cluster_stream,
    computation,
    job,
    missing_photos,
)
from lineup.embedding.attempts import Attempts
from lineup.embedding.cluster_computation import KnownKeys
from lineup.embedding.cluster_stream import Crew
from lineup.embedding.cluster_worker import Work, Worker
from lineup.embedding.job import EmbedJob
from lineup.embedding.vector_cache import VectorCache
from lineup.errors import UserError
from lineup.photos import cluster_scan
from lineup.settings import params
from lineup.storage import parquet, schemas
from stages import preprocess
from tests.support.photographs import identify, photograph
from tests.support.project import ROOT, tree
from tests.test_embed import forget, place, prepare, result, run, settings

PHOTOS = [photograph(seed) for seed in range(160)]
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
# What a process of its own runs.
DRIVER = """
import sys
from lineup.embedding import computation
from stages import embed
computation.MEASURED_IMAGES_BESIDE_CLUSTER = 8
embed.main(["--row", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head without processors, and two nodes with one each; this process is connected to it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        started.add_node(**NODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", str(started.address))
        cluster.connect.cache_clear()
        cluster.connect()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield started
    ray.shutdown()
    started.shutdown()
    cluster.connect.cache_clear()


@pytest.fixture
def on_cluster(nodes: Any, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings(pixel_cache_gb=0, engine="auto")
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    monkeypatch.setattr(computation, "MEASURED_IMAGES_BESIDE_CLUSTER", 8)
    return nodes


def local_result(monkeypatch: pytest.MonkeyPatch, row: str = "a") -> dict[str, bytes]:
    """What this machine computes; then the cache is empty again."""
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        run(row)
    files = result(row)
    forget()
    return files


def cached() -> int:
    [folder] = [path for path in (paths.CACHE / "vectors").iterdir() if any(path.glob("*.safetensors"))]
    return len(VectorCache(folder, 512).ids())


def killing(marker: Path, poison: bytes, times: int) -> type[Worker]:
    """A worker that ends at once when it computes `poison`, the first times."""

    class Killed(Worker):
        def _together(self, photos: list[tuple[str, bytes]]) -> Any:
            killed = len(list(marker.iterdir()))
            if killed < times and any(content == poison for _, content in photos):
                (marker / str(killed)).touch()
                os._exit(1)
            return super()._together(photos)

    return Killed


@pytest.mark.slow
def test_the_bytes_are_those_of_one_machine(on_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place("a")
    prepare(PHOTOS, shrunk={identify(PHOTOS[3]): photograph(999)})
    expected = local_result(monkeypatch)
    costs = run()
    assert result() == expected
    assert costs["computed"] == len(PHOTOS)
    assert costs["measured_images"] == 8, "the cluster's speed is not this machine's"
    assert run()["computed"] == 0


@pytest.mark.slow
def test_a_relay_gives_the_same_bytes(on_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As through Ray's client, on which the relay relies for nothing but calls."""
    place("a")
    prepare(PHOTOS)
    expected = local_result(monkeypatch)
    monkeypatch.setattr(cluster, "is_client", lambda: True)
    assert run()["computed"] == len(PHOTOS)
    assert result() == expected


@pytest.mark.slow
def test_a_worker_and_a_node_that_die_cost_nothing_but_time(
    on_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker exits hard at the last batch; the node is removed without grace after the first ones."""
    place("a")
    prepare(PHOTOS)
    expected = local_result(monkeypatch)
    (tmp_path / "killed").mkdir()
    last = max(PHOTOS, key=identify)
    monkeypatch.setattr(cluster_stream, "Worker", killing(tmp_path / "killed", last, 1))
    added, dying = VectorCache.add, [sorted(on_cluster.worker_nodes, key=id)[0]]

    def add(self: VectorCache, ids: Any, vectors: Any) -> None:
        added(self, ids, vectors)
        if dying and len(self.ids()) > 20:
            on_cluster.remove_node(dying.pop(), allow_graceful=False)

    monkeypatch.setattr(VectorCache, "add", add)
    try:
        assert run()["computed"] == len(PHOTOS)
    finally:
        on_cluster.add_node(**NODE)
    assert not dying and len(list((tmp_path / "killed").iterdir())) == 1
    assert result() == expected


@pytest.mark.slow
def test_a_photo_that_ends_three_workers_is_named(
    on_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("a")
    prepare(PHOTOS)
    (tmp_path / "killed").mkdir()
    poison = max(PHOTOS, key=identify)
    monkeypatch.setattr(cluster_stream, "Worker", killing(tmp_path / "killed", poison, 99))
    with pytest.raises(
        UserError, match=rf"^image_id {identify(poison)} has ended 3 worker processes; remove"
    ):
        run()
    assert len(list((tmp_path / "killed").iterdir())) == 3
    assert cached() >= 100


def work_of_one_worker() -> tuple[EmbedJob, Work]:
    """What the stage sends to a worker of one processor."""
    embed = params.load().embed
    prepared = job.prepare_job("a", "test", embed)
    return prepared, cluster_computation._work(cluster.connect(), prepared, embed, Crew(1, 1, 0))


@pytest.mark.slow
def test_a_photo_that_can_t_be_decoded_is_named_by_its_path(on_cluster: Any) -> None:
    """The worker computes in this process."""
    place("a")
    bad = next(
        data for data in (b"no image %d" % number for number in range(10_000)) if identify(data) > "ff"
    )
    prepare([*PHOTOS[:60], bad])
    row = {name: [None] for name in schemas.MANIFEST.names} | {
        "image_id": [identify(bad)],
        "paths": [["test/query/ä b.jpg"]],
    }
    parquet.write_table(paths.manifest("test"), pa.table(row, schema=schemas.MANIFEST))
    prepared, work = work_of_one_worker()
    source = missing_photos.read(paths.images("test"), prepared.cache)
    [result] = Worker(work)(cluster_computation.as_row([*source])).to_pylist()
    with (
        tqdm(disable=True) as progress,
        pytest.raises(
            UserError, match=rf"^data/raw/test/query/ä b\.jpg \(image_id {identify(bad)}\) .*repro"
        ),
    ):
        cluster_computation._take(prepared, result, progress)
    assert cached() >= 40


@pytest.mark.slow
def test_other_versions_on_a_node_are_named(on_cluster: Any) -> None:
    """Else their vectors would be cached as those of this machine's versions."""
    place("a")
    prepare(PHOTOS[:30])
    prepared, work = work_of_one_worker()
    elsewhere = {**work.key_parts, "versions": {**work.key_parts["versions"], "pillow": "1.0"}}
    source = missing_photos.read(paths.images("test"), prepared.cache)
    worker = Worker(dataclasses.replace(work, key_parts=elsewhere))
    [result] = worker(cluster_computation.as_row([*source])).to_pylist()
    assert re.match(r"node .*: pillow is .* there and 1\.0 here, .* on all nodes", result["fault"])
    assert not result["keys"]


# --- preprocess, and lineup check


@pytest.mark.slow
def test_preprocess_writes_the_same_files(
    on_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a photo ends every process that examines it on the cluster."""
    for number, photo in enumerate([*PHOTOS[:70], photograph(1000, 900, 700), b"no image"]):
        file = paths.RAW / "test" / ("gallery" if number % 3 else "query") / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photo)
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        patch.setattr("lineup.machine.threads", lambda: 0)  # no worker processes
        preprocess.main()
    expected = tree(paths.PREPARED)
    forget()
    examine = cluster_scan._examine_task

    def deadly(folders: Any, names: list[str]) -> Any:
        if "test/gallery/4.jpg" in names:
            os._exit(1)
        return examine(folders, names)

    monkeypatch.setattr(cluster_scan, "_examine_task", deadly)
    preprocess.main()
    printed = capsys.readouterr().err
    assert "examining the photos on the Ray cluster: 3 nodes, 2 CPUs, 0 GPUs" in printed
    assert "lost the processes of a task" in printed
    assert tree(paths.PREPARED) == expected
    monkeypatch.setattr(paths, "RAW", Path("/proc/self/cwd/data/raw"))  # another folder in each process
    preprocess.main()
    assert "examining the photos on this machine" in capsys.readouterr().err
    assert tree(paths.PREPARED) == expected


@pytest.mark.slow
def test_check_tries_the_engine_on_each_node(on_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = params.load()
    first, *nodes, last = check.describe_cluster(loaded, PHOTOS[:1])
    assert first == "RAY_ADDRESS: 3 nodes, 2 CPUs, 0 GPUs"
    assert sorted(line.split()[1:3] for line in nodes) == [["0", "CPUs,"], ["1", "CPU,"], ["1", "CPU,"]]
    assert all(line.endswith(", 0 GPUs, 0.1 GB of object store") for line in nodes)
    assert "no weights are here yet" in last
    place("a")
    paths.weights("a").parent.mkdir(parents=True)
    paths.model("a").rename(paths.weights("a"))
    *_, last = check.describe_cluster(loaded, PHOTOS[:1])
    assert last == f"  tried on a photo: openvino {version('openvino')} computes a on 2 nodes"
    with pytest.raises(UserError, match=r"^RAY_ADDRESS: .*image_id photo"):
        list(check.describe_cluster(loaded, [b"no image"]))


def start_driver(row: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, row],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_runs_at_once_and_one_that_is_killed(on_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place("a")
    place("b", seed=1)
    prepare(PHOTOS)
    expected = [local_result(monkeypatch, row) for row in "ab"]
    killed = start_driver("a")
    while killed.poll() is None and len(list((paths.CACHE / "vectors").glob("*/*.safetensors"))) < 3:
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    assert 8 < cached() < len(PHOTOS)
    other = start_driver("b")
    costs = run("a")
    printed, _ = other.communicate()
    assert other.returncode == 0, printed
    assert [result("a"), result("b")] == expected
    assert 0 < costs["computed"] < len(PHOTOS) - 8
    unwanted = [line for line in printed.splitlines() if not line.startswith("embed: ")]
    assert unwanted == [], "Ray printed something"


# --- without a cluster


@pytest.mark.slow
def test_ray_is_not_imported_without_an_address() -> None:
    code = "import sys, stages.embed, stages.preprocess; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("127.0.0.1:9", "connection refused"),
        ("ray://127.0.0.1:9", "connection refused"),
        ("nonsense", "invalid address format"),
        ("10.0.0.1:99999999", ""),
        ("127.0.0.1:port", ""),
    ],
)
def test_a_cluster_that_can_t_be_reached_is_no_silent_local_run(
    address: str, fault: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.connect.cache_clear()
    settings(pixel_cache_gb=0)
    place("a")
    prepare(PHOTOS[:3])
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(
        UserError, match=rf"^RAY_ADDRESS: the Ray cluster {address} can't be .*{fault}.*unset"
    ):
        run()
    assert not list((paths.CACHE / "vectors").glob("*/*.safetensors"))


@pytest.mark.parametrize(("mode", "is_named"), [("", True), ("token", False)])
def test_a_cluster_that_refuses_may_ask_for_a_token(
    mode: str, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def refuse(**_: object) -> None:
        raise ConnectionError("ray client connection timeout")

    cluster.connect.cache_clear()
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(
            UserError, match=r"can't be reached \(ray client connection timeout\); (.*)"
        ) as refusal:
            cluster.connect()
    assert ("set RAY_AUTH_MODE=token if it asks for a token, start it" in str(refusal.value)) == is_named


def test_without_ray_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.connect.cache_clear()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'lineup\[ray\]'"):
        cluster.connect()


def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", " ")
    assert cluster.address() is None


@pytest.mark.parametrize(
    ("cpus", "threads"),
    [
        ([1, 1], 1),
        ([2], 2),
        ([1, 64, 64], 8),
        ([8, 8, 1], 8),
        ([4, 4], 4),
        ([3, 5], 1),
        ([0, 6], 6),
        ([1, 3], 1),
    ],
)
def test_workers_are_as_large_as_leaves_few_processors_idle(cpus: list[int], threads: int) -> None:
    assert cluster_computation._threads_per_worker(cpus) == threads


def test_an_attempt_counts_unless_its_node_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineup.embedding.attempts._alive_nodes", lambda: {"alive"})
    attempts = Attempts()
    assert [attempts.begin("x", node) for node in ("alive", "alive", "dead", "alive", "alive")] == [
        0,
        1,
        2,
        2,
        3,
    ]
    attempts.finish("x")
    assert attempts.begin("x", "alive") == 0


def test_known_keys_are_those_of_the_cache(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path, 2)
    keys = np.array([bytes([1] * 32), bytes([3] * 31 + [0]), bytes([5] * 32)], "S32")
    asked = np.array([bytes([count] * 32) for count in range(7)] + [bytes([3] * 31 + [0])], "S32")
    assert not KnownKeys(cache.ids()).has(asked).any()
    cache.add(keys, np.ones((3, 2), np.float32))
    assert KnownKeys(cache.ids()).has(asked).tolist() == cache.has(asked).tolist()


def test_check_says_that_no_node_has_what_the_engine_needs(empty_folder: Path) -> None:
    settings(pixel_cache_gb=0)
    head = cluster.Cluster((cluster.Node("a", "192.0.2.1", cpus=0, gpus=0, object_store_bytes=10**9),))
    with pytest.raises(UserError, match=r"^RAY_ADDRESS: no node has a processor, which \w+ .* needs"):
        cluster_check.try_engine(None, head, empty_folder, b"", params.load().embed)
