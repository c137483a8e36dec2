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

from lineup import paths, source_code, stage_code
from lineup.errors import UserError
from lineup.settings.dvc_sections import NEEDED
from lineup.settings.params import Params
from stages import code
from tests.support.project import ROOT, run, tree, write_params

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def block(stage: str) -> dict[str, Any]:
    return DVC[stage].get("do", DVC[stage])


def outs(stage: str) -> set[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in block(stage).get(kind, [])]
    return {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}


def params_of(stage: str) -> list[str]:
    """The settings that DVC misses if params.yaml lacks them."""
    return block(stage).get("params", [])


KEY = "${key}"
OUTS = {
    "code": {paths.CODE},
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
    "quantise": {paths.quantised(KEY)},
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
    "slices": {paths.SLICES, paths.SEEN_VALUES},
    "preprocess_transfer": {paths.transfer_set(KEY), paths.transfer_problems(KEY)},
    "transfer": {paths.transfer_metrics(KEY), paths.transfer_queries(KEY)},
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
        written = dep in all_outs or dep in folders_in_git or dep.startswith(f"{paths.CODE}/")
        if dep in (paths.RAW.as_posix(), "${item}") or written:  # the user's photos
            continue
        assert (ROOT / dep).exists(), (
            f"{stage} depends on {dep}, which no stage writes and which is not in git"
        )
        assert (ROOT / dep).is_file() or stage == "code", (
            f"{stage} depends on {dep}: only code reads folders of code"
        )


@pytest.mark.slow
def test_every_stage_depends_on_the_digests_of_its_own_code() -> None:
    used = {dep for stage in DVC for dep in block(stage)["deps"] if dep.startswith(f"{paths.CODE}/")}
    of_stages = {f"{paths.CODE}/{name}.json" for name in stage_code.STAGES}
    of_plugins = {
        f"{paths.CODE}/encoders/${{item.encoder.library}}.json",
        f"{paths.CODE}/objectives/${{item.objective.name}}.json",
        f"{paths.CODE}/refinements/${{item.method}}.json",
    }
    assert used == of_stages | of_plugins
    for stage in DVC.keys() - {
        "code",
        "latency_refined",
    }:  # whose code is that of the rows that it is made of
        (own,) = {*block(stage)["deps"]} & of_stages
        module = block(stage)["cmd"].split()[2]
        assert module in stage_code.STAGES[Path(own).stem].modules(), stage


@pytest.fixture(scope="module")
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("lineup", "stages", exclude_type_checking_imports=True, cache_dir=None)


@pytest.mark.parametrize(
    "name", [*stage_code.STAGES, "encoders/timm", "objectives/adapter", "refinements/quantise"]
)
def test_the_code_of_a_stage_is_all_that_it_imports(name: str, import_graph: grimp.ImportGraph) -> None:
    stage = (stage_code.STAGES | stage_code.plugins())[name]
    packages = {module for module in import_graph.modules if import_graph.find_children(module)}
    upstream = {*stage.roots}.union(*map(import_graph.find_upstream_modules, stage.roots)) - packages
    assert stage.modules() == upstream - stage_code.DECIDES_NOTHING | {*stage.alone, *stage.too}
    assert {*stage.too} <= upstream & stage_code.DECIDES_NOTHING, "an exception that isn't needed any more"


def test_what_a_file_of_several_stages_imports_is_the_code_of_one_of_them(
    import_graph: grimp.ImportGraph,
) -> None:
    for file in {module for stage in stage_code.STAGES.values() for module in stage.alone}:
        stages = [stage for stage in stage_code.STAGES.values() if file in stage.alone]
        imported = import_graph.find_modules_directly_imported_by(file)
        assert imported <= stage_code.DECIDES_NOTHING.union(*(stage.modules() for stage in stages))


def test_what_decides_nothing_is_imported_by_some_stage(import_graph: grimp.ImportGraph) -> None:
    roots = {root for stage in stage_code.STAGES.values() for root in stage.roots}
    assert set().union(*map(import_graph.find_upstream_modules, roots)) >= stage_code.DECIDES_NOTHING


def test_the_first_stage_names_a_section_that_params_yaml_lacks(empty_folder: Path) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    del content["map"]
    write_params(empty_folder, content)
    with pytest.raises(UserError, match=r"^params.yaml: map is missing, which DVC needs; set `map: \{\}`$"):
        code.main([])


@pytest.mark.slow
def test_a_comment_changes_no_digest_and_a_constant_those_of_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("lineup", "stages"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "lineup/search/near_copies.py"

    def digests() -> dict[str, bytes]:
        source_code.imports.cache_clear()
        code.main([])
        return tree(paths.CODE)

    first = digests()
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"""', '"""Said otherwise: ', 1) + "\n# A comment.\n", encoding="utf-8")
    assert digests() == first
    file.write_text(text + "\nLIMIT = 3\n", encoding="utf-8")
    second = digests()
    assert {name for name in first if second[name] != first[name]} == {"near_copies.json"}
    file.write_text("def broken(:\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^lineup/search/near_copies\.py: line 1: is not valid Python"):
        digests()


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


@pytest.mark.slow
def test_the_committed_lock_has_no_stage_of_a_row_that_is_gone() -> None:
    """DVC keeps such entries for good, and parses all of them again after each stage."""
    stages = run("dvc", "stage", "list", "--name-only", cwd=ROOT).stdout.split()
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    assert set(lock["stages"]) == set(stages)


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
    """What `dvc dag` prints for dvc.yaml and settings with a row of each kind, without `code`.

    The settings of this checkout may lack a kind, and its stages with it. An arrow from `code` to every stage
    would say nothing.
    """
    folder = tmp_path_factory.mktemp("diagram")
    shutil.copy2(ROOT / "dvc.yaml", folder / "dvc.yaml")
    settings = yaml.safe_load((ROOT / "presets" / "competition.yaml").read_text(encoding="utf-8"))
    fusion = {"from": "resnet18", "with": "resnet50", "method": "reciprocal_rank_fusion"}
    write_params(folder, {**settings, "refinements": {"fusion": fusion}})
    run("dvc", "init", "-q", "--no-scm", cwd=folder)
    printed = run("dvc", "dag", "--md", "--collapse-foreach-matrix", cwd=folder).stdout
    (node,) = re.findall(r'(node\d+)\["code"\]', printed)
    return "".join(line for line in printed.splitlines(keepends=True) if not re.search(rf"\b{node}\b", line))


def diagram(document: str) -> str:
    """The first Mermaid block of a document, its fences included."""
    return re.findall(r"^```mermaid$.*?^```$", document, flags=re.DOTALL | re.MULTILINE)[0]


@pytest.mark.slow
def test_the_architecture_shows_the_diagram_that_dvc_prints(printed_diagram: str) -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert diagram(document) == printed_diagram.strip(), (
        "put what `dvc dag --md --collapse-foreach-matrix` prints into docs/architecture.md, without `code`"
    )


@pytest.mark.slow
def test_every_arrow_of_the_readme_is_one_of_dvc(printed_diagram: str) -> None:
    stages = dict(re.findall(r'(node\d+)\["(\w+)"\]', printed_diagram))
    arrows = {(stages[a], stages[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", printed_diagram)}
    chains = [
        line.split(" --> ") for line in diagram((ROOT / "README.md").read_text(encoding="utf-8")).splitlines()
    ]
    shown = {(a.strip(), b.strip()) for chain in chains for a, b in pairwise(chain)}
    assert shown and shown <= arrows
