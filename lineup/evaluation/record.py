"""What the parts of metrics/rows/<row>.json have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Exactly the fields that its class declares, none of which ever changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
