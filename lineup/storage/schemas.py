"""The schemas of the Parquet tables, and the most rows that one file of a folder has."""

from __future__ import annotations

import pyarrow as pa

MANIFEST = pa.schema(
    [
        ("image_id", pa.string()),  # SHA-256 of the file's bytes
        ("split", pa.string()),  # train | query | gallery
        ("label", pa.string()),  # null: unknown
        # Every file with these bytes in this split, relative to data/raw, sorted.
        ("paths", pa.list_(pa.string())),
        ("pixels_id", pa.string()),  # SHA-256 of the upright RGB pixels and their size
        ("width", pa.int32()),  # upright, before shrinking
        ("height", pa.int32()),
        ("format", pa.string()),  # according to the content: JPEG, PNG, ...
    ]
)

# The key of metadata: as JSON, of each text column that some training photo has, the values of queries that a
# training photo has, too.
TRAINING_VALUES = "training_values"

# The columns of attributes.csv follow: float64 where every value is a number, else string.
ATTRIBUTES = pa.schema(
    [
        ("image_id", pa.string()),  # with split, the rows of the test's manifest
        ("split", pa.string()),
        ("longest_side_px", pa.int32()),  # of the file, before shrinking
        ("aspect_ratio", pa.float64()),  # width / height, upright
        ("format", pa.string()),
        ("camera", pa.string()),  # maker and model; null where EXIF does not say
        # Of the prepared image, resized to one area: lineup/photos/pixel_attributes.py.
        ("sharpness", pa.float64()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("colourfulness", pa.float64()),
        ("label_gallery_photos", pa.int32()),  # gallery images with the image's label; null without a label
    ]
)

# SHA-256 of the bytes that are stored instead of a file's own; null where those are stored.
_PREPARED_ID = ("prepared_id", pa.string())

IMAGES = pa.schema([("image_id", pa.string()), ("split", pa.string()), _PREPARED_ID, ("image", pa.binary())])

# Where there is a qrels.csv, the file's metadata say how many judgements it has (`judgements`), and how many
# of them are left out (`left_out`).
QRELS = pa.schema([("query_id", pa.string()), ("gallery_id", pa.string()), ("relevance", pa.int8())])

RANKING = pa.schema(
    [
        ("query_id", pa.string()),
        ("gallery_ids", pa.list_(pa.string())),  # nearest first
        # Higher is nearer: the cosine similarity, or minus the squared L2 distance.
        ("scores", pa.list_(pa.float32())),
    ]
)

# The test photos in two dimensions, without a unit, and the one file of a map's folder.
MAP_FILE = "photos.parquet"
MAP = pa.schema([("image_id", pa.string()), ("split", pa.string()), ("x", pa.float32()), ("y", pa.float32())])

IMAGES_PER_SHARD = 1_000

VECTORS_PER_SHARD = 65_536


def embeddings_schema(dim: int) -> pa.Schema:
    """The columns of embeddings of `dim` dimensions."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("split", pa.string()),
            _PREPARED_ID,
            ("embedding", pa.list_(pa.float32(), dim)),
        ]
    )
