"""data/judgements.csv: what is read from it, that nothing is lost in it, and what counts where people differ."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from lineup.errors import UserError
from lineup.relevance import agreement, judgements
from lineup.relevance.judgements import Judgement
from tests.support.project import ROOT, environment, run

FILE = Path("judgements.csv")
HEADER = "query,gallery,relevance,judge,time\n"

pytestmark = pytest.mark.usefixtures("empty_folder")


def image(number: int) -> str:
    return f"{number:064x}"


def judged(query: int, gallery: int, relevance: int | None, judge: str = "ann", second: int = 0) -> Judgement:
    time = f"2026-11-27T05:{second // 60:02}:{second % 60:02}Z"
    return Judgement(image(query), image(gallery), relevance, judge, time)


JUDGEMENT = st.builds(
    judged,
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([1, 0, -1, None]),
    st.sampled_from(["ann", "ben", "Zoë B."]),
    st.integers(0, 200),
)


def test_what_is_appended_is_read_in_its_order() -> None:
    first = [judged(1, 2, 1), judged(1, 3, 0, "Zoë B."), judged(1, 4, -1), judged(1, 5, None)]
    judgements.append(FILE, first)
    judgements.append(FILE, [judged(0, 2, 1)])
    judgements.append(FILE, [])
    assert judgements.read(FILE) == [*first, judged(0, 2, 1)]
    assert FILE.read_text(encoding="utf-8").startswith(
        f"{HEADER}{image(1)},{image(2)},1,ann,2026-11-27T05:00:00Z\n"
    )


def test_without_the_file_nobody_judged_anything() -> None:
    assert judgements.read(FILE) == []
    judgements.tidy(FILE)
    assert not FILE.exists()


def test_the_file_in_git_has_no_judgement_and_every_stage_that_reads_it_can_run() -> None:
    assert judgements.read(ROOT / "data" / "judgements.csv") == []
    tracked = subprocess.run(
        ["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert tracked.stdout.split() == ["data/judgements.csv"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("<<<<<<< HEAD", "is left from a merge"),
        (f"{image(1)},{image(2)},1", "has 3 cells, not 5"),
        (f"IMG_1.jpg,{image(2)},1,ann,2026-11-27T05:00:00Z", "query: 'IMG_1.jpg' is not an image_id"),
        (f"{image(1)},{image(2)[1:]},1,ann,2026-11-27T05:00:00Z", "gallery: "),
        (f"{image(1)},{image(2)},2,ann,2026-11-27T05:00:00Z", "relevance: '2' is unknown; use 1, 0 or -1"),
        (f"{image(1)},{image(2)},1,=cmd(),2026-11-27T05:00:00Z", "judge: '=cmd()' can't be used"),
        (f"{image(1)},{image(2)},1,ann,27.11.2026", "time: '27.11.2026' is not a time in UTC"),
        (f"{image(1)},{image(2)},1,\x1b[31m,2026-11-27T05:00:00Z", r"judge: '\\x1b[31m'"),
    ],
)
def test_a_fault_names_the_file_the_line_and_the_fix(line: str, fault: str) -> None:
    good = f"{image(1)},{image(2)},0,ann,2026-11-27T05:00:00Z\n"
    FILE.write_text(f"{HEADER}{good}{line}\n{good}", encoding="utf-8")
    with pytest.raises(UserError) as raised:
        judgements.read(FILE)
    assert str(raised.value).startswith(f"{FILE}: line 3: ") and fault in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_a_file_that_is_not_utf_8_is_refused_with_its_line() -> None:
    FILE.write_bytes(HEADER.encode() + b"\xff\n")
    with pytest.raises(UserError, match="line 2: is not UTF-8; save the file as UTF-8"):
        judgements.read(FILE)


def test_what_a_spreadsheet_makes_of_the_file_is_read() -> None:
    judgements.append(FILE, [judged(1, 2, 1), judged(1, 3, None, "Zoë B.")])
    before = judgements.read(FILE)
    lines = FILE.read_text(encoding="utf-8").splitlines()
    quoted = [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines]
    FILE.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*quoted, "", HEADER.strip()]).encode())
    assert judgements.read(FILE) == before
    judgements.append(FILE, [judged(2, 2, 1)])
    assert judgements.read(FILE) == [*before, judged(2, 2, 1)]


@pytest.mark.parametrize("judge", ["=1+1", "", "a,b", "a\nb", "<script>", "x" * 41, "-", " "])
def test_names_that_would_have_to_be_escaped_are_refused(judge: str) -> None:
    with pytest.raises(UserError, match="take 1 to 40 letters and digits"):
        judgements.judge_name(judge)
    with pytest.raises(ValueError, match=str(FILE)):
        judgements.append(FILE, [judged(1, 2, 1, judge)])
    assert not FILE.exists()


def test_names_have_one_form() -> None:
    assert judgements.judge_name("  Zoe\u0308 ") == "Zoë"
    assert judgements.judge_name("o.k-7@home") == "o.k-7@home"


def test_the_present_time_is_one_that_is_read() -> None:
    judgements.append(FILE, [judged(1, 2, 1)._replace(time=judgements.time_now())])
    assert len(judgements.read(FILE)) == 1


@pytest.mark.parametrize("removed", [1, 5, 40, 130])
def test_a_line_that_a_crash_cut_off_costs_that_line_only(
    removed: int, caplog: pytest.LogCaptureFixture
) -> None:
    judgements.append(FILE, [judged(1, 2, 1), judged(1, 3, 0), judged(1, 4, 0)])
    FILE.write_bytes(FILE.read_bytes()[:-removed])
    if removed == 1:  # An editor does that, too, and nothing is lost.
        assert judgements.read(FILE) == [judged(1, 2, 1), judged(1, 3, 0), judged(1, 4, 0)]
        assert not caplog.messages
    else:
        assert judgements.read(FILE) == [judged(1, 2, 1), judged(1, 3, 0)]
        assert "last line was cut off by a crash, and does not count" in caplog.messages[-1]
    judgements.append(FILE, [judged(1, 5, 1)])
    whole = [judged(1, 4, 0)] if removed == 1 else []
    assert judgements.read(FILE) == [judged(1, 2, 1), judged(1, 3, 0), *whole, judged(1, 5, 1)]
    if removed > 1:
        assert "was removed" in caplog.messages[-1]


def test_a_full_disk_adds_nothing_rather_than_half(monkeypatch: pytest.MonkeyPatch) -> None:
    judgements.append(FILE, [judged(1, 2, 1)])
    before, write = FILE.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[: len(content) // 2]))
    with pytest.raises(OSError, match=str(FILE)):
        judgements.append(FILE, [judged(1, 3, 1), judged(1, 4, 1)])
    assert FILE.read_bytes() == before


APPENDING = """
import sys
from pathlib import Path
from lineup.relevance import judgements
from lineup.relevance.judgements import Judgement
judge = sys.argv[1]
for query in range(60):
    screen = [Judgement(f"{query:064x}", f"{g:064x}", 1, judge, "2026-11-27T05:00:00Z") for g in range(20)]
    judgements.append(Path("judgements.csv"), screen)
    if query == 30:
        print("far", flush=True)
    if query % 10 == 9:
        judgements.tidy(Path("judgements.csv"))
"""


@pytest.mark.slow
def test_two_processes_and_their_threads_lose_nothing_and_a_kill_loses_one_screen() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDING, judge],
            env=environment(PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            text=True,
        )
        for judge in ("ann", "ben", "cut")
    ]
    doomed = processes[-1]
    assert doomed.stdout and doomed.stdout.readline() == "far\n"
    doomed.send_signal(signal.SIGKILL)

    def own(judge: str) -> None:
        for query in range(20):
            judgements.append(FILE, [judged(query, g, 0, judge) for g in range(20)])

    threads = [threading.Thread(target=own, args=(judge,)) for judge in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0, -signal.SIGKILL]
    for process in processes:
        process.communicate()
    judgements.append(FILE, [judged(0, 0, 1, "last")])
    counted = Counter(judgement.judge for judgement in judgements.latest(judgements.read(FILE)).values())
    cut = counted.pop("cut")
    assert counted == {"ann": 1200, "ben": 1200, "one": 400, "two": 400, "last": 1}
    assert cut >= 31 * 20


def test_the_latest_judgement_of_a_judge_counts_whatever_the_order_of_lines() -> None:
    lines = [judged(1, 2, 1, second=0), judged(1, 2, 0, second=9), judged(1, 2, None, second=5)]
    for ordered in itertools.permutations(lines):
        assert judgements.resolved(ordered) == {(image(1), image(2)): 0}
    assert judgements.resolved([*lines, judged(1, 2, None, second=10)]) == {}


def test_undoing_within_a_second_is_another_line() -> None:
    lines = [judged(1, 2, 1), judged(1, 2, None)]
    assert judgements.resolved(lines) == {} and judgements.tidied(lines) == [judged(1, 2, None)]


@pytest.mark.parametrize(
    ("votes", "counts"),
    [
        ([1], 1),
        ([1, 1, 0], 1),
        ([1, 0], 0),
        ([1, -1], -1),
        ([0, -1], 0),
        ([1, 0, -1], 0),
        ([-1, -1, 0], -1),
        ([1, None], 1),
        ([None, None], None),
        ([1, 1, 0, 0], 0),
    ],
)
def test_the_majority_decides_and_of_a_tie_the_strictest(votes: list[int | None], counts: int | None) -> None:
    for ordered in set(itertools.permutations(votes)):
        lines = [judged(1, 2, vote, f"judge {number}") for number, vote in enumerate(ordered)]
        assert judgements.resolved(lines).get((image(1), image(2))) == counts


@pytest.mark.slow
@given(st.lists(JUDGEMENT, max_size=12, unique_by=lambda each: (each[:2], each.judge, each.time)))
def test_tidying_keeps_what_counts(lines: list[Judgement]) -> None:
    FILE.unlink(missing_ok=True)
    judgements.append(FILE, lines)
    judgements.tidy(FILE)
    tidied = judgements.read(FILE)
    assert tidied == judgements.tidied(lines) == judgements.tidied(reversed(lines))
    assert judgements.resolved(tidied) == judgements.resolved(lines)
    assert [each[:2] + each[3:4] for each in tidied] == sorted({each[:2] + each[3:4] for each in lines})
    before = FILE.stat().st_ino
    judgements.tidy(FILE)
    assert FILE.stat().st_ino == before, "a tidy file is left alone"


def commit(folder: Path, *lines: Judgement, tidy: bool = True) -> None:
    file = folder / "data" / "judgements.csv"
    judgements.append(file, lines)
    if tidy:
        judgements.tidy(file)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "judge", cwd=folder)


@pytest.fixture
def repository() -> Path:
    """A project's git repository, with the file and the attributes that it begins with."""
    folder = Path("repository")
    (folder / "data").mkdir(parents=True)
    for name in (".gitattributes", ".gitignore", "data/judgements.csv"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "config", "user.email", "test@example.org", cwd=folder)
    run("git", "config", "user.name", "Test", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "begin", cwd=folder)
    return folder


@pytest.mark.parametrize("tidy", [True, False])
def test_git_merges_the_judgements_of_two_people(repository: Path, tidy: bool) -> None:
    """They judged the same and other queries, and one of them changed a judgement of before."""
    common = [judged(query, 9, 0, "ann") for query in range(3)]
    anns = [judged(1, gallery, 1, "ann", 60) for gallery in range(5)] + [judged(2, 9, 1, "ann", 61)]
    bens = [judged(query, gallery, 0, "ben", 62) for query in (0, 1, 7) for gallery in (1, 9)]
    commit(repository, *common)
    run("git", "checkout", "-qb", "ben", cwd=repository)
    commit(repository, *bens, tidy=tidy)
    run("git", "checkout", "-q", "main", cwd=repository)
    commit(repository, *anns, tidy=tidy)
    run("git", "merge", "-q", "--no-edit", "ben", cwd=repository)
    merged = judgements.read(repository / "data" / "judgements.csv")
    assert judgements.tidied(merged) == judgements.tidied([*common, *anns, *bens])
    assert judgements.resolved(merged) == judgements.resolved([*common, *anns, *bens])


def test_two_people_who_began_without_the_file_can_merge(repository: Path) -> None:
    run("git", "rm", "-q", "data/judgements.csv", cwd=repository)
    run("git", "commit", "-qm", "an earlier version", cwd=repository)
    run("git", "checkout", "-qb", "ben", cwd=repository)
    commit(repository, judged(1, 2, 1, "ben"))
    run("git", "checkout", "-q", "main", cwd=repository)
    commit(repository, judged(1, 3, 0, "ann"))
    run("git", "merge", "-q", "--no-edit", "ben", cwd=repository)
    judgements.tidy(repository / "data" / "judgements.csv")
    merged = judgements.read(repository / "data" / "judgements.csv")
    assert merged == [judged(1, 2, 1, "ben"), judged(1, 3, 0, "ann")]


def test_disagreements_are_listed_by_pair() -> None:
    lines = [judged(1, 2, 1, "ben"), judged(1, 2, 0, "ann"), judged(1, 3, 1, "ann"), judged(1, 3, 1, "ben")]
    lines += [judged(0, 2, -1, "ann"), judged(0, 2, 1, "cat"), judged(0, 2, None, "ben")]
    assert agreement.disagreements(lines) == [
        (image(0), image(2), {"ann": -1, "cat": 1}),
        (image(1), image(2), {"ann": 0, "ben": 1}),
    ]


def test_kappa_by_hand() -> None:
    """Cohen's first judge says yes 25 times of 50 and his second 30 times; both say yes 20 times, no 15."""
    both = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert agreement.cohens_kappa(both) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert agreement.cohens_kappa([(1, 1), (1, 1)]) is None
    assert agreement.cohens_kappa([(1, 0)]) == 0


@pytest.mark.slow
@given(st.lists(st.tuples(*[st.sampled_from([1, 0, -1])] * 2), min_size=2, max_size=30))
def test_kappa_is_that_of_scikit_learn(both: Sequence[tuple[int, int]]) -> None:
    kappa = agreement.cohens_kappa(both)
    if kappa is not None:
        assert kappa == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)))
    else:
        assert len(set(itertools.chain(*both))) == 1


def test_agreement_is_of_each_two_judges_with_a_pair_in_common() -> None:
    lines = [judged(q, 2, relevance, "ann") for q, relevance in enumerate([1, 0, 1, 0])]
    lines += [judged(q, 2, relevance, "ben") for q, relevance in enumerate([1, 1, 1])]
    lines += [judged(3, 2, None, "ben"), judged(9, 9, 1, "cat")]
    assert agreement.agreements(lines) == [("ann", "ben", 3, 2, 0.0)]
