"""What a user sees of a mistake: one sentence and exit code 1; of a bug: a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lineup import cli, paths
from lineup.errors import UserError, suggest
from stages import preprocess, report
from tests.support import locales, project
from tests.support.project import ROOT


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("params.yaml: seed is missing"), 1, "error: params.yaml: seed is missing\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.parquet"),
            1,
            "error: x.parquet: the disk is full; free some space, and run again",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            1,
            "error: your quota of this disk is used up; free some space, and run again",
        ),
        (
            RuntimeError("write error in x.faiss: 0 != 1 (No space left on device)"),
            1,
            "error: the disk is full; free some space, and run",
        ),
        (OSError(errno.EIO, "Input/output error"), 1, "error: the disk fails; check it"),
        (
            RuntimeError("can't start new thread"),
            1,
            "error: no further process or thread can be started; end some",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            1,
            "error: memory ran out; free some",
        ),
        (UserError("a\x1b[2J\nb: is bad"), 1, "error: a\\x1b[2J\\nb: is bad\n"),
        (MemoryError(), 1, "error: memory ran out; free some, or give this process more, and run again"),
        (KeyboardInterrupt(), 130, "interrupted; run again to go on"),
    ],
)
def test_a_users_mistake_is_one_sentence(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(raising(error))
    assert stopped.value.code == code
    printed = capsys.readouterr().err
    assert printed.startswith(told) and printed.count("\n") == 1


NAMED = (
    "EROFS EIO ESTALE ENOSPC EDQUOT EFBIG EACCES EPERM ENOENT EEXIST ENOTDIR EISDIR ELOOP ENAMETOOLONG EMFILE ENFILE EBUSY ENXIO "
    "ENODEV ENOTCONN ETIMEDOUT EHOSTDOWN EBADMSG"
)


@pytest.mark.parametrize("name", NAMED.split())
def test_each_fault_of_a_disk_is_one_sentence_that_names_the_path(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = getattr(errno, name)
    with pytest.raises(SystemExit):
        cli.run(raising(OSError(code, os.strerror(code), "data/x.parquet")))
    printed = capsys.readouterr().err
    assert printed.startswith("error: data/x.parquet: ") and printed.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        OSError("without a number"),
        OSError(errno.EBADF, "Bad file descriptor"),
        OSError(errno.EINVAL, "Invalid argument", "data/x.parquet"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        FileExistsError(errno.EEXIST, "File exists", str(ROOT)),
        PermissionError(errno.EACCES, "Permission denied"),
        ImportError("cannot import name 'x'"),
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        cli.run(raising(error))


def test_an_unknown_row_is_reported_with_the_most_similar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"models.mobilnet_v2 is unknown; did you mean 'mobilenet_v2'"):
        cli.start("embed", ["--row", "mobilnet_v2"])


def test_the_row_of_the_stage_that_dvc_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_STAGE", "../dvc.yaml:score_refined@arcface_expanded")
    assert cli.start("score", ["--row-of-stage"], "all")[0] == "arcface_expanded"
    monkeypatch.setenv("DVC_STAGE", "compare")
    with pytest.raises(UserError, match="use --row ROW"):
        cli.start("score", ["--row-of-stage"], "all")


def test_settings_are_checked_before_the_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params.yaml: can't be read"):
        cli.start("embed", ["--row", "x"])


def test_nearest_lists_all_where_none_is_close() -> None:
    assert suggest("zzz", ["beta", "alpha"]) == "; known: alpha, beta"


def test_a_file_without_permission_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(raising(PermissionError(errno.EACCES, "Permission denied", "data/raw")))
    assert (
        capsys.readouterr().err
        == "error: data/raw: permission denied; let this user read and write it, and run again: nothing finished is lost\n"
    )


@pytest.mark.slow
def test_head_may_have_seen_enough() -> None:
    """More than a pipe holds, of which one line is read."""
    code = "from lineup import cli; cli.run(lambda: print('line\\n' * 100_000))"
    command = f'"{sys.executable}" -c "{code}" | head -1'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("line\n", "")


@pytest.mark.parametrize("arguments", [["--bogus"], ["x"]])
def test_options_that_a_stage_has_not_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for main in (preprocess.main, report.main):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "unrecognized arguments" in capsys.readouterr().err


def test_a_row_of_the_other_kind_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        UserError, match=r"arcface_expanded is a row of refinements; use a row of models here"
    ):
        cli.start("embed", ["--row", "arcface_expanded"])
    with pytest.raises(UserError, match=r"arcface is a row of models; use a row of refinements here"):
        cli.start("refine", ["--row", "arcface"], "refinements")


def test_a_broken_pipe_elsewhere_is_a_bug() -> None:
    with pytest.raises(BrokenPipeError):
        cli.run(raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))


@pytest.mark.slow
def test_nobody_need_read_what_is_printed() -> None:
    code = "from lineup import cli; cli.run(lambda: print('line'))"
    done = subprocess.run(
        f'"{sys.executable}" -c "{code}" >&-',
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", locales.NAMES)
def test_any_text_can_be_printed_in_any_locale(tmp_path: Path, name: str) -> None:
    (tmp_path / paths.COMPARISON).parent.mkdir()
    (tmp_path / paths.COMPARISON).write_text("Käse × 日本 \U0001f600\n", encoding="utf-8")
    command = (sys.executable, "-m", "lineup", "show")
    done = project.run(*command, cwd=tmp_path, PYTHONPATH=str(ROOT), **locales.environment(name, tmp_path))
    assert (done.stdout, done.stderr) == ("Käse × 日本 \U0001f600\n\n", "")


@pytest.mark.slow
def test_a_text_that_can_not_be_encoded_is_printed_by_its_code(tmp_path: Path) -> None:
    code = "from lineup import cli; cli.run(lambda: print('caf\\udce9, Käse'))"
    command = (sys.executable, "-c", code)
    assert project.run(*command, cwd=ROOT, LC_ALL="C.UTF-8").stdout == "caf\\udce9, Käse\n"
    assert (
        project.run(*command, cwd=ROOT, LC_ALL="C.UTF-8", PYTHONIOENCODING="ascii").stdout
        == "caf\\udce9, K\\xe4se\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", locales.NAMES)
def test_files_with_any_name_are_opened_in_any_locale(tmp_path: Path, name: str) -> None:
    """Also by the processes that a command starts."""
    (tmp_path / "Käse.txt").write_text("日本", encoding="utf-8")
    (tmp_path / "child.py").write_text(
        "from pathlib import Path\nprint(Path('Käse.txt').read_text())\n", encoding="utf-8"
    )
    parent = "import subprocess, sys\nfrom lineup import cli\ncli.run(lambda: subprocess.run([sys.executable, 'child.py']))\n"
    (tmp_path / "parent.py").write_text(parent, encoding="utf-8")
    done = project.run(
        sys.executable, "parent.py", cwd=tmp_path, PYTHONPATH=str(ROOT), **locales.environment(name, tmp_path)
    )
    assert done.stdout == "日本\n"
