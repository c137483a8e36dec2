"""Which files of code decide the results of each stage, and the digests of what these files mean.

They follow from the stage's imports. Encoder libraries, objectives and refinements have digests of their own,
as a row uses one.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lineup import source_code
from lineup.fingerprint import code_digest

# Modules that decide no result. The settings and the formats of files would run everything, trainings too,
# at each new message: a default or a layout that changes there is for CHANGELOG to tell, with `dvc repro
# --force`.
DECIDES_NOTHING = {
    "lineup.cli",
    "lineup.cluster",
    "lineup.embedding.attempts",
    "lineup.embedding.cluster_computation",
    "lineup.embedding.cluster_relay",
    "lineup.embedding.cluster_stream",
    "lineup.embedding.cluster_worker",
    "lineup.embedding.dvc_cache",
    "lineup.embedding.pixel_cache",
    "lineup.embedding.vector_cache",
    "lineup.encoders.model_folder",
    "lineup.errors",
    "lineup.fingerprint",
    "lineup.launch",
    "lineup.locks",
    "lineup.machine",
    "lineup.paths",
    "lineup.photos.cluster_scan",
    "lineup.photos.image_reasons",
    "lineup.settings.adapter",
    "lineup.settings.encoder",
    "lineup.settings.explanation",
    "lineup.settings.fault",
    "lineup.settings.label_share",
    "lineup.settings.metric_loss",
    "lineup.settings.model",
    "lineup.settings.model_rules",
    "lineup.settings.objective",
    "lineup.settings.params",
    "lineup.settings.prepared_size",
    "lineup.settings.refinement",
    "lineup.settings.refinement_method",
    "lineup.settings.refinement_sources",
    "lineup.settings.row_names",
    "lineup.settings.schema",
    "lineup.settings.search",
    "lineup.settings.sections",
    "lineup.settings.trained_objectives",
    "lineup.settings.training",
    "lineup.settings.training_check",
    "lineup.settings.training_photos",
    "lineup.settings.yaml_file",
    "lineup.storage.blobs",
    "lineup.storage.csv_files",
    "lineup.storage.dvc_objects",
    "lineup.storage.embeddings",
    "lineup.storage.files",
    "lineup.storage.parquet",
    "lineup.storage.rankings",
    "lineup.storage.schemas",
    "lineup.text_encoding",
}
_ENGINES = tuple(
    f"lineup.engines.{name}"
    for name in ("onnxruntime", "onnxruntime_int8", "openvino", "openvino_int8", "torch")
)
_LIBRARIES = tuple(f"lineup.encoders.{name}" for name in ("open_clip", "timm", "torchvision", "transformers"))
# Folders of plug-ins, of which a row uses one that params.yaml names.
_PLUGINS = ("encoders", "objectives", "refinements")


@dataclass(frozen=True)
class StageCode:
    """Where the code of a stage begins.

    Args:
        roots: modules, which count with all that they import.
        alone: modules that count without what they import.
        too: modules that count here, although they are in DECIDES_NOTHING.
        other: files that are no Python, and folders of such files.
    """

    roots: tuple[str, ...]
    alone: tuple[str, ...] = ()
    too: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def modules(self) -> set[str]:
        """The modules that count."""
        return source_code.closure(self.roots) - DECIDES_NOTHING | {*self.alone, *self.too}

    def digests(self) -> dict[str, str]:
        """The SHA-256 of what each file means, in hex, by the file's path."""
        code = {path.as_posix(): code_digest(path) for path in map(source_code.file_of, self.modules())}
        return code | {path.as_posix(): sha256(path.read_bytes()).hexdigest() for path in self._other_files()}

    def _other_files(self) -> list[Path]:
        given = [Path(name) for name in self.other]
        return [file for path in given for file in ([path] if path.is_file() else path.iterdir())]


_TRAINING_SETTINGS = (
    *("adapter", "metric_loss", "objective", "trained_objectives"),
    *("label_share", "training", "training_photos"),
)
_SEARCH = "lineup.settings.search"
_REFINEMENT = ("lineup.settings.refinement", "lineup.settings.refinement_method")
STAGES = {
    "preprocess": StageCode(("stages.preprocess",), too=("lineup.photos.image_reasons",)),  # for problems.csv
    "fetch": StageCode(("stages.fetch",)),
    "train": StageCode(
        ("stages.train", *_ENGINES),
        too=tuple(f"lineup.settings.{name}" for name in _TRAINING_SETTINGS),
    ),
    "quantise": StageCode(("stages.quantise", *_ENGINES)),
    "embed": StageCode(("stages.embed", *_ENGINES)),
    "embed_train": StageCode(("stages.embed_train", *_ENGINES, *_LIBRARIES)),
    "index": StageCode(("stages.index",), too=(_SEARCH,)),
    "retrieve": StageCode(("stages.retrieve",)),
    "latency": StageCode(("stages.latency", *_ENGINES), too=(_SEARCH,)),
    "refine": StageCode(("stages.refine",), too=(_SEARCH, *_REFINEMENT)),
    "score": StageCode(("stages.score",)),
    "slices": StageCode(("stages.slices",)),
    "compare": StageCode(("stages.compare",)),
    "near_copies": StageCode(("stages.near_copies",)),
    "transfer": StageCode(("stages.transfer", *_ENGINES, *_LIBRARIES)),
    "map": StageCode(("stages.map",)),
    "report_map": StageCode(("lineup.report.map_data", "lineup.report.js_data"), alone=("stages.report",)),
    "report_row": StageCode(
        (
            "lineup.relevance.prepared_relevance",
            "lineup.report.collection",
            "lineup.report.js_data",
            "lineup.report.row",
        ),
        alone=("stages.report",),
    ),
    "report_thumbnails": StageCode(("lineup.photos.thumbnails",), alone=("stages.report",)),
    "report": StageCode(
        ("lineup.report.front_page",),
        alone=("stages.report",),
        other=("lineup/report/page",),
    ),
    "export": StageCode(
        ("stages.export", "lineup.export.handed_over.selftest", "lineup.refinements.approximate"),
        too=(_SEARCH, *_REFINEMENT),
        other=("lineup/export/handed_over/Apache-2.0.txt", "lineup/export/page"),
    ),
}


def plugins() -> dict[str, StageCode]:
    """The code of each file that a row may name, by the name of its digests: "encoders/timm"."""
    return {
        f"{folder}/{file.stem}": StageCode((f"lineup.{folder}.{file.stem}",))
        for folder in _PLUGINS
        for file in sorted(Path("lineup", folder).glob("*.py"))
        if file.stem != "__init__"
    }
