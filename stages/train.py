"""train@row: fine-tunes the row's encoder with its objective.

Reads data/weights/<row>/, and the manifest and images in data/prepared/train/. Writes data/models/<row>/ and
data/costs/<row>/train.json.

With `objective: {name: none}`, the row's model is a pointer to the fetched weights. With `adapter`, it is
that pointer and the adapter: the encoder itself is not trained.
"""

from __future__ import annotations

import os
from dataclasses import asdict

from lineup import cli, paths
from lineup.encoders import origin
from lineup.errors import UserError
from lineup.fingerprint import fingerprint
from lineup.objectives import none
from lineup.settings import training_photos
from lineup.settings.adapter import Adapter
from lineup.settings.objective import NoObjective, Trained
from lineup.settings.params import Params
from lineup.settings.training import settings_of
from lineup.storage import files
from lineup.training import costs, data, log_file


def main(argv: list[str] | None = None) -> None:
    row, params = cli.start("train", argv)
    objective = params.models[row].objective
    origin.fetched_config(row, params)
    if isinstance(objective, NoObjective):
        none.point_to_weights(paths.weights(row), paths.model(row), log_file.csv_text([]))
        files.write_json(paths.costs("train", row), {"row": row, "minutes": 0.0, "note": None})
        return
    try:
        _train(row, objective, params)
    except UserError as error:
        raise UserError(f"{paths.PARAMS}: models.{row}.objective: {error}") from None


def _train(row: str, objective: Trained, params: Params) -> None:
    settings = settings_of(params.train, objective)
    manifest = data.read_manifest(paths.manifest("train"))
    manifest = data.visible(manifest, objective.label_share, params.seed)
    training_photos.check(objective.needs, settings, data.counts(manifest))  # before torch is loaded
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it CUDA does not repeat its results
    if isinstance(objective, Adapter):
        from lineup.adapters import row as adapter_row
        from lineup.encoders import adapter

        outcome, decided_by = adapter_row.train(row, objective, settings, manifest, params)
        log = log_file.csv_text(outcome.progress.log)
        adapter.save(paths.model(row), paths.weights(row), outcome.adapter, decided_by, log)
        digest = fingerprint(decided_by)
    else:
        from lineup.encoders import encoder_folder
        from lineup.training import row as network_row

        trained = network_row.train(row, objective, settings, manifest, params)
        if trained is None:
            return
        outcome, digest = trained
        encoder_folder.save(paths.model(row), outcome.module, outcome.config)
        files.write_text(paths.model(row) / "log.csv", log_file.csv_text(outcome.progress.log))
    parts = data.split(manifest, settings, objective.needs, params.seed)
    files.write_json(paths.costs("train", row), asdict(costs.measured(row, outcome, digest, manifest, parts)))


if __name__ == "__main__":
    cli.run(main)
