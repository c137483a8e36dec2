"""prices.yaml: what machines and memory cost, for the comparison's dollars."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from lineup import paths
from lineup.errors import UserError
from lineup.settings import yaml_file
from lineup.settings.explanation import explain
from lineup.settings.schema import Strict


class Prices(Strict):
    """US dollars. prices.yaml says where the defaults are from.

    machine_hour: of the machine that rows are measured on; None takes processor_hour for each of its threads,
    which says nothing of a GPU.
    """

    machine_hour: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="dollars for an hour of the machine"
    )
    processor_hour: float = Field(
        default=0.0408, gt=0, allow_inf_nan=False, description="dollars for an hour of one processor"
    )
    memory_gb_month: float = Field(
        default=2.33, ge=0, allow_inf_nan=False, description="dollars for a GB of memory for a month"
    )
    queries_per_month: int = Field(default=1_000_000, ge=1)

    def hour(self, threads: int, gpu: bool) -> float | None:
        """Dollars for an hour of a machine with so many threads; None where the price of a GPU is unknown."""
        if self.machine_hour is not None or gpu:
            return self.machine_hour
        return self.processor_hour * threads


def load(path: Path = paths.PRICES) -> Prices:
    """The checked prices; the defaults where there is no such file.

    Raises:
        UserError: the message names the price, the fault and the nearest fix.
    """
    if not path.exists():
        return Prices()
    document = yaml_file.read(path)
    try:
        return Prices.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Prices, document)}") from None
