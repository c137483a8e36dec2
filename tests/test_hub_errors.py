"""What goes wrong between a row and its hub is told in one sentence.

What broke off goes on; what was fetched needs no hub.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from safetensors.torch import load_file

import stages.fetch
from lineup.encoders import encoder_folder
from lineup.encoders import hub as hub_of_encoders
from lineup.encoders.encoder import Fetched
from lineup.errors import UserError
from lineup.settings.encoder import EncoderSettings
from tests.support import hub_repositories, local_hub
from tests.support.hub_project import environment, fetch, row, write

pytestmark = pytest.mark.slow

# `python -m stages.fetch --row ROW` for each line on stdin, in one process: importing the libraries takes
# seconds.
_DRIVER = """
import contextlib, io, json, sys
from stages import fetch
from lineup import cli
for line in sys.stdin:
    told, code = io.StringIO(), 0
    with contextlib.redirect_stderr(told):
        try:
            cli.run(lambda: fetch.main(["--row", line.strip()]))
        except SystemExit as end:
            code = end.code
        except Exception as error:
            code, _ = 2, print("Traceback:", repr(error), file=sys.stderr)
    print(json.dumps([code, told.getvalue()]), flush=True)
"""
HINT = 'go online and run again, or `dvc pull` what a teammate pushed, or use a copy of yours with weights: "file:..."'
Fetch = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repositories")
    hub_repositories.vit(root / "vit")
    hub_repositories.clip(root / "clip")
    hub_repositories.large_vit(root / "large")
    return root


@pytest.fixture
def hub(repositories: Path) -> Iterator[local_hub.Hub]:
    with local_hub.serve() as served:
        served.add("tiny/vit", repositories / "vit")
        served.add("tiny/clip", repositories / "clip")
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, {"vit": row(library="transformers", name="tiny/vit", weights="hub", pooling="cls")})
    return tmp_path


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[local_hub.Hub, Path, Fetch]]:
    """A hub, a project, and a function that fetches a row of it."""
    project = tmp_path_factory.mktemp("driver")
    with local_hub.serve() as served:
        impatient = environment(project, served.url, HF_HUB_DOWNLOAD_TIMEOUT="1", HF_HUB_ETAG_TIMEOUT="1")
        command = [sys.executable, "-c", _DRIVER]
        with subprocess.Popen(
            command, cwd=project, env=impatient, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin and process.stdout

            def run(**encoder: Any) -> tuple[int, str]:
                write(project, {"row": row(**{"library": "transformers", "weights": "hub", **encoder})})
                assert process.stdin and process.stdout
                process.stdin.write("row\n")
                process.stdin.flush()
                code, told = json.loads(process.stdout.readline())
                return code, told

            yield served, project, run
            process.stdin.close()


def changed(repositories: Path, tmp_path: Path, change: Callable[[Path], None], name: str = "vit") -> Path:
    folder = Path(shutil.copytree(repositories / name, tmp_path / "changed"))
    change(folder)
    return folder


def sentence(told: str, *parts: str) -> None:
    """One sentence that names the row and says all the parts."""
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in told, told
    assert len(errors) == 1 and errors[0].startswith("error: params.yaml: models."), told
    for part in parts:
        assert part in errors[0], told


@pytest.mark.parametrize(
    "case",
    ["missing", "revision", "private", "gated", "gated and not granted", "500", "403", "announced only"],
)
def test_what_the_hub_refuses(
    driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path, case: str
) -> None:
    hub, _, run = driver
    hub.repositories.clear()
    hub.add("tiny/vit", repositories / "vit")
    hub.add("tiny/private", repositories / "vit", token="secret")
    hub.add("tiny/gated", repositories / "vit", token="secret", gated=True)
    asked: dict[str, Any] = {"name": "tiny/vit", "pooling": "cls"}
    expected: tuple[str, ...]
    if case == "missing":
        asked["name"], expected = (
            "tiny/vti",
            ("encoder.name: there is no tiny/vti on http://127.0.0.1", "HF_TOKEN"),
        )
    elif case == "revision":
        asked["revision"], expected = (
            "v9",
            ("encoder.revision: tiny/vit on http://127.0.0.1", "has no revision 'v9'"),
        )
    elif case == "private":
        asked["name"], expected = "tiny/private", ("there is no tiny/private", "or it is private", "HF_TOKEN")
    elif case.startswith("gated"):
        asked["name"], expected = (
            "tiny/gated",
            ("tiny/gated is gated: accept its terms at http://127.0.0.1", "/tiny/gated, then set HF_TOKEN"),
        )
    elif case == "announced only":
        hub.faults.missing_files, expected = True, ("tiny/vit can't be fetched", "it answered 404", HINT)
    else:
        hub.faults.status = int(case)
        expected = (
            "tiny/vit can't be fetched from http://127.0.0.1",
            "500" if case == "500" else "access is refused, 403",
            HINT,
        )
    try:
        code, told = run(**asked)
    finally:
        hub.faults = local_hub.Faults()
    assert code == 1
    sentence(told, *expected)


def test_a_token_opens_what_is_gated_and_is_sent_to_the_hub_alone(
    hub: local_hub.Hub, folder: Path, repositories: Path
) -> None:
    hub.add("tiny/gated", repositories / "vit", token="secret", gated=True)
    write(folder, {"vit": row(library="transformers", name="tiny/gated", weights="hub", pooling="cls")})
    done = fetch(folder, hub.url, "vit", HF_TOKEN="wrong")
    assert done.returncode == 1
    sentence(done.stderr, "tiny/gated is gated")
    done = fetch(folder, hub.url, "vit", HF_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    assert not [
        headers
        for _, path, headers in hub.requests
        if path.startswith("/store/") and "Authorization" in headers
    ]


def _remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def _mit(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _edit(file: str, **content: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        old = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({k: v for k, v in {**old, **content}.items() if v is not None}))

    return change


@pytest.mark.parametrize(
    ("change", "asked", "expected"),
    [
        (
            _remove("preprocessor_config.json"),
            {},
            "doesn't say how its images are prepared (no preprocessor_config.json)",
        ),
        (
            _edit("preprocessor_config.json", image_mean=None, image_processor_type="Unknown"),
            {},
            "the image processor of tiny/changed can't",
        ),
        (_remove("config.json"), {}, "tiny/changed has no config.json, so it is not for transformers"),
        (_pickled, {}, "tiny/changed has no model.safetensors, and pickled weights are never opened"),
        (_edit("config.json", model_type="unheard_of"), {}, "can't load tiny/changed"),
        (
            _edit(
                "config.json",
                model_type="unheard_of",
                auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"},
            ),
            {},
            "tiny/changed needs code of its own, which is never run",
        ),
        (_edit("config.json", num_hidden_layers=3), {}, "tiny/changed has no tensor for "),
        (_edit("config.json"), {"pooling": None}, "pooling is missing for vit; set cls"),
    ],
)
def test_repositories_that_are_not_fit(
    driver: tuple[local_hub.Hub, Path, Fetch],
    repositories: Path,
    tmp_path: Path,
    change: Any,
    asked: dict[str, Any],
    expected: str,
) -> None:
    hub, _, run = driver
    hub.add("tiny/changed", changed(repositories, tmp_path, change))
    code, told = run(**{"name": "tiny/changed", "pooling": "cls", **asked})
    assert code == 1, told
    sentence(told, expected)


DEEP = "[" * 100_000 + "]" * 100_000
WRONG = {
    "very many levels": DEEP,
    "many levels": '{"a":' * 300 + "1" + "}" * 300,
    "200 MB of nothing": " " * 200_000_000 + "{}",
    "no JSON": "{",
    "another encoding": b"\xff\xfe\x00",
    "empty": "",
    "a list": "[]",
    "null": "null",
}
SETTINGS = {
    ("transformers", "config.json"): hub_repositories.vit,
    ("transformers", "preprocessor_config.json"): hub_repositories.vit,
    ("timm", "config.json"): hub_repositories.timm_repository,
    ("open_clip", "open_clip_config.json"): hub_repositories.open_clip_repository,
}


def overwrite(file: Path, content: str | bytes) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("folders")
    return {key: make(root / "-".join(key)) for key, make in SETTINGS.items()}


def fetch_folder(library: str, folder: Path, **settings: Any) -> Fetched:
    spec = EncoderSettings(library=library, name="mine", weights=f"file:{folder}", **settings)  # type: ignore[arg-type]
    return stages.fetch.fetch(spec)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("library", "file"), SETTINGS)
def test_settings_that_are_damaged_or_hostile_are_refused(
    folders: dict[tuple[str, str], Path], tmp_path: Path, library: str, file: str, wrong: str
) -> None:
    folder = Path(shutil.copytree(folders[library, file], tmp_path / "mine"))
    overwrite(folder / file, WRONG[wrong])
    with pytest.raises(UserError, match=rf"weights: {file} of .*mine is (larger than 16 MB|damaged)"):
        fetch_folder(library, folder, pooling="cls" if library == "transformers" else None)


@pytest.mark.parametrize(
    ("library", "file", "change"),
    [
        ("transformers", "config.json", {"num_attention_heads": "two"}),
        ("transformers", "config.json", {"patch_size": 0}),
        ("transformers", "config.json", {"model_type": ["vit"]}),
        ("transformers", "preprocessor_config.json", {"size": {"height": 0, "width": 0}}),
        ("transformers", "preprocessor_config.json", {"image_mean": "grey"}),
        ("transformers", "preprocessor_config.json", {"resample": 99}),
        ("timm", "config.json", {"architecture": ["test_vit"]}),
        ("timm", "config.json", {"pretrained_cfg": {"input_size": 160, "mean": 0.5, "std": 0.5}}),
        ("timm", "config.json", {"pretrained_cfg": {"input_size": [3, 160, 160], "mean": 0.5, "std": "x"}}),
        ("timm", "config.json", {"model_args": {"no_such": 1}}),
        ("timm", "config.json", {"model_args": [1]}),
        ("open_clip", "open_clip_config.json", {"model_cfg": {"vision_cfg": [], "text_cfg": {}}}),
        (
            "open_clip",
            "open_clip_config.json",
            {"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"no_such": 1}}},
        ),
        ("open_clip", "open_clip_config.json", {"preprocess_cfg": [1]}),
        ("open_clip", "open_clip_config.json", {"preprocess_cfg": {"mean": 1, "std": 1}}),
        (
            "open_clip",
            "open_clip_config.json",
            {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "stretch"}},
        ),
    ],
)
def test_settings_that_a_library_chokes_on_are_refused(
    folders: dict[tuple[str, str], Path], tmp_path: Path, library: str, file: str, change: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(folders[library, file], tmp_path / "mine"))
    _edit(file, **change)(folder)
    with pytest.raises(UserError, match=r"^(name|weights|mean|image_size): [^\n]*$"):
        fetch_folder(library, folder, pooling="cls" if library == "transformers" else None)


@pytest.mark.parametrize(
    "wrong", [DEEP, '{"a":' * 300 + "1" + "}" * 300, "{", b"\xff\xfe\x00", "", "[]", "null"]
)
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_cannot_be_loaded_is_told_and_leaves_the_image_tower(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, wrong: str | bytes
) -> None:
    folder = hub_repositories.siglip(tmp_path / "mine")
    overwrite(folder / file, wrong)
    fetched = fetch_folder("transformers", folder)
    assert fetched.text is None and fetched.config.text is None
    assert "the tokenizer of" in caplog.text and "so this row can't be searched with texts" in caplog.text


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: [[mit]]\n---\n", None),
        ("---\nlicense: {a: b}\n---\n", None),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\n: [\n---\n", None),
        (f"---\nlicense: {DEEP}\n---\n", None),
        ("---\na: &a [x, x]\nb: &b [*a, *a]\nlicense: [*b, *b]\n---\n", None),
    ],
)
def test_a_card_that_is_wrong_states_no_licence(tmp_path: Path, card: str, licence: str | None) -> None:
    folder = hub_repositories.timm_repository(tmp_path / "mine")
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert hub_of_encoders.folder(str(folder), ("config.json",)).licence() == licence


def test_a_pull_request_that_adds_safetensors_is_named_and_taken(
    driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path, tmp_path: Path
) -> None:
    hub, project, run = driver
    hub.add("tiny/pickled", changed(repositories, tmp_path, _pickled))
    hub.repositories["tiny/pickled"].revisions["refs/pr/7"] = repositories / "vit"
    code, told = run(name="tiny/pickled", pooling="cls")
    assert code == 1
    sentence(
        told,
        "tiny/pickled has no model.safetensors",
        "set revision: refs/pr/7, a pull request that adds them",
    )
    assert not [file for file in hub.files_read() if file.endswith(".bin")]
    code, told = run(name="tiny/pickled", pooling="cls", revision="refs/pr/7")
    assert code == 0, told
    facts = json.loads((project / "data/weights/row/encoder.json").read_text())
    assert facts["source"]["sha256"] == local_hub.sha256(repositories / "vit" / "model.safetensors")


def test_a_pooler_that_the_checkpoint_lacks_is_not_made_up(
    driver: tuple[local_hub.Hub, Path, Fetch], tmp_path: Path
) -> None:
    hub, _, run = driver
    hub.add("tiny/bare", hub_repositories.vit_without_pooler(tmp_path / "bare"))
    code, told = run(name="tiny/bare", pooling="pooler")
    assert code == 1
    sentence(told, "tiny/bare has no tensor for pooler.dense.bias", "use pooling: cls or mean")


def test_a_class_token_that_is_not_there_is_not_made_up(
    driver: tuple[local_hub.Hub, Path, Fetch], tmp_path: Path
) -> None:
    hub, _, run = driver
    hub.add("tiny/resnet", hub_repositories.resnet(tmp_path / "resnet"))
    code, told = run(name="tiny/resnet", pooling="cls")
    assert code == 1
    sentence(told, "pooling: cls is for networks with a class token, and resnet has none; use mean or pooler")


def test_a_hash_is_checked_for_timms_repositories_too(
    driver: tuple[local_hub.Hub, Path, Fetch], tmp_path: Path
) -> None:
    hub, _, run = driver
    hub.add("tiny/timm", hub_repositories.timm_repository(tmp_path / "timm"))
    code, told = run(library="timm", name="hf-hub:tiny/timm", sha256="0" * 64)
    assert code == 1
    sentence(told, f"sha256 is {'0' * 64}, but ")


def test_a_mean_counts_where_a_processor_does_not_normalise(
    driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path, tmp_path: Path
) -> None:
    hub, project, run = driver
    hub.add(
        "tiny/plain", changed(repositories, tmp_path, _edit("preprocessor_config.json", do_normalize=False))
    )
    white = Image.new("RGB", (50, 40), "white")
    for asked, mean, value in (({}, 0.0, 1.0), ({"mean": [0.4] * 3, "std": [0.2] * 3}, 0.4, 3.0)):
        code, told = run(name="tiny/plain", pooling="cls", **asked)
        assert code == 0, told
        encoder = encoder_folder.load(project / "data/weights/row")
        assert encoder.config.mean == [mean] * 3 and float(encoder.transform(white).mean()) == pytest.approx(
            value, abs=1e-5
        )


def test_pooling_is_refused_where_the_library_decides(
    driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path
) -> None:
    hub, _, run = driver
    hub.add("tiny/clip", repositories / "clip")
    code, told = run(name="tiny/clip", pooling="mean")
    assert code == 1
    sentence(told, "pooling: mean is not for clip, whose get_image_features gives the vector; remove it")


# huggingface_hub writes 10 MiB at a time; what it hasn't written when the body breaks off, it asks for again.
WRITTEN = 10 * 2**20


def ranges(hub: local_hub.Hub) -> list[str | None]:
    return [
        headers.get("Range")
        for method, path, headers in hub.requests
        if method == "GET" and path.startswith("/store/")
    ]


def test_a_body_that_breaks_off_is_resumed(
    driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path
) -> None:
    hub, project, run = driver
    hub.add("tiny/broken", repositories / "large")
    hub.faults.cut_after, hub.faults.cuts = WRITTEN + 1_000, 2
    hub.requests.clear()
    try:
        code, told = run(name="tiny/broken", pooling="cls")
    finally:
        hub.faults = local_hub.Faults()
    assert code == 0, told
    assert ranges(hub) == [None, f"bytes={WRITTEN}-", f"bytes={2 * WRITTEN}-"]
    facts = json.loads((project / "data/weights/row/encoder.json").read_text())
    assert facts["source"]["sha256"] == local_hub.sha256(repositories / "large" / "model.safetensors")


def test_attempts_are_not_printed_and_a_resumed_download_once(
    hub: local_hub.Hub, folder: Path, repositories: Path
) -> None:
    hub.add("tiny/vit", repositories / "large")
    hub.faults.busy, hub.faults.cut_after, hub.faults.cuts = 1, WRITTEN + 1_000, 1
    done = fetch(folder, hub.url, "vit")
    assert done.returncode == 0, done.stderr
    assert hub.faults.busy == hub.faults.cuts == 0
    assert done.stderr.count("Trying to resume download") == 1, done.stderr
    assert "Retrying in" not in done.stderr and "thrown while" not in done.stderr


# open_clip's architectures of this kind are large; these are small, and their tokenizer and text network are
# on the hub as well.
_ROWS_IN_ONE_PROCESS = """
import sys
import open_clip
from tests.support.hub_repositories import OPEN_CLIP
from stages import fetch
from lineup import cli
for name, key in (("tiny-tokenizer", "hf_tokenizer_name"), ("tiny-text", "hf_model_name")):
    open_clip.factory._MODEL_CONFIGS[name] = {**OPEN_CLIP, "text_cfg": {**OPEN_CLIP["text_cfg"], key: "tiny/text"}}
for row in sys.argv[1:]:
    try:
        cli.run(lambda: fetch.main(["--row", row]))
    except SystemExit:
        pass
"""
OFFLINE = {
    "transformers": row(library="transformers", name="tiny/vit", weights="hub", pooling="cls"),
    "timm": row(library="timm", name="test_vit", weights="hub"),
    "timm_repository": row(library="timm", name="hf-hub:tiny/timm", weights="hub"),
    "open_clip": row(library="open_clip", name="ViT-B-32", weights="hub:laion2b_s34b_b79k"),
    "open_clip_repository": row(library="open_clip", name="hf-hub:tiny/open-clip", weights="hub"),
    "open_clip_tokenizer": row(library="open_clip", name="tiny-tokenizer", weights="none", allow_random=True),
    "open_clip_text": row(library="open_clip", name="tiny-text", weights="none", allow_random=True),
}


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:9", "it can't be reached"), ("http://hub.invalid", "can't be found")],
)
def test_without_network_each_row_prints_one_line(tmp_path: Path, url: str, reason: str) -> None:
    write(tmp_path, OFFLINE)
    command = ["python", "-c", _ROWS_IN_ONE_PROCESS, *OFFLINE]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path, url), capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    assert len(lines) == len(OFFLINE), done.stderr
    for name, line in zip(OFFLINE, lines, strict=True):
        assert (
            line.startswith(f"error: params.yaml: models.{name}.encoder.weights: ")
            and reason in line
            and url in line
        ), line


def test_what_open_clip_s_text_tower_needs_comes_from_the_hub_by_the_same_way(
    hub: local_hub.Hub, tmp_path: Path
) -> None:
    hub.add("tiny/text", repository := hub_repositories.bert(tmp_path / "bert"))
    rows = ["open_clip_tokenizer", "open_clip_text"]
    write(tmp_path, OFFLINE)
    command = ["python", "-c", _ROWS_IN_ONE_PROCESS, *rows]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path, hub.url), capture_output=True, text=True, check=False
    )
    assert "error" not in done.stderr, done.stderr
    texts, published = ["a photo of pizza", "apple"], HFTokenizer(str(repository), context_length=77)
    tokens = encoder_folder.load_text(tmp_path / "data/weights" / rows[0]).tokenize(texts)
    assert isinstance(tokens, torch.Tensor) and torch.equal(tokens, published(texts))
    facts = json.loads((tmp_path / "data/weights" / rows[1] / "encoder.json").read_text())
    assert facts["config"]["text_cfg"]["hf_model_name"] == "tiny/text" and facts["text"] is None


def test_a_download_that_failed_is_whole_after_the_next_run(
    driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path
) -> None:
    hub, project, run = driver
    shutil.rmtree(project / "data", ignore_errors=True)
    hub.add("tiny/stopped", repositories / "vit")
    hub.faults.cut_after = 2_000
    try:
        code, told = run(name="tiny/stopped", pooling="cls")
    finally:
        hub.faults = local_hub.Faults()
    assert code == 1
    sentence(told, "tiny/stopped can't be fetched", "the download broke off", HINT)
    assert not (project / "data/weights/row").exists()
    assert run(name="tiny/stopped", pooling="cls")[0] == 0
    facts = json.loads((project / "data/weights/row/encoder.json").read_text())
    assert facts["source"]["sha256"] == local_hub.sha256(repositories / "vit" / "model.safetensors")


def test_a_slow_body_is_waited_for_and_a_silent_one_is_not(
    driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path
) -> None:
    hub, _, run = driver
    hub.add("tiny/slow", repositories / "vit")
    hub.add("tiny/silent", repositories / "vit")
    hub.faults.delay = 0.2
    try:
        assert run(name="tiny/slow", pooling="cls")[0] == 0
        hub.faults.delay = 30
        code, told = run(name="tiny/silent", pooling="cls")
    finally:
        hub.faults = local_hub.Faults()
    assert code == 1
    sentence(told, "tiny/silent can't be fetched", "it doesn't answer in time", HINT)


def test_damaged_bytes_are_noticed(driver: tuple[local_hub.Hub, Path, Fetch], repositories: Path) -> None:
    hub, _, run = driver
    hub.add("tiny/damaged", repositories / "vit")
    hub.faults.damage = True
    try:
        code, told = run(name="tiny/damaged", pooling="cls")
    finally:
        hub.faults = local_hub.Faults()
    assert code == 1
    sentence(told, "model.safetensors is damaged", "remove it and run again")


def test_after_the_first_time_no_hub_is_needed(hub: local_hub.Hub, folder: Path) -> None:
    done = fetch(folder, hub.url, "vit")
    assert done.returncode == 0, done.stderr
    first = {path.name: path.read_bytes() for path in local_hub.files(folder / "data/weights/vit")}
    shutil.rmtree(folder / "data")
    hub.requests.clear()
    done = fetch(folder, hub.url, "vit", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    assert {path.name: path.read_bytes() for path in local_hub.files(folder / "data/weights/vit")} == first


def test_without_network_and_without_a_cache(hub: local_hub.Hub, folder: Path) -> None:
    done = fetch(folder, hub.url, "vit", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    sentence(
        done.stderr,
        "models.vit.encoder.weights: tiny/vit can't be fetched from",
        "HF_HUB_OFFLINE is set",
        HINT,
    )
    assert hub.requests == []
    with socket.socket() as taken:  # a port where nobody listens
        taken.bind(("127.0.0.1", 0))
        done = fetch(folder, f"http://127.0.0.1:{taken.getsockname()[1]}", "vit")
    assert done.returncode == 1
    sentence(
        done.stderr,
        "tiny/vit can't be fetched from http://127.0.0.1",
        "it can't be reached",
        "refused",
        HINT,
    )
    done = fetch(folder, "http://hub.invalid", "vit")
    assert done.returncode == 1
    sentence(
        done.stderr,
        "tiny/vit can't be fetched from http://hub.invalid",
        "its address can't be found",
        HINT,
    )


def test_a_proxy_is_used(hub: local_hub.Hub, folder: Path) -> None:
    done = fetch(
        folder,
        "http://hub.invalid",
        "vit",
        HTTP_PROXY=hub.url,
        http_proxy=hub.url,
        NO_PROXY="127.0.0.1,localhost",
        no_proxy="",
    )
    assert done.returncode == 0, done.stderr
    assert any(path == "/api/models/tiny/vit/revision/main" for _, path, _ in hub.requests)


def test_a_revision_pins_the_weights(
    hub: local_hub.Hub, folder: Path, repositories: Path, tmp_path: Path
) -> None:
    older = changed(repositories, tmp_path, _mit)
    hub.repositories["tiny/vit"].revisions["v1"] = older
    commit = hub.repositories["tiny/vit"].commit("v1")
    assert commit
    tag = row(library="transformers", name="tiny/vit", weights="hub", pooling="cls", revision="v1")
    write(
        folder,
        {
            "tag": tag,
            "commit": {**tag, "encoder": {**tag["encoder"], "revision": commit[0]}},
            "main": {**tag, "encoder": {**tag["encoder"], "revision": "main"}},
        },
    )
    done = fetch(folder, hub.url, "tag", "commit", "main")
    assert done.returncode == 0, done.stderr
    facts = {
        name: json.loads((folder / "data/weights" / name / "encoder.json").read_text())
        for name in ("tag", "commit", "main")
    }
    assert (
        facts["tag"]["source"]["revision"]
        == facts["commit"]["source"]["revision"]
        == commit[0]
        != facts["main"]["source"]["revision"]
    )
    assert (facts["tag"]["licence"], facts["main"]["licence"]) == ("mit", "apache-2.0")


def test_a_copy_in_a_folder_needs_no_hub(folder: Path, repositories: Path) -> None:
    shutil.copytree(repositories / "vit", folder / "models/vit")
    write(
        folder, {"vit": row(library="transformers", name="my-vit", weights="file:models/vit", pooling="cls")}
    )
    done = fetch(folder, "http://hub.invalid", "vit", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    facts = json.loads((folder / "data/weights/vit/encoder.json").read_text())
    assert facts["source"]["revision"] is None and facts["licence"] == "apache-2.0"
