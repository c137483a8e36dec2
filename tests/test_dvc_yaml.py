"""dvc.yaml against the rest of the repository: its paths are those of paths.py, its deps exist, and the
diagrams in the documentation show its stages.
"""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from lineup import paths
from lineup.settings.params import NEEDED, Params
from tests.support.project import ROOT, run, write_params

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def block(stage: str) -> dict[str, Any]:
    return DVC[stage].get("do", DVC[stage])


def outs(stage: str) -> set[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in block(stage).get(kind, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def params_of(stage: str) -> list[str]:
    """The settings that DVC misses if params.yaml lacks them.

    `map` has a default, and `report` depends on the whole file.
    """
    named = [param for param in block(stage).get("params", []) if isinstance(param, str)]
    return [param for param in named if not param.startswith("map.")]


KEY = "${key}"
OUTS = {
    "preprocess": {
        paths.manifest("train"),
        paths.images("train"),
        paths.manifest("test"),
        paths.images("test"),
        paths.QRELS,
        paths.ATTRIBUTES,
        paths.PROBLEMS,
        paths.LEAKS,
    },
    "fetch": {paths.weights(KEY)},
    "train": {paths.model(KEY), paths.costs("train", KEY)},
    "embed": {paths.embeddings(KEY), paths.costs("embed", KEY)},
    "index": {paths.index(KEY), paths.costs("index", KEY)},
    "retrieve": {paths.ranking(KEY), paths.costs("retrieve", KEY)},
    "score": {paths.row_metrics(KEY), paths.row_queries(KEY), paths.latency(KEY)},
    "refine": {
        paths.embeddings(KEY),
        paths.refinement(KEY),
        paths.ranking(KEY),
        paths.costs("refine", KEY),
    },
    "embed_train": {paths.embeddings("${item}", "train")},
    "near_copies": {paths.near_copies("${item}")},
    "map": {paths.photo_map(KEY), paths.costs("map", KEY)},
    "report_map": {paths.report_map(KEY)},
    "slices": {paths.SLICES},
    "report_row": {paths.report_row(KEY), paths.report_ranks(KEY)},
    "report_row_refined": {paths.report_row(KEY), paths.report_ranks(KEY)},
    "report_thumbnails": {paths.REPORT_THUMBNAILS, paths.REPORT_PICTURES},
    "report": {paths.REPORT, paths.REPORT_ASSETS},
    "export": {paths.EXPORT},
    "score_refined": {paths.row_metrics(KEY), paths.row_queries(KEY), paths.latency(KEY)},
    "latency": {paths.costs("latency", KEY)},
    "latency_refined": {paths.costs("latency", KEY)},
}


@pytest.mark.parametrize("stage", OUTS)
def test_outs_are_the_paths_of_paths_py(stage: str) -> None:
    assert outs(stage) == {path.as_posix() for path in OUTS[stage]}


def test_compare_writes_what_paths_py_names() -> None:
    assert {
        paths.METRICS.as_posix(),
        paths.COMPARISON.as_posix(),
        paths.TOP_K_CURVES.as_posix(),
        paths.SIGNIFICANCE.as_posix(),
        paths.ACCURACY_COST.as_posix(),
    } <= outs("compare")


@pytest.mark.parametrize("stage", DVC)
def test_deps_exist_or_are_outs(stage: str) -> None:
    all_outs = {
        out.replace("${key}", row)
        for other in DVC
        for out in outs(other)
        for row in ("${key}", "${item}", "${item.from}", "${item.with}")
    }
    folders_in_git = {"metrics/rows", "metrics/queries", "metrics/latency"}  # the only folders that join rows
    for dep in block(stage)["deps"]:
        if dep == paths.RAW.as_posix() or dep in all_outs or dep in folders_in_git:
            continue
        pattern = (
            dep.replace("${item.encoder.library}", "*")
            .replace("${item.objective.name}", "*")
            .replace("${item.method}", "*")
        )
        files = list(ROOT.glob(pattern))
        assert files, f"{stage} depends on {dep}, which no stage writes and which is not in git"
        assert all(file.is_file() for file in files), f"{stage} depends on {dep}: never a folder of code"


# What a stage imports and yet doesn't depend on. params and storage would run everything, trainings too, at
# each new message: a default or a layout of files that changes there is for CHANGELOG to tell, with `dvc
# repro --force`.
DECIDES_NOTHING = {
    "lineup.cli",
    "lineup.cluster",
    "lineup.embedding.attempts",
    "lineup.embedding.cluster_computation",
    "lineup.embedding.cluster_relay",
    "lineup.embedding.cluster_stream",
    "lineup.embedding.cluster_worker",
    "lineup.embedding.dvc_cache",
    "lineup.embedding.pixel_cache",
    "lineup.embedding.vector_cache",
    "lineup.encoders.model_folder",
    "lineup.errors",
    "lineup.fingerprint",
    "lineup.launch",
    "lineup.locks",
    "lineup.machine",
    "lineup.paths",
    "lineup.photos.cluster_scan",
    "lineup.photos.image_reasons",  # but problems.csv, whose stage names it
    "lineup.settings.params",
    "lineup.settings.prepared_size",
    "lineup.settings.schema",
    "lineup.settings.yaml_file",
    "lineup.storage.blobs",
    "lineup.storage.csv_files",
    "lineup.storage.embeddings",
    "lineup.storage.files",
    "lineup.storage.parquet",
    "lineup.storage.rankings",
    "lineup.storage.schemas",
    "lineup.text_encoding",
}
# Imported to check params.yaml.
OF_PARAMS = {f"lineup.settings.{name}" for name in ("search", "training", "refinement")}
IMPORTS_ALONE = {  # imported, but for what this stage doesn't do
    "fetch": OF_PARAMS,
    "train": {"lineup.settings.search", "lineup.settings.refinement", "lineup.objectives.none"},
    "embed": OF_PARAMS,
    "index": OF_PARAMS - {"lineup.settings.search"},
    "retrieve": OF_PARAMS,
    "refine": {"lineup.settings.training"},
    "score": OF_PARAMS,
    "score_refined": OF_PARAMS,
    "preprocess": OF_PARAMS | {"lineup.settings.label_share", "lineup.settings.training_photos"},
    "latency": OF_PARAMS - {"lineup.settings.search"},
    "slices": OF_PARAMS,
    "compare": OF_PARAMS,
    "embed_train": OF_PARAMS,
    "near_copies": OF_PARAMS,
    "export": {"lineup.settings.training"},
    "map": OF_PARAMS,
}


@pytest.mark.parametrize("stage", IMPORTS_ALONE)
def test_a_stage_depends_on_all_code_that_decides_its_results(stage: str) -> None:
    imports = grimp.build_graph("lineup", "stages", exclude_type_checking_imports=True, cache_dir=None)
    folders = {
        module for module in imports.modules if imports.find_children(module)
    }  # whose __init__.py is a docstring
    used = imports.find_upstream_modules(block(stage)["cmd"].split()[2]) - folders
    named = {dep.removesuffix(".py").replace("/", ".") for dep in block(stage)["deps"]}
    alone = IMPORTS_ALONE[stage]
    assert alone <= used, "an exception that isn't needed any more"
    assert used - named - alone - DECIDES_NOTHING == set()


@pytest.mark.parametrize("stage", DVC)
def test_commands_are_relative_and_nothing_persists(stage: str) -> None:
    assert block(stage)["cmd"].removeprefix("python -m stages.").split()[0] in (stage, stage.split("_")[0])
    assert not any(
        isinstance(out, dict) and next(iter(out.values())).get("persist")
        for out in block(stage).get("outs", [])
    )
    for dep in block(stage)["deps"]:
        assert not Path(dep).is_absolute()


def test_heavy_results_are_cached_and_light_ones_in_git() -> None:
    for stage in DVC:
        for kind in ("outs", "metrics", "plots"):
            for entry in block(stage).get(kind, []):
                name, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
                assert options.get("cache", True) == (not name.startswith("metrics/")), name


SETTINGS = pytest.mark.parametrize(
    "file", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda file: file.name
)


@SETTINGS
def test_no_row_shares_its_settings_with_another(file: Path) -> None:
    """`dvc exp run -S` would change every row that shares an anchor, or none.

    With `models.a.encoder.image_size=64` it is every row if `a` holds the anchor, none if `a` is an alias.
    """
    tokens = yaml.scan(file.read_text(encoding="utf-8"))
    assert not [token for token in tokens if isinstance(token, yaml.AliasToken | yaml.AnchorToken)]


def test_the_check_of_params_yaml_knows_what_stages_depend_on() -> None:
    named = {
        param
        for stage in DVC
        for param in params_of(stage)
        if not param.startswith(("models.", "refinements."))
    }
    whole, parts = (
        {param for param in named if "." not in param},
        {tuple(param.split(".")) for param in named if "." in param},
    )
    parts |= {("near_copies", "rows")}  # a foreach
    assert {(section, name) for section, names in NEEDED.items() for name in names} >= {
        part for part in parts if part[0] not in whole
    }
    assert whole | {section for section, _ in parts} <= Params.model_fields.keys()


@SETTINGS
def test_every_settings_file_has_the_sections_that_stages_depend_on(file: Path) -> None:
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    for stage in DVC:
        for param in params_of(stage):
            top, *rest = param.split(".")
            assert top in settings, f"{stage} depends on {param}; without it DVC can't run"
            if rest and "${key}" not in param:
                assert rest[0] in settings[top]


@pytest.fixture(scope="module")
def printed_diagram(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `dvc dag` prints for dvc.yaml and settings with a row of each kind.

    The settings of this checkout may lack a kind, and its stages with it.
    """
    folder = tmp_path_factory.mktemp("diagram")
    shutil.copy2(ROOT / "dvc.yaml", folder / "dvc.yaml")
    settings = yaml.safe_load((ROOT / "presets" / "competition.yaml").read_text(encoding="utf-8"))
    fusion = {"from": "resnet18", "with": "resnet50", "method": "reciprocal_rank_fusion"}
    write_params(folder, {**settings, "refinements": {"fusion": fusion}})
    run("dvc", "init", "-q", "--no-scm", cwd=folder)
    return run("dvc", "dag", "--md", "--collapse-foreach-matrix", cwd=folder).stdout


def diagram(document: str) -> str:
    """The first Mermaid block of a document, its fences included."""
    return re.findall(r"^```mermaid$.*?^```$", document, flags=re.DOTALL | re.MULTILINE)[0]


@pytest.mark.slow
def test_the_architecture_shows_the_diagram_that_dvc_prints(printed_diagram: str) -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert diagram(document) == printed_diagram.strip(), (
        "put what `dvc dag --md --collapse-foreach-matrix` prints into docs/architecture.md"
    )


def test_every_arrow_of_the_readme_is_one_of_dvc(printed_diagram: str) -> None:
    stages = dict(re.findall(r'(node\d+)\["(\w+)"\]', printed_diagram))
    arrows = {(stages[a], stages[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", printed_diagram)}
    chains = [
        line.split(" --> ") for line in diagram((ROOT / "README.md").read_text(encoding="utf-8")).splitlines()
    ]
    shown = {(a.strip(), b.strip()) for chain in chains for a, b in pairwise(chain)}
    assert shown and shown <= arrows
