"""The path of every artefact, relative to the repository's root, as in dvc.yaml (a test compares the two)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Part = Literal["train", "test"]


def _local_cache(folder: Path) -> Path:
    """`.cache` in this folder; an experiment that DVC runs in `.dvc/tmp/exps/<name>` shares its project's."""
    for parent in folder.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2] / ".cache"
    return Path(".cache")


CODE = Path("data/code")  # digests of the code that stages depend on
PARAMS = Path("params.yaml")
PRICES = Path("prices.yaml")
RAW = Path("data/raw")
JUDGEMENTS = Path("data/judgements.csv")
PREPARED = Path("data/prepared")
PROBLEMS = PREPARED / "problems.csv"
LEAKS = PREPARED / "leaks.csv"
QRELS = PREPARED / "test" / "qrels.parquet"
ATTRIBUTES = PREPARED / "test" / "attributes.parquet"
METRICS = Path("metrics/metrics.json")
COMPARISON = Path("metrics/comparison.md")
SLICES = Path("metrics/slices.csv")
SIGNIFICANCE = Path("metrics/significance.csv")
TOP_K_CURVES = Path("metrics/top_k_curves.csv")
ACCURACY_COST = Path("metrics/accuracy_cost.csv")
IDENTIFICATION_CURVES = Path("metrics/identification_curves.csv")
TRAINING_CURVES = Path("metrics/training_curves.csv")
SWEEPS = Path("metrics/sweeps.csv")
SEEN_LABELS = Path("metrics/seen_labels.csv")
SEEN_VALUES = Path("metrics/seen_values.csv")
TRANSFER = Path("metrics/transfer.csv")
CACHE = _local_cache(Path.cwd())
EXPORT = Path("data/export")
REPORT = Path("data/report/index.html")
REPORT_ASSETS = Path("data/report/assets")
REPORT_THUMBNAILS = Path("data/report/thumbnails")
REPORT_PICTURES = Path("data/report/pictures")
REPORT_MADE = Path("data/report/made.js")  # no output of a stage: see lineup/report/made.py


def manifest(part: Part) -> Path:
    """The table of the images of a part."""
    return PREPARED / part / "manifest.parquet"


def images(part: Part) -> Path:
    """The folder of the prepared images."""
    return PREPARED / part / "images"


def weights(model: str) -> Path:
    """The folder of a model's fetched encoder."""
    return Path("data/weights") / model


def model(model: str) -> Path:
    """The folder of a model's network, or of the pointer to its weights."""
    return Path("data/models") / model


def quantised(model: str) -> Path:
    """The folder that says in which precision `embed` computes a model, with its network in int8."""
    return Path("data/quantised") / model


def embeddings(model: str, part: Part = "test") -> Path:
    """The folder of a row's vectors."""
    return Path("data/embeddings" if part == "test" else "data/embeddings_train") / model


def index(model: str) -> Path:
    """The FAISS index of a model's gallery."""
    return Path("data/indexes") / f"{model}.faiss"


def refinement(row: str) -> Path:
    """What a refinement has learned: a folder, empty where it learns nothing."""
    return Path("data/refinements") / row


def ranking(row: str) -> Path:
    """The nearest gallery images of each query."""
    return Path("data/rankings") / f"{row}.parquet"


def submission(row: str) -> Path:
    """The competition's JSON."""
    return Path("data/submissions") / f"{row}.json"


def costs(
    stage: Literal["train", "embed", "index", "retrieve", "refine", "latency", "map"], row: str
) -> Path:
    """What one stage measured. It is stored apart from the results, which are the same bytes in every run."""
    return Path("data/costs") / row / f"{stage}.json"


def row_metrics(row: str) -> Path:
    """The quality and the costs of a row."""
    return Path("metrics/rows") / f"{row}.json"


def row_queries(row: str) -> Path:
    """A row's metrics of each query."""
    return Path("metrics/queries") / f"{row}.csv"


def latency(row: str) -> Path:
    """What `latency` measured of a row, as git has it."""
    return Path("metrics/latency") / f"{row}.json"


def transfer_set(name: str) -> Path:
    """The folder of a prepared second test set."""
    return Path("data/prepared_transfer") / name


def transfer_manifest(name: str) -> Path:
    """The table of the images of a second test set."""
    return transfer_set(name) / "manifest.parquet"


def transfer_images(name: str) -> Path:
    """The folder of the prepared images of a second test set."""
    return transfer_set(name) / "images"


def transfer_qrels(name: str) -> Path:
    """The judgements of a second test set."""
    return transfer_set(name) / "qrels.parquet"


def transfer_problems(name: str) -> Path:
    """The files of a second test set that preprocess skipped, or used with a note."""
    return Path("data/transfer_problems") / name / "problems.csv"


def transfer_metrics(row: str) -> Path:
    """A row's quality on a second test set."""
    return Path("metrics/rows/transfer") / f"{row}.json"


def transfer_queries(row: str) -> Path:
    """A row's metric of each query of a second test set."""
    return Path("metrics/queries/transfer") / f"{row}.csv"


def report_row(row: str) -> Path:
    """A row's data for the report."""
    return Path("data/report/rows") / f"{row}.js"


def report_ranks(row: str) -> Path:
    """The row's rankings in full, in scripts of a few hundred queries each."""
    return Path("data/report/ranks") / row


def near_copies(model: str) -> Path:
    """Pairs of a test photo and a training photo that look alike, with thumbnails of the training photos."""
    return Path("data/report/near_copies") / model


def photo_map(model: str) -> Path:
    """The folder of the test photos in two dimensions by a model's vectors, with one table."""
    return Path("data/maps") / model


def report_map(model: str) -> Path:
    """A map's data for the report."""
    return Path("data/report/maps") / f"{model}.js"
