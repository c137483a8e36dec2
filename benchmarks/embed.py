"""Embedding end to end, compared with its engine's forward pass alone and with loops that people write.

Run: python -m benchmarks.embed [mobilenet_v2] [resnet50] [clip] [--photos FOLDER] [--megapixels N]
         [--count N] [--engine NAME] [--precision NAME]
Takes about 20 minutes on two cores, 6 to 8 for each model.
All weights are RANDOM: this measures speed and nothing else. The photos are those of a folder, as preprocess
stores them, or are made here (512 x 384 px). With --megapixels (0.2, 1, 3 or 12), photos of that size are put
together from those of the folder, or from the two that scikit-learn has, and prepared. Each way computes the
same photos from their files. The ways take turns. A ratio is formed in each turn, and its median counts.

lineup          lineup.embedding.computation.compute, as the stage runs it: from prepared images on disk to
                vectors in the local cache
pixels written  the same, while the photos' decoded pixels are cached for the next row
pixels read     the same, where an earlier row has cached the pixels
decoding        the photos' bytes in memory to the numbers that the network sees, in a process for each core
forward         the network alone, on numbers in memory, in the fastest arrangement on this machine: of every
                exact engine, number of images in a call and layout of threads (benchmarks.forward)
limit           decoding and forward, one after the other on the same cores: what Lineup can reach at most,
                unless one fills what the other leaves idle
notebook        the competition's notebooks: PIL, the transform, the network, eager; CNNs in batches of 32,
                CLIP one image at a time
DataLoader      torch.utils.data.DataLoader, batch_size=32, num_workers=2, eager
documented      the loop in the README of timm, torchvision or open_clip: one image at a time
sentence-transformers
                encode(images, batch_size=32) with a CLIP of the same size
"""

# pyright: reportMissingImports=false
# The extra `bench` installs the libraries that are compared.
from __future__ import annotations

import importlib.metadata
import os
import random
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks import command, forward
from benchmarks.forward import MODELS, SIDE
from benchmarks.full_size_encoders import clip as write_clip
from lineup import cli, machine, paths
from lineup.embedding import computation, inference, job
from lineup.embedding.vector_cache import VectorCache
from lineup.encoders import encoder_folder
from lineup.encoders.encoder import Encoder, Transform
from lineup.photos import image_preparation
from lineup.settings.sections import Embed
from tests.support import real_photos
from tests.support.photographs import photograph, write_prepared

COUNTS = {"mobilenet_v2": 768, "resnet50": 192, "clip": 192}
TURNS = 3
BATCH = 32
SHORTER_SIDE_PX = 512
DIFFERENT_PHOTOS = 32
DECODED_AT_ONCE = 16
# The least share of the limit, and the least number of times that Lineup is as fast as a loop (medians).
TARGETS = {
    "limit": 0.92,
    "notebook": 2.0,
    "DataLoader": 1.0,
    "documented": 1.0,
    "sentence-transformers": 1.0,
}

Way = Callable[[], Any]


def ways(
    encoder: Encoder, files: list[Path], settings: Embed, name: str, decoders: ProcessPoolExecutor
) -> dict[str, Way]:
    """The ways that are compared, by name; each computes every photo once."""
    module, transform = encoder.module.eval(), encoder.transform
    best = forward.fastest(paths.model("row"), settings.precision)
    first = job.prepare_job("row", "test", settings)
    network = first.network
    assert network is not None
    print(f"Lineup: {first.engine.described}, {first.engine.precision}, images a call: {network.shape}")

    def decoding() -> None:
        chunks = [files[start : start + DECODED_AT_ONCE] for start in range(0, len(files), DECODED_AT_ONCE)]
        list(decoders.map(partial(_decode, network.transform), chunks))

    def lineup(measured: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            cache = VectorCache(Path(folder), encoder.dim)
            empty = replace(first, cache=cache, missing=len(files))
            assert computation.compute(empty, settings, measured).computed == len(files)

    def keeping() -> None:
        shutil.rmtree(paths.CACHE / "pixels", ignore_errors=True)
        lineup(0)

    def in_batches(size: int) -> None:
        with torch.no_grad():
            for start in range(0, len(files), size):
                module(
                    torch.stack(
                        [transform(Image.open(path).convert("RGB")) for path in files[start : start + size]]
                    )
                ).numpy()

    def loaded() -> None:
        with torch.no_grad():
            for pixels in DataLoader(_Photos(files, transform), batch_size=BATCH, num_workers=2):
                module(pixels).numpy()

    compared: dict[str, Way] = {
        "lineup": partial(lineup, len(files)),
        "pixels written": keeping,
        "pixels read": partial(lineup, 0),
    }
    compared["decoding"] = decoding
    compared["forward"] = partial(best.compute, len(files))
    compared["notebook"] = lambda: in_batches(1 if name == "clip" else BATCH)
    compared["DataLoader"] = loaded
    if name == "clip":
        compared["sentence-transformers"] = _sentence_transformers(files)
    else:
        compared["documented"] = lambda: in_batches(1)  # for CLIP, the notebook's loop is the documented one
    return compared


def _decode(transform: Transform, photos: list[Path]) -> None:
    for path in photos:
        inference.decoded((path.name, path.read_bytes()), transform)


class _Photos(Dataset[torch.Tensor]):
    def __init__(self, files: list[Path], transform: Transform) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def _sentence_transformers(files: list[Path]) -> Way:
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.logging.set_verbosity_error()
    folder = Path("clip").resolve()
    write_clip(folder)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda: model.encode(
        [Image.open(path) for path in files], batch_size=BATCH, show_progress_bar=False
    )  # type: ignore[arg-type]


def lay_out(name: str, photos: list[bytes]) -> tuple[Encoder, list[Path]]:
    """Writes an encoder with random weights and prepared photos where the stage embed reads them.

    Returns the encoder, and the photos as single files.
    """
    forward.fetch(name, paths.model("row"))
    write_prepared(paths.images("test"), [("gallery", photo) for photo in photos])
    folder = Path("photos")
    folder.mkdir(exist_ok=True)
    for number, photo in enumerate(photos):
        (folder / f"{number:04}.jpg").write_bytes(photo)
    return encoder_folder.load(paths.model("row")), sorted(folder.iterdir())


def real(folder: Path | None, megapixels: float | None, count: int) -> list[bytes]:
    """Photos as preprocess stores them: the folder's own, or some of that size, put together."""
    sources = real_photos.files(folder)
    if megapixels is None:
        raw = [path.read_bytes() for path in sources[:count]]
    else:
        size, chance = real_photos.SIZES[megapixels], random.Random(0)
        different = min(count, DIFFERENT_PHOTOS)
        raw = [real_photos.put_together(sources, *size, chance) for _ in range(different)]
    prepared = [image_preparation.prepare(data, SHORTER_SIDE_PX).replacement or data for data in raw]
    # Other bytes, and the same work: anything may follow the end of a JPEG.
    return [prepared[number % len(prepared)] + b"%d" % number for number in range(count)]


def measure(
    name: str, folder: Path | None, megapixels: float | None, settings: Embed, asked: int | None
) -> None:
    """Measures one model and prints its table.

    asked: the number of photos; None: the model's own, which fits into the time above.
    """
    count = asked or COUNTS[name]
    if folder or megapixels:
        photos = real(folder, megapixels, count)
    else:
        photos = [photograph(seed, 512, 384) for seed in range(count)]
    # Forked before an engine starts threads, which a fork would lack.
    with ProcessPoolExecutor(
        machine.threads(), get_context("fork"), initializer=torch.set_num_threads, initargs=(1,)
    ) as decoders:
        decoders.submit(len, ()).result()
        print(f"\n{name} at {SIDE} px, {len(photos)} photos")
        encoder, files = lay_out(name, photos)
        compared = ways(encoder, files, settings, name, decoders)
        seconds = _in_turns(compared)
    _print_table(name, len(photos), seconds)


def _in_turns(compared: dict[str, Way]) -> dict[str, list[float]]:
    """The seconds that each way took in each turn."""
    seconds: dict[str, list[float]] = {way: [] for way in compared}
    for turn in range(TURNS + 1):  # the first one warms up
        for way, work in compared.items():
            torch.set_num_threads(machine.threads())  # engines change it for parts of the process
            start = time.perf_counter()
            work()
            if turn:
                seconds[way].append(time.perf_counter() - start)
    return seconds


def _print_table(name: str, photos: int, seconds: dict[str, list[float]]) -> None:
    """One line for each way: its speed, and how many times as fast Lineup was in the same turn."""
    limit = [sum(parts) for parts in zip(seconds["decoding"], seconds["forward"], strict=True)]
    print(f"{'':22} images/s   Lineup is (turns)          target   seconds of each turn")
    for way, times in (seconds | {"limit": limit}).items():
        ratios = [other / ours for other, ours in zip(times, seconds["lineup"], strict=True)]
        ratio = statistics.median(ratios)
        target = 3.0 if (name, way) == ("mobilenet_v2", "notebook") else TARGETS.get(way)
        verdict = f"{target:5.2f} {'met ' if ratio >= target else 'MISS'}" if target else " " * 10
        spread = "" if way == "lineup" else f"{ratio:6.2f} x ({min(ratios):.2f}-{max(ratios):.2f})"
        turns = ", ".join(f"{time:.2f}" for time in times)
        print(f"{way:22} {photos / statistics.median(times):8.1f}   {spread:24} {verdict}   {turns}")
    for way in ("lineup", "pixels read"):
        share = statistics.median(
            alone / whole for alone, whole in zip(seconds["forward"], seconds[way], strict=True)
        )
        print(f"{way}: {share:.2f} of the speed of the network alone", flush=True)


def main() -> None:
    parser = command.parser("embed")
    parser.add_argument("models", nargs="*", type=command.one_of(*MODELS), default=list(MODELS))
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--megapixels", type=float, choices=real_photos.SIZES)
    parser.add_argument("--count", type=int)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="float32")
    asked = parser.parse_args()
    pa.set_memory_pool(pa.system_memory_pool())  # as the stage embed does
    warnings.filterwarnings("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    settings = Embed.model_validate({"engine": asked.engine, "precision": asked.precision, "device": "cpu"})
    packages = [
        "torch",
        "torchvision",
        "timm",
        "open_clip_torch",
        "pillow",
        *(["sentence-transformers"] if "clip" in asked.models else []),
    ]
    print("RANDOM WEIGHTS: this measures speed and nothing else.")
    print(f"{machine.cpu_name()}, {machine.threads()} threads (torch: {torch.get_num_threads()})")
    print(", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages))
    home = Path.cwd()
    for name in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            photos = (home / asked.photos).resolve() if asked.photos else None
            measure(name, photos, asked.megapixels, settings, asked.count)
            os.chdir(home)


if __name__ == "__main__":
    cli.run(main)
