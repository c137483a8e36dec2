"""One loop for every objective: fine-tunes an encoder on labelled images within a time limit, and never loses
an epoch.

The same settings, seed, images and machine give the same weights, whether or not the training was
interrupted.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from lineup import machine
from lineup.encoders import encoder_config, encoder_folder, libraries
from lineup.encoders.encoder import Encoder
from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.evaluation import metrics
from lineup.fingerprint import code_digest
from lineup.objectives import objective as objectives
from lineup.photos import decoding, image_headers, pixel_values
from lineup.search import exact
from lineup.settings import training_photos
from lineup.settings.training import Train, Trained
from lineup.storage import parquet
from lineup.training import checkpoint as checkpoints
from lineup.training import data, decoded_images, network, notes
from lineup.training.augmentation import Augment
from lineup.training.batches import Batches, Sampling
from lineup.training.checkpoint import Epoch, Progress, Tensors
from lineup.training.notes import PERFECT
from lineup.training.validation import HeldOut, retrieval_score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Where a training finds its input, and keeps what it has so far.

    encoder: the fetched weights' folder; images: the prepared shards; checkpoint: a folder for this training
        alone.
    """

    encoder: Path
    images: Path
    checkpoint: Path


@dataclass(frozen=True)
class Result:
    """module, facts: the encoder with its best weights.

    Progress: log and times; note: what a reader of the table should know.
    """

    module: nn.Module
    facts: EncoderConfig
    progress: Progress
    note: str | None
    device: str


def ingredients(
    row: Trained, settings: Train, facts: EncoderConfig, manifest: data.Manifest, photos: Path, seed: int
) -> dict[str, Any]:
    """All that decides the weights that a training ends with.

    Not the clock: a longer one goes on where a shorter one ended.
    """
    own = [
        file
        for file in sorted(Path(__file__).parent.glob("*.py"))
        if file.name not in ("__init__.py", "notes.py")
    ]
    objective = objectives.objective(row.name)
    shared = (decoding, exact, image_headers, metrics, pixel_values, training_photos)
    modules = (*shared, objectives, objective)
    return {
        "encoder": facts.deciding(),
        "text": {name: facts.to_json().get(name) for name in sorted(encoder_config.TEXT_FIELDS)},
        "objective": row.model_dump(mode="json", exclude=set(Train.model_fields)),
        "needs": asdict(row.needs),
        "settings": settings.model_dump(mode="json", exclude={"max_minutes", "memory_mb", "device"}),
        "seed": seed,
        "images": manifest.digest(),
        "preparation": (parquet.read_schema(parquet.shards(photos)[0]).metadata or {})
        .get(b"preparation", b"")
        .decode(),
        "device": choose_device(settings.device).type,
        "versions": libraries.versions(*facts.versions, "torchvision", *objective.PACKAGES),
        "code": code_digest(
            *own,
            *encoder_folder.CODE,
            libraries.source_file(facts.library),
            *(Path(str(module.__file__)) for module in modules),
        ),
    }


def train(
    row: Trained, settings: Train, encoder: Encoder, manifest: data.Manifest, sources: Sources, seed: int
) -> Result:
    """Fine-tunes `encoder` (which is changed) with a row's objective; settings: of the loop, for this row.

    UserError where data and settings don't go together, or the loss is no number any more.
    """
    started = time.monotonic()
    parts = data.split(manifest, settings, row.needs, seed)
    _deterministic(seed)
    module, facts = network.headed(encoder, settings.dim)
    look = network.look(encoder, settings.image_size)
    context = objectives.Context(facts.dim, parts.names, facts, sources.encoder)
    objective = objectives.objective(row.name).build(row, context)
    held_out = HeldOut(manifest.labels[parts.validation], row.needs.labels)
    run = _Run(module, encoder.module, objective, settings, look, held_out, seed)
    run.resume(sources.checkpoint)
    if not run.progress.finished:
        pixels = decoded_images.decode(
            sources.images,
            manifest,
            parts,
            encoder.transform,
            look.size,
            settings.memory_mb,
            sources.checkpoint,
        )
        run.epochs(
            Training(pixels, Sampling(parts.labels, len(parts.train), settings, seed), row.needs.views),
            started,
        )
    named = (
        f"{machine.cpu_name()}, {machine.threads()} threads"
        if run.device.type == "cpu"
        else torch.cuda.get_device_name()
    )
    note = notes.note(run.progress, settings, run.stopped, held_out.unvalidated)
    return Result(run.best_module(), facts.without_text(), run.progress, note, named)


def choose_device(wanted: str) -> torch.device:
    """UserError where CUDA is asked for and not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch finds no CUDA device; set it to auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _deterministic(seed: int) -> None:
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


@dataclass(frozen=True)
class Training:
    """What is trained on, and what is held out. pixels: of the training images in the order that `sampling`
    counts; views: augmented copies of an image.
    """

    pixels: decoded_images.Pixels
    sampling: Sampling
    views: int


class _Run:
    """The state of one training, from its first epoch to its last, over interruptions."""

    def __init__(
        self,
        module: nn.Module,
        backbone: nn.Module,
        objective: nn.Module,
        settings: Train,
        look: network.Look,
        held_out: HeldOut,
        seed: int,
    ) -> None:
        self.settings, self.look, self.held_out, self.seed = settings, look, held_out, seed
        self.device = choose_device(settings.device)
        self.module = module.to(device=self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(self.device)
        self.frozen = network.freeze(backbone, settings)
        self.optimiser = network.optimiser(self.module, backbone, self.objective, settings)
        self.averaged = (
            AveragedModel(self.module, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
            if settings.ema
            else None
        )
        self.precision = network.precision(settings.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        self.progress = Progress()
        self.best: Tensors = {}
        self.stopped = False

    def resume(self, folder: Path) -> None:
        """Goes on from the last whole epoch, if there is one."""
        self.folder = folder
        found = checkpoints.load(folder)
        if found is None:
            return
        self.progress, parts = found
        self.best = parts["best"]
        if self.progress.finished:
            return
        self.module.load_state_dict(parts["module"])
        self.objective.load_state_dict(parts.get("objective", {}))
        if self.averaged:
            self.averaged.load_state_dict(parts["averaged"])
        checkpoints.restore_optimiser(self.optimiser, parts["optimiser"])
        self.scaler.load_state_dict(self.progress.scaler)
        log.info("goes on after epoch %d of %d", self.progress.epoch, self.settings.epochs)

    def epochs(self, training: Training, started: float) -> None:
        """All epochs that are left, or as many as the clock allows."""
        before, settings, progress, sampling = (
            self.progress.seconds,
            self.settings,
            self.progress,
            training.sampling,
        )
        self.deadline = started + 60 * settings.max_minutes - before
        if not progress.log:
            imprint = getattr(self.objective, "imprint", None)
            if imprint and sampling.labels is not None:
                imprint(network.label_centres(self.module, training.pixels.train, sampling.labels, self.look))
            self._note(
                Epoch(
                    0,
                    None,
                    self._score(training.pixels.validation),
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                    time.monotonic() - started,
                )
            )
        self._warn_that_validation_cant_choose()
        todo, done = settings.epochs * sampling.steps, progress.epoch * sampling.steps
        with tqdm(total=todo, initial=done, unit="step", disable=None, desc="train", mininterval=1) as bar:
            for epoch in range(progress.epoch + 1, settings.epochs + 1):
                self._epoch(epoch, training, bar)
                if self.stopped:
                    break
                progress.epoch, progress.seconds = epoch, before + time.monotonic() - started
                progress.finished = epoch == settings.epochs or self._out_of_patience()
                self._save()
                if progress.finished:
                    break
        if not progress.finished:
            progress.seconds = before + time.monotonic() - started
        if not self.best:
            self._keep(0)
        if never := round((1 - progress.log[-1].drawn_so_far) * sampling.count):
            fix = "max_minutes" if self.stopped else "epochs or images_per_epoch"
            log.info(
                "%d of %d training images were never drawn; raise %s to draw them", never, sampling.count, fix
            )

    def _epoch(self, epoch: int, training: Training, bar: tqdm) -> None:
        """One pass, and what is held out.

        Where the clock stops it, what it did so far counts, but only for this run's result.
        """
        begun, sampling = time.monotonic(), training.sampling
        plan = sampling.epoch(epoch)
        losses, idle = self._pass(epoch, training, plan, bar)
        done = len(losses)
        if not done:
            return
        drawn = len(np.unique(np.concatenate([rows for rows, _ in plan[:done]])))
        drawn_so_far = sampling.images_drawn((epoch - 1) * sampling.steps + done)
        entry = Epoch(
            epoch=round(epoch - 1 + done / sampling.steps, 6) if self.stopped else epoch,
            loss=sum(losses) / done,
            map_at_r=self._score(training.pixels.validation),
            learning_rate=self.optimiser.param_groups[-1]["lr"],
            drawn=drawn / sampling.count,
            drawn_so_far=drawn_so_far / sampling.count,
            idle=idle / done,
            seconds=time.monotonic() - begun,
        )
        if self._is_best(entry):
            self._keep(entry.epoch)
        self._note(entry)

    def _pass(
        self, epoch: int, training: Training, plan: list[tuple[data.Rows, data.Rows]], bar: tqdm
    ) -> tuple[list[float], int]:
        """The loss of each step, and how many steps had none, or no gradient.

        Sets `stopped` and ends early at the deadline.
        """
        torch.manual_seed(
            self.seed + epoch
        )  # of dropout; what a resumed run draws doesn't depend on earlier epochs
        network.training_mode(self.module, self.frozen, self.settings.batch_norm)
        self.objective.train()
        augment = Augment(self.settings.augmentation, self.look.size)
        batches = Batches(training.pixels.train, plan, augment, training.views, (self.seed, epoch))
        workers = (
            0 if self.device.type == "cpu" else max(1, machine.threads() - 1)
        )  # on a CPU the network needs all cores
        losses, idle, begun, steps = [], 0, time.monotonic(), len(plan)
        for step, (images, labels) in enumerate(
            DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=workers > 0)
        ):
            if time.monotonic() > self.deadline:
                self.stopped = True
                break
            for group in self.optimiser.param_groups:
                group["lr"] = group["peak"] * network.rate(
                    (epoch - 1) * steps + step, self.settings.epochs * steps, self.settings.warmup_share
                )
            loss, gradient = self._step(images.to(self.device, non_blocking=True), labels.to(self.device))
            if not loss < float("inf"):
                fix = f"lower learning_rate ({self.settings.learning_rate:g})"
                raise UserError(f"the loss is {loss} in epoch {epoch}, step {step + 1}; {fix}")
            losses.append(loss)
            idle += loss == 0 or gradient == 0
            self.progress.images += len(images)
            speed = (step + 1) * len(images) / (time.monotonic() - begun)
            bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}", images_per_s=f"{speed:.0f}")
            bar.update()
        self.progress.training_seconds += time.monotonic() - begun
        return losses, idle

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        """The loss, and the length of its gradient. images: uint8 [B, 3, S, S]; labels: int64 [B]."""
        with torch.autocast(
            self.device.type, self.precision or torch.bfloat16, enabled=self.precision is not None
        ):
            vectors = self.module(self.look.normalise(images))  # [B, D]
        loss = self.objective(vectors.float(), labels)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        gradient = nn.utils.clip_grad_norm_(trained, self.settings.max_gradient_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averaged:
            self.averaged.update_parameters(self.module)
        return loss.item(), gradient.item()

    def _candidate(self) -> nn.Module:
        return self.averaged.module if self.averaged else self.module

    def _score(self, held_out: npt.NDArray[np.float32]) -> float | None:
        """map_at_r of the held-out images [M, 3, H, W], with the weights that would be kept now."""
        return retrieval_score(self._candidate(), held_out, self.held_out.labels, self.device)

    def _is_best(self, entry: Epoch) -> bool:
        """Of equal epochs the last one is kept, and so it is where the held-out images may not choose, or
        tell nothing.

        An epoch that the clock stopped is kept only if nothing else is there, or it is better: the others can
        be repeated.
        """
        best = self.progress.score(self.progress.best_epoch)
        if not self.best:
            return True
        if entry.map_at_r is None or best is None or not self.held_out.choose:
            return not self.stopped
        return entry.map_at_r > best or (entry.map_at_r == best and not self.stopped)

    def _keep(self, epoch: float) -> None:
        self.best = {
            name: tensor.detach().cpu().clone() for name, tensor in self._candidate().state_dict().items()
        }
        self.progress.best_epoch = epoch

    def _warn_that_validation_cant_choose(self) -> None:
        start = self.progress.score(0)
        fault = self.held_out.unvalidated or (
            "the start is perfect already (map_at_r 1.000)" if start == PERFECT else None
        )
        without_patience = "" if self.settings.patience is None else ", and patience doesn't end the training"
        if fault:
            log.warning(
                "held-out images can't tell epochs apart: %s; of equal ones the last is kept%s",
                fault,
                without_patience,
            )
        elif without_patience and not self.held_out.choose:
            log.warning(
                "labels may not choose for this objective: the last epoch is kept%s", without_patience
            )

    def _note(self, entry: Epoch) -> None:
        self.progress.log.append(entry)
        told = [f"map_at_r of held-out labels {'-' if entry.map_at_r is None else f'{entry.map_at_r:.4f}'}"]
        if entry.loss is not None:
            told = [
                f"loss {entry.loss:.4f}",
                *told,
                f"{entry.drawn:.0%} of the training images drawn ({entry.drawn_so_far:.0%} so far)",
            ]
        if entry.idle:
            told.append(f"{entry.idle:.0%} of the steps taught nothing (no loss or no gradient)")
        (log.warning if entry.idle == 1 else log.info)(
            "epoch %g: %s, %.0f s", entry.epoch, ", ".join(told), entry.seconds
        )

    def _out_of_patience(self) -> bool:
        """Counted from the first epoch with the best score.

        Not where that can't be better than the start, or may not choose.
        """
        scores = [entry.map_at_r for entry in self.progress.log if entry.map_at_r is not None]
        if self.settings.patience is None or not self.held_out.choose or not scores or scores[0] == PERFECT:
            return False
        trained = scores[1:]
        return len(trained) - 1 - trained.index(max(trained)) >= self.settings.patience

    def _save(self) -> None:
        """Of a finished training only the result."""
        self.progress.scaler = self.scaler.state_dict()
        state: dict[str, Tensors] = {"best": self.best}
        if not self.progress.finished:
            state |= {"module": self.module.state_dict(), "objective": self.objective.state_dict()}
            state |= {"optimiser": checkpoints.optimiser_tensors(self.optimiser)}
            state |= {"averaged": self.averaged.state_dict()} if self.averaged else {}
        checkpoints.save(self.folder, self.progress, state)

    def best_module(self) -> nn.Module:
        self.module.load_state_dict(self.best)
        return self.module.cpu().eval()
