"""Full-size encoders from a hub on this machine: seconds to fetch, peak memory, images per second.

Run: python -m benchmarks.full_size_encoders [clip_b32] [vit_b16] [resnet50] [open_clip_b32] [--images N]
         [--device cpu]
Takes about 5 minutes on two cores, and needs Linux and 6 GB of the temporary folder.
All weights are RANDOM: nothing here shows how well an encoder finds anything. Memory is the peak of a process
(resident, with the pages of mapped files), less what it held after its libraries were imported; it is also
given as a multiple of the checkpoint's size. "load" includes the activations of one image.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
import transformers as tf

from benchmarks import command
from lineup import cli, machine
from tests.support import hub_project, hub_repositories, local_hub

_CARD = "---\nlicense: other\n---\nRandom weights.\n"
# Linux keeps the peak memory of a process since this mark was last wiped.
_MEMORY = """
def wipe():
    open("/proc/self/clear_refs", "w").write("5")
    return mark("VmRSS")
def mark(name="VmHWM"):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6
"""
_FETCH = (
    _MEMORY
    + """
import json, sys, time
from stages import fetch
from lineup.encoders import libraries
libraries.library(sys.argv[2])
before, start = wipe(), time.perf_counter()
fetch.main(["--row", sys.argv[1]])
print(json.dumps({"seconds": time.perf_counter() - start, "memory": mark() - before}))
"""
)
_DOWNLOAD = """
import json, sys, time
from huggingface_hub import snapshot_download
start = time.perf_counter()
snapshot_download(sys.argv[1], allow_patterns=["*.safetensors"])
print(json.dumps({"seconds": time.perf_counter() - start}))
"""
_EMBED = (
    _MEMORY
    + """
import io, json, sys, time
from pathlib import Path
import torch
from lineup import machine
from lineup.embedding import inference
from lineup.encoders import encoder_folder, libraries
from lineup.engines import conversion, selection
from lineup.settings.sections import Embed
from tests.support.hub_project import photo
libraries.library(sys.argv[2])
before, count = wipe(), int(sys.argv[3])
encoder = encoder_folder.load(Path("data/weights") / sys.argv[1])
with torch.inference_mode():  # mapped weights are in memory only after they were used
    encoder.module(torch.zeros(1, 3, encoder.config.image_size, encoder.config.image_size))
loaded = mark() - before
photos = []
for number in range(count):
    data = io.BytesIO()
    photo(320, 240, number).save(data, "JPEG")
    photos.append((str(number), data.getvalue()))
pixels = [encoder.transform(photo(320, 240, number)) for number in range(4)]
engine = selection.candidates(Embed(device=sys.argv[4]))[0]
network = conversion.prepare(engine, encoder, pixels, 16, machine.threads())
del encoder
converted, held = mark() - before, mark("VmRSS") - before
times = []
for batch in inference.vectors(network, photos, 16, machine.threads()):
    times.append((time.perf_counter(), len(batch.ids)))
seconds, done = times[-1][0] - times[0][0], sum(n for _, n in times[1:])  # the first batch warms up
measured = {"loaded": loaded, "converted": converted, "held": held, "images_per_second": done / seconds}
print(json.dumps(measured | {"engine": network.engine.described}))
"""
)


def clip(folder: Path) -> None:
    tokenizer = hub_repositories.clip_tokenizer(folder)
    text = {"vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406}
    model = tf.CLIPModel(tf.CLIPConfig(text_config=text))  # defaults of openai/clip-vit-base-patch32
    model.save_pretrained(folder)
    tf.CLIPProcessor(tf.CLIPImageProcessor(), tokenizer).save_pretrained(folder)


def vit(folder: Path) -> None:
    tf.ViTModel(tf.ViTConfig()).save_pretrained(folder)  # ViT-B/16 at 224 px
    tf.ViTImageProcessor().save_pretrained(folder)


def resnet50(folder: Path) -> None:
    timm.models.save_for_hf(
        timm.create_model("resnet50", pretrained=False), str(folder), safe_serialization=True
    )


def open_clip_b32(folder: Path) -> None:
    from safetensors.torch import save_file

    model: Any = open_clip.create_model("ViT-B-32")
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def encoder(library: str, name: str, **options: str) -> dict[str, Any]:
    return hub_project.row(library=library, name=name, weights=options.pop("weights", "hub"), **options)


ENCODERS: dict[str, tuple[str, Callable[[Path], None], dict[str, Any]]] = {
    "clip_b32": (
        "openai/clip-vit-base-patch32",
        clip,
        encoder("transformers", "openai/clip-vit-base-patch32"),
    ),
    "vit_b16": (
        "google/vit-base-patch16-224-in21k",
        vit,
        encoder("transformers", "google/vit-base-patch16-224-in21k", pooling="cls"),
    ),
    "resnet50": ("timm/resnet50.a1_in1k", resnet50, encoder("timm", "resnet50.a1_in1k")),
    "open_clip_b32": (
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        open_clip_b32,
        encoder("open_clip", "ViT-B-32", weights="hub:laion2b_s34b_b79k"),
    ),
}


def run(code: str, *arguments: str, cwd: Path, url: str, **extra: str) -> dict[str, Any]:
    environment = hub_project.environment(cwd, url, **extra)
    del environment["OMP_NUM_THREADS"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(row: str, hub: local_hub.Hub, root: Path, images: int, device: str) -> list[str]:
    repository, make, settings = ENCODERS[row]
    torch.manual_seed(0)
    make(root / "repositories" / row)
    (root / "repositories" / row / "README.md").write_text(_CARD, encoding="utf-8")
    hub.add(repository, root / "repositories" / row)
    project, library = root / row, settings["encoder"]["library"]
    hub_project.write(project, {row: settings})
    download = run(_DOWNLOAD, repository, cwd=project, url=hub.url, HF_HOME=str(root / "alone" / row))
    fetched = run(_FETCH, row, library, cwd=project, url=hub.url)
    embedded = run(
        _EMBED, row, library, str(images), device, cwd=project, url="http://hub.invalid", HF_HUB_OFFLINE="1"
    )
    checkpoint = (
        sum(path.stat().st_size for path in (root / "repositories" / row).glob("*.safetensors")) / 1e6
    )
    tower = (project / "data/weights" / row / "model.safetensors").stat().st_size / 1e6
    figures = [
        checkpoint,
        download["seconds"],
        fetched["seconds"],
        fetched["memory"],
        fetched["memory"] / checkpoint,
        tower,
    ]
    figures += [
        embedded["loaded"],
        embedded["loaded"] / tower,
        embedded["engine"],
        embedded["converted"],
        embedded["converted"] / tower,
    ]
    figures += [embedded["held"], embedded["images_per_second"]]
    return [row, *(figure if isinstance(figure, str) else f"{figure:.1f}" for figure in figures)]


COLUMNS = (
    "encoder",
    "checkpoint MB",
    "download s",
    "fetch s",
    "fetch peak MB",
    "of checkpoint",
    "image tower MB",
    "load peak MB",
    "of tower",
    "engine",
    "its peak MB",
    "of tower",
    "then held MB",
    "images/s",
)


def main() -> None:
    parser = command.parser("full_size_encoders")
    parser.add_argument("encoders", nargs="*", type=command.one_of(*ENCODERS), default=list(ENCODERS))
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    print("RANDOM WEIGHTS: this measures download, memory and speed, and nothing else.")
    print(f"{machine.cpu_name()}, {machine.threads()} threads, torch {torch.__version__}\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as root, local_hub.serve() as hub:
        for row in asked.encoders:
            print(
                "| " + " | ".join(measure(row, hub, Path(root), asked.images, asked.device)) + " |",
                flush=True,
            )


if __name__ == "__main__":
    cli.run(main)
