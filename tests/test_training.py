"""The training loop on a small set of images.

It learns, repeats itself, resumes, stops in time, and uses no label that it may not know.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lineup.encoders import encoder_folder, libraries
from lineup.encoders.encoder_config import TEXT_FIELDS
from lineup.errors import UserError
from lineup.objectives import clip
from lineup.objectives.objective import Context
from lineup.photos import decoding, prepared_images
from lineup.settings import training
from lineup.settings.encoder import EncoderSettings
from lineup.settings.trained_objectives import Needs
from lineup.training import checkpoint as checkpoints
from lineup.training import data, decoded_images, epochs, loop, validation
from lineup.training.augmentation import Augment
from lineup.training.deadline import Deadline
from lineup.training.trainer import Step, Trainer
from tests.support import hub_repositories
from tests.support import training_photos as scene
from tests.support.training_photos import objective


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    scene.write(folder, scene.photos())
    scene.write_encoder(folder / "encoder")
    return folder


def score_on_training_labels(root: Path, encoder: Any) -> float:
    """map_at_r among the images that were trained on."""
    manifest = data.read_manifest(root / "data/prepared/train/manifest.parquet")
    settings = settings_of(objective("arcface"))
    parts = data.split(manifest, settings, Needs(), 0)
    wanted = {str(manifest.ids[row]): int(row) for row in parts.train}
    images = root / "data/prepared/train/images"
    photos = [photo for photo in prepared_images.stream(images) if photo.image_id in wanted]
    transform = encoder_folder.load(root / "encoder").transform
    pixels = np.stack([transform(decoding.decode(photo.data)).numpy() for photo in photos])
    labels = np.array([manifest.labels[wanted[photo.image_id]] for photo in photos])
    score = validation.retrieval_score(encoder, pixels, labels, torch.device("cpu"))
    assert score is not None
    return score


def settings_of(row: Any, **defaults: Any) -> training.Train:
    return training.settings_of(training.Train(**{**scene.FAST, **defaults}), row)


LEARNERS: dict[str, dict[str, Any]] = {
    "softmax": {"temperature": 0.1},
    "contrastive": {},
    "triplet": {},
    "arcface": {"scale": 16, "margin": 0.3},
    "clip": {"text_width": 64, "text_layers": 1},
    "simclr": {},
    "metric_loss": {"loss": "MultiSimilarityLoss"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_every_objective_learns_eight_labels_by_heart(
    root: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a score the last epoch is kept, not the one that is best on two other labels."""
    monkeypatch.setattr(epochs, "retrieval_score", lambda *_: None)
    start = score_on_training_labels(root, encoder_folder.load(root / "encoder").module)
    result = scene.run(root, objective(name, **LEARNERS[name]), str(tmp_path), epochs=8, images_per_epoch=64)
    learned = score_on_training_labels(root, result.module)
    assert start < 0.6
    assert learned > (0.97 if name != "simclr" else start), f"{start:.3f} -> {learned:.3f}"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_one_others(root: Path, tmp_path: Path) -> None:
    runs = [
        scene.run(root, objective("arcface"), str(tmp_path / str(i)), seed=seed)
        for i, seed in enumerate((0, 0, 1))
    ]
    first, second, other = (scene.weights(run) for run in runs)
    assert first == second != other
    assert runs[0].note is None and runs[0].progress.epoch == 2


class Killed(Exception):
    pass


class KilledBefore(Deadline):
    """Ends a training by an exception before one of its steps, the first being number 1."""

    def __init__(self, step: int) -> None:
        super().__init__(float("inf"))
        self.steps, self.last = 0, step

    def has_passed(self) -> bool:
        self.steps += 1
        if self.steps == self.last:
            raise Killed
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["contrastive", "arcface", "clip"])
def test_an_interrupted_training_ends_with_the_same_weights(root: Path, tmp_path: Path, name: str) -> None:
    row = objective(name, epochs=4, ema=0.9, dim=8)
    whole = scene.run(root, row, str(tmp_path / "whole"))
    with pytest.raises(Killed):  # in the third epoch: each has two steps
        scene.run(root, row, str(tmp_path / "broken"), deadline=KilledBefore(step=6))
    saved = checkpoints.load(tmp_path / "broken")
    assert saved is not None and saved[0].epoch == 2
    resumed = scene.run(root, row, str(tmp_path / "broken"))
    assert scene.weights(resumed) == scene.weights(whole)
    logs = [
        [dataclasses.replace(entry, seconds=0.0) for entry in run.progress.log] for run in (whole, resumed)
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 5


@pytest.mark.slow
def test_a_finished_training_is_not_repeated(root: Path, tmp_path: Path) -> None:
    first = scene.run(root, objective("contrastive"), str(tmp_path))
    again = scene.run(root, objective("contrastive"), str(tmp_path), deadline=KilledBefore(step=1))
    assert scene.weights(again) == scene.weights(first) and again.progress == first.progress


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", ["cut off", "a bit of a tensor", "a digit of the progress", "a tensor's name"]
)
def test_a_checkpoint_that_is_damaged_in_any_way_is_begun_again(
    root: Path, tmp_path: Path, damage: str
) -> None:
    first = scene.run(root, objective("contrastive"), str(tmp_path))
    file = tmp_path / "checkpoint.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "cut off":
        del content[len(content) // 2 :]
    elif damage == "a bit of a tensor":
        content[-100] ^= 1
    else:
        old, new = {
            "a tensor's name": (b"conv", b"conw"),
            "a digit of the progress": (b'images\\": 64', b'images\\": 65'),
        }[damage]
        assert old in content
        content = content.replace(old, new, 1)
    file.write_bytes(content)
    assert checkpoints.load(tmp_path) is None
    again = scene.run(root, objective("contrastive"), str(tmp_path))
    assert scene.weights(again) == scene.weights(first) and again.progress.images == first.progress.images


class StopsBefore(Deadline):
    """Passes before a step of an epoch, both from 1, of a training that has two steps an epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(float("inf"))
        self.steps_left = 2 * (epoch - 1) + step

    def has_passed(self) -> bool:
        self.steps_left -= 1
        return self.steps_left <= 0


def test_a_deadline_counts_the_time_of_earlier_runs() -> None:
    clock = iter([100.0, 130.0, 130.0, 130.5])
    deadline = Deadline(60, lambda: next(clock))
    assert deadline.seconds() == 30
    deadline.add_earlier(30)
    assert not deadline.has_passed(), "60 seconds are allowed, and 60 have gone by"
    assert deadline.has_passed()


def scored(monkeypatch: pytest.MonkeyPatch, *scores: float | None) -> None:
    """What validation gives: of the start, then of each epoch."""
    left = iter(scores)
    monkeypatch.setattr(epochs, "retrieval_score", lambda *_: next(left))


def log_of(result: loop.Result) -> list[tuple[float, float | None]]:
    return [(entry.epoch, entry.map_at_r) for entry in result.progress.log]


@pytest.mark.slow
def test_what_is_kept_of_a_training_that_is_stopped_in_its_first_epoch_is_validated(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the curve has its point, and the table says what it did to the encoder."""
    scored(monkeypatch, 0.5, 0.4)
    deadline = StopsBefore(epoch=1, step=2)
    stopped = scene.run(root, objective("contrastive", epochs=50), str(tmp_path), deadline=deadline)
    assert log_of(stopped) == [(0, 0.5), (0.5, 0.4)] and stopped.progress.log[1].loss is not None
    assert stopped.note == (
        "stopped by max_minutes at epoch 0.5 of 50, kept epoch 0.5; no better than its start on held-out labels (0.500, then 0.400)"
    )
    start = encoder_folder.load(root / "encoder").module.state_dict()
    assert scene.weights(stopped) != {name: tensor.numpy().tobytes() for name, tensor in start.items()}


def test_a_training_without_time_for_a_step_is_not_called_trained(root: Path, tmp_path: Path) -> None:
    stopped = scene.run(root, objective("contrastive", epochs=50), str(tmp_path), max_minutes=1e-9)
    assert stopped.note == "stopped by max_minutes before its first step, so it isn't trained"
    assert [entry.epoch for entry in stopped.progress.log] == [0]
    start = encoder_folder.load(root / "encoder").module.state_dict()
    assert scene.weights(stopped) == {name: tensor.numpy().tobytes() for name, tensor in start.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("score", "kept"), [(0.9, 2.5), (0.5, 2), (0.7, 2)])
def test_an_epoch_that_the_clock_stops_is_validated_and_kept_if_it_is_better(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: float, kept: float
) -> None:
    scored(monkeypatch, 0.4, 0.5, 0.7, score)
    deadline = StopsBefore(epoch=3, step=2)
    stopped = scene.run(root, objective("contrastive", epochs=50), str(tmp_path), deadline=deadline)
    assert (
        log_of(stopped) == [(0, 0.4), (1, 0.5), (2, 0.7), (2.5, score)]
        and stopped.progress.best_epoch == kept
    )
    assert stopped.note == f"stopped by max_minutes at epoch 2.5 of 50, kept epoch {kept:g}"


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2], ids=["between two epochs", "within an epoch"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_more_time_goes_on_where_less_time_ended(root: Path, tmp_path: Path, epoch: int, step: int) -> None:
    """With the weights and the log of a training that was never stopped."""
    row = objective("arcface", epochs=3, ema=0.9)
    whole = scene.run(root, row, str(tmp_path / "whole"))
    short = scene.run(root, row, str(tmp_path / "short"), deadline=StopsBefore(epoch, step))
    assert short.progress.log[-1].epoch == epoch - 1 + (step - 1) / 2
    longer = scene.run(root, row, str(tmp_path / "short"))
    assert scene.weights(longer) == scene.weights(whole) and longer.note == whole.note
    assert log_of(longer) == log_of(whole)


@pytest.mark.slow
def test_patience_ends_a_training_early(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs that are as good as the best are no better, but the last of them is kept."""
    scored(monkeypatch, 0.2, 0.4, 0.5, 0.5, 0.5)
    result = scene.run(root, objective("contrastive", epochs=50, patience=2), str(tmp_path))
    assert result.progress.finished and result.progress.epoch == 4 and result.progress.best_epoch == 4


@pytest.mark.slow
@pytest.mark.parametrize("patience", [None, 1])
def test_a_perfect_start_neither_chooses_an_epoch_nor_ends_the_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None
) -> None:
    scored(monkeypatch, 1.0, 1.0, 1.0, 1.0)
    result = scene.run(root, objective("contrastive", epochs=3, patience=patience), str(tmp_path))
    assert result.progress.best_epoch == result.progress.epoch == 3
    assert result.note is not None and result.note.startswith(
        "its start was perfect on held-out labels (map_at_r 1.000) already"
    )


@pytest.mark.slow
def test_a_training_that_spoils_a_perfect_start_is_noted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 1.0, 0.9, 0.8)
    result = scene.run(root, objective("contrastive"), str(tmp_path))
    assert (
        result.progress.best_epoch == 1
        and result.note == "no better than its start on held-out labels (1.000, then 0.900)"
    )


@pytest.mark.slow
def test_without_labels_to_hold_out_the_last_epoch_is_kept_and_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A single held-out label would score 1.000 by construction, so that epoch 1 would be kept."""
    scene.write(tmp_path, scene.photos())
    scene.write_encoder(tmp_path / "encoder")
    row = objective("arcface", labels_per_batch=10, validation_share=0.1, patience=1, epochs=3)
    with caplog.at_level("WARNING", logger="lineup"):
        result = scene.run(tmp_path, row)
    assert result.progress.best_epoch == 3 and {entry.map_at_r for entry in result.progress.log} == {None}
    assert result.note == "not validated (too few labels to hold two out), so the last epoch is kept"
    assert (
        "too few labels to hold two out" in caplog.text and "patience doesn't end the training" in caplog.text
    )


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([], "too few labels to hold two out"),
        ([0, 1, 2, -1, -1], "no two held-out images share a label"),
        ([3, 3, 3], "all held-out images share one label"),
        ([3, 3, -1], None),
        ([3, 3, 1], None),
    ],
)
def test_validation_that_can_t_tell_gives_no_score(root: Path, labels: list[int], fault: str | None) -> None:
    """simclr holds images out, whatever their labels."""
    module, pixels = (
        encoder_folder.load(root / "encoder").module,
        np.random.default_rng(0).random((len(labels), 3, 32, 32), np.float32),
    )
    score = validation.retrieval_score(module, pixels, np.array(labels, np.int64), torch.device("cpu"))
    assert validation.why_no_score(np.array(labels, np.int64)) == fault
    assert (score is None) == (fault is not None)


@pytest.mark.slow
def test_epochs_without_an_active_pair_are_noted(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No two vectors of unit length are farther apart than a positive margin of 1.99, nor nearer than a
    negative one of 1e-6.
    """
    row = objective("contrastive", positive_margin=1.99, negative_margin=1e-6)
    with caplog.at_level("INFO", logger="lineup"):
        result = scene.run(root, row, str(tmp_path))
    assert [entry.idle for entry in result.progress.log] == [0, 1, 1] and result.progress.log[1].loss == 0
    assert (
        result.note is not None
        and "2 of 2 epochs taught it nothing: the loss or its gradient was 0 in every step" in result.note
    )
    assert [
        record.levelname for record in caplog.records if "100% of the steps taught nothing" in record.message
    ] == ["WARNING"] * 2


@pytest.mark.slow
def test_simclr_never_uses_labels(root: Path, tmp_path: Path) -> None:
    row = objective("simclr", validation_share=0.4)
    with_labels = scene.run(root, row, str(tmp_path / "a"))
    photos = scene.photos()
    labels = [photo.label for photo in photos]
    np.random.default_rng(5).shuffle(labels)
    shuffled, without = tmp_path / "shuffled", tmp_path / "without"
    for folder, given in ((shuffled, labels), (without, [None] * len(photos))):
        scene.write(
            folder, [scene.Photo(label, photo.data) for label, photo in zip(given, photos, strict=True)]
        )
        scene.write_encoder(folder / "encoder")
    assert scene.weights(scene.run(shuffled, row)) == scene.weights(with_labels)
    unlabelled = scene.run(without, row)
    assert scene.weights(unlabelled) == scene.weights(with_labels)
    assert {entry.map_at_r for entry in unlabelled.progress.log} == {None}
    assert (
        unlabelled.note == "not validated (no two held-out images share a label), so the last epoch is kept"
    )
    assert with_labels.progress.log[-1].map_at_r is not None, (
        "with labels its curve is shown, but chooses nothing"
    )
    assert with_labels.progress.best_epoch == with_labels.progress.epoch


@pytest.mark.slow
def test_held_out_labels_never_reach_a_batch(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pixels of every batch are looked up among those of all images."""
    row = objective("contrastive", epochs=3, augmentation={"crop": 1, "flip": 0, "colour": 0})
    seen: list[torch.Tensor] = []
    step = Trainer.step

    def spy(trainer: Trainer, images: torch.Tensor, labels: torch.Tensor) -> Step:
        seen.append(images.clone())
        return step(trainer, images, labels)

    monkeypatch.setattr(Trainer, "step", spy)
    scene.run(root, row, str(tmp_path))
    manifest = data.read_manifest(root / "data/prepared/train/manifest.parquet")
    everything = data.Parts(np.arange(len(manifest.ids)), np.array([], np.int64), None, ())
    transform = encoder_folder.load(root / "encoder").transform
    whole = decoded_images.decode(
        root / "data/prepared/train/images", manifest, everything, transform, 32, 100, tmp_path
    )
    shown = Augment(settings_of(row).augmentation, 32).batch(whole.train, 0).flatten(1)
    parts = data.split(manifest, settings_of(row), Needs(pairs=True), 0)
    used = {int((shown == pixels).all(dim=1).nonzero()[0, 0]) for pixels in torch.cat(seen).flatten(1)}
    assert used <= set(parts.train.tolist()) and len(used) > 20
    assert not used & set(parts.validation.tolist())
    held = set(manifest.labels[parts.validation].tolist())
    assert len(held) == 2 and not held & set(manifest.labels[parts.train].tolist())


@pytest.mark.slow
def test_memory_or_mapped_file_makes_no_difference(root: Path, tmp_path: Path) -> None:
    many = scene.photos(labels=150, each=4, seed=3)
    scene.write(tmp_path, many)
    scene.write_encoder(tmp_path / "encoder")
    required = 600 * 3 * 37 * 37
    assert required > 10**6
    a, b = (
        scene.run(tmp_path, objective("contrastive", epochs=1), f"cache{mb}", memory_mb=mb)
        for mb in (1, 1000)
    )
    assert scene.weights(a) == scene.weights(b)
    assert {file.name for file in (tmp_path / "cache1").iterdir()} == {"checkpoint.safetensors"}, (
        "the mapped files have no names"
    )


@pytest.mark.slow
def test_clip_trains_an_encoders_own_text_tower_along_and_leaves_it_behind(tmp_path: Path) -> None:
    spec = EncoderSettings(
        library="transformers", name="tiny-clip", weights=f"file:{hub_repositories.clip(tmp_path / 'hub')}"
    )
    fetched = libraries.library("transformers").fetch(spec)
    encoder_folder.save(tmp_path / "encoder", fetched.module, fetched.config, fetched.text, fetched.files)
    scene.write(tmp_path, scene.photos())
    row: Any = objective("clip", learning_rate=1e-3)
    config = encoder_folder.load(tmp_path / "encoder").config
    built = clip.build(row, Context(config.dim, ("a", "b"), config, tmp_path / "encoder"))
    loss: Any = built.loss
    assert isinstance(loss.projection, torch.nn.Identity), "images and texts share a space already"
    assert built.pretrained is not None
    assert {id(p) for p in loss.text.parameters()} == {id(p) for p in built.pretrained.parameters()}
    assert loss.log_scale.item() == pytest.approx(fetched.config.logit_scale), (
        "it goes on where the checkpoint ended"
    )
    result = scene.run(tmp_path, row)
    assert not TEXT_FIELDS & result.config.model_fields_set
    assert scene.weights(result) != {
        name: t.numpy().tobytes()
        for name, t in encoder_folder.load(tmp_path / "encoder").module.state_dict().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "changed"),
    [({"freeze": 5}, False), ({"backbone_lr_scale": 0, "dim": 8}, True)],
)
def test_frozen_layers_keep_their_weights(
    root: Path, tmp_path: Path, settings: dict[str, Any], changed: bool
) -> None:
    before = encoder_folder.load(root / "encoder").module
    names = [
        name
        for name, layer in before.named_modules()
        if next(layer.parameters(recurse=False), None) is not None
    ]
    result = scene.run(root, objective("arcface", **settings, batch_norm="frozen"), str(tmp_path))
    after, prefix = result.module.state_dict(), "0." if "dim" in settings else ""
    same = [
        name
        for name in names
        if all(
            torch.equal(tensor, after[f"{prefix}{name}.{leaf}"])
            for leaf, tensor in before.get_submodule(name).state_dict().items()
        )
    ]
    assert same == (names if "dim" in settings else names[:5])
    if "dim" in settings:  # nor do batch statistics move, without batch_norm: frozen
        alone = scene.run(root, objective("arcface", **settings), str(tmp_path / "alone")).module.state_dict()
        assert all(torch.equal(tensor, alone[f"0.{name}"]) for name, tensor in before.state_dict().items())
    assert (result.config.head is not None) == ("dim" in settings)


@pytest.mark.slow
def test_a_headed_encoder_is_read_back_as_it_was_trained(root: Path, tmp_path: Path) -> None:
    result = scene.run(root, objective("arcface", dim=8), str(tmp_path / "cache"))
    encoder_folder.save(tmp_path / "model", result.module, result.config)
    loaded = encoder_folder.load(tmp_path / "model")
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(loaded.module(pixels), result.module(pixels), atol=1e-6) and loaded.dim == 8


@pytest.mark.parametrize(
    ("photos", "row", "sentence"),
    [
        (
            scene.photos(6),
            {"name": "arcface"},
            "labels_per_batch is 8, but there are 4 labels to train on (2 more validate); set it to 4 or less",
        ),
        ([], {"name": "arcface"}, "there is no image to train on"),
        (
            [scene.Photo(None, p.data) for p in scene.photos()],
            {"name": "triplet"},
            "this objective needs labels, and no training image has one",
        ),
        (
            scene.photos()[:-3],
            {"name": "triplet"},
            "1 of 10 labels have one image (such as 'thing_9'), which makes no pair",
        ),
        (
            scene.photos(3),
            {"name": "simclr"},
            "batch_size is 16, but there are 9 images to train on; set it to 9 or less",
        ),
        (
            scene.photos(),
            {"name": "arcface", "learning_rate": 9.9, "scale": 1e38},
            "; lower learning_rate (9.9)",
        ),
        (scene.photos(), {"name": "arcface", "freeze": 1000}, "freeze is 1000, but the network has"),
        (
            scene.photos(),
            {"name": "triplet", "backbone_lr_scale": 0},
            "backbone_lr_scale is 0 and there is no head or objective weight",
        ),
        (
            scene.photos(),
            {"name": "triplet", "device": "cuda"},
            "device is cuda, but torch finds no CUDA device",
        ),
    ],
)
def test_what_cant_be_trained_is_refused_in_a_sentence(
    tmp_path: Path, photos: list[scene.Photo], row: dict[str, Any], sentence: str
) -> None:
    if row.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    scene.write(tmp_path, photos)
    scene.write_encoder(tmp_path / "encoder")
    with pytest.raises(UserError) as error:
        scene.run(tmp_path, objective(**row))
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
def test_single_images_can_be_skipped_or_don_t_matter(tmp_path: Path) -> None:
    scene.write(tmp_path, scene.photos(11)[:-3])
    scene.write_encoder(tmp_path / "encoder")
    for row in (objective("triplet", on_single_image="skip"), objective("arcface")):
        assert scene.run(tmp_path, row, row.name).progress.finished


@pytest.mark.slow
def test_a_network_of_one_size_refuses_another(root: Path, tmp_path: Path) -> None:
    spec = EncoderSettings(library="timm", name="test_vit_relpos", weights="none", allow_random=True)
    fetched = libraries.library("timm").fetch(spec)
    encoder_folder.save(tmp_path / "encoder", fetched.module, fetched.config)
    scene.write(tmp_path, scene.photos())
    with pytest.raises(UserError, match="image_size is 80, but this network takes 160 only"):
        scene.run(tmp_path, objective("arcface", image_size=80))


def test_two_processes_may_prune_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}").mkdir()
    listed = list(tmp_path.iterdir())
    (tmp_path / "03").rmdir()
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    checkpoints.prune(tmp_path, tmp_path / "19")
    monkeypatch.undo()
    assert len([*tmp_path.iterdir()]) == checkpoints._MAX_OTHER_CHECKPOINTS + 1
