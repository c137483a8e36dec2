"""Each objective against its formula, written out naively or by hand."""

from __future__ import annotations

import importlib.metadata
import math
import sys
from pathlib import Path
from typing import Any

import grimp
import numpy as np
import pytest
import torch
from torch import nn

from lineup.encoders.encoder_config import EncoderConfig
from lineup.errors import UserError
from lineup.objectives import clip, metric_loss, none
from lineup.objectives.objective import Context, Objective, load_objective
from lineup.settings.trained_objectives import Needs
from tests.support.training_photos import objective

NAMES = ("ant", "bee", "cow_calf", "dog-face")


def build(name: str, dim: int, **settings: Any) -> Objective:
    torch.manual_seed(0)
    context = Context(dim, NAMES, EncoderConfig.model_construct(), None)
    return load_objective(name).build(objective(name, **settings), context)


def built(name: str, dim: int, **settings: Any) -> nn.Module:
    """The objective's loss."""
    return build(name, dim, **settings).loss


def unit(*degrees: float) -> torch.Tensor:
    """Vectors on the unit circle, [N, 2]."""
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a / a.norm(), b / b.norm()
    return float((a - b).norm())


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(1)), torch.tensor(
        [0, 0, 1, 1, 2, 2, 3, 3]
    )


def above_zero(values: list[float]) -> float:
    positive = [value for value in values if value > 0]
    return sum(positive) / len(positive) if positive else 0.0


def test_contrastive_by_hand() -> None:
    """Pair at 60 degrees: distance 1.

    Others: 90 degrees, sqrt 2, beyond the margin of 1.2; 30 degrees: 2 sin 15 degrees.
    """
    loss = built("contrastive", 2, negative_margin=1.2)(unit(0, 60, 90), torch.tensor([0, 0, 1]))
    assert loss.item() == pytest.approx(1 + (1.2 - 2 * math.sin(math.radians(15))), abs=1e-5)


def test_contrastive_is_the_naive_loop(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    vectors, labels = batch
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    near = [distance(vectors[i], vectors[j]) - 0.1 for i, j in pairs if labels[i] == labels[j]]
    far = [1.3 - distance(vectors[i], vectors[j]) for i, j in pairs if labels[i] != labels[j]]
    loss = built("contrastive", 5, positive_margin=0.1, negative_margin=1.3)(vectors, labels)
    assert loss.item() == pytest.approx(above_zero(near) + above_zero(far), rel=1e-5)


@pytest.mark.parametrize("mining", ["semihard", "all", "hard"])
def test_triplet_is_the_naive_loop(batch: tuple[torch.Tensor, torch.Tensor], mining: str) -> None:
    vectors, labels = batch
    margin, violations = 0.3, []
    for a in range(8):
        positives = [distance(vectors[a], vectors[p]) for p in range(8) if p != a and labels[p] == labels[a]]
        negatives = [distance(vectors[a], vectors[n]) for n in range(8) if labels[n] != labels[a]]
        triplets = (
            [(max(positives), min(negatives))]
            if mining == "hard"
            else [(p, n) for p in positives for n in negatives]
        )
        violations += [p - n + margin for p, n in triplets if mining != "semihard" or n > p]
    assert built("triplet", 5, margin=margin, mining=mining)(vectors, labels).item() == pytest.approx(
        above_zero(violations), rel=1e-5
    )


def test_a_batch_without_semi_hard_triplets_still_has_a_gradient() -> None:
    """A collapsed network gives every image one vector: no negative lies behind its positive, all lie on it."""
    vectors = torch.ones(4, 3, requires_grad=True)
    collapsed = vectors + torch.tensor(
        [[0.0, 0, 0], [0.3, 0, 0], [0.1, 0, 0], [0.2, 0, 0]]
    )  # negatives nearer than positives
    loss = built("triplet", 3, margin=0.2)(collapsed, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() > 0.1 and vectors.grad is not None and vectors.grad.abs().sum() > 0


def test_arcface_is_the_papers_equation(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Equation 3: -log(exp(s cos(theta_y + m)) / (exp(s cos(theta_y + m)) + sum of exp(s cos(theta_j)) over j
    != y)).
    """
    vectors, labels = batch
    scale, margin = 16.0, 0.4
    loss: Any = built("arcface", 5, scale=scale, margin=margin)
    centres = loss.W.detach().numpy()  # [D, classes]
    losses = []
    for vector, label in zip(vectors.numpy(), labels.tolist(), strict=True):
        cosines = vector @ centres / np.linalg.norm(vector) / np.linalg.norm(centres, axis=0)
        logits = scale * cosines
        logits[label] = scale * math.cos(math.acos(cosines[label]) + margin)
        losses.append(-math.log(math.exp(logits[label]) / sum(map(math.exp, logits))))
    assert loss(vectors, labels).item() == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize(("name", "settings"), [("arcface", {}), ("softmax", {"temperature": 0.1})])
def test_imprinted_class_vectors_start_at_the_labels_own_images(name: str, settings: dict[str, Any]) -> None:
    """Each label's vector right behind its images: the loss is at once below that of chance."""
    objective = build(name, 4, **settings)
    vectors, labels = torch.eye(4).repeat(2, 1), torch.arange(4).repeat(2)
    by_chance = objective.loss(vectors, labels).item()
    assert objective.imprint is not None
    objective.imprint(torch.eye(4))
    assert objective.loss(vectors, labels).item() < by_chance / 2
    assert build("arcface", 4, class_vectors="random").imprint is None


def test_simclr_has_the_closed_form_of_two_pairs() -> None:
    """Two images, their views alike, the images at right angles: each view's loss is log(1 + 2 exp(-1/t)) (2
    negatives, cosine 0).
    """
    loss: Any = built("simclr", 2, temperature=0.5)
    loss.projection = nn.Identity()
    views = unit(0, 90, 0, 90)
    assert loss(views, torch.tensor([0, 1, 0, 1])).item() == pytest.approx(
        math.log(1 + 2 * math.exp(-2)), rel=1e-5
    )


def test_simclr_needs_no_labels_and_two_views() -> None:
    assert objective("simclr").needs == Needs(labels=False, views=2)


@pytest.mark.parametrize("temperature", [None, 0.1])
def test_softmax_is_smoothed_cross_entropy(
    batch: tuple[torch.Tensor, torch.Tensor], temperature: float | None
) -> None:
    vectors, labels = batch
    loss: Any = built("softmax", 5, temperature=temperature, label_smoothing=0.2)
    weight = loss.classifier.weight.detach().numpy()
    losses = []
    for vector, label in zip(vectors.numpy(), labels.tolist(), strict=True):
        if temperature is None:
            logits = weight @ vector + loss.classifier.bias.detach().numpy()
        else:
            logits = weight @ vector / np.linalg.norm(weight, axis=1) / np.linalg.norm(vector) / temperature
        log_shares = logits - math.log(sum(map(math.exp, logits)))
        target = np.full(4, 0.2 / 4)
        target[label] += 0.8
        losses.append(-(target * log_shares).sum())
    assert loss(vectors, labels).item() == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.slow
def test_clip_with_one_image_per_label_is_the_papers_symmetric_loss() -> None:
    loss: Any = built("clip", 5, temperature=0.2, text_width=32)
    vectors, labels = (
        torch.randn(4, 5, generator=torch.Generator().manual_seed(2)),
        torch.tensor([2, 0, 3, 1]),
    )
    images, texts = loss.projection(vectors).detach().numpy(), loss.text(labels).detach().numpy()
    images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    logits = images @ texts.T / 0.2
    own = np.exp(np.diag(logits))
    rows, columns = (-np.log(own / np.exp(logits).sum(axis=axis)) for axis in (1, 0))
    assert loss(vectors, labels).item() == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, rel=1e-4)


def test_clips_text_tower_reads_the_labels() -> None:
    tower = clip.SmallTextTower(["a dog face", "a dog", "a cat", "a dog face"], 32, 1).eval()
    vectors = tower(torch.tensor([0, 1, 2, 3]))
    assert (
        torch.allclose(vectors[0], vectors[3])
        and not torch.allclose(vectors[0], vectors[1])
        and not torch.allclose(vectors[1], vectors[2])
    )
    assert clip.label_to_text("dog-face_with  hat") == "dog face with hat"


NEEDED = {"HistogramLoss": {"n_bins": 10}, "RankedListLoss": {"margin": 0.4, "Tn": 1.0}}


@pytest.mark.parametrize("name", sorted(metric_loss.supported()))
def test_every_loss_of_the_shelf_gives_a_gradient(
    batch: tuple[torch.Tensor, torch.Tensor], name: str
) -> None:
    vectors = batch[0].clone().requires_grad_()
    loss = built("metric_loss", 5, loss=name, arguments=NEEDED.get(name, {}))(vectors, batch[1])
    loss.backward()
    assert loss.ndim == 0 and torch.isfinite(loss)
    assert vectors.grad is not None and vectors.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("loss", "arguments", "sentence"),
    [
        (
            "ProxyAnchorLos",
            {},
            "loss is 'ProxyAnchorLos', which pytorch-metric-learning doesn't have; did you mean 'ProxyAnchorLoss'?",
        ),
        (
            "TripletMarginLoss",
            {"margn": 1},
            "arguments.margn is unknown to TripletMarginLoss; did you mean 'margin'?",
        ),
        ("RankedListLoss", {}, "arguments: RankedListLoss refuses them"),
        ("ContrastiveLoss", {"pos_margin": [1]}, "arguments: ContrastiveLoss refuses them"),
    ],
)
def test_a_wrong_loss_is_refused(loss: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        built("metric_loss", 5, loss=loss, arguments=arguments)
    assert sentence in str(error.value)


@pytest.mark.parametrize("name", sorted(metric_loss.supported()))
def test_losses_that_hold_a_vector_per_label_are_known_by_name(name: str) -> None:
    """params.yaml is checked without the library."""
    holds_vectors = bool(metric_loss.argument_names(name) & {"embedding_size", "descriptors_dim"})
    assert objective("metric_loss", loss=name).needs == Needs(pairs=not holds_vectors)


@pytest.mark.slow
@pytest.mark.parametrize("width", [200, 250, 1000])
def test_a_text_tower_of_any_width_has_heads_that_fit(
    batch: tuple[torch.Tensor, torch.Tensor], width: int
) -> None:
    assert built("clip", 5, text_width=width, text_layers=1)(*batch).isfinite()


# What a training is kept by


FOLDER = Path(none.__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    sorted({*FOLDER.glob("[!_]*.py")} - {FOLDER / "none.py", FOLDER / "objective.py"}),
    ids=lambda file: file.stem,
)
def test_packages_are_what_an_objective_imports(file: Path) -> None:
    graph = grimp.build_graph(
        "lineup", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    loaded = [
        file.stem,
        *(["metric_loss"] if file.stem == "adapter" else []),
    ]  # an adapter has any of its losses
    imported = set[str]().union(
        *(graph.find_modules_directly_imported_by(f"lineup.objectives.{name}") for name in loaded)
    )
    outside = (
        {name for name in imported if not name.startswith("lineup")} - sys.stdlib_module_names - {"torch"}
    )
    owners = importlib.metadata.packages_distributions()
    assert {owners[name][0] for name in outside} == set(load_objective(file.stem).PACKAGES)
