"""What a user sees of a mistake: one sentence and exit code 1; of a bug: a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import preprocess, report
from stages.lib import cli
from stages.lib.errors import UserError, nearest
from tests.project import ROOT


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("params.yaml: seed is missing"), 1, "error: params.yaml: seed is missing\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.parquet"), 1, "error: the disk is full (writing x.parquet); free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "error: your quota of this disk is used up; free some space and run again"),
        (RuntimeError("write error in x.faiss: 0 != 1 (No space left on device)"), 1, "error: the disk is full; free some space and run"),
        (MemoryError(), 1, "error: memory ran out; free some, or give this process more, and run again"),
        (KeyboardInterrupt(), 130, "interrupted; run again to go on"),
    ],
)
def test_a_users_mistake_is_one_sentence(error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(raising(error))
    assert stopped.value.code == code
    printed = capsys.readouterr().err
    assert printed.startswith(told) and printed.count("\n") == 1


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        cli.run(raising(KeyError("x")))


def test_an_unknown_row_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"models.mobilnet_v2 is unknown; did you mean 'mobilenet_v2'"):
        cli.start("embed", ["--model", "mobilnet_v2"])


def test_settings_are_checked_before_the_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params.yaml: can't be read"):
        cli.start("embed", ["--model", "x"])


def test_nearest_lists_all_where_none_is_close() -> None:
    assert nearest("zzz", ["beta", "alpha"]) == "; known: alpha, beta"


def test_a_file_without_permission_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(raising(PermissionError(errno.EACCES, "Permission denied", "data/raw")))
    assert capsys.readouterr().err == "error: data/raw: permission denied; let this user read and write it, and run again\n"


def test_head_may_have_seen_enough() -> None:
    """More than a pipe holds, of which one line is read."""
    code = "from stages.lib import cli; cli.run(lambda: print('line\\n' * 100_000))"
    command = f'"{sys.executable}" -c "{code}" | head -1'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("line\n", "")


@pytest.mark.parametrize("arguments", [["--bogus"], ["x"]])
def test_options_that_a_stage_has_not_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for main in (preprocess.main, report.main):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "unrecognized arguments" in capsys.readouterr().err


def test_a_row_of_the_other_kind_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"arcface_expanded is a row of refinements; this is for models alone"):
        cli.start("embed", ["--model", "arcface_expanded"])
    with pytest.raises(UserError, match=r"arcface is a row of models; this is for refinements alone"):
        cli.start("refine", ["--model", "arcface"], "refinements")


def test_a_broken_pipe_elsewhere_is_a_bug() -> None:
    with pytest.raises(BrokenPipeError):
        cli.run(raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))


def test_nobody_need_read_what_is_printed() -> None:
    code = "from stages.lib import cli; cli.run(lambda: print('line'))"
    done = subprocess.run(f'"{sys.executable}" -c "{code}" >&-', shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
