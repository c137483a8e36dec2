"""The `objective` of a row and the defaults under `train`."""

from __future__ import annotations

from typing import Literal

from stages.lib.schema import Strict


class NoObjective(Strict):
    """The encoder is used as it was fetched."""

    name: Literal["none"]


Objective = NoObjective
