"""What the command lines of all stages share: rows, settings, seeds, logging, and errors in a sentence."""

from __future__ import annotations

import argparse
import logging
import os
import random
import select
import sys
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from lineup import errors, launch, locks, paths, text_encoding
from lineup.errors import UserError, suggest
from lineup.settings import params as params_module
from lineup.settings.params import Params

Rows = Literal["models", "refinements", "all"]


def start(stage: str, argv: list[str] | None = None, rows: Rows = "models") -> tuple[str, Params]:
    """Parses a stage's options, and starts the row that they name. Returns what `start_row` returns."""
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}")
    add_row(parser.add_mutually_exclusive_group(required=True))
    return start_row(stage, row_of(parser.parse_args(argv)), rows)


def add_row(options: argparse._MutuallyExclusiveGroup) -> None:  # pyright: ignore[reportPrivateUsage]
    """Adds the two ways of naming a row.

    dvc.yaml uses --row-of-stage, since a shell would interpret a row's name in its commands.
    """
    options.add_argument("--row", metavar="ROW", help="a row of params.yaml")
    options.add_argument(
        "--row-of-stage", action="store_true", help="the row whose stage DVC runs, as its DVC_STAGE says"
    )


def row_of(arguments: argparse.Namespace) -> str:
    """The name of the row, from either option of `add_row`."""
    return name_of_stage("--row-of-stage", "--row ROW") if arguments.row_of_stage else arguments.row


def name_of_stage(option: str, otherwise: str) -> str:
    """What follows @ in the name of the stage that DVC runs. Raises UserError if DVC runs none.

    Args:
        option: asks for it; otherwise: the option that names it without DVC.
    """
    _, at, name = os.environ.get("DVC_STAGE", "").rpartition("@")
    if not at:
        raise UserError(f"{option}: works in `dvc repro` alone, which sets DVC_STAGE; use {otherwise}")
    return name


def start_row(stage: str, row: str, rows: Rows) -> tuple[str, Params]:
    """Starts a stage for one row, after waiting for any other process that runs it here.

    Returns:
        The row's name and all settings.
    Raises:
        UserError: params.yaml has a fault, or its `rows` lack this row.
    """
    params = start_stage(stage, exclusive=False)
    check_row(row, params, rows)
    locks.hold(f"{stage}.{row}")
    return row, params


def check_row(row: str, params: Params, rows: Rows) -> None:
    """Raises UserError, which suggests the most similar name, if the `rows` of params.yaml lack this row."""
    known = {
        "models": {*params.models},
        "refinements": {*params.refinements},
        "all": {*params.models, *params.refinements},
    }[rows]
    if row not in known and rows != "all" and row in {*params.models, *params.refinements}:
        other = "models" if rows == "refinements" else "refinements"
        raise UserError(f"{paths.PARAMS}: {row} is a row of {other}; use a row of {rows} here")
    if row not in known:
        where = f"row {row!r}" if rows == "all" else f"{rows}.{row}"
        raise UserError(
            f"{paths.PARAMS}: {where} is unknown{suggest(row, known) if known else '; there are none'}"
        )


def start_stage(stage: str, exclusive: bool = True) -> Params:
    """Starts a command that is not run per row: sets up logging, checks params.yaml, seeds Python and numpy.

    Args:
        stage: its name, which precedes each line of its log.
        exclusive: whether to wait while another process runs it here.
    """
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr, force=True)
    for library in ("httpx", "httpx2", "faiss", "timm", "PIL", "urllib3", "filelock"):
        logging.getLogger(library).setLevel(logging.WARNING)
    params = params_module.load()
    random.seed(params.seed)
    np.random.seed(params.seed)
    if exclusive:
        locks.hold(stage)
    return params


def no_options(stage: str, argv: Sequence[str] | None) -> None:
    """Parses the command line of a stage that takes no options: only --help is accepted."""
    argparse.ArgumentParser(
        prog=f"python -m stages.{stage}", description="Takes no options; params.yaml has the settings."
    ).parse_args(argv)


def run(main: Callable[[], object]) -> None:
    """Runs a stage's `main`. A user's error ends in a sentence and exit code 1, a bug in a traceback."""
    text_encoding.use_utf8()
    try:
        with launch.work(), locks.scope():
            main()
        if sys.stdout:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(launch.INTERRUPTED, file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        sentence = errors.sentence(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(1)


def _reader_is_gone() -> bool:
    """Whether nothing reads standard output any more, as after `| head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))
