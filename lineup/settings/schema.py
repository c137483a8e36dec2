"""What every part of params.yaml shares: strict types, no unknown keys, the names of rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# A row's name becomes part of file names, the longest of which is DVC's .<row>.parquet.<22 letters>.tmp. File
# systems allow 255 bytes for a name, or 143 where names are encrypted (eCryptfs).
LONGEST_NAME = 100
RowName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=LONGEST_NAME)]

WEIGHTS_PATTERN = r"^(hub|none|(hub|package|file):.+)$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"


class Strict(BaseModel):
    """A group of settings; an unknown key is an error, and values can't be changed once read.

    Types are strict because YAML reads yes, no, on and off as booleans, which pydantic would otherwise accept
    as 1 and 0. Tuples are the exception, as YAML has only lists.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
