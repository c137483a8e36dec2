"""export@row: the row that params.yaml names under `export`, as a folder for a service."""

from __future__ import annotations

from lineup import cli, paths
from lineup.errors import UserError
from lineup.export import folder


def main(argv: list[str] | None = None) -> None:
    cli.no_options("export", argv)
    params = cli.start_stage("export")
    if params.export.row is None:
        raise UserError(f"{paths.PARAMS}: export.row is not set; name a row, or run `lineup export ROW --to`")
    folder.run(params.export.row, paths.EXPORT, params, threshold=None, force=False)


if __name__ == "__main__":
    cli.run(main)
