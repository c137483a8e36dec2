"""What `lineup check` says of time and disk: each part, and where its number comes from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from lineup import machine, paths
from lineup.costs import past_costs, run_estimate
from lineup.costs.past_costs import Past
from lineup.costs.run_estimate import Amount, PhotoCosts, RowWork, Speed
from lineup.errors import printable
from lineup.photos.photo_sample import PhotoSample
from lineup.photos.raw_counts import RawCounts
from lineup.settings.objective import NoObjective
from lineup.settings.params import Params
from lineup.settings.training import settings_of

DVC_FILE = Path("dvc.yaml")
# `embed` decodes as many photos of a part without the cache of pixels.
_NEVER_CACHED_PIXELS = 4_096
_MAX_NAME_CHARACTERS = 100


def describe(
    settings: Params, counts: RawCounts, sample: PhotoSample, measured: Mapping[str, Speed]
) -> Iterator[str]:
    """What `dvc repro` takes if nothing is computed yet, line by line.

    Args:
        measured: by row, the speed that was measured just now.
    """
    tried = len(sample.unreadable) + sample.photos
    for path, problem in sample.unreadable:
        yield f"of {tried} photos tried: {printable(path, _MAX_NAME_CHARACTERS)} {printable(problem)}"
    past = {row: costs for row in settings.models if (costs := past_costs.read(row))}
    works = [row_work(row, settings, counts, past, measured) for row in settings.models]
    costs = photo_costs(sample)
    stages, cores = stage_count(settings), machine.threads()
    times = run_estimate.seconds(counts.photos, counts.test_photos, costs, works, stages, cores)
    max_pixel_bytes = settings.embed.pixel_cache_gb * 1e9
    disk = run_estimate.disk_bytes(counts.photos, counts.test_photos, costs, works, max_pixel_bytes)
    total_time, total_disk = (sum(part.amount for part in parts) for parts in (times, disk))
    free = shutil.disk_usage(Path()).free
    time_bound, disk_bound = (
        "at least" if any(part.unknown for part in parts) else "about" for parts in (times, disk)
    )
    yield (
        f"`dvc repro`, if nothing is computed yet: {time_bound} {duration(total_time)}, "
        f"{disk_bound} {size(total_disk)} of disk ({size(free)} are free)"
    )
    for part in times:
        yield _line(part, duration(part.amount))
    for part in disk:
        yield _line(part, size(part.amount))
    if total_disk > free:
        yield "the disk may be too small: free some space, or lower embed.pixel_cache_gb"
    yield from _left_out(settings, times)


def _line(part: Amount, amount: str) -> str:
    """A part of the estimate, and where its number comes from."""
    if not part.amount and part.unknown:
        return f"  {part.what:<20} {'?':>9}  not known yet"
    first, *others = part.origins or ("",)
    more = f" and {len(others)} more" if others else ""
    origin = f" from {first}{more}" if part.basis == "measured" else f": {first}{more}" if first else ""
    missing = f"; not known yet for {len(part.unknown)} rows" if part.unknown else ""
    return f"  {part.what:<20} {amount:>9}  {part.basis}{origin}{missing}"


def _left_out(settings: Params, times: list[Amount]) -> Iterator[str]:
    unknown = {row for part in times for row in part.unknown}
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
    if settings.transfer.rows:
        yield "not in it: the photos of transfer.sets"
    yield "not in it: searching, scoring and the report's pages"


def row_work(
    row: str,
    settings: Params,
    counts: RawCounts,
    past: Mapping[str, Past],
    measured: Mapping[str, Speed],
) -> RowWork:
    """What a row has to do on these photos, and what is known of its speed.

    Args:
        past: by row, its earlier figures; measured: by row, the speed that was measured just now.
    """
    encoder, objective = settings.models[row].encoder, settings.models[row].objective
    known = past_costs.known(row, settings, past, measured)
    train_photos = counts.splits["train"].photos
    parts = [counts.test_photos, train_photos if row in settings.near_copies.rows else 0]
    drawn, max_seconds = 0, 0.0
    if not isinstance(objective, NoObjective):
        loop = settings_of(settings.train, objective)
        per_epoch = loop.images_per_epoch or round(train_photos * objective.label_share)
        drawn = loop.epochs * per_epoch * objective.needs.views
        max_seconds = 60 * loop.max_minutes
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
        sample.picture_seconds / sample.photos,
        sample.picture_bytes / sample.photos,
    )


def measured(settings: Params, sample: PhotoSample) -> dict[str, Speed]:
    """The speed of each row whose weights are here; rows with the same network and size share it."""
    from lineup.embedding import speed_test  # It imports torch.

    by_network: dict[tuple[str, str, int | None, str], Speed] = {}
    speeds = {}
    for row, model in settings.models.items():
        folder = paths.weights(row)
        if not folder.is_dir() or not sample.images:
            continue
        embed = settings.embed_of(row)
        if embed.precision == "int8":  # its network does not exist yet; NNCF's is not slower than float32
            embed = embed.model_copy(update={"precision": "float32"})
        encoder = model.encoder
        network = (encoder.library, encoder.name, encoder.image_size, embed.precision)
        if network not in by_network:
            speed = speed_test.images_per_second(folder, sample.images, embed)
            by_network[network] = Speed(speed, "measured", "a short run just now")
        speeds[row] = by_network[network]
    return speeds


def stage_count(settings: Params) -> int:
    """How many commands `dvc repro` runs: those of a foreach once for each of its rows."""
    rows = {
        "${models}": len(settings.models),
        "${refinements}": len(settings.refinements),
        "${near_copies.rows}": len(settings.near_copies.rows),
        "${map}": len(settings.map),
        "${transfer.sets}": len(settings.transfer.sets),
        "${transfer.rows}": len(settings.transfer.rows),
        "${export}": int(settings.export.row is not None),
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
