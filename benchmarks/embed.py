"""Embedding end to end, compared with its engine's forward pass alone and with loops that people write.

Run: python -m benchmarks.embed [mobilenet_v2] [resnet50] [clip] [--photos FOLDER] [--megapixels N]
         [--count N] [--engine NAME] [--precision NAME]
Takes about 12 minutes on two cores, 2 to 6 for each model.
All weights are RANDOM: this measures speed and nothing else. The photos are those of a folder, as preprocess
stores them, or are made here (512 x 384 px). With --megapixels (0.2, 1, 3 or 12), photos of that size are put
together from those of the folder, or from the two that scikit-learn has, and prepared. Each way computes the
same photos from their files. The ways take turns, and medians count.

lineup          lineup.embedding.computation.compute, as the stage runs it: from prepared images on disk to
                vectors in the local cache
pixels written  the same, while the photos' decoded pixels are cached for the next row
pixels read     the same, where an earlier row has cached the pixels
ceiling         the same engine with the same threads on tensors in memory: no file, no decoding, no cache
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks import command
from benchmarks.full_size_encoders import clip as write_clip
from lineup import cli, machine, paths
from lineup.embedding import computation, inference, job
from lineup.embedding.vector_cache import VectorCache
from lineup.encoders import encoder_folder, libraries
from lineup.encoders.encoder import Encoder, Transform
from lineup.photos import decoding
from lineup.settings.params import Embed
from lineup.settings.params import Encoder as Spec
from tests.support import real_photos
from tests.support.photographs import photograph, write_prepared

MODELS = {
    "mobilenet_v2": ({"library": "torchvision", "name": "mobilenet_v2"}, 768),
    "resnet50": ({"library": "timm", "name": "resnet50"}, 192),
    "clip": ({"library": "open_clip", "name": "ViT-B-32"}, 192),
}
RUNS = 3
BATCH = 32
SHORTER_SIDE_PX = 512
DIFFERENT_PHOTOS = 32
# The least share of the ceiling, and the least number of times that lineup is as fast as a loop (medians).
TARGETS = {
    "ceiling": 0.9,
    "notebook": 2.0,
    "DataLoader": 1.0,
    "documented": 1.0,
    "sentence-transformers": 1.0,
}

Way = Callable[[], Any]


def ways(encoder: Encoder, files: list[Path], settings: Embed, name: str) -> dict[str, Way]:
    """The ways that are compared, by name; each computes every photo once."""
    module, transform = encoder.module.eval(), encoder.transform
    threads = machine.threads()
    first = job.prepare_job("row", "test", settings)
    network = first.network
    assert network is not None
    group = [
        inference.decoded((path.name, path.read_bytes()), network.transform)
        for path in files[: network.shape]
    ]
    batch = torch.stack(group)

    def lineup(measured: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            cache = VectorCache(Path(folder), encoder.dim)
            empty = replace(first, cache=cache, missing=len(files))
            assert computation.compute(empty, settings, measured).computed == len(files)

    def keeping() -> None:
        shutil.rmtree(paths.CACHE / "pixels", ignore_errors=True)
        lineup(0)

    def ceiling() -> None:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(network.forward, [batch] * (len(files) // network.shape)))

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
    compared["ceiling"] = ceiling
    compared["notebook"] = lambda: in_batches(1 if name == "clip" else BATCH)
    compared["DataLoader"] = loaded
    if name == "clip":
        compared["sentence-transformers"] = _sentence_transformers(files)
    else:
        compared["documented"] = lambda: in_batches(1)  # for CLIP, the notebook's loop is the documented one
    return compared


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


def lay_out(spec: dict[str, str], photos: list[bytes]) -> tuple[Encoder, list[Path]]:
    """Writes an encoder with random weights and prepared photos where the stage embed reads them.

    Returns the encoder, and the photos as single files.
    """
    torch.manual_seed(0)
    library = libraries.library(spec["library"])
    fetched = library.fetch(
        Spec.model_validate({**spec, "weights": "none", "allow_random": True, "image_size": 224})
    )
    encoder_folder.save(paths.model("row"), fetched.module, fetched.config)
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
    prepared = [decoding.prepare(data, SHORTER_SIDE_PX).replacement or data for data in raw]
    # Other bytes, and the same work: anything may follow the end of a JPEG.
    return [prepared[number % len(prepared)] + b"%d" % number for number in range(count)]


def measure(
    name: str, folder: Path | None, megapixels: float | None, settings: Embed, asked: int | None
) -> None:
    """Measures one model and prints its table.

    asked: the number of photos; None: the model's own, which fits into the time above.
    """
    spec, count = MODELS[name][0], asked or MODELS[name][1]
    if folder or megapixels:
        photos = real(folder, megapixels, count)
    else:
        photos = [photograph(seed, 512, 384) for seed in range(count)]
    start = time.perf_counter()
    encoder, files = lay_out(spec, photos)
    compared = ways(encoder, files, settings, name)
    seconds: dict[str, list[float]] = {way: [] for way in compared}
    for run in range(RUNS + 1):  # the first one warms up
        for way, work in compared.items():
            start = time.perf_counter()
            work()
            if run:
                seconds[way].append(time.perf_counter() - start)
    speeds = {way: len(photos) / statistics.median(times) for way, times in seconds.items()}
    engine = job.prepare_job("row", "test", settings).engine
    print(f"\n{name} at 224 px, {len(photos)} photos, {engine.described}, {engine.precision}")
    print(f"{'':22} images/s   lineup is   target   runs, s")
    for way, speed in speeds.items():
        target = 3.0 if (name, way) == ("mobilenet_v2", "notebook") else TARGETS.get(way)
        ratio = speeds["lineup"] / speed
        verdict = (
            f"{ratio:8.2f} x   {target:5.1f} {'ok  ' if ratio >= target else 'MISS'}" if target else " " * 23
        )
        if way.startswith("pixels"):
            verdict = f"{speed / speeds['ceiling']:8.2f} of the ceiling "
        print(f"{way:22} {speed:8.1f} {verdict}  {', '.join(f'{s:.2f}' for s in seconds[way])}", flush=True)


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
