"""The command `lineup`, for what a person runs besides the pipeline's stages; `lineup --help` lists it."""

from __future__ import annotations

from lineup import launch


def main() -> None:
    """The console script.

    It exits with 0, 1 (a fault, explained in a sentence), 2 (wrong usage) or 130 (Ctrl-C).
    """
    launch.begin()
    from lineup import cli
    from lineup.commands.group import run

    cli.run(run)


if __name__ == "__main__":
    main()
