"""A collection with pictures, scored by the real stages, and its report; for the report's tests."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image as Pillow

import stages.compare
import stages.near_copies
import stages.slices
from lineup import paths
from lineup.paths import Part
from lineup.storage import files, parquet, schemas
from stages import report
from tests.support import collection
from tests.support.collection import Image
from tests.support.photographs import photograph

# What a name must not do to a page: end a script, be a tag, end an attribute or a line, be lost beyond ASCII.
ODD_LABELS = (
    "<script>window.attacked = 1</script>",
    "</script><img src=x onerror='window.attacked = 2'>",
    "quotes \" and ' and ` and \\ and ${1}",
    "🦖 émoji \u2028 line",
    "&amp; &lt;b&gt; **bold** _it_",
)


def picture(image: Image, number: int) -> bytes:
    """A plain colour per image, a PNG that is half transparent."""
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number * 0.618 % 1, 0.6, 0.8))
    drawn = Pillow.new("RGBA", (160, 90), (*colour, 255))
    drawn.paste((0, 0, 0, 0), (0, 0, 80, 90))
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return buffer.getvalue()


def write_pictures(
    images: Sequence[Image], part: Part = "test", drawn: Mapping[str, bytes] | None = None
) -> None:
    """drawn: other pictures than `picture` draws, by id."""
    ordered = sorted(images, key=lambda image: (image.id, image.split))
    pictures = [(drawn or {}).get(image.id) or picture(image, i) for i, image in enumerate(ordered)]
    columns = [
        [image.id for image in ordered],
        [image.split for image in ordered],
        [None] * len(ordered),
        pictures,
    ]
    batch = pa.record_batch(
        [pa.array(c, f.type) for c, f in zip(columns, schemas.IMAGES, strict=True)], schema=schemas.IMAGES
    )
    parquet.write_shards(paths.images(part), schemas.IMAGES, [batch], len(ordered), schemas.IMAGES_PER_SHARD)


def odd(images: Sequence[Image]) -> list[Image]:
    """The same images under the odd labels, in files named so."""
    renamed = []
    for image in images:
        label = ODD_LABELS[int(str(image.label).removeprefix("label ")) % len(ODD_LABELS)]
        path = f"test/{image.split}/{label.replace('/', '∕')}/{image.name.replace('/', '-')}.jpg"
        renamed.append(Image(image.name, image.split, label, image.vector, path))
    return renamed


def write_near_copies(row: str, test: Sequence[Image]) -> tuple[Image, Image]:
    """Writes thirty training photos, one of which shows the first test image, and runs the stage for the row.

    The row must be among `near_copies.rows` of params.yaml for the report to show the list.

    Returns:
        The test image, and the training photo that copies it.
    """
    copied, *_ = test
    copy = Image("copy", "train", "<i>trained</i>", copied.vector, 'train/<i>trained</i>/"copy" & more.jpg')
    others = [
        Image(
            f"train {i}",
            "train",
            None,
            [(-1) ** (i + j) * (1 + i * j % 7) for j in range(len(copied.vector))],
        )
        for i in range(29)
    ]
    training = [copy, *others]
    drawn = {image.id: photograph(i) for i, image in enumerate(training)}
    collection.write_manifest(training, "train")
    collection.write_vectors(row, training, "train")
    write_pictures(training, "train", drawn)
    write_pictures(test, "test", {copied.id: drawn[copy.id]})
    stages.near_copies.main(["--row", row])
    return copied, copy


def write_map(row: str, images: Sequence[Image]) -> dict[str, list[float]]:
    """Writes a map of all photos, and the report's script of it, as the stages do; the first two numbers of a
    vector are the place of its photo.

    The row must be in `map` of params.yaml for the report to show it.

    Returns:
        {id: x and y}.
    """
    places = {image.id: [float(value) for value in image.vector[:2]] for image in images}
    lines = sorted((image.id, image.split, *places[image.id]) for image in images)
    columns = zip(*lines, strict=True)
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schemas.MAP, strict=True)], schemas.MAP)
    parquet.write_table(paths.photo_map(row) / schemas.MAP_FILE, table)
    report.main(["--map", "--row", row])
    return places


def run(
    rows: Mapping[str, Sequence[Image]],
    qrels: Sequence[tuple[str, str, int]] = (),
    leaks_csv: str = "kind,path_a,path_b,across\n",
    attributes: Mapping[str, Mapping[str, object]] | None = None,
    **settings: Any,
) -> Path:
    """Every light stage for every row, and the report, in the working directory; the page.

    Args:
        attributes: {attribute: {image name: value}}.
    """
    collection.run(rows, qrels, **settings)
    if attributes:
        collection.write_attributes(next(iter(rows.values())), **attributes)
        stages.slices.main([])
        stages.compare.main([])
    write_pictures(next(iter(rows.values())))
    files.write_text(paths.LEAKS, leaks_csv)
    for row in rows:
        report.main(["--row", row])
    report.main(["--thumbnails"])
    report.main([])
    return paths.REPORT
