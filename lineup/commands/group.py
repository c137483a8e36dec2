"""The group of all commands.

A command's file is imported only when it runs, so that no command waits for another's libraries.
"""

from __future__ import annotations

import importlib
import sys

import click

# In the order of `lineup --help`.
COMMANDS = {
    "photos": "Lay out your own photos as data/raw.",
    "check": "Check params.yaml and data/raw, and estimate a run.",
    "demo": "Lay out the demo's photos as data/raw.",
    "use": "Replace params.yaml with a preset.",
    "sweep": "Add rows that differ from one row in one setting.",
    "show": "Print the last comparison, or what changed since a revision.",
    "search": "Search the gallery with a photo or a text.",
    "serve": "Serve the search page.",
    "judge": "Serve a page to judge the rows' answers.",
    "export": "Hand a row over: a folder for a service, or a vector database.",
    "submit": "Write a row's results as the competition's JSON.",
    "cache": "List the local cache, or prune it.",
}


class Commands(click.Group):
    """A command is the object `command` in the file of its name in this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of `lineup --help`."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, whose file is imported now; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"lineup.commands.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lineup", message="%(prog)s %(version)s")
def group() -> None:
    """Find out which embedding model finds the right picture in your own photos.

    `dvc repro` runs the pipeline; these commands are for what comes before and after it.
    """


def run(argv: list[str] | None = None) -> None:
    """Runs one command. Exits with code 2 on wrong usage; raises KeyboardInterrupt on Ctrl-C."""
    try:
        code = group.main(argv, prog_name="lineup", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        raise KeyboardInterrupt from None
    if isinstance(code, int) and code:
        sys.exit(code)
