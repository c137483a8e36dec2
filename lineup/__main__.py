"""`lineup`, the command: what a person runs that is not a stage of the pipeline. `lineup --help` lists it."""

from __future__ import annotations

from lineup import launch


def main() -> None:
    """The console script. Ends with exit code 0, 1 (a fault in one sentence), 2 (wrong usage) or 130
    (Ctrl-C).
    """
    launch.begin()
    from lineup import cli
    from lineup.commands.group import run

    cli.run(run)


if __name__ == "__main__":
    main()
