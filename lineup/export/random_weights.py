"""The refusal of a row whose weights are random, by both kinds of export."""

from __future__ import annotations

from lineup.errors import UserError


def refusal(row: str, model: str) -> UserError:
    """The error to raise; model: the one with random weights, of which the row is made."""
    return UserError(
        f"{row}: can't be exported, as the weights of {model} are random and its vectors mean "
        f"nothing; set models.{model}.encoder.weights to trained ones and run `dvc repro`"
    )
