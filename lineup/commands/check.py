"""`lineup check`: what of params.yaml will run on the photos of data/raw, and what it will cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from lineup import cluster, machine, paths
from lineup.commands import check_estimate
from lineup.errors import UserError, printable
from lineup.photos import photo_register, photo_sample, raw_counts, raw_folder
from lineup.photos.raw_counts import RawCounts
from lineup.settings import dvc_sections, params, trained_rows
from lineup.settings.params import Params

SAMPLED_PHOTOS = 10
_MAX_SAMPLE_SECONDS = 3.0
_MAX_NAME_CHARACTERS = 100


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=paths.PARAMS)
@click.option("--measure", is_flag=True, help="Embed some photos with each row whose weights are here.")
def command(file: Path, measure: bool) -> None:
    """Say what will run and what it costs, or report the first fault with its fix.

    FILE is params.yaml by default; another file is checked without photos. DVC itself would only report a
    missing file.
    """
    settings = params.load(file)
    dvc_sections.check(file, settings)
    rows = " and ".join(
        f"{len(rows)} {noun}{'' if len(rows) == 1 else 's'}"
        for noun, rows in (("model", settings.models), ("refinement", settings.refinements))
        if rows
    )
    click.echo(f"{file}: {rows}, all well formed")
    if file != paths.PARAMS:
        return
    for line in describe_precisions(settings):
        click.echo(line)
    for line in describe_transfer(settings):
        click.echo(line)
    if _is_absent(paths.RAW):
        click.echo(_how_to_lay_out())
        return
    with photo_register.temporary() as register:
        counts = raw_counts.read(register, paths.RAW)
        for line in describe_photos(counts):
            click.echo(line)
        if fault := training_fault(settings, counts):
            raise UserError(fault)
        names = [*raw_counts.spread(register, SAMPLED_PHOTOS)]
    sample = photo_sample.take(paths.RAW, names, settings.preprocess.shorter_side_px, _MAX_SAMPLE_SECONDS)
    speeds = check_estimate.measured(settings, sample) if measure else {}
    for line in check_estimate.describe(settings, counts, sample, speeds):
        click.echo(line)
    if cluster.address():
        for line in describe_cluster(settings, sample.images):
            click.echo(line)


def describe_precisions(settings: Params) -> Iterator[str]:
    """A line on each lower precision that this processor may compute slowly.

    Raises:
        UserError: the engine of a row, or this machine, doesn't have its precision.
    """
    by_precision: dict[str, list[str]] = {}
    for row in settings.models:
        by_precision.setdefault(settings.embed_of(row).precision, []).append(row)
    by_precision.pop("float32", None)
    if not by_precision:
        return
    from lineup.engines import quantisation  # It imports torch.

    for precision, rows in by_precision.items():
        engines = [quantisation.candidates(row, settings.embed_of(row))[0] for row in rows]
        on_processor = engines[0].device.type == "cpu"
        if precision == "bfloat16" and on_processor and machine.lacks_bfloat16():
            yield (
                f"{', '.join(rows)}: this processor has no instructions for bfloat16 (AMX or AVX-512 BF16), "
                "so that it may be slower than float32"
            )


def describe_transfer(settings: Params) -> Iterator[str]:
    """A line on each second test set, and on each trained row whose start is not measured on it.

    Raises:
        UserError: a set is missing, or has a fault.
    """
    for name, path in settings.transfer.sets.items():
        raw_folder.check_exists(Path(path), name)
        with photo_register.temporary() as register:
            counts = raw_counts.read(register, Path(path))
        folder = printable(path, _MAX_NAME_CHARACTERS)
        if not counts.answerable:
            raise UserError(
                f"{folder}: no query can have a right answer; put its photos into a folder per label, "
                "or add labels.csv or qrels.csv"
            )
        query, gallery = (counts.splits[split].photos for split in ("query", "gallery"))
        yield (
            f"{folder}: a second test set of {query:,} queries and {gallery:,} gallery photos; "
            f"queries that can have a right answer: {counts.answerable:,}"
        )
        if not any(named == name for named in settings.transfer.rows.values()):
            yield f"  no row of transfer.rows is measured on it; add `ROW: {name}` there"
    for row, fix in trained_rows.missing_starts(settings).items():
        yield f"{row} is compared with no start on its second test set: in transfer.rows, {fix}"


def _is_absent(folder: Path) -> bool:
    """Whether a folder does not exist, or is empty."""
    return not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))


def _how_to_lay_out() -> str:
    """How data/raw comes to be, for a project that has none yet."""
    if paths.RAW.with_suffix(".dvc").exists():
        return f"{paths.RAW}: is not here yet; `dvc pull {paths.RAW}` gets it"
    return (
        f"{paths.RAW}: does not exist yet; `lineup photos FOLDER` lays out your photos, and `lineup demo` "
        "those of the demo"
    )


def describe_photos(counts: RawCounts) -> Iterator[str]:
    """The photos and labels of each split, the tables, and how many queries can have an answer."""
    yield f"{paths.RAW}: {counts.photos:,} files"
    for split, of_split in counts.splits.items():
        labels = f", {of_split.labels:,} labels" if of_split.labels else ", no labels"
        if of_split.labels and of_split.unlabelled:
            labels += f", {of_split.unlabelled:,} without one"
        yield f"  {split:<8} {of_split.photos:>9,} photos{labels if of_split.photos else ''}"
    if counts.labelled_in_table is not None:
        yield f"  labels.csv: labels of {counts.labelled_in_table:,} photos"
    if counts.judged is not None:
        yield f"  qrels.csv: {counts.judged.lines:,} judgements of {counts.judged.queries:,} queries"
    if counts.attributes:
        columns = printable(", ".join(counts.attributes), _MAX_NAME_CHARACTERS)
        yield f"  attributes.csv: the columns {columns}"
    for path, problem in counts.problems:
        yield f"  {printable(path, _MAX_NAME_CHARACTERS)} {printable(problem)}"
    if counts.ignored > len(counts.problems):
        yield f"  and {counts.ignored - len(counts.problems):,} more like these"
    queries = counts.splits["query"].photos
    if counts.answerable is None:
        yield (
            "no query has a label, and no qrels.csv judges any: photos are searched, and nothing is scored "
            "until you judge answers (`lineup judge`); "
            "`lineup photos FOLDER --queries-from edits` makes queries that can be scored"
        )
    elif counts.judged and counts.judged.lines:
        yield f"queries that have a relevant photo by qrels.csv: {counts.answerable:,} of {queries:,}"
    else:
        yield f"queries that have a gallery photo of their label: {counts.answerable:,} of {queries:,}"


def describe_cluster(settings: Params, photos: Sequence[bytes]) -> Iterator[str]:
    """What the Ray cluster has, and whether its nodes compute a photo's vector.

    Args:
        photos: prepared images, encoded.
    Raises:
        UserError: it can't be reached, or one of its nodes can't compute.
    """
    ray = cluster.connect()
    available = cluster.describe(ray)
    yield f"{cluster.ADDRESS_VARIABLE}: {available.described()}"
    for node in available.nodes:
        yield f"  {node.ip:<15}  {node.described()}"
    rows = (row for row in settings.models if settings.embed_of(row).precision != "int8")
    row = next((row for row in rows if paths.weights(row).is_dir()), None)
    if row is None or not photos:
        yield "  not tried on a photo, as no weights are here yet: run `dvc repro fetch`, then this again"
        return
    from lineup.embedding import cluster_check  # It imports torch.

    embed = settings.embed_of(row)
    engine, nodes = cluster_check.try_engine(ray, available, paths.weights(row), photos[0], embed)
    yield f"  tried on a photo: {engine} computes {row} on {nodes} node{'' if nodes == 1 else 's'}"


def training_fault(settings: Params, counts: RawCounts) -> str | None:
    """Which rows can't be trained on the photos, and the fix; None if all can."""
    faults = trained_rows.faults(settings, counts.training)
    if not faults:
        return None
    row, *others = faults
    delete = f"delete {'them' if others else 'it'}"
    if refinements := trained_rows.refinements_of(settings, faults):
        are = "are" if len(refinements) > 1 else "is"
        delete += f" and {', '.join(refinements)}, which {are} made of {'them' if others else 'it'}"
    if counts.splits["train"].photos:
        also = f" ({', '.join(others)} can't be trained either)" if others else ""
        return f"{paths.PARAMS}: models.{row}.objective: {faults[row]}{also}; or {delete}"
    train = paths.RAW / "train"
    all_rows = len(settings.models) + len(settings.refinements)
    return (
        f"{paths.PARAMS}: {len(faults)} of {all_rows} rows {'train' if others else 'trains'} "
        f"({', '.join(faults)}), but {train} {'holds no photos' if train.is_dir() else 'does not exist'}: "
        f"put photos into {train}/<label>/, or {delete}; `lineup use photos` has settings without them"
    )
