"""A network's forward pass by each exact engine, number of images in a call and layout of threads.

Run: python -m benchmarks.forward [mobilenet_v2] [resnet50] [clip] [--precision NAME]
Takes about 6 minutes on two cores, 2 for each model.
All weights are RANDOM: this measures speed and nothing else. The images are random numbers in memory, 224 px:
nothing is read, decoded or stored. Each arrangement computes alone, for two turns of at least a second; the
faster turn counts. benchmarks.embed compares Lineup with the fastest arrangement.

images a call     how many images the network gets at once
threads a call    1: as many calls at once as there are cores, each on its own; else one call that all share
"""

from __future__ import annotations

import io
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks import command
from lineup import cli, machine
from lineup.encoders import encoder_folder, libraries
from lineup.engines import selection
from lineup.engines.engine import CannotConvert, Engine, Forward
from lineup.engines.onnxruntime import OUTPUT, write_graph
from lineup.engines.tracing import tracing
from lineup.settings.encoder import EncoderSettings
from lineup.settings.sections import Embed

MODELS = {
    "mobilenet_v2": {"library": "torchvision", "name": "mobilenet_v2"},
    "resnet50": {"library": "timm", "name": "resnet50"},
    "clip": {"library": "open_clip", "name": "ViT-B-32"},
}
SIDE = 224
IMAGES_A_CALL = (1, 8, 32)
TURNS = 2
SECONDS = 1.0


@dataclass(frozen=True)
class Arrangement:
    """One way of computing a network with all cores.

    Args:
        engine: what computes it, and in which precision.
        pixels: what each call computes, float32 [B, 3, SIDE, SIDE].
        threads_a_call: how many threads share a call.
        forward: the network.
    """

    engine: Engine
    pixels: torch.Tensor
    threads_a_call: int
    forward: Forward

    @property
    def described(self) -> str:
        return (
            f"{self.engine.described}, {self.engine.precision}, images a call: {len(self.pixels)}, "
            f"threads a call: {self.threads_a_call}"
        )

    def compute(self, images: int) -> None:
        """Computes at least so many images, on all cores."""
        calls = -(-images // len(self.pixels))
        with ThreadPoolExecutor(
            machine.threads() // self.threads_a_call,
            initializer=torch.set_num_threads,
            initargs=(self.threads_a_call,),
        ) as pool:
            list(pool.map(self.forward, [self.pixels] * calls))


def fetch(name: str, folder: Path) -> None:
    """Writes an encoder of MODELS with random weights."""
    torch.manual_seed(0)
    spec = EncoderSettings.model_validate(
        {**MODELS[name], "weights": "none", "allow_random": True, "image_size": SIDE}
    )
    fetched = libraries.library(spec.library).fetch(spec)
    encoder_folder.save(folder, fetched.module, fetched.config)


def arrangements(folder: Path, precision: str) -> Iterator[Arrangement]:
    """All that can compute the encoder in a folder, one after the other: each holds its own weights."""
    for engine in selection.candidates(Embed(device="cpu", precision=precision)):  # type: ignore[arg-type]
        for pixels in (torch.rand(images, 3, SIDE, SIDE) for images in IMAGES_A_CALL):
            for threads in sorted({1, machine.threads()}):
                module = encoder_folder.load(folder).module.eval()
                try:
                    forward = _compiled(engine, module, pixels, threads)
                except CannotConvert as reason:
                    print(f"{engine.name} can't compute it: {reason}")
                    continue
                yield Arrangement(engine, pixels, threads, forward)


def _compiled(engine: Engine, module: nn.Module, pixels: torch.Tensor, threads_a_call: int) -> Forward:
    """The network, compiled for calls of so many threads.

    Lineup's own engines give each call one thread. For more, networks of OpenVINO and ONNX Runtime are
    compiled here, and `Arrangement.compute` sets torch's number of threads.

    Raises:
        CannotConvert: the engine can't compute the network.
    """
    if threads_a_call > 1 and engine.name == "openvino":
        return _openvino(module, pixels, engine.precision, threads_a_call)
    if threads_a_call > 1 and engine.name == "onnxruntime":
        return _onnxruntime(module, pixels, threads_a_call)
    return engine.library.compile(module, pixels, engine.precision, engine.device, machine.threads())


def _openvino(module: nn.Module, pixels: torch.Tensor, precision: str, threads: int) -> Forward:
    import openvino

    with tracing(module):
        traced = torch.jit.trace(module, pixels, check_trace=False)
    model = openvino.convert_model(
        traced, example_input=pixels, input=[openvino.PartialShape(list(pixels.shape))]
    )
    compiled = openvino.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    return lambda batch: compiled({0: batch.numpy()})[0]


def _onnxruntime(module: nn.Module, pixels: torch.Tensor, threads: int) -> Forward:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    with io.BytesIO() as graph:
        write_graph(module, {"pixels": pixels}, graph)
        session = onnxruntime.InferenceSession(graph.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run([OUTPUT], {"pixels": batch.numpy()})[0]  # type: ignore[return-value]


def images_per_second(arrangement: Arrangement) -> float:
    """Of the faster turn, after one call for each core to warm up."""
    images_on_all_cores = len(arrangement.pixels) * machine.threads()
    arrangement.compute(images_on_all_cores)
    seconds = _seconds(lambda: arrangement.compute(images_on_all_cores))
    images = max(1, round(SECONDS / seconds)) * images_on_all_cores
    return images / min(_seconds(lambda: arrangement.compute(images)) for _ in range(TURNS))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fastest(folder: Path, precision: str) -> Arrangement:
    """The fastest arrangement for the encoder in a folder; prints the speed of each."""
    best: tuple[float, Arrangement] | None = None
    for arrangement in arrangements(folder, precision):
        speed = images_per_second(arrangement)
        print(f"    {speed:8.1f} images/s  {arrangement.described}", flush=True)
        if best is None or speed > best[0]:
            best = speed, arrangement
    assert best, "torch computes every encoder"
    return best[1]


def main() -> None:
    parser = command.parser("forward")
    parser.add_argument("models", nargs="*", type=command.one_of(*MODELS), default=list(MODELS))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("RANDOM WEIGHTS: this measures speed and nothing else.")
    print(f"{machine.cpu_name()}, {machine.threads()} threads")
    for name in asked.models:
        print(f"\n{name} at {SIDE} px, {asked.precision}")
        with tempfile.TemporaryDirectory() as folder:
            fetch(name, Path(folder))
            print(f"fastest: {fastest(Path(folder), asked.precision).described}")


if __name__ == "__main__":
    cli.run(main)
