"""code: writes for each stage the digests of the code that decides its results, on which the stage depends.

DVC reruns a stage when a dependency has other bytes. Through these files it does so when the code means
something else: a changed comment, docstring or format runs nothing. `lineup/stage_code.py` says which files
belong to a stage.
"""

from __future__ import annotations

import logging
from pathlib import Path

from lineup import cli, paths, stage_code
from lineup.settings import dvc_sections
from lineup.storage import files

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    cli.no_options("code", argv)
    # DVC would miss a section only at the stage that depends on it, maybe at the end of a long run.
    dvc_sections.check(paths.PARAMS, cli.start_stage("code"))
    stages = stage_code.STAGES | stage_code.plugins()

    def write(folder: Path) -> None:
        for name, stage in stages.items():
            files.write_json(folder / f"{name}.json", dict(sorted(stage.digests().items())))

    files.replace_atomically(paths.CODE, write)
    log.info("%d stages, %d plug-ins", len(stage_code.STAGES), len(stages) - len(stage_code.STAGES))


if __name__ == "__main__":
    cli.run(main)
