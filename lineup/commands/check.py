"""`lineup check`: what of params.yaml will run on the photos of data/raw, and what it will cost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from lineup import machine, paths
from lineup.errors import UserError, printable
from lineup.evaluation import past_costs, run_estimate
from lineup.evaluation.run_estimate import Amount, PhotoCosts, RowWork, Speed
from lineup.photos import photo_register, photo_sample, raw_counts
from lineup.photos.photo_sample import PhotoSample
from lineup.photos.raw_counts import RawCounts
from lineup.settings import params, trained_rows
from lineup.settings.params import Params
from lineup.settings.training import NoObjective, settings_of

DVC_FILE = Path("dvc.yaml")
SAMPLED_PHOTOS = 10
_MAX_SAMPLE_SECONDS = 3.0
# `embed` decodes as many photos of a part without the cache of pixels.
_NEVER_CACHED_PIXELS = 4_096
_MAX_NAME_CHARACTERS = 100


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=paths.PARAMS)
@click.option(
    "--measure",
    is_flag=True,
    help="Embed some photos with each row whose speed is not known on this machine.",
)
def command(file: Path, measure: bool) -> None:
    """Say what will run and what it costs, or report the first fault with its fix.

    FILE is params.yaml by default; another file is checked without photos. DVC itself would only report a
    missing file.
    """
    settings = params.load(file)
    params.check_sections(file, settings)
    refinements = f" and {len(settings.refinements)} refinements" if settings.refinements else ""
    click.echo(f"{file}: {len(settings.models)} models{refinements}, all well formed")
    if file != paths.PARAMS:
        return
    if _is_absent(paths.RAW):
        click.echo(_what_comes_first())
        return
    with photo_register.temporary() as register:
        counts = raw_counts.read(register, paths.RAW)
        for line in describe_photos(counts):
            click.echo(line)
        if fault := training_fault(settings, counts):
            raise UserError(fault)
        names = raw_counts.spread(register, SAMPLED_PHOTOS)
        sample = photo_sample.take(paths.RAW, names, settings.preprocess.shorter_side_px, _MAX_SAMPLE_SECONDS)
    for line in describe_estimate(settings, counts, sample, _measured(settings, sample) if measure else {}):
        click.echo(line)


def _is_absent(folder: Path) -> bool:
    """Whether a folder does not exist, or is empty."""
    return not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))


def _what_comes_first() -> str:
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
        without = f", {of_split.unlabelled:,} without a label" if of_split.unlabelled else ""
        yield f"  {split:<8} {of_split.photos:>9,} photos, {of_split.labels:,} labels{without}"
    if counts.labelled_in_table is not None:
        yield f"  labels.csv: {counts.labelled_in_table:,} photos"
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
            "no query has a label, and there is no qrels.csv: the rows run as far as the rankings, "
            "and nothing can be scored"
        )
    else:
        by = "qrels.csv" if counts.judged and counts.judged.lines else "a gallery photo of their label"
        yield f"queries that can have an answer, by {by}: {counts.answerable:,} of {queries:,}"


def training_fault(settings: Params, counts: RawCounts) -> str | None:
    """Which rows can't be trained on the photos, and the fix; None if all can."""
    faults = trained_rows.faults(settings, counts.training)
    if not faults:
        return None
    rows = ", ".join(faults)
    refinements = trained_rows.refinements_of(settings, faults)
    delete = f"delete {'it' if len(faults) == 1 else 'them'}" + (
        f" and {', '.join(refinements)}, which {'is' if len(refinements) == 1 else 'are'} made of "
        f"{'it' if len(faults) == 1 else 'them'}"
        if refinements
        else ""
    )
    all_rows = len(settings.models) + len(settings.refinements)
    train = paths.RAW / "train"
    if not counts.splits["train"].photos:
        state = "holds no photos" if train.is_dir() else "does not exist"
        verb = "trains" if len(faults) == 1 else "train"
        return (
            f"{paths.PARAMS}: {len(faults)} of {all_rows} rows {verb} ({rows}), but {train} {state}: "
            f"put photos into {train}/<label>/, or {delete}"
        )
    row, *others = faults
    also = f" ({', '.join(others)} can't be trained either)" if others else ""
    return f"{paths.PARAMS}: models.{row}.objective: {faults[row]}{also}; or {delete}"


def describe_estimate(
    settings: Params, counts: RawCounts, sample: PhotoSample, measured: dict[str, Speed]
) -> Iterator[str]:
    """What `dvc repro` takes if nothing was computed before: each part, and where its number comes from."""
    for path, problem in sample.unreadable:
        tried = len(sample.unreadable) + sample.photos
        yield f"of {tried} photos tried: {printable(path, _MAX_NAME_CHARACTERS)} {printable(problem)}"
    works = [row_work(row, settings, counts, measured) for row in settings.models]
    costs = photo_costs(sample)
    time_parts = run_estimate.seconds(
        counts.photos, counts.test_photos, costs, works, stage_count(settings), machine.threads()
    )
    disk_parts = run_estimate.disk_bytes(
        counts.photos, counts.test_photos, costs, works, settings.embed.pixel_cache_gb * 1e9
    )
    free = shutil.disk_usage(Path()).free
    total_time, total_disk = (sum(part.amount for part in parts) for parts in (time_parts, disk_parts))
    yield (
        f"`dvc repro`, if nothing is computed yet: about {duration(total_time)}, {size(total_disk)} of disk "
        f"({size(free)} are free)"
    )
    for part in time_parts:
        yield _line(part, duration(part.amount))
    for part in disk_parts:
        yield _line(part, size(part.amount))
    if total_disk > free:
        yield "the disk may be too small: free some space, or lower embed.pixel_cache_gb"
    unknown = {row for part in time_parts for row in part.unknown}
    if unknown:
        rows = ", ".join(row for row in settings.models if row in unknown)
        yield (
            f"not in it, as their speed is not known yet: {rows}; run `dvc repro fetch`, "
            "then `lineup check --measure`"
        )
    hubs = [
        row
        for row, model in settings.models.items()
        if model.encoder.weights.startswith("hub") and not paths.weights(row).exists()
    ]
    if hubs:
        yield f"not in it: downloading the weights of {', '.join(hubs)}"
    yield "not in it: searching, scoring and the report's pages"


def _line(part: Amount, amount: str) -> str:
    """A part of the estimate, and where its number comes from."""
    first, *others = part.origins or ("",)
    more = f" and {len(others)} more" if others else ""
    origin = f" from {first}{more}" if part.basis == "measured" else f": {first}{more}" if first else ""
    missing = f"; not known yet for {len(part.unknown)} rows" if part.unknown else ""
    return f"  {part.what:<20} {amount:>9}  {part.basis}{origin}{missing}"


def row_work(row: str, settings: Params, counts: RawCounts, measured: dict[str, Speed]) -> RowWork:
    """What a row has to do on these photos, and what is known of its speed."""
    objective = settings.models[row].objective
    past = {name: past for name in settings.models if (past := past_costs.read(name))}
    known = past_costs.known(row, settings, past, measured)
    train_photos = counts.splits["train"].photos
    parts = [counts.test_photos, train_photos if row in settings.near_copies.rows else 0]
    drawn, max_seconds = 0, 0.0
    if not isinstance(objective, NoObjective):
        loop = settings_of(settings.train, objective)
        drawn = loop.epochs * (loop.images_per_epoch or train_photos) * objective.needs.views
        max_seconds = 60 * loop.max_minutes
    encoder = settings.models[row].encoder
    return RowWork(
        row,
        sum(parts),
        known.embedding,
        drawn,
        known.training,
        max_seconds,
        known.dim,
        known.parameters,
        known.image_size,
        f"{encoder.library} {encoder.name} {known.image_size} {encoder.mean} {encoder.std}",
        sum(max(0, part - _NEVER_CACHED_PIXELS) for part in parts),
    )


def photo_costs(sample: PhotoSample) -> PhotoCosts | None:
    """The means over the sampled photos; None if none of them could be read."""
    if not sample.photos:
        return None
    return PhotoCosts(
        sample.prepare_seconds / sample.photos,
        sample.prepared_bytes / sample.photos,
        sample.replaced_bytes / sample.photos,
        sample.thumbnail_seconds / sample.photos,
        sample.thumbnail_bytes / sample.photos,
    )


def _measured(settings: Params, sample: PhotoSample) -> dict[str, Speed]:
    """The speed of each row whose weights are here; rows with the same network and size share it."""
    from lineup.embedding import speed_test  # It imports torch.

    by_network: dict[tuple[str, str, int | None], Speed] = {}
    speeds = {}
    for row, model in settings.models.items():
        folder = paths.weights(row)
        if not folder.is_dir() or not sample.images:
            continue
        network = (model.encoder.library, model.encoder.name, model.encoder.image_size)
        if network not in by_network:
            speed = speed_test.images_per_second(folder, sample.images, settings.embed)
            by_network[network] = Speed(speed, "measured", "a short run just now")
        speeds[row] = by_network[network]
    return speeds


def stage_count(settings: Params) -> int:
    """How many commands `dvc repro` runs: those of a foreach once for each of its rows."""
    rows = {
        "${models}": len(settings.models),
        "${refinements}": len(settings.refinements),
        "${near_copies.rows}": len(settings.near_copies.rows),
    }
    stages = yaml.safe_load(DVC_FILE.read_text(encoding="utf-8"))["stages"]
    return sum(rows.get(stage.get("foreach"), 1) for stage in stages.values())


def duration(seconds: float) -> str:
    """A duration to two digits: "40 s", "12 min", "3.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes in MB below 1 GB, else in GB, of 10^6 and 10^9 bytes."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
