"""The competition's JSON in both shapes, and its sending to a real server on this machine that answers well,
badly and late.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lineup import cli, paths
from lineup.commands import group
from lineup.errors import UserError
from lineup.storage import files, parquet, schemas
from lineup.submission import client, document
from tests.support import collection
from tests.support.collection import Image
from tests.support.project import ROOT

# The query at 0 degrees; gallery: near, middle, far.
PHOTOS = [
    Image("q1", "query", None, [1.0, 0.0]),
    Image("q2", "query", None, [0.0, 1.0]),
    Image("near", "gallery", None, [0.9, 0.1]),
    Image("middle", "gallery", None, [0.5, 0.5]),
    Image("far", "gallery", None, [0.1, 0.9]),
]


@pytest.fixture
def project(empty_folder: Path) -> Path:
    return empty_folder


def prepared(
    images: list[Image] = PHOTOS, extra: dict[str, list[str]] | None = None, **settings: Any
) -> None:
    """A searched collection without labels; extra: further paths of images by name."""
    collection.write_params(collection.params("row", **settings))
    collection.write(images)
    if extra:
        rows = parquet.read_table(paths.manifest("test")).to_pylist()
        ids = {image.id: image.name for image in images}
        for row in rows:
            row["paths"] = sorted([*row["paths"], *extra.get(ids[row["image_id"]], [])])
        parquet.write_table(paths.manifest("test"), pa.Table.from_pylist(rows, schemas.MANIFEST))
    collection.write_embeddings("row", images)
    collection.search("row")


def written(*arguments: str) -> Any:
    group.run(["submit", "--row", "row", *arguments])
    return json.loads(paths.submission("row").read_text(encoding="utf-8"))


def test_both_shapes_worked_by_hand(project: Path) -> None:
    prepared()
    expected = {"q1.jpg": ["near.jpg", "middle.jpg"], "q2.jpg": ["far.jpg", "middle.jpg"]}
    assert written("-k", "2", "--group", "us") == {"groupname": "us", "images": expected}
    assert written("-k", "2", "--shape", "list") == [
        {"filename": q, "gallery_images": answers} for q, answers in expected.items()
    ]


def test_the_same_submission_has_the_same_bytes(project: Path) -> None:
    prepared()
    written("-k", "2", "--shape", "list")
    first = paths.submission("row").read_bytes()
    group.run(["submit", "--row", "row", "-k", "2", "--shape", "list", "--out", "other.json"])
    assert Path("other.json").read_bytes() == first


def test_every_copy_of_a_picture_has_its_entry_and_place(project: Path) -> None:
    prepared(extra={"q1": ["test/query/copy.jpg"], "near": ["test/gallery/twin.jpg"]})
    images = written("-k", "3", "--group", "us")["images"]
    assert images == {
        "copy.jpg": ["near.jpg", "twin.jpg", "middle.jpg"],
        "q1.jpg": ["near.jpg", "twin.jpg", "middle.jpg"],
        "q2.jpg": ["far.jpg", "middle.jpg", "near.jpg"],
    }


def test_equal_file_names_need_paths(project: Path) -> None:
    images = [
        Image("q", "query", None, [1, 0]),
        *(Image(n, "gallery", None, [1, i], f"test/gallery/{n}/1.jpg") for i, n in enumerate("ab")),
    ]
    prepared(images)
    with pytest.raises(
        UserError,
        match=r"'test/gallery/./1.jpg' and 'test/gallery/./1.jpg' are both named '1.jpg'; use --names path",
    ):
        written("-k", "2", "--group", "us")
    assert written("-k", "2", "--group", "us", "--names", "path")["images"] == {
        "q.jpg": ["a/1.jpg", "b/1.jpg"]
    }


def test_odd_names_and_groups_are_text(project: Path) -> None:
    odd = 'a "b" <script>\n\U0001f600.jpg'
    prepared([Image("q", "query", None, [1, 0], f"test/query/{odd}"), Image("g", "gallery", None, [1, 0])])
    assert written("-k", "1", "--group", 'we & "you"') == {
        "groupname": 'we & "you"',
        "images": {odd: ["g.jpg"]},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-k", "4", "--group", "us"],
            "-k is 4, but data/raw/test/gallery has 3 photos that can be read; use -k 3 or less",
        ),
        (
            ["-k", "3", "--group", "us"],
            "ends after 2 photos; set retrieve.depth to 3 or more in params.yaml and run `dvc repro`",
        ),
        (["-k", "2"], "--group is missing"),
        (["-k", "2", "--group", " "], "--group is missing"),
        (["-k", "2", "--group", "a\nb"], r"--group is 'a\nb', which holds characters"),
        (["-k", "2", "--group", "us", "--shape", "list"], "--group has no place in --shape list"),
        (["-k", "2", "--group", "us", "--out", "."], "can't be written (it is a folder)"),
        (["-k", "2", "--group", "us", "--out", "params.yaml/x.json"], "can't be written (File exists)"),
        (["-k", "2", "--group", "us", "--url", "ftp://example.org"], "which is not an http address"),
        (["-k", "2", "--group", "us", "--url", "http://[1"], "which is not an http address"),
    ],
)
def test_a_mistake_is_named_with_its_fix(project: Path, arguments: list[str], message: str) -> None:
    prepared(retrieve={"depth": 2}, score={"cutoffs": [1]})
    with pytest.raises(UserError) as error:
        written(*arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_query_that_is_in_the_gallery_is_not_its_own_answer(project: Path) -> None:
    prepared([*PHOTOS, Image("q1", "gallery", None, [1.0, 0.0])])
    assert written("-k", "3", "--group", "us")["images"]["q1.jpg"] == ["near.jpg", "middle.jpg", "far.jpg"]
    with pytest.raises(
        UserError, match=r"query 'q1.jpg' ends after 3 photos; the query itself and its junk don't count"
    ):
        written("-k", "4", "--group", "us")


@pytest.mark.parametrize("exclude", ["pixels", "bytes"])
def test_a_copy_of_the_query_in_other_bytes_is_handed_in_first_whatever_the_scores_exclude(
    project: Path, exclude: str
) -> None:
    """A competition's server knows files alone; junk stays out."""
    copies = [Image(name, "gallery", None, [1.0, 0.0], shows="q1") for name in ("copy", "second", "junk")]
    images = [*PHOTOS, *copies]
    collection.write_params(collection.params("row", relevance={"exclude": exclude}))
    collection.write(images, [("q1", "junk", -1), ("q1", "near", 1)])
    collection.write_embeddings("row", images)
    ranking = collection.search("row")
    assert (
        copies[0].id in ranking.gallery_ids[ranking.positions[ranking.query_ids.tolist().index(PHOTOS[0].id)]]
    ) == (exclude == "bytes")
    first = sorted(copies[:2], key=lambda image: image.id)
    assert written("-k", "3", "--group", "us")["images"]["q1.jpg"] == [
        *(f"{image.name}.jpg" for image in first),
        "near.jpg",
    ]


def test_a_ranking_of_other_images_and_an_unknown_row_are_refused(project: Path) -> None:
    prepared()
    with pytest.raises(UserError, match="row 'rwo' is unknown; did you mean 'row'"):
        group.run(["submit", "--row", "rwo", "--group", "us"])
    collection.write([*PHOTOS, Image("q3", "query", None, [1, 1])])
    with pytest.raises(UserError, match=r"rankings/row.parquet: ranks other images than"):
        written("-k", "2", "--group", "us")


def test_photos_that_could_not_be_read_are_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared()
    files.write_text(
        paths.PROBLEMS,
        'path,problem\ntest/query/"odd.jpg,truncated\ntest/query/q1.jpg,two labels\ntest/gallery/x.jpg,empty\n',
    )
    written("-k", "2", "--group", "us")
    assert "photos of test/query that couldn't be read and are not in it: 1; see" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([("a", ["x", "y"])], "lacks the query 'b'"),
        ([("a", ["x", "y"]), ("b", ["x", "y"]), ("c", ["x", "y"])], "answers 'c', which is not a query"),
        ([("a", ["x", "y"]), ("b", ["x", "y"]), ("a", ["x", "y"])], "answers the query 'a' 2 times"),
        (
            [("a", ["x", "y"]), ("b", ["x", "q"])],
            "answers the query 'b' with 'q', which is not in the gallery",
        ),
        ([("a", ["x", "y"]), ("b", ["x", "x"])], "answers the query 'b' with 1 different photos of 2, not 2"),
        ([("a", ["x", "y"]), ("b", ["x"])], "answers the query 'b' with 1 different photos of 1, not 2"),
        (
            [("a", ["x", "y"]), ("b", ["x", "y", "z"])],
            "answers the query 'b' with 3 different photos of 3, not 2",
        ),
    ],
)
def test_the_check_finds_every_fault_in_what_is_sent(
    content: list[tuple[str, list[str]]], message: str
) -> None:
    images = ", ".join(f"{json.dumps(query)}: {json.dumps(answers)}" for query, answers in content)
    entries = [{"filename": query, "gallery_images": answers} for query, answers in content]
    for body in (f'{{"groupname": "us", "images": {{{images}}}}}', json.dumps(entries)):
        with pytest.raises(UserError) as error:
            document.check(body.encode(), "ab", "xyz", 2)
        assert message in str(error.value)


# Sending

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers its n-th request with the n-th of `answers`, the last again and again; keeps what came."""

    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/results/"


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.server.answers[min(len(self.server.received), len(self.server.answers)) - 1](self)

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass


def answer(status: int, body: bytes | str, **headers: str) -> Answer:
    content = body.encode() if isinstance(body, str) else body

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.5)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Never silent for long, and never done."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(60):
        try:
            handler.wfile.write(b" " * 8_192)
        except OSError:
            return
        time.sleep(0.05)


@pytest.fixture
def serve(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[Server] = []

    def start(*answers: Answer) -> Server:
        server = Server(*answers)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


GOOD = answer(200, '{"accuracy": 0.625}')
BODY = b'{"groupname": "us", "images": {}}'


# A test that expects an answer waits long, however busy the machine is; one that expects none does not.
PATIENT_SECONDS, HASTY_SECONDS = 30.0, 0.4


def send(server: Server, again: bool = False, seconds: float = PATIENT_SECONDS) -> float:
    return client.send(server.url, BODY, again=again, seconds=seconds, pause_seconds=0)


def test_what_is_written_is_sent_and_the_accuracy_shown(
    serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    prepared()
    server = serve(GOOD)
    content = written("-k", "2", "--group", "us", "--url", server.url)
    assert capsys.readouterr().out == "accuracy 0.625\n"
    ((path, headers, body),) = server.received
    assert json.loads(body) == content and body == paths.submission("row").read_bytes()
    assert (
        path == "/results/" and headers["Content-Type"] == "application/json" and headers["Idempotency-Key"]
    )


def test_a_5xx_is_repeated_under_the_same_key(serve: Callable[..., Server]) -> None:
    server = serve(answer(500, "oops"), answer(503, ""), GOOD)
    assert send(server) == 0.625
    assert len(server.received) == 3
    assert len({(headers["Idempotency-Key"], body) for _, headers, body in server.received}) == 1


def test_a_5xx_that_stays_is_shown_and_can_be_tried_again(serve: Callable[..., Server]) -> None:
    server = serve(*[answer(500, "out of memory")] * 4, GOOD)
    with pytest.raises(
        UserError, match=r"results/: refused the submission with 500 'Internal Server Error': 'out of memory'"
    ):
        send(server)
    assert len(server.received) == 4
    assert send(server) == 0.625


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            answer(400, '{"error": "unknown group \\u202e<b>"}'),
            r"""refused the submission with 400 'Bad Request': '{"error": "unknown group \\u202e<b>"}'""",
        ),
        (answer(404, ""), "refused the submission with 404 'Not Found': an empty answer"),
        (answer(307, "", Location="http://example.org/"), "it points to 'http://example.org/'"),
        (answer(302, "", Location="/elsewhere"), "it points to '/elsewhere'"),
    ],
)
def test_a_refusal_is_shown_and_not_repeated(
    serve: Callable[..., Server], reply: Answer, message: str
) -> None:
    server = serve(reply, GOOD)
    with pytest.raises(UserError) as error:
        send(server)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert len(server.received) == 1
    assert send(server) == 0.625  # once the server accepts it, nothing stands in the way


RUBBISH = [
    answer(200, "<html>\x1b[31mwelcome"),
    answer(200, b"\xff\xfe\x00"),
    answer(200, ""),
    answer(200, "[0.5]"),
    answer(200, '{"accuracy": "high"}'),
    answer(200, '{"accuracy": NaN}'),
    answer(200, '{"accuracy": true}'),
    answer(200, "[" * 100_000),
    answer(200, "x" * 3_000_000),
]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        *((reply, "took the submission, but answered without an accuracy: ") for reply in RUBBISH),
        (hang, r"didn't answer within 0.4 s, or hung up \(ReadTimeoutError"),
        (trickle, r"didn't answer within 0.4 s, or hung up \(ReadTimeout: the answer came too slowly"),
        (hang_up, r"didn't answer within 30 s, or hung up \("),
        (
            answer(200, '{"accuracy"', **{"Content-Length": "100"}),
            r"didn't answer within 30 s, or hung up \(IncompleteRead",
        ),
    ],
)
def test_whatever_becomes_of_it_nothing_is_sent_twice_unasked(
    serve: Callable[..., Server], reply: Answer, message: str
) -> None:
    server = serve(reply, GOOD)
    with pytest.raises(UserError, match=f"{message}.*--again sends it once more") as error:
        send(server, seconds=HASTY_SECONDS if reply in (hang, trickle) else PATIENT_SECONDS)
    assert str(error.value).isprintable() and len(str(error.value)) < 700
    with pytest.raises(
        UserError, match=r"was sent there before \(20.*, no accuracy came back\); --again sends it once more"
    ):
        send(server)
    assert len(server.received) == 1
    assert send(server, again=True) == 0.625
    assert server.received[0][1]["Idempotency-Key"] == server.received[1][1]["Idempotency-Key"]


def test_a_submission_that_was_answered_is_not_sent_twice(serve: Callable[..., Server]) -> None:
    server = serve(GOOD)
    send(server)
    with pytest.raises(UserError, match=r"sent there before \(.*, accuracy 0.625\)"):
        send(server)
    other = BODY.replace(b"us", b"we")
    assert client.send(server.url, other, seconds=PATIENT_SECONDS) == 0.625  # another one is
    assert len(server.received) == 2


def test_two_runs_at_once_send_once(serve: Callable[..., Server]) -> None:
    server = serve(GOOD)
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(send(server))
        except UserError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.received) == 1 and len([o for o in outcomes if o == 0.625]) == 1 and len(outcomes) == 8


SENDS = """
import signal, sys
from lineup.submission import client
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
try:
    client.send(sys.argv[1], sys.stdin.buffer.read(), seconds=60, pause_seconds=0)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_an_interrupted_run_counts_as_sent(serve: Callable[..., Server]) -> None:
    """In a process of its own, since Ctrl-C is for a whole process."""
    sending: list[subprocess.Popen[bytes]] = []

    def interrupt(handler: BaseHTTPRequestHandler) -> None:
        """What Ctrl-C does to the process that waits for an answer."""
        sending[0].send_signal(signal.SIGINT)
        time.sleep(1)

    server = serve(interrupt, GOOD)
    sending.append(
        subprocess.Popen(
            [sys.executable, "-c", SENDS, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    )
    assert sending[0].communicate(BODY)[0] == b"interrupted\n"
    with pytest.raises(UserError, match="sent there before"):
        send(server)


def test_a_server_that_is_not_there_got_nothing(serve: Callable[..., Server]) -> None:
    server = serve(GOOD)
    server.shutdown()
    server.server_close()
    for _ in range(2):  # and it may be tried again
        with pytest.raises(UserError, match=r"can't be reached .*; nothing was sent"):
            send(server)
    for url in ("http://no-such-host.invalid/", "http://a..b/"):
        for _ in range(2):
            with pytest.raises(UserError, match=r"can't be reached .*; nothing was sent"):
                client.send(url, BODY, seconds=PATIENT_SECONDS)


def test_a_password_in_the_address_is_not_shown(serve: Callable[..., Server]) -> None:
    server = serve(answer(404, ""))
    with pytest.raises(UserError) as error:
        client.send(
            server.url.replace("127", "me:secret@127") + "?token=hidden", BODY, seconds=PATIENT_SECONDS
        )
    assert "secret" not in str(error.value) and "hidden" not in str(error.value)


def test_on_the_command_line_a_fault_is_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared()
    with pytest.raises(SystemExit) as stopped:
        capsys.readouterr()
        cli.run(lambda: group.run(["submit", "--row", "row", "-k", "2"]))
    printed = capsys.readouterr().err
    assert (
        stopped.value.code == 1
        and printed.startswith("error: --group is missing")
        and printed.count("\n") == 1
    )
    with pytest.raises(SystemExit):
        group.run(["submit", "--row", "row", "-k", "0"])


def test_a_query_that_no_stage_has_seen_is_refused(project: Path) -> None:
    prepared()
    folder = paths.RAW / "test/query/some"
    folder.mkdir(parents=True)
    (folder / ".hidden.jpg").touch()
    written("-k", "2", "--group", "us")
    (folder / "new.jpg").touch()
    with pytest.raises(
        UserError, match=r"test/query/some/new.jpg: is new since the last `dvc repro` \(1 in all\)"
    ):
        written("-k", "2", "--group", "us")
    paths.PROBLEMS.write_text("path,problem\ntest/query/some/new.jpg,is not an image\n", encoding="utf-8")
    written("-k", "2", "--group", "us")
