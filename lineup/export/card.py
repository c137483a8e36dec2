"""README.md of an exported folder: a model card as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from importlib.resources import files as resources
from typing import Any

import jinja2
import yaml

from lineup import paths
from lineup.evaluation import row_metrics
from lineup.evaluation.quality_records import Average
from lineup.evaluation.row_metrics import RowMetrics
from lineup.export import card_costs
from lineup.export.licences import Rights
from lineup.export.search_plan import SearchPlan
from lineup.export.selftest_files import NEEDS_PACKAGE, PHOTOS
from lineup.storage import parquet
from lineup.summary.rich_text import escaped

JsonObject = dict[str, Any]

_TEMPLATE = "page/README.md.j2"


def text(plan: SearchPlan, settings: JsonObject, rights: Sequence[Rights]) -> str:
    """The content of README.md; settings: those of settings.json."""
    metrics = row_metrics.read(plan.row)
    template = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    ).from_string(resources("lineup.export").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    spaces: JsonObject = settings["spaces"]
    first = spaces[plan.spaces[0]]
    with_text = [name for name, each in settings["encoders"].items() if each["text"] is not None]
    all_text = len(with_text) == len(settings["encoders"])
    return template.render(
        head=_head(plan, metrics, rights),
        row=plan.row,
        summary=_summary(plan),
        version=metadata.version("lineup"),
        warnings=[escaped(each.warning) for each in rights if each.warning],
        photos=PHOTOS,
        heic=" pillow-heif" if _has_heic() else "",
        example_space="" if len(plan.spaces) == 1 else f', space="{plan.spaces[0]}"',
        dimensions=first["dimensions"],
        has_threshold=settings["threshold"] is not None,
        text=_of_texts(settings) if all_text else "",
        files=_files(settings),
        data=_data(metrics),
        quality=[(name, *_estimate(metrics.quality[name])) for name in _metrics(metrics)],
        threshold=_threshold(settings),
        costs=card_costs.lines(plan),
        rights=[
            {
                "model": each.model,
                "licence": escaped(each.licence or "unknown"),
                "source": escaped(each.source.replace("`", "")),
                "training_data": escaped(each.training_data),
            }
            for each in rights
        ],
        rebuild=", with the vectors of `gallery.parquet` as an example",
    )


def _has_heic() -> bool:
    """Whether a test photo needs the package pillow-heif."""
    formats = parquet.read_table(paths.manifest("test"), columns=["format"]).column("format")
    return NEEDS_PACKAGE in formats.unique().to_pylist()


def _head(plan: SearchPlan, metrics: RowMetrics, rights: Sequence[Rights]) -> str:
    """The YAML that the hub reads."""
    licences = [each.licence for each in rights]
    known = [licence for licence in licences if licence is not None]
    licence = known[0].lower() if len({*licences}) == 1 and known else "other"
    head: JsonObject = {
        "license": licence,
        **({"license_name": "see-LICENSES", "license_link": "LICENSES"} if licence == "other" else {}),
        "library_name": "onnx",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["image-retrieval", "image-similarity", "onnx", "faiss", "lineup"],
        "metrics": _metrics(metrics),
    }
    if metrics.quality:
        results = [
            {"type": name, "value": metrics.quality[name].mean, "name": name} for name in _metrics(metrics)
        ]
        task = {"type": "image-feature-extraction", "name": "Image retrieval"}
        data = {"type": "own-photos", "name": _data(metrics)}
        head["model-index"] = [
            {"name": plan.row, "results": [{"task": task, "dataset": data, "metrics": results}]}
        ]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1_000)


def _metrics(metrics: RowMetrics) -> list[str]:
    """The names of the metrics: first those without a cut-off, then by name and cut-off."""

    def order(metric: str) -> tuple[bool, str, int]:
        name, _, cutoff = metric.rpartition("_")
        return (True, name, int(cutoff)) if cutoff.isdigit() else (False, metric, 0)

    return sorted(metrics.quality, key=order)


def _summary(plan: SearchPlan) -> str:
    refinement = plan.params.refinements.get(plan.row)
    models = " and ".join(f"`{model}`" for model in plan.models)
    if refinement is None:
        encoder = plan.params.models[plan.row].encoder
        name = f"{escaped(encoder.name)} of {encoder.library}"
        return f"An image encoder ({name}) and a gallery to search with it."
    method = refinement.method.replace("_", " ")
    return f"A search of one gallery with {models}, refined by {method}."


def _of_texts(settings: JsonObject) -> str:
    ready = all(each["text"]["tokenizer"] for each in settings["encoders"].values())
    return (
        " (`pip install tokenizers`)" if ready else ", once a tokenizer gives the tokens (`Row.embed_tokens`)"
    )


def _files(settings: JsonObject) -> list[tuple[str, str]]:
    listed = [
        ("lineup_row.py", "embeds and searches; one file to copy, besides the data"),
        ("selftest.py", "compares vectors and answers with those of the row"),
        ("settings.json", "transform, metric, threshold, fingerprint of the vectors"),
    ]
    for name, encoder in settings["encoders"].items():
        listed.append(
            (encoder["file"], f"the image tower of {name}: `pixels` [B, 3, H, W] to `vectors` [B, D]")
        )
        if encoder["text"]:
            listed.append((encoder["text"]["file"], f"the text tower of {name}"))
            if encoder["text"]["tokenizer"]:
                listed.append((encoder["text"]["tokenizer"], "its tokenizer, for the package `tokenizers`"))
    listed += [(space["index"], f"the FAISS index of {name}") for name, space in settings["spaces"].items()]
    columns = " and ".join(f"`{space['column']}`" for space in settings["spaces"].values())
    return [
        *listed,
        ("gallery.parquet", f"image_id, path and label of the gallery, and its vectors ({columns})"),
        ("gallery.csv", "the same without vectors, in the order of the index"),
        ("LICENSES", "what is known of the rights in each part"),
    ]


def _data(metrics: RowMetrics) -> str:
    if metrics.unscored:
        return f"Quality was not measured: {escaped(metrics.unscored)}."
    labels = f"{metrics.labels:,} labels" if metrics.labels else "judged pairs"
    return (
        f"Measured on the owner's photos: {metrics.scored:,} queries of {labels}, "
        f"searched in {metrics.gallery:,} gallery photos."
    )


def _estimate(average: Average) -> tuple[str, str]:
    interval = (
        "" if average.low is None or average.high is None else f"{average.low:.3f} to {average.high:.3f}"
    )
    return f"{average.mean:.3f}", interval


def _threshold(settings: JsonObject) -> str:
    threshold = settings["threshold"]
    if threshold is None:
        return "No threshold can be promised: too few queries without a match were measured."
    return (
        f"From a score of {threshold['score']:.6f} on, an answer is taken for a match. {threshold['promise']}"
    )
