"""`lineup judge` without a browser: the pool, its orders, what is asked and stored, and the server's guards."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import judging as simulation
from lineup import cli, paths
from lineup.commands import group, judge
from lineup.errors import UserError
from lineup.judging import app, pool, pooled_rankings
from lineup.judging.questions import Scope
from lineup.judging.session import SECONDS_FOR_A_TAB, Session, UnknownPair
from lineup.judging.standing import Standing
from lineup.relevance import judgements
from lineup.settings import params
from lineup.storage import rankings
from tests.support import collection, page_server, pooled
from tests.support.pooled import image_id

PAGE = "judging page"
TABS = "aaaaaaaa", "bbbbbbbb"
Answers = list[list[int]]
answers_of_rows = st.integers(1, 6).flatmap(
    lambda depth: st.lists(
        st.lists(st.integers(0, 12), min_size=depth, max_size=depth, unique=True), min_size=1, max_size=4
    )
)


# The pool and its orders


@pytest.mark.slow
@given(answers_of_rows, st.sets(st.integers(0, 12)), st.integers(1, 8))
def test_the_pool_of_a_query_is_the_union_of_first_answers_without_junk(
    ranked: Answers, junk: set[int], k: int
) -> None:
    first = pool.first_answers(np.array(ranked), junk, k)
    expected = [[answer for answer in row if answer not in junk][:k] for row in ranked]
    assert [[answer for answer in row if answer >= 0] for row in first.tolist()] == expected
    assert pool.union(first) == sorted({answer for row in expected for answer in row})
    assert pool.is_same_set(first) == (len(ranked) > 1 and len({frozenset(row) for row in expected}) == 1)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=12), st.integers(0, 5), st.data())
def test_new_queries_and_answers_move_no_other(names: set[str], seed: int, data: st.DataObject) -> None:
    """So a prefix that was judged stays one, and the order of a screen tells nothing of rows and ranks."""
    every = sorted(names)
    some = [name for name in every if data.draw(st.booleans())]
    ordered = [every[number] for number in pool.query_order(every, seed)]
    assert [some[number] for number in pool.query_order(some, seed)] == [n for n in ordered if n in some]
    shuffled = pool.shuffled("q", every)
    assert sorted(shuffled) == every
    assert pool.shuffled("q", reversed(some)) == [name for name in shuffled if name in some]


def test_a_prefix_of_the_order_is_a_random_sample() -> None:
    """Over 400 seeds each of 20 queries is among the first 5 in about a quarter of the orders."""
    names = [f"query {number}" for number in range(20)]
    counts = np.zeros(20)
    for seed in range(400):
        counts[pool.query_order(names, seed)[:5]] += 1
    assert counts.sum() == 2_000
    assert abs(counts - 100).max() < 4 * np.sqrt(400 * 0.25 * 0.75)  # four standard deviations


def test_the_order_of_a_screen_differs_between_queries() -> None:
    images = [f"image {number}" for number in range(30)]
    assert pool.shuffled("a", images) != pool.shuffled("b", images)


def test_first_results_are_those_of_the_whole_ranking(empty_folder: Path) -> None:
    ranked = pooled.random_rankings(300, 40, 20, ("row",))
    ranked["row"]["q1"] = ["g1"]  # type: ignore[index]
    pooled.write(ranked)
    whole, first = (
        rankings.read_ranking(paths.ranking("row")),
        rankings.read_first_results(paths.ranking("row"), 7),
    )
    assert first.query_ids == whole.query_ids.tolist()
    ids = first.gallery_ids.to_pylist()
    for number, length in enumerate(first.lengths.tolist()):
        row = whole.positions[number, :7]
        assert ids[:length] == whole.gallery_ids[row[row >= 0]].tolist()
        ids = ids[length:]
    assert ids == []


# What is asked


def opened(*rows: str, k: int = 2, name: str = "ann", **options: Any) -> Session:
    """A session of the project in the working directory."""
    loaded = params.load()
    chosen, _ = pooled_rankings.choose_rows(loaded, rows)
    options = {"second_opinion": False, "only_suspects": False, **options}
    return judge.open_session(loaded, chosen, k, name, **options)[0]


def asked(session: Session, tab: str = TABS[0]) -> dict[str, set[str]]:
    """{query: answers} that remain, of all queries, by their ids."""
    return {screen.query_id: {*screen.gallery_ids} for screen in session.screens(tab, 10_000)}


def ids(**asked_names: Sequence[str]) -> dict[str, set[str]]:
    return {image_id(query): {*map(image_id, images)} for query, images in asked_names.items()}


def say(session: Session, query: str, **relevance: int | None) -> None:
    session.record(image_id(query), {image_id(image): value for image, value in relevance.items()})


TWO_ROWS = {
    "one": {"q1": "abcd", "q2": "abcd", "q3": "abcd"},
    "two": {"q1": "bacd", "q2": "acbd", "q3": "dcba"},
}


def test_all_first_answers_are_asked_and_those_that_rows_share_come_last(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS)
    session = opened()
    assert asked(session) == ids(q1="ab", q2="abc", q3="abcd")
    assert [*asked(session)][-1] == image_id("q1")
    assert asdict(session.progress()) == {
        "judged": 0,
        "queries": 2,
        "same_judged": 0,
        "same_queries": 1,
        "pairs": 0,
    }
    assert asked(opened("one")) == ids(q1="ab", q2="ab", q3="ab")
    assert opened("one").progress().same_queries == 0, "a single row differs from none"


def test_a_row_that_is_added_asks_for_its_new_answers_only(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS)
    session = opened("one")
    for query in ("q1", "q2", "q3"):
        say(session, query, a=1, b=0)
    assert asked(session) == {} and session.progress().judged == 3
    before = [*asked(opened("one", name="ben", second_opinion=True))]
    both = opened()
    assert asked(both) == ids(q2="c", q3="cd")
    again = opened(name="ben", second_opinion=True)
    differ = [query for query in asked(again) if query != image_id("q1")]
    assert differ == [query for query in before if query in differ], "the order of queries stays"


def test_can_t_tell_is_not_asked_again_but_others_are(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS)
    say(opened(), "q1", a=None, b=1)
    assert image_id("q1") not in asked(opened())
    assert asked(opened(name="ben"))[image_id("q1")] == {image_id("a")}
    assert asked(opened(name="ben", second_opinion=True))[image_id("q1")] == {image_id("a"), image_id("b")}


def test_the_next_answer_takes_the_place_of_junk(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS)
    session = opened()
    say(session, "q1", a=-1, b=0)
    assert asked(session)[image_id("q1")] == {image_id("c")}
    say(session, "q1", c=-1)
    assert asked(session)[image_id("q1")] == {image_id("d")}
    say(session, "q1", d=0)
    assert image_id("q1") not in asked(session)


def test_what_qrels_say_is_not_asked(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS, qrels=[("q1", "a", 1), ("q2", "d", 0)])
    assert asked(opened()) == ids(q1="b", q2="abc", q3="abcd")


def test_a_judgement_is_kept_by_a_new_session_and_the_latest_counts(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS)
    session = opened()
    say(session, "q2", a=1, b=0, c=0)
    say(session, "q2", a=0, b=1, c=0)
    assert [line[2] for line in pooled.lines()] == ["1", "0", "0", "0", "1", "0"], "nothing is overwritten"
    judgements.tidy(paths.JUDGEMENTS)
    counting = judgements.resolved(judgements.read(paths.JUDGEMENTS))
    assert counting == {
        (image_id("q2"), image_id(image)): value for image, value in zip("abc", (0, 1, 0), strict=True)
    }
    assert asked(opened()) == ids(q1="ab", q3="abcd")


def test_two_tabs_are_asked_other_queries_as_long_as_there_are_any(empty_folder: Path) -> None:
    pooled.write(pooled.random_rankings(5, 20, 8, ("one", "two")))
    session = opened()
    first, second = ([s.query_id for s in session.screens(tab, 2)] for tab in TABS)
    assert len({*first, *second}) == 4
    assert [s.query_id for s in session.screens(TABS[0], 2)] == first, "a tab that is reloaded goes on"
    assert {s.query_id for s in session.screens(TABS[0], 5)} >= {*second}, "a closed tab keeps nothing back"


def test_lines_that_others_add_are_taken_into_account(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS)
    session, other = opened(), opened(name="ben")
    say(other, "q1", a=1, b=1)
    assert image_id("q1") not in asked(session)
    say(session, "q2", a=1, b=1, c=1)
    assert asked(other) == asked(session) == ids(q3="abcd")
    paths.JUDGEMENTS.unlink()
    assert len(asked(session)) == 3


@pytest.mark.parametrize(("query", "image"), [("q1", "unknown"), ("unknown", "a")])
def test_what_is_not_in_the_pool_is_not_stored(empty_folder: Path, query: str, image: str) -> None:
    pooled.write(TWO_ROWS)
    with pytest.raises(UnknownPair):
        say(opened(), query, **{image: 1})
    assert not paths.JUDGEMENTS.exists()


# The verdict


def test_the_verdict_comes_from_whole_screens(empty_folder: Path) -> None:
    """Row `good` has 2 of 2 right and `bad` none, in 60 queries."""
    ranked = {"good": {f"q{n}": "ab" for n in range(60)}, "bad": {f"q{n}": "cd" for n in range(60)}}
    pooled.write(ranked)
    session = opened()
    standing = Standing(session.pool)
    assert standing.verdict(session.judged()) is None
    names = {image_id(f"q{number}"): f"q{number}" for number in range(60)}
    order = [names[str(session.pool.query_ids[query])] for query in session.judged().order]
    say(session, order[5], a=0)  # in part, as a doubtful label would be
    assert standing.verdict(session.judged()) is None
    for number, query in enumerate(order[:40]):
        say(session, query, a=1, b=1, c=0, d=None if number == 7 else -1)
    say(session, order[41], a=1, b=1, c=0, d=0)  # behind a gap: the first ones alone are a random sample
    current = standing.verdict(session.judged())
    assert current is not None and (current.judged, current.queries) == (40, 60)
    assert current.sentences[0].startswith("`good` is better than `bad`, by ")
    means = {row.row: (row.low, row.high) for row in current.rows}
    assert means["good"][0] > 0.6 and means["bad"][1] < 0.4


def test_a_row_that_is_added_leaves_no_selected_queries_in_the_verdict(empty_folder: Path) -> None:
    """Where the new row answers as the others did, everything is judged still; those queries are no sample."""
    ranked = {"a": {f"q{n}": "ab" for n in range(30)}, "b": {f"q{n}": "cd" for n in range(30)}}
    pooled.write(ranked)
    session = opened()
    names = {image_id(f"q{number}"): f"q{number}" for number in range(30)}
    order = [names[str(session.pool.query_ids[query])] for query in session.judged().order]
    for query in order[:20]:
        say(session, query, a=1, b=0, c=0, d=0)
    assert session.judged().complete == 20
    new = {query: "ef" if query in order[1::2] else "ac" for query in order}
    pooled.write({**ranked, "c": new})
    assert opened().judged().complete == 1


@pytest.mark.slow
def test_a_session_asks_and_looks_as_the_simulation_of_an_added_row_does(empty_folder: Path) -> None:
    """What tests/test_verdict.py shows of 200 simulated runs so holds for the page."""
    rows = simulation.with_an_added_row(np.random.default_rng(0), queries=20)
    names, queries = np.array(["a", "b", "c"]), np.array(sorted(image_id(f"q{n}") for n in range(20)))
    number_of = {image_id(f"g{number}"): number for number in range(2 * simulation.IMAGES)}
    ids = np.array(sorted(number_of))
    ranked = np.argsort([number_of[image] for image in ids.tolist()])[rows.answers].astype(np.int32)
    order = np.array(pool.query_order(queries.tolist(), 0))
    simulated = simulation.adding(rows, [order], np.array([8]))

    def session_of(count: int) -> Session:
        shown = pool.Pool(tuple(names[:count]), simulation.K, queries, ids, ranked[:count])
        return Session(shown, paths.JUDGEMENTS, Scope("ann"), seed=0)

    def judge_next(session: Session) -> list[str]:
        [screen] = session.screens(TABS[0], 1)
        right = {image: number_of[image] % simulation.IMAGES for image in screen.gallery_ids}
        session.record(
            screen.query_id, {image: int(value < simulation.RELEVANT) for image, value in right.items()}
        )
        return screen.gallery_ids

    def assert_same_bounds(session: Session, runs: simulation.Judging) -> int:
        judged = session.judged()
        current = Standing(session.pool).verdict(judged)
        assert current is not None and current.judged == judged.complete
        low, high = runs.bounds(judged.complete, len(current.pairs))
        for number, (first, second) in enumerate(combinations(session.pool.rows, 2)):
            [pair] = [each for each in current.pairs if {each.better, each.worse} == {first, second}]
            own = (pair.low, pair.high) if pair.better == first else (-pair.high, -pair.low)
            assert own == pytest.approx((low[0, number], high[0, number]), abs=1e-9)
        return judged.complete

    before = session_of(2)
    for count in range(1, 9):
        judge_next(before)
        assert assert_same_bounds(before, simulated.before) == count
    after, looks, new = session_of(3), list[int](), list[int]()
    while after.screens(TABS[0], 1):
        looks += [assert_same_bounds(after, simulated.after)] if after.judged().complete else []
        new.append(len(judge_next(after)))
    looks.append(assert_same_bounds(after, simulated.after))
    assert looks == [number for number, look in enumerate(simulated.looks_after()[0], 1) if look]
    assert len(looks) < 20 and new[0] == 1, "some queries need no new judgement, and the others only one"


def test_pairs_on_which_people_differ_are_asked_again(empty_folder: Path) -> None:
    pooled.write({"a": {"q1": "ab", "q2": "ab"}, "b": {"q1": "cd", "q2": "cd"}})
    with pytest.raises(UserError, match="--disputed: people differ on no pair"):
        opened(only_disputed=True)
    say(opened(), "q1", a=1, b=0, c=0, d=0)
    say(opened(name="ben"), "q1", a=0, b=0, c=-1, d=0)
    loaded = params.load()
    _, of_pool = judge.open_session(loaded, ["a", "b"], 2, "ann", False, False, True)
    about = [line.partition(": ")[2] for line in judge.disputed_lines(of_pool)]
    assert sorted(about) == ["ann says right, ben says wrong", "ann says wrong, ben says junk"]
    session = opened(only_disputed=True)
    [screen] = session.screens(TABS[0], 3)
    assert {*screen.gallery_ids} == {image_id("a"), image_id("c")}
    say(session, "q1", a=0, c=0)
    assert session.screens(TABS[0], 3) == []
    assert {*opened(only_disputed=True, name="cat").screens(TABS[0], 3)[0].gallery_ids} == {image_id("c")}


def test_a_tab_that_says_nothing_gives_its_queries_back(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled.write({"a": {f"q{n}": "ab" for n in range(6)}, "b": {f"q{n}": "cd" for n in range(6)}})
    session = opened()
    first = [screen.query_id for screen in session.screens(TABS[0], 2)]
    assert first[0] not in [screen.query_id for screen in session.screens(TABS[1], 2)]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SECONDS_FOR_A_TAB + 1)
    assert [screen.query_id for screen in session.screens("tab-3", 2)] == first


# Labels in doubt


def labelled() -> None:
    pooled.write(
        {
            "one": {"q1": "ab", "q2": "ab", "q3": "ba", "q4": "ab", "q5": "ca", "q6": "ab"},
            "two": {"q1": "ac", "q2": "ac", "q3": "ab", "q4": "ac", "q5": "cb", "q6": "ac"},
        },
        labels={"a": "pear", "b": "fig", "q1": "fig", "q2": "pear", "q3": "fig", "q5": "fig", "q6": "fig"},
        qrels=[("q6", "a", 0)],
    )


def test_suspects_are_first_answers_of_all_rows_that_labels_call_wrong(empty_folder: Path) -> None:
    """q2 has the right label, q3 has two first answers, q4 and the answer to q5 no label, q6 is in qrels.csv."""
    labelled()
    session = opened(only_suspects=True)
    assert asked(session) == ids(q1="a")
    say(session, "q1", a=1)
    assert asked(opened(only_suspects=True)) == {} and session.progress().pairs == 1
    assert asked(opened())[image_id("q1")] == {image_id("b"), image_id("c")}, "the other answers remain"


def test_no_suspects_is_said(empty_folder: Path) -> None:
    pooled.write(TWO_ROWS)
    with pytest.raises(UserError, match="no query has a label"):
        opened(only_suspects=True)
    pooled.write(TWO_ROWS, labels={"q1": "x", "a": "y"})
    with pytest.raises(UserError, match=r"there are none, since one, two never agree .* --row"):
        opened(only_suspects=True)


@pytest.mark.slow
def test_only_good_rows_question_labels(empty_folder: Path) -> None:
    """The three best of five, unless others can't be told apart from the best; before a comparison, all."""
    noise = {"best": 0.3, "good": 0.5, "fair": 0.9, "poor": 4.0, "none": 60.0}
    collection.run({row: collection.clustered(12, 2, 3, each) for row, each in noise.items()})
    assert judge.rows_that_question_labels(params.load(), [*noise]) == ["best", "good", "fair"]
    assert judge.rows_that_question_labels(params.load(), ["none"]) == ["none"]
    paths.SIGNIFICANCE.unlink()
    assert judge.rows_that_question_labels(params.load(), [*noise]) == [*noise]


# The server


@pytest.fixture
def client(empty_folder: Path) -> TestClient:
    """A client of the page of TWO_ROWS, in whose folder the test runs."""
    pooled.write(TWO_ROWS, names={"a": "test/gallery/<script>alert(1)</script>/a.png"}, pixels=True)
    session, photos = judge.open_session(params.load(), ["one", "two"], 2, "ann", False, False)
    return TestClient(app.create(session, photos, False, ("testserver",)), raise_server_exceptions=False)


def judged(**changes: Any) -> dict[str, Any]:
    marks = {image_id("a"): 1, image_id("b"): 0}
    return {"tab": TABS[0], "query_id": image_id("q1"), "marks": marks, **changes}


def test_a_screen_is_saved_and_the_next_ones_come_back(client: TestClient) -> None:
    first = client.get("/screens", params={"tab": TABS[0]}).json()
    assert [len(screen["pictures"]) for screen in first["screens"]] in ([3, 4, 2], [4, 3, 2])
    assert [screen["same_set"] for screen in first["screens"]] == [False, False, True]
    last = first["screens"][-1]
    assert last["query"]["image_id"] == image_id("q1")
    response = client.post("/judgements", json=judged())
    assert response.status_code == 200
    assert [s["query"] for s in response.json()["screens"]] == [s["query"] for s in first["screens"][:2]]
    assert response.json()["progress"]["same_judged"] == 1
    assert sorted(line[:4] for line in pooled.lines()) == sorted(
        (image_id("q1"), image_id(image), value, "ann") for image, value in (("a", "1"), ("b", "0"))
    )
    assert client.get("/verdict").json()["judged"] == 0, "all rows have the same answers to q1"


def test_the_page_knows_what_it_asks_for(client: TestClient) -> None:
    session, photos = judge.open_session(params.load(), ["one", "two"], 2, "ann", False, False)
    disputed = TestClient(app.create(session, photos, False, ("testserver",), disputed=True))
    assert "<h1>Judge disputed answers</h1>" in disputed.get("/").text
    assert "<h1>Judge the answers</h1>" in client.get("/").text


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"marks": {image_id("a"): 2}}, 400, "input should be 1, 0 or -1"),
        ({"marks": {image_id("a"): "1"}}, 400, "input should be 1, 0 or -1"),
        ({"marks": {}}, 400, "at least 1 item"),
        ({"marks": {"../../x": 1}}, 400, "string should match pattern"),
        ({"marks": {image_id("z"): 1}}, 409, "not of the present pool; reload the page"),
        ({"query_id": image_id("z")}, 409, "not of the present pool"),
        ({"query_id": "="}, 400, "string should match pattern"),
        ({"tab": "<script>"}, 400, "string should match pattern"),
        ({"judge": "eve"}, 400, "extra inputs are not permitted"),
        ({"marks": {image_id(str(n)): 1 for n in range(20_000)}}, 413, "at most 1,048,576 bytes"),
    ],
)
def test_what_no_page_sends_is_refused(
    client: TestClient, changes: dict[str, Any], status: int, sentence: str
) -> None:
    response = client.post("/judgements", json=judged(**changes))
    assert response.status_code == status
    assert sentence in response.json()["error"]
    assert not paths.JUDGEMENTS.exists()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_pages_of_other_sites_can_not_judge(client: TestClient, headers: dict[str, str], status: int) -> None:
    headers = {"Content-Type": "application/json", **headers}
    response = client.post("/judgements", content=json.dumps(judged()), headers=headers)
    assert response.status_code == status and response.json()["error"]
    assert not paths.JUDGEMENTS.exists()
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_only_pictures_of_the_pool_are_served(client: TestClient) -> None:
    for name in ("a", "q1"):
        response = client.get(f"/images/{image_id(name)}")
        assert response.status_code == 200 and response.headers["content-type"] == "image/png"
    for path in (image_id("z"), "..%2f..%2fparams.yaml", "x"):
        assert client.get(f"/images/{path}").status_code == 404
    assert client.get("/screens", params={"tab": "x"}).status_code == 400


def test_a_disk_that_fails_is_said_and_nothing_counts(client: TestClient) -> None:
    paths.JUDGEMENTS.mkdir(parents=True)
    response = client.post("/judgements", json=judged())
    assert response.status_code == 507
    assert response.json()["error"].startswith("data/judgements.csv: is a folder where a file belongs")
    assert client.get("/screens", params={"tab": TABS[0]}).status_code == 507
    paths.JUDGEMENTS.rmdir()
    assert client.post("/judgements", json=judged()).status_code == 200


def test_a_line_that_cannot_be_read_is_said(client: TestClient) -> None:
    paths.JUDGEMENTS.parent.mkdir(exist_ok=True)
    paths.JUDGEMENTS.write_text("query,gallery,relevance,judge,time\nx,y,1,ann,now\n", encoding="utf-8")
    response = client.post("/judgements", json=judged())
    assert response.status_code == 409
    assert response.json()["error"].startswith("data/judgements.csv: line 2: query: 'x' is not an image_id")


# The command


@pytest.mark.slow
def test_killed_at_once_it_has_every_screen_and_ended_it_has_tidied_them(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pooled.write(TWO_ROWS)
    server = page_server.start(empty_folder, "judge", "--port", "0", "--k", "2", "--judge", "Ann B")
    url = page_server.address(server, PAGE)
    assert requests.post(f"{url}/judgements", json=judged(), timeout=60).status_code == 200
    server.kill()
    server.communicate(timeout=60)
    assert len(pooled.lines()) == 2
    server = page_server.start(empty_folder, "judge", "--port", "0", "--k", "2", "--judge", "Ann B")
    url = page_server.address(server, PAGE)
    marks = {image_id("a"): 0, image_id("b"): None}
    assert requests.post(f"{url}/judgements", json=judged(marks=marks), timeout=60).status_code == 200
    assert f"Ann B is judging here already, at {url}" in failing(capsys, "--judge", "Ann B")
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=60)
    assert errors == "ended\n" and server.returncode == 0
    assert sorted(line[1:4] for line in pooled.lines()) == sorted(
        [(image_id("a"), "0", "Ann B"), (image_id("b"), "", "Ann B")]
    )


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: group.run(["judge", "--port", "0", *arguments]))
    assert stopped.value.code == 1
    return capsys.readouterr().err


def test_each_mistake_is_one_sentence(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pooled.write(TWO_ROWS)
    assert "row 'onne' is unknown; did you mean 'one'?" in failing(capsys, "--row", "onne")
    assert "the judge's name '<b>' can't be used" in failing(capsys, "--judge", "<b>")
    paths.JUDGEMENTS.parent.mkdir(exist_ok=True)
    paths.JUDGEMENTS.write_text("<<<<<<< HEAD\n", encoding="utf-8")
    assert "line 1: is left from a merge" in failing(capsys)
    paths.JUDGEMENTS.unlink()
    pooled.write_ranking("two", {"q1": "ab"})
    assert "data/rankings/two.parquet: ranks other images than" in failing(capsys)
    paths.ranking("two").unlink()
    assert "data/rankings/two.parquet: does not exist; run `dvc repro`" in failing(capsys, "--row", "two")
    paths.ranking("one").unlink()
    assert "data/rankings: no row is ranked here; run `dvc repro`" in failing(capsys)


def test_the_judge_is_named_by_the_option_else_by_git_else_by_the_login(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(empty_folder / "gitconfig"))
    monkeypatch.setenv("LOGNAME", "login")
    Path("gitconfig").write_text("[user]\n\tname = Zoë Müller\n", encoding="utf-8")
    assert judge.judge_name(" Ann ") == "Ann"
    assert judge.judge_name(None) == "Zoë Müller"
    Path("gitconfig").write_text("[user]\n\tname = <b>\n", encoding="utf-8")
    assert judge.judge_name(None) == "login"
