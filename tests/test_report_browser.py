"""The report in headless Chromium, opened from disk: what a reader sees, sorts and filters, and that nothing
leaves the page.
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from lineup import paths
from lineup.slices import slices
from lineup.storage import csv_files, parquet
from lineup.summary import tables
from tests.support import browser as chromium
from tests.support import collection, reported
from tests.support.collection import Image, clustered

pytestmark = pytest.mark.slow

LEAKS: dict[str, Any] = {"near_copies": {"rows": ["sharp"]}, "map": {"sharp": {}}}
DARK = '<b>dark: & "dim"</b>'
ROWS = ("sharp", "middling", "blurred")
GROUPED_ROWS = {"sharp": 1.2, "blurred": 2.6}  # by noise
WRITE_EMBEDDINGS = collection.write_embeddings  # before a test replaces it
CURVE = [
    {"epoch": e, "map_at_r": m, "loss": loss, "learning_rate": 0.1}
    for e, m, loss in ((0, 0.2, None), (1, 0.5, 3.0), (2, 0.6, 2.5))
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A report of three rows over images with odd names; the working directory is its project's."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        noise = {"sharp": 1.2, "middling": 1.8, "blurred": 2.6}
        images = {row: reported.odd(clustered(10, 3, 4, noise[row], seed=i)) for i, row in enumerate(ROWS)}
        patch.setattr(collection, "write_embeddings", with_curve(CURVE))
        leak = 'kind,path_a,path_b,across\nsame_bytes,"train/<b>x</b>.jpg","test/query/ü ""q"".jpg",train-query\n'
        reported.run(images, leaks_csv=leak, **LEAKS)
        reported.write_near_copies("sharp", images["sharp"])
        reported.write_map("sharp", images["sharp"])
        yield folder


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with groups of queries: by a text, of 20 and 40 queries, and by a number."""
    folder = tmp_path_factory.mktemp("grouped")
    images = {row: clustered(20, 3, 4, noise, seed=i) for i, (row, noise) in enumerate(GROUPED_ROWS.items())}
    first = next(iter(images.values()))
    attributes: dict[str, dict[str, object]] = {
        "tone": {image.name: DARK if image.name.endswith("/0") else "light" for image in first},
        "size": {image.name: float(number % 2) for number, image in enumerate(first)},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reported.run(images, attributes=attributes)
    return folder


def with_curve(curve: Sequence[Mapping[str, Any]]) -> Callable[..., None]:
    """One row was fine-tuned, and embeds faster than the others."""

    def written(row: str, images: Any) -> None:
        WRITE_EMBEDDINGS(
            row, images, images_per_second={"sharp": 50.0, "middling": 40.0, "blurred": 200.0}.get(row, 50.0)
        )
        if row == "sharp":
            paths.costs("train", row).write_text(
                json.dumps({"row": row, "minutes": 1.0, "note": None, "curve": curve}), encoding="utf-8"
            )

    return written


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    started = chromium.start(tmp_path_factory.mktemp("chromium"))
    yield started
    started.quit()


@pytest.fixture
def page(finished: Path, one_browser: WebDriver) -> WebDriver:
    return open_page(one_browser, finished)


def open_page(browser: WebDriver, folder: Path) -> WebDriver:
    return visit(browser, folder, 1280, "light")


# How far below the window's top a section begins, in pixels.
TOP = "return document.getElementById(arguments[0]).getBoundingClientRect().top"


def until(condition: Callable[[], object]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("the page did not get there")


def texts(browser: WebDriver, selector: str) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent.trim())", selector
    )


def choose(browser: WebDriver, name: str, value: str) -> None:
    Select(browser.find_element(By.ID, name)).select_by_value(value)


def shown_queries(browser: WebDriver) -> list[int]:
    """The numbers of the chosen queries on all pages, in order."""
    numbers_shown: list[int] = []
    back, forward = (browser.find_element(By.CSS_SELECTOR, f'[data-turn="{turn}"]') for turn in (-1, 1))
    while back.is_enabled():
        browser.execute_script("arguments[0].click()", back)
    while True:
        numbers = browser.execute_script(
            "return [...document.querySelectorAll('.query')].map((e) => Number(e.dataset.query))"
        )
        assert len(numbers) <= 10, "only a page of queries is in the document"
        numbers_shown += numbers
        if not forward.is_enabled():
            return numbers_shown
        browser.execute_script("arguments[0].click()", forward)


def figures(row: str) -> list[dict[str, str]]:
    return list(csv.DictReader(paths.row_queries(row).read_text(encoding="utf-8").split("\n")))


def test_it_renders_without_a_word_in_the_console_or_a_request_that_leaves(page: WebDriver) -> None:
    assert chromium.console(page) == []
    asked = chromium.requests(page)
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert {Path(url).name for url in asked} >= {
        "index.html",
        "page.css",
        "data.js",
        *(f"{row}.js" for row in ROWS),
    }
    assert not page.find_element(By.ID, "status").is_displayed()
    sizes = page.execute_script(
        "return [...document.querySelectorAll('.asked img')].slice(0, 3).map((i) => [i.complete, i.naturalWidth])"
    )
    assert sizes == [[True, 160]] * 3


def test_the_policy_refuses_what_would_leave(page: WebDriver) -> None:
    """The test above can fail: Chromium logs a request that leaves, and the page's own policy stops it."""
    page.execute_script("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    until(lambda: any("Content Security Policy" in line for line in chromium.console(page)))
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.attacked = 3'; document.body.append(s)"
    )
    assert page.execute_script("return window.attacked") is None


def test_odd_labels_and_files_are_shown_as_text(page: WebDriver) -> None:
    for label in reported.ODD_LABELS:
        plain = " ".join(label.split())
        assert plain in [
            " ".join(text.split()) for text in texts(page, ".query figcaption b, #labels-table tbody th")
        ]
    assert any("<script>window.attacked" in text for text in texts(page, ".asked .path"))
    assert texts(page, "#suspects td.path > div") == ["train/<b>x</b>.jpg", 'test/query/ü "q".jpg']
    assert page.execute_script("return window.attacked") is None
    assert (
        page.execute_script(
            "return document.querySelectorAll('main script, img[src=x], td b:not(.best):not(.tie), .chart b').length"
        )
        == 0
    )
    assert (
        set(
            page.execute_script(
                "return [...document.querySelectorAll('#query-labels option')].map((o) => o.value)"
            )
        )
        == set()
    )
    page.find_element(By.ID, "query-text").click()
    options = page.execute_script(
        "return [...document.querySelectorAll('#query-labels option')].map((o) => o.value)"
    )
    assert set(options) == set(reported.ODD_LABELS)


def test_the_table_sorts_by_click_and_by_key(page: WebDriver) -> None:
    def column(name: str) -> list[float]:
        number = texts(page, ".figures thead th").index(name) + 1
        return [
            float(text.split()[0].replace(",", ""))
            for text in texts(page, f".figures tbody tr > :nth-child({number})")
        ]

    def rows() -> list[str]:
        return texts(page, ".figures tbody th code")

    before = column("map_at_r")
    assert before == sorted(before, reverse=True) and len(set(before)) == 3
    button = page.find_element(By.XPATH, "//table[contains(@class, 'figures')]//button[text()='images/s']")
    button.click()
    assert column("images/s") == [200.0, 50.0, 40.0]
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert column("images/s") == [40.0, 50.0, 200.0]
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    assert column("map_at_r") != before
    index = page.find_element(By.XPATH, "//table[contains(@class, 'figures')]//button[text()='index MB']")
    index.click()  # the least first
    assert index.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    # By the difference, of which the best row has none.
    standing = page.find_element(
        By.XPATH, "//table[contains(@class, 'figures')]//button[.='against the best']"
    )
    standing.click()
    assert rows() == list(ROWS)
    standing.click()
    assert rows() == list(reversed(ROWS))


def test_every_heading_but_the_first_says_what_its_column_means(page: WebDriver) -> None:
    headings = page.find_elements(By.CSS_SELECTOR, ".figures thead th")
    assert len(headings) > 10
    assert [heading.get_attribute("title") == "" for heading in headings] == [True] + [False] * (
        len(headings) - 1
    )


def test_columns_are_chosen_and_intervals_are_shown_in_figures(page: WebDriver) -> None:
    def headings() -> list[str]:
        return page.execute_script(
            "return [...document.querySelectorAll('.figures thead th')].filter((e) => e.checkVisibility())"
            ".map((e) => e.textContent)"
        )

    assert headings() == [
        "row",
        "map_at_r",
        "against the best",
        "top_1",
        "top_5",
        "top_10",
        "images/s",
        "query ms",
        "index MB",
        "train min",
        "licence",
    ]
    page.execute_script("document.querySelector('.chooser').open = true")
    boxes = {
        label.text: label.find_element(By.TAG_NAME, "input")
        for label in page.find_elements(By.CSS_SELECTOR, "#columns label")
    }
    boxes["GFLOPs"].click()
    boxes["top_5"].click()
    assert "GFLOPs" in headings() and "top_5" not in headings()
    cells = page.execute_script(
        "return [...document.querySelectorAll('.figures tbody tr:first-child > *')].filter((e) => !e.hidden).length"
    )
    assert cells == len(headings()), "a column's cells go with its heading"
    ends = page.find_element(By.CSS_SELECTOR, ".figures tbody tr:first-child td small.ends")
    assert ends.size["width"] <= 1
    boxes["intervals in figures"].click()
    assert ends.size["width"] > 40 and ends.text.startswith("(.")


def test_interval_bars_stand_where_their_figures_are(page: WebDriver) -> None:
    """Further right is higher, and the ends of all bars of a column are its span."""
    bars = page.execute_script(
        "return [...document.querySelectorAll('.figures tbody tr')].map((row) => [...row.cells[1].querySelectorAll('rect')]"
        ".map((r) => { const box = r.getBoundingClientRect(), cell = r.ownerSVGElement.getBoundingClientRect();"
        " return [(box.left - cell.left) / cell.width, (box.right - cell.left) / cell.width]; }))"
    )
    means = [sum(mean) / 2 for _, mean in bars]
    assert means == sorted(means, reverse=True) and len(set(means)) == 3
    assert min(low for (low, _), _ in bars) == pytest.approx(0, abs=0.02)
    assert max(high for (_, high), _ in bars) == pytest.approx(1, abs=0.02)
    assert all(low < sum(mean) / 2 < high for (low, high), mean in bars)


def test_the_scatter_has_every_row_and_the_front_of_the_best_for_any_cost(page: WebDriver) -> None:
    options = page.execute_script("return [...document.getElementById('cost').options].map((o) => o.value)")
    assert options == [
        "query_total_ms",
        "index_mb",
        "parameters",
        "gflops",
        "train_minutes",
        "images_per_second",
    ]
    # sharp is the most accurate, blurred the fastest, and sharp beats middling in both. All three have one
    # network, so that the most accurate one is the front of its size; the others were not trained.
    fronts = {
        "images_per_second": "2",
        "query_total_ms": "2",
        "parameters": "1",
        "gflops": "1",
        "train_minutes": "2",
    }
    for cost, front in fronts.items():
        choose(page, "cost", cost)
        assert sorted(texts(page, "#scatter .label")) == sorted(ROWS), cost
        assert len(texts(page, "#scatter .error")) == 3
        steps = page.find_element(By.CSS_SELECTOR, "#scatter .front")
        assert steps.get_attribute("data-rows") == front, cost
        assert page.find_element(By.CSS_SELECTOR, "#scatter .beaten").size["height"] > 20
    choose(page, "cost", "images_per_second")
    assert "right is faster" in texts(page, "#tradeoff-note")[0]
    read = texts(page, "#scatter .point title")
    assert any(
        text.startswith("blurred: map_at_r 0.") and text.endswith("images/s, embedding 200") for text in read
    )
    assert point(page, "blurred")["x"] > point(page, "sharp")["x"], "200 images/s beside 50"
    choose(page, "cost", "query_total_ms")
    assert "left is cheaper" in texts(page, "#tradeoff-note")[0]
    assert point(page, "blurred")["x"] < point(page, "sharp")["x"]
    assert point(page, "blurred")["y"] > point(page, "sharp")["y"], "SVG counts from above"


def point(page: WebDriver, row: str) -> dict[str, float]:
    """The centre of a row's point."""
    return page.execute_script(
        "const { cx, cy } = document.querySelector(`#scatter .point[data-series='${arguments[0]}'] circle.dot`);"
        "return { x: cx.baseVal.value, y: cy.baseVal.value }",
        row,
    )


def test_a_refinement_is_joined_to_the_rows_that_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_browser: WebDriver
) -> None:
    """Of the page as it is drawn from its data: here `middling` is made of the other two."""
    monkeypatch.chdir(tmp_path)
    reported.run(
        {row: reported.odd(clustered(4, 2, 2, noise)) for row, noise in zip(ROWS, (1, 1.6, 2.4), strict=True)}
    )
    text = paths.REPORT.read_text(encoding="utf-8")
    head, tail = text.split('"name":"middling"')
    made = tail.replace('"made_of":[]', '"made_of":["sharp","blurred"]', 1)
    paths.REPORT.write_text(f'{head}"name":"middling"{made}', encoding="utf-8")
    page = open_page(one_browser, tmp_path)
    ends = page.execute_script(
        "return [...document.querySelectorAll('#scatter .made-of')].map((l) => [l.dataset.series,"
        " l.x1.baseVal.value, l.y1.baseVal.value, l.x2.baseVal.value, l.y2.baseVal.value])"
    )
    middling = point(page, "middling")
    expected = [
        ["middling", point(page, row)["x"], point(page, row)["y"], middling["x"], middling["y"]]
        for row in ("sharp", "blurred")
    ]
    assert ends == expected


def curves_file() -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    for line in csv.DictReader(paths.TOP_K_CURVES.read_text(encoding="utf-8").splitlines()):
        curves.setdefault(line["model"], []).append(float(line["top_k"]))
    return curves


def test_curves_are_drawn_and_read_at_any_k(page: WebDriver) -> None:
    curves = curves_file()
    drawn = page.execute_script(
        "return [...document.querySelectorAll('#top-k .curve')].map((l) => [l.parentNode.dataset.series, l.points.length])"
    )
    assert dict(drawn) == {row: len(curve) for row, curve in curves.items()}
    labels = {row: page.find_element(By.CSS_SELECTOR, f"#top-k [data-series={row}] .label") for row in ROWS}
    assert {label.text for label in labels.values()} == set(ROWS)
    heights = sorted(label.location["y"] for label in labels.values())
    assert all(b - a >= 13 for a, b in pairwise(heights)), "labels stand apart though the curves meet at 1"
    for k in (1, 5):
        page.execute_script(
            "const s = document.getElementById('top-k-at'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
            k,
        )
        assert texts(page, "#top-k-values thead th") == ["row", f"top_{k}"]
        shown = list(
            zip(texts(page, "#top-k-values tbody th"), texts(page, "#top-k-values tbody td"), strict=True)
        )
        order = sorted(ROWS, key=lambda row: (-curves[row][k - 1], ROWS.index(row)))
        assert shown == [(row, f"{curves[row][k - 1]:.3f}") for row in order]
    assert texts(page, "#top-k-read") == ["5"]
    trained = page.execute_script(
        "return ['#training', '#losses'].map((id) => [...document.querySelectorAll(`${id} .curve`)].map((l) => l.points.length))"
    )
    assert trained == [[3], [2]]  # map_at_r from epoch 0 on, loss from 1 on, for the one row that was trained
    assert texts(page, "#losses figcaption") == ["sharp 3.00 → 2.50"]


def in_the_middle(page: WebDriver, selector: str) -> WebElement:
    """An element, scrolled to where the header doesn't cover it."""
    element = page.find_element(By.CSS_SELECTOR, selector)
    page.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
    return element


def test_the_best_are_in_colour_and_others_when_a_reader_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_browser: WebDriver
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"row_{i}" for i in range(5)]
    reported.run({row: clustered(4, 2, 2, 0.8 + 0.5 * i, seed=0) for i, row in enumerate(rows)})
    page = open_page(one_browser, tmp_path)
    order = texts(page, ".figures tbody th code")

    def colours(selector: str) -> dict[str, str]:
        return dict(
            page.execute_script(
                "return [...document.querySelectorAll(arguments[0])].map((e) => [e.closest('[data-series]').dataset.series, getComputedStyle(e).stroke])",
                selector,
            )
        )

    def button(row: str) -> WebElement:
        return page.find_element(By.CSS_SELECTOR, f"#top-k-values [data-series={row}] button")

    drawn = colours("#top-k .curve")
    grey = drawn[order[4]]
    assert drawn[order[3]] == grey and len({drawn[row] for row in order[:3]} | {grey}) == 4
    assert [button(row).get_attribute("aria-pressed") for row in order] == ["true"] * 3 + ["false"] * 2

    button(order[4]).send_keys(Keys.ENTER)
    drawn = colours("#top-k .curve")
    assert drawn[order[3]] == grey and drawn[order[4]] not in {grey, *(drawn[row] for row in order[:3])}
    assert button(order[4]).get_attribute("aria-pressed") == "true"
    pointer = ActionChains(page)
    pointer.click(in_the_middle(page, f"#scatter [data-series={order[4]}] .label")).perform()
    assert button(order[4]).get_attribute("aria-pressed") == "false"

    # Pointing at a row of the table finds it in every chart; the pointer leaves it again.
    pointer.move_to_element(in_the_middle(page, f".figures tr[data-series={order[3]}] th")).perform()
    hovered = page.execute_script(
        "return [...document.querySelectorAll('.hovered')].map((e) => e.dataset.series)"
    )
    assert set(hovered) == {order[3]} and len(hovered) >= 5
    drawn = colours("#top-k .curve")
    assert drawn[order[4]] == grey != drawn[order[3]]
    pointer.move_to_element(in_the_middle(page, "#table-title")).perform()
    assert page.execute_script("return document.querySelectorAll('.hovered').length") == 0
    assert chromium.console(page) == []


@pytest.mark.parametrize(
    ("curve", "lines", "dots"),
    [
        ([(0, 0.2, None)], [], 1),  # stopped before its first step
        ([(0, 0.2, None), (0.4, 0.3, 3.0)], [2], 1),  # stopped within the first epoch: one loss
        ([(0, None, None), (1, None, 3.0), (2, None, 2.0)], [2], 0),  # not validated
        ([(0, None, None), (0.4, None, 3.0)], [], 1),
    ],
)
def test_a_curve_of_one_point_is_drawn_as_a_dot(
    one_browser: WebDriver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    curve: list[tuple[float, float | None, float | None]],
    lines: list[int],
    dots: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    epochs: list[dict[str, Any]] = [
        dict(zip(("epoch", "map_at_r", "loss"), entry, strict=True)) for entry in curve
    ]
    monkeypatch.setattr(collection, "write_embeddings", with_curve(epochs))
    reported.run({"sharp": reported.odd(clustered(4, 2, 2, 1.2))})
    page = open_page(one_browser, tmp_path)
    drawn = page.execute_script(
        "return [...document.querySelectorAll('#training-part .curve')].map((l) => l.points.length)"
    )
    assert drawn == lines
    shown = page.find_elements(By.CSS_SELECTOR, "#training-part circle.dot")
    assert len(shown) == dots and all(dot.size["width"] > 5 for dot in shown)
    if curve[-1][0] == 0.4 and curve[-1][1] is not None:  # losses have no axis
        ticks = texts(page, "#training .tick[text-anchor=middle]")
        assert ticks and {"0", "1"} <= {*ticks}, "a part of an epoch doesn't stretch the axis"


def right(row: str, k: int) -> list[bool]:
    return [0 < float(line["first_hit"] or 0) <= k for line in figures(row)]


@pytest.mark.parametrize("k", [1, 5])
def test_filters_show_exactly_the_queries_they_name(page: WebDriver, k: int) -> None:
    choose(page, "query-k", str(k))
    verdicts = [right(row, k) for row in ROWS]
    every = range(len(verdicts[0]))
    expected = {
        "all": list(every),
        "missed": [q for q in every if not all(v[q] for v in verdicts)],
        "missed-by-all": [q for q in every if not any(v[q] for v in verdicts)],
        "disagree": [q for q in every if 0 < sum(v[q] for v in verdicts) < 3],
    }
    assert k == 5 or all(0 < len(expected[name]) < len(every) for name in expected if name != "all")
    for name, queries in expected.items():
        choose(page, "query-filter", name)
        assert sorted(shown_queries(page)) == queries, name
        assert texts(page, "#query-count")[0].startswith(f"{len(queries)} of {len(every)} queries")
    choose(page, "query-a", "blurred")
    choose(page, "query-b", "sharp")
    for name, (a, b) in {
        "both": (True, True),
        "only-a": (True, False),
        "only-b": (False, True),
        "neither": (False, False),
    }.items():
        choose(page, "query-filter", name)
        queries = [q for q in every if (verdicts[2][q], verdicts[0][q]) == (a, b)]
        assert sorted(shown_queries(page)) == queries, name
        assert texts(page, f".tile.{name} b") == [str(len(queries))]
        # Only the two rows in question are shown then, A above B.
        assert [text.split()[0] for text in texts(page, ".query:first-child .model")] in (
            [],
            ["blurred", "sharp"],
        )


def test_the_headline_and_the_query_list_count_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_browser: WebDriver
) -> None:
    monkeypatch.chdir(tmp_path)
    reported.run({"sharp": [*clustered(3, 2, 2, 0.6), Image("x", "query", None, [1] * 16)]})
    page = open_page(one_browser, tmp_path)
    until(lambda: texts(page, "#query-count")[0].startswith("7 of 7 queries, 6 of them scored, page 1"))
    assert "6 of 7 queries with 3 labels" in page.page_source


def test_a_model_is_taken_out_by_its_box(page: WebDriver) -> None:
    choose(page, "query-filter", "missed")
    for row in ("middling", "blurred"):
        page.find_element(By.CSS_SELECTOR, f'#query-models input[value="{row}"]').click()
    assert sorted(shown_queries(page)) == [q for q, is_right in enumerate(right("sharp", 1)) if not is_right]


def test_a_label_narrows_and_order_is_hardest_first(page: WebDriver) -> None:
    all_figures = [figures(row) for row in ROWS]
    mean = [sum(float(own[q]["map_at_r"]) for own in all_figures) / 3 for q in range(len(all_figures[0]))]
    order = shown_queries(page)
    assert [round(mean[q], 3) for q in order] == sorted(round(value, 3) for value in mean)
    choose(page, "query-order", "name")
    names = [all_figures[0][q]["query"] for q in shown_queries(page)]
    assert len(names) == 30

    box = page.find_element(By.ID, "query-text")
    wanted = reported.ODD_LABELS[2]
    box.send_keys(wanted)
    until(lambda: texts(page, "#query-count")[0].startswith("6 of 30"))
    assert {all_figures[0][q]["label"] for q in shown_queries(page)} == {wanted}
    box.send_keys(Keys.CONTROL, "a", Keys.DELETE)
    until(lambda: texts(page, "#query-count")[0].startswith("30 of 30"))
    box.send_keys("IMG SRC=X")  # part of a label, in any case
    until(lambda: texts(page, "#query-count")[0].startswith("6 of 30"))
    assert {all_figures[0][q]["label"] for q in shown_queries(page)} == {reported.ODD_LABELS[1]}


def test_labels_that_differ_in_case_only_are_chosen_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_browser: WebDriver
) -> None:
    monkeypatch.chdir(tmp_path)
    called = {"label 0": "Apple", "label 1": "apple"}
    reported.run(
        {
            "only": [
                Image(i.name, i.split, called.get(str(i.label), i.label), i.vector)
                for i in clustered(4, 3, 4, 1.5)
            ]
        }
    )
    page = open_page(one_browser, tmp_path)
    box = page.find_element(By.ID, "query-text")
    for written, labels in (("Apple", {"Apple"}), ("apple", {"apple"}), ("APPLE", {"Apple", "apple"})):
        box.send_keys(Keys.CONTROL, "a", Keys.DELETE)
        until(lambda: texts(page, "#query-count")[0].startswith("12 of 12"))  # the list before this label's
        box.send_keys(written)
        count = f"{3 * len(labels)} of 12"
        until(lambda count=count: texts(page, "#query-count")[0].startswith(count))
        assert {figures("only")[q]["label"] for q in shown_queries(page)} == labels


def test_answers_are_marked_in_words_and_by_border(page: WebDriver) -> None:
    data = json.loads(paths.report_row("sharp").read_text(encoding="ascii").partition(" = ")[2].rstrip(";\n"))
    query = shown_queries(page)[-1]
    strip = f'.query[data-query="{query}"] .row:first-child .answer'
    marks = texts(page, f"{strip} .mark")
    words = {"1": "✓ right", "0": "✗ wrong"}
    assert marks[: len(data["marks"][query])] == [
        f"{i + 1} {words[mark]}" for i, mark in enumerate(data["marks"][query])
    ]
    styles = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map((e) => [e.classList.contains('right'), getComputedStyle(e).borderTopStyle])",
        strip,
    )
    assert {tuple(style) for style in styles} == {(True, "solid"), (False, "dashed")}
    rank = figures("sharp")[query]["first_hit"]
    assert f"first right: rank {rank}" in texts(page, f'.query[data-query="{query}"] .model')[0]


def test_a_weak_label_opens_its_queries(page: WebDriver) -> None:
    choose(page, "labels-model", "blurred")
    means = [float(text) for text in texts(page, "#labels-table tbody td:nth-child(3)")]
    assert means == sorted(means) and len(means) == 5
    button = page.find_element(By.CSS_SELECTOR, "#labels-table tbody button")
    label = button.text
    page.execute_script("arguments[0].click()", button)
    assert str(page.find_element(By.ID, "query-text").get_attribute("value")).split() == label.split()
    assert len(shown_queries(page)) == 6


def test_suspects_follow_the_chosen_row(page: WebDriver) -> None:
    for row in ("blurred", "sharp"):
        choose(page, "alike-model", row)
        data = json.loads(
            paths.report_row(row).read_text(encoding="ascii").partition(" = ")[2].rstrip(";\n")
        )["alike"]
        assert texts(page, "#alike .pair-card p") == [f"{score:.4f}" for *_, score in data[:24]]
    more = page.find_element(By.CSS_SELECTOR, "#alike > button")
    page.execute_script("arguments[0].click()", more)
    assert len(texts(page, "#alike .pair-card")) == 48


def test_a_copy_of_a_training_photo_is_shown_beside_it(page: WebDriver) -> None:
    copied, copy = clustered(10, 3, 4, 1.2)[0], '"copy" & more.jpg'
    data = json.loads(
        (paths.near_copies("sharp") / "pairs.js")
        .read_text(encoding="ascii")
        .partition(" = ")[2]
        .rstrip(";\n")
    )
    assert data["pairs"][0]["test"]["id"] == copied.id
    first = "#copies .pair-card:first-child"
    assert texts(page, f"{first} p")[0].startswith("⚠ same picture? cosine 1.0000, pixels 1.00")
    captions = texts(page, f"{first} figcaption")
    assert (
        captions[0].startswith(data["pairs"][0]["test"]["label"])
        and captions[1] == f"<i>trained</i>train/<i>trained</i>/{copy}"
    )
    assert (
        f"{len(data['pairs'])} test photos that come nearest to one of the 30 training photos"
        in texts(page, "#copies-note")[0]
    )
    assert len(texts(page, "#copies .pair-card")) == 24
    for picture in page.find_elements(By.CSS_SELECTOR, f"{first} img"):
        page.execute_script("arguments[0].scrollIntoView()", picture)
        until(lambda picture=picture: page.execute_script("return arguments[0].naturalWidth", picture) > 0)
    page.execute_script("arguments[0].click()", page.find_element(By.ID, "copies-same"))
    same = [pair for pair in data["pairs"] if pair["agreement"] >= data["same"]]
    assert len(texts(page, "#copies .pair-card")) == len(same) < len(data["pairs"])


def test_answers_do_not_wait_for_near_copies(finished: Path, one_browser: WebDriver) -> None:
    file = paths.near_copies("sharp") / "pairs.js"
    original = file.read_text(encoding="ascii")
    drawn = "document.querySelectorAll('.query .answers .strip').length"
    try:
        file.write_text(f"window.drawnBefore = {drawn};\n{original}", encoding="ascii")
        page = open_page(one_browser, finished)
        before, after = page.execute_script(f"return [window.drawnBefore, {drawn}]")
        assert before == after > 0
    finally:
        file.write_text(original, encoding="ascii")


def test_without_training_photos_there_is_nothing_on_copies(finished: Path, one_browser: WebDriver) -> None:
    file = paths.near_copies("sharp") / "pairs.js"
    original = file.read_text(encoding="ascii")
    try:
        file.write_text(
            '(window.LINEUP_NEAR_COPIES ??= {})["sharp"] = {"train":0,"typical":null,"pairs":[],"same":0.95};\n',
            encoding="ascii",
        )
        page = open_page(one_browser, finished)
        assert not page.find_element(By.ID, "copies-part").is_displayed()
        file.unlink()
        page = open_page(one_browser, finished)
        assert texts(page, "#status li") == [
            "near_copies/sharp is missing: run dvc pull data/report/near_copies/sharp"
        ]
        chromium.console(page)  # the browser's own word on it
    finally:
        file.write_text(original, encoding="ascii")


def test_a_row_whose_file_is_missing_or_stale_is_named(finished: Path, one_browser: WebDriver) -> None:
    original = {row: paths.report_row(row).read_text(encoding="ascii") for row in ("blurred", "middling")}
    try:
        paths.report_row("blurred").unlink()
        paths.report_row("middling").write_text(
            original["middling"].replace('"collection":"', '"collection":"0'), encoding="ascii"
        )
        page = open_page(one_browser, finished)
        assert page.find_element(By.ID, "status").is_displayed()
        assert texts(page, "#status li") == [
            "middling: rows/middling.js is of other test images: run dvc repro",
            "blurred: rows/blurred.js is missing: run dvc pull data/report/rows/blurred.js",
        ]
        assert all("blurred.js" in line for line in chromium.console(page)), (
            "the browser's own word on the missing file"
        )
        # Git-tracked figures still filter; the other row's answers still show.
        choose(page, "query-filter", "disagree")
        assert shown_queries(page)
        assert texts(page, ".query .row:first-child .answer")
        assert "dvc pull" in texts(page, ".query .row:last-child .quiet")[0]
    finally:
        for row, text in original.items():
            paths.report_row(row).write_text(text, encoding="ascii")


@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window_light_and_dark(page: WebDriver, width: int) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        chromium.emulate(page, width, 900, scheme)
        until(
            lambda: page.execute_script(
                "return document.querySelector('#scatter svg').clientWidth <= innerWidth"
            )
        )
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        if width == 1280:
            cut_off = page.execute_script(
                "return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.id)"
            )
            assert cut_off == [], "no column is cut off"
        charts = page.execute_script(
            "return [...document.querySelectorAll('.chart svg')].map((e) => e.clientWidth)"
        )
        assert len(charts) == 5 and all(200 < drawn <= width for drawn in charts)
        assert (
            page.execute_script("return document.querySelector('#labels-table tbody th').clientWidth") > 100
        )
        grounds[scheme] = page.execute_script(
            "return getComputedStyle(document.documentElement).backgroundColor"
        )
        low = page.execute_script(CONTRAST)
        assert low == [], f"too little contrast in {scheme}"
    assert grounds["light"] != grounds["dark"]


def test_every_control_has_a_name(page: WebDriver) -> None:
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('input:not([type=hidden]), select, button')]"
        ".filter((e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    assert (
        page.execute_script(
            "return [...document.querySelectorAll('img:not([alt]), svg[role=img]:not([aria-label])')].length"
        )
        == 0
    )


VIEWS = pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"]
)


def visit(browser: WebDriver, folder: Path, width: int, scheme: str, address: str = "") -> WebDriver:
    """The page at a width and in a colour scheme, opened with what follows "#" in its address."""
    chromium.emulate(browser, width, 900, scheme)
    browser.get("about:blank")
    for log in (chromium.console, chromium.requests):
        log(browser)
    browser.get((folder / paths.REPORT).as_uri() + address)
    until(lambda: browser.execute_script("return document.documentElement.dataset.loaded") == "yes")
    return browser


def press(browser: WebDriver, selector: str) -> None:
    """Focuses a control and presses Enter, as a reader without a mouse does."""
    control = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].focus()", control)
    control.send_keys(Keys.ENTER)


def send(browser: WebDriver, key: str) -> None:
    browser.switch_to.active_element.send_keys(key)


def ranking(row: str) -> dict[str, dict[str, Any]]:
    return {line["query_id"]: line for line in parquet.read_table(paths.ranking(row)).to_pylist()}


def sides() -> dict[str, Any]:
    text = (paths.REPORT_ASSETS / "data.js").read_text(encoding="ascii").splitlines()[0]
    return json.loads(text.partition(" = ")[2].rstrip(";"))


@VIEWS
def test_a_pair_is_seen_large_with_its_rank_and_score_in_every_row(
    finished: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    page = visit(one_browser, finished, width, scheme)
    query = shown_queries(page)[-1]
    images, last = sides(), f'.query[data-query="{query}"]'
    press(page, f"{last} .row:first-child .look")
    rankings = {row: ranking(row)[images["queries"]["ids"][query]] for row in ROWS}
    answers = rankings["sharp"]["gallery_ids"]

    def shows(rank: int) -> bool:
        """Whether the table has the rank and score of the first row's answer at this rank, in every row."""
        answer = answers[rank - 1]
        expected = []
        for row in ROWS:
            index = rankings[row]["gallery_ids"].index(answer)
            expected.append([row, str(index + 1), f"{rankings[row]['scores'][index]:#.3g}"])
        cells = texts(page, "#viewer-ranks tbody tr > *")
        return [cells[i : i + 3] for i in range(0, len(cells), 3)] == expected

    until(lambda: shows(1))
    until(
        lambda: page.execute_script(
            "return [...document.querySelectorAll('#viewer figure img')]"
            ".every((i) => i.src.startsWith('data:image/webp') && i.naturalWidth === 160)"
        )
    )
    boxes = page.execute_script(
        "return [...document.querySelectorAll('#viewer, #viewer figure, #viewer img')].map((e) => e.getBoundingClientRect())"
        ".map((r) => [r.left >= 0 && r.right <= document.documentElement.clientWidth && r.bottom <= innerHeight, r.width, r.height])"
    )
    assert all(inside for inside, *_ in boxes), "nothing is cut off"
    assert min(min(size) for _, *size in boxes) > 200, "as large as the window allows"
    assert page.execute_script(CONTRAST) == []
    send(page, Keys.ARROW_RIGHT)
    until(lambda: shows(2))
    assert texts(page, "#viewer-title") == ["Answer 2 of sharp"]
    swipe(page, by=-150)
    until(lambda: shows(3))
    swipe(page, by=150)
    until(lambda: shows(2))
    send(page, Keys.ARROW_LEFT)
    send(page, Keys.ARROW_LEFT)  # there is nothing before the first
    until(lambda: shows(1))
    before = texts(page, "#viewer-query .path")
    send(page, Keys.ARROW_UP)
    assert texts(page, "#viewer-query .path") != before
    send(page, Keys.ARROW_DOWN)
    assert texts(page, "#viewer-query .path") == before
    send(page, Keys.ESCAPE)
    assert not page.find_element(By.ID, "viewer").is_displayed()
    focused = page.execute_script("return document.activeElement.ariaLabel")
    assert focused.startswith("Answer 1 of sharp, "), "focus is back where it was"
    send(page, Keys.ARROW_RIGHT)
    assert page.execute_script("return document.activeElement.ariaLabel").startswith("Answer 2 of sharp, ")
    assert page.execute_script("return window.attacked") is None and chromium.console(page) == []
    assert {url.partition(":")[0] for url in chromium.requests(page)} <= {"file", "data"}


def swipe(browser: WebDriver, by: int) -> None:
    """A finger's move to the right by so many pixels, over the query's picture."""
    box = browser.execute_script(
        "return document.querySelector('#viewer-query img').getBoundingClientRect().toJSON()"
    )
    x, y = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x + by, "y": y}]),
        ("touchEnd", []),
    ):
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_without_its_larger_file_a_photo_is_shown_small_and_a_rank_among_the_first_ten(
    finished: Path, one_browser: WebDriver
) -> None:
    hidden = [paths.REPORT_PICTURES, paths.report_ranks("blurred")]
    for folder in hidden:
        folder.rename(folder.with_name(folder.name + ".hidden"))
    try:
        page = visit(one_browser, finished, 1280, "light")
        press(page, ".query .row:first-child .look")
        until(lambda: "dvc pull data/report/pictures" in "".join(texts(page, "#viewer-note")))
        until(lambda: len(texts(page, "#viewer-ranks tbody tr")) == 3)
        assert texts(page, "#viewer-ranks tr:last-child td")[0] in (*map(str, range(1, 11)), "not among 10")
        page.find_element(By.ID, "viewer-save").click()
        until(lambda: "dvc pull data/report/pictures" in texts(page, "#viewer-note")[0])
    finally:
        for folder in hidden:
            folder.with_name(folder.name + ".hidden").rename(folder)


@VIEWS
def test_a_query_is_saved_as_one_picture_and_the_list_as_csv(
    finished: Path, one_browser: WebDriver, tmp_path: Path, width: int, scheme: str
) -> None:
    page = visit(one_browser, finished, width, scheme, "#queries?rows=sharp,blurred&order=name")
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    until(lambda: texts(page, ".query"))
    query = int(str(page.find_element(By.CLASS_NAME, "query").get_attribute("data-query")))
    press(page, ".query .asked figcaption button")
    until(lambda: [*tmp_path.glob("*.png")])
    file, images = next(tmp_path.glob("*.png")), sides()["queries"]
    assert file.name.endswith(f"_{images['ids'][query][:8]}.png")
    with Pillow.open(file) as saved:
        assert saved.width == 1600 and saved.height < 900
        thumbnail = Pillow.open(paths.REPORT_THUMBNAILS / f"{images['ids'][query]}.jpg")
        drawn, expected = np.asarray(saved.convert("RGB"), int), np.asarray(thumbnail, int)
        assert np.abs(drawn[190, 300] - expected[45, 150]).max() < 12, "the query's right half"
        colours = {colour for _, colour in saved.convert("RGB").getcolors(2**24) or []}
        assert {(20, 108, 67), (166, 27, 27)} & colours, "frames of right and wrong answers"
    press(page, "#query-csv")
    until(lambda: [*tmp_path.glob("*.csv")])
    lines = csv_files.read_csv(tmp_path / "queries.csv")
    names = [line["query"] for line in lines]
    assert names == sorted(names) and len(lines) == 30
    own = {
        row: {line["query_id"]: line for line in csv_files.read_csv(paths.row_queries(row))} for row in ROWS
    }
    for line in lines:
        for row in ("sharp", "blurred"):
            expected = own[row][line["query_id"]]
            for column in ("first_hit", "top_answer", "top_label"):
                assert line[f"{row}.{column}"] == expected[column]
            assert float(line[f"{row}.map_at_r"]) == pytest.approx(float(expected["map_at_r"]), abs=1e-4)
    assert "middling.first_hit" not in lines[0] and chromium.console(page) == []


@VIEWS
def test_two_rows_against_each_other(finished: Path, one_browser: WebDriver, width: int, scheme: str) -> None:
    page = visit(one_browser, finished, width, scheme)
    choose(page, "query-a", "blurred")
    choose(page, "query-b", "sharp")
    page.execute_script(
        "const k = document.getElementById('query-k'); k.value = '5'; k.dispatchEvent(new Event('change'))"
    )
    a, b = right("blurred", 5), right("sharp", 5)
    pairs = [*zip(a, b, strict=True)]
    kinds = {
        "both": (True, True),
        "only-a": (True, False),
        "only-b": (False, True),
        "neither": (False, False),
    }
    for kind, values in kinds.items():
        assert texts(page, f".tile.{kind} b") == [str(pairs.count(values))]
    net = sum(a) - sum(b)
    line = next(
        line
        for line in csv_files.read_csv(paths.SIGNIFICANCE)
        if line["metric"] == "top_5" and {line["model_a"], line["model_b"]} == {"blurred", "sharp"}
    )
    sign = 1 if line["model_a"] == "blurred" else -1
    ends = sorted(sign * float(line[end]) for end in ("low", "high"))
    text = texts(page, "#against-net")[0]
    assert text.startswith(f"B is right on {-net} more of 30 queries.")
    expected = [f"{sign * float(line['difference']):+.3f}", *(f"{end:+.3f}" for end in ends)]
    assert re.findall(r"top_5 (\S+) \((\S+) to (\S+)\), p", text.replace("\N{MINUS SIGN}", "-")) == [
        tuple(expected)
    ]
    assert ("can't tell" in text.partition("top_5")[2]) == (float(line["p_holm"]) >= 0.05)

    press(page, '[data-kind="only-b"]')
    assert sorted(shown_queries(page)) == [q for q, values in enumerate(pairs) if values == (False, True)]
    ticked = "return [...document.querySelectorAll('#query-models input:checked')].map((e) => e.value)"
    assert page.execute_script(ticked) == ["sharp", "blurred"], "the choice of rows follows"
    assert [text.split()[0] for text in texts(page, ".query:first-child .model")] == ["blurred", "sharp"]
    choose(page, "query-a", "middling")
    assert page.execute_script(ticked) == ["sharp", "middling"]
    page.find_element(By.ID, "against-swap").click()
    assert [text.split()[0] for text in texts(page, ".query:first-child .model")] in (
        [],
        ["sharp", "middling"],
    )
    chosen = "return ['a', 'b'].map((key) => document.getElementById(`query-${key}`).value)"
    choose(page, "query-b", "sharp")
    assert page.execute_script(chosen) == ["middling", "sharp"], "no row is against itself"
    choose(page, "query-a", "sharp")
    assert page.execute_script(chosen) == ["sharp", "middling"]
    press(page, '[data-row="middling"][data-place="a-first"]')
    assert page.execute_script(chosen) == ["middling", "sharp"]
    press(page, '[data-kind="only-b"]')
    assert page.execute_script(TOP, "queries") < 100, "the queries come into view"
    press(page, '[data-kind="only-b"]')  # again: all queries
    assert len(shown_queries(page)) == 30
    assert page.execute_script("return document.activeElement.dataset.kind") == "only-b"
    assert page.execute_script(CONTRAST) == [] and chromium.console(page) == []


@VIEWS
def test_groups_of_queries_show_where_a_row_fails(
    grouped: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    page = visit(one_browser, grouped, width, scheme, "#slices")
    assert abs(page.execute_script(TOP, "slices")) < 100, "the section that the address names is in view"
    groups = slices.read(grouped / paths.SLICES)
    assert {each.queries for each in groups if each.attribute == "tone"} == {20, 40}
    assert len({each.attribute for each in groups}) == 2
    for row in GROUPED_ROWS:
        choose(page, "slices-row", row)
        own = [each for each in groups if each.model == row]
        lines = page.execute_script(
            "return [...document.querySelectorAll('#slices-table tr:has(td)')].map((row) => [...row.cells].map((e) => e.textContent.replace('\N{MINUS SIGN}', '-')))"
        )
        assert [line[:3] for line in lines] == [
            [each.group, str(each.queries), f"{each.mean:.3f}"] for each in own
        ]
        for line, each in zip(lines, own, strict=True):
            assert each.to_mean.p_holm is not None
            certain = each.to_mean.p_holm < 0.05
            assert line[3].startswith(tables.signed(each.to_mean.value))
            assert ("can't tell" in line[3]) != certain and ("p " in line[3]) == certain
            assert each.to_best is None or line[4].startswith(tables.signed(each.to_best.value))
    press(page, f"#slices-table [data-slice='tone: {DARK}']")
    data = page.execute_script("return LINEUP.collection.queries.paths")
    dark = [q for q, path in enumerate(data) if path.endswith("/0.jpg")]
    assert len(dark) == 20 and sorted(shown_queries(page)) == dark
    assert "blurred" in {text.split()[0] for text in texts(page, ".query .model")}
    assert texts(page, "#query-slice-clear") == [f"tone: {DARK} \N{MULTIPLICATION X}"]
    address = page.execute_script("return location.hash")
    assert chromium.console(page) == [] and page.execute_script(CONTRAST) == []

    page = visit(one_browser, grouped, width, scheme, address)
    assert abs(page.execute_script(TOP, "queries")) < 100
    assert sorted(shown_queries(page)) == dark
    page.execute_script("document.getElementById('query-slice-clear').click()")
    assert len(shown_queries(page)) == 60 and "slice" not in page.current_url
    page = visit(one_browser, grouped, width, scheme, "#queries?slice=tone%3A+gone")
    assert len(shown_queries(page)) == 60, "a group that is not there is ignored"


@VIEWS
def test_where_the_best_row_fails_is_said_in_one_place(
    grouped: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    best = next(iter(GROUPED_ROWS))
    page = visit(one_browser, grouped, width, scheme, "#weaknesses")
    assert texts(page, "#weaknesses-title") == [f"Where {best} fails"]
    cards: dict[str, list[str]] = page.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('#weaknesses-cards .card')].map((card) => "
        "[card.querySelector('h3').textContent, [...card.querySelectorAll('li, p')].map((e) => e.textContent)]))"
    )
    titles = ["First right answer", "Hardest groups", "Weakest labels", "Most confused"]
    assert texts(page, "#weaknesses h3") == titles
    lines = csv_files.read_csv(grouped / paths.row_queries(best))
    ranks = [float(line["first_hit"] or 0) for line in lines]
    near = sum(2 <= rank <= 5 for rank in ranks)
    assert f"at rank 2-5 {near} ({100 * near / len(ranks):.1f}%)" in cards["First right answer"]

    groups = [each for each in slices.read(grouped / paths.SLICES) if each.model == best]
    below = sorted((each for each in groups if each.to_mean.value < 0), key=lambda each: each.to_mean.value)
    worse = [each for each in below if (each.to_mean.p_holm or 1) < 0.05]
    none = [] if worse else ["No group is below the mean by more than chance. The lowest:"]
    assert [line.split(" 0.")[0] for line in cards["Hardest groups"][:-1]] == none + [
        f"{each.attribute}: {each.group}" for each in (worse or below)[:3]
    ]

    of_label: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        of_label[line["label"]].append(float(line["map_at_r"]))
    means = sorted(sum(values) / len(values) for values in of_label.values())
    shown = [float(line.split(", ")[0].split()[-1]) for line in cards["Weakest labels"] if "quer" in line]
    assert shown == pytest.approx(means[:3], abs=0.001)

    confused = Counter(
        (line["label"], line["top_label"])
        for line in lines
        if line["first_hit"] != "1" and line["top_label"] != line["label"]
    )
    times = [int(line.split(", ")[-1].removesuffix("×")) for line in cards["Most confused"][:-1]]
    assert times == sorted(confused.values(), reverse=True)[:3]

    press(page, "#weaknesses .card:first-child li:nth-child(2) button")
    assert sorted(shown_queries(page)) == [q for q, rank in enumerate(ranks) if 2 <= rank <= 5]
    assert "show=a-near" in page.current_url
    assert page.execute_script(CONTRAST) == [] and chromium.console(page) == []


@VIEWS
def test_kinds_of_failure_are_counted_and_show_their_queries(
    finished: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    page = visit(one_browser, finished, width, scheme)
    for row in ROWS:
        ranks = [float(line["first_hit"] or 0) for line in figures(row)]
        expected = {
            "a-first": [q for q, rank in enumerate(ranks) if rank == 1],
            "a-near": [q for q, rank in enumerate(ranks) if 2 <= rank <= 5],
            "a-deep": [q for q, rank in enumerate(ranks) if rank > 5],
            "a-none": [q for q, rank in enumerate(ranks) if rank == 0],
        }
        assert sum(map(len, expected.values())) == len(ranks) == 30
        for place, queries in expected.items():
            assert texts(page, f'[data-row="{row}"][data-place="{place}"]') == [str(len(queries))]
    page.execute_script("Selection.set({text: 'nothing has this label'})")
    assert shown_queries(page) == [] and "No query matches" in texts(page, "#query-list")[0]
    press(page, "#query-all")
    assert len(shown_queries(page)) == 30
    # A number shows what it counts, whatever was chosen before, and Back leads to what was there.
    page.execute_script("Selection.set({text: 'nothing has this label'}); location.hash = '#failures'")
    press(page, '[data-row="blurred"][data-place="a-near"]')
    page.execute_script("history.back()")
    until(lambda: page.current_url.endswith("#failures"))
    page.execute_script("history.forward()")
    until(lambda: "show=a-near" in page.current_url)
    press(page, '[data-row="blurred"][data-place="a-deep"]')  # and so does a second number
    page.execute_script("history.back()")
    until(lambda: page.current_url.endswith("#failures"))
    press(page, '[data-row="blurred"][data-place="a-near"]')
    ranks = [float(line["first_hit"] or 0) for line in figures("blurred")]
    assert sorted(shown_queries(page)) == [q for q, rank in enumerate(ranks) if 2 <= rank <= 5]
    assert {text.split()[0] for text in texts(page, ".query .model")} == {"blurred"}
    assert "show=a-near" in page.current_url and chromium.console(page) == []


def near_duplicates(row: str) -> list[int]:
    lines = [(q, line) for q, line in enumerate(figures(row))]
    right = [float(line["top_score"]) for _, line in lines if line["first_hit"] == "1"]
    wrong = [
        (q, line) for q, line in lines if line["first_hit"] != "1" and line["label"] != line["top_label"]
    ]
    return [q for q, line in wrong if float(line["top_score"]) > np.quantile(right, 0.95)]


def test_near_duplicates_under_another_label_are_a_kind_of_failure(page: WebDriver) -> None:
    counts = {row: near_duplicates(row) for row in ROWS}
    assert any(counts.values())
    for row, queries in counts.items():
        assert texts(page, f'[data-row="{row}"][data-place="a-alike"]') == [str(len(queries))]
    row = max(counts, key=lambda name: len(counts[name]))
    press(page, f'[data-row="{row}"][data-place="a-alike"]')
    assert sorted(shown_queries(page)) == counts[row]


@VIEWS
def test_confused_labels_are_counted_and_both_are_shown(
    finished: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    page = visit(one_browser, finished, width, scheme)
    choose(page, "labels-model", "blurred")
    wrong = [
        line for line in figures("blurred") if line["first_hit"] != "1" and line["label"] != line["top_label"]
    ]
    counts = Counter((line["label"], line["top_label"]) for line in wrong)
    buttons = page.find_elements(By.CSS_SELECTOR, "#confusions-table button")
    assert {button.get_attribute("title"): button.text for button in buttons} == {
        f"{label} confused with {answered} {'once' if count == 1 else f'{count} times'}": str(count)
        for (label, answered), count in counts.items()
    }
    ((label, answered), count) = counts.most_common(1)[0]
    names = sides()["labels"]
    press(page, f'#confusions-table [data-pair="{names.index(label)} {names.index(answered)}"]')
    shown = texts(page, "#confusion .pair-card b")
    assert shown == [label, answered] * count
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.execute_script(CONTRAST) == [] and chromium.console(page) == []
    press(page, "#confusion .look")
    until(lambda: page.find_element(By.ID, "viewer").is_displayed())


def on_canvas(page: WebDriver, place: Sequence[float]) -> tuple[int, int]:
    """A place of the map in pixels from the middle of the canvas, as Selenium counts."""
    width, height, most_x, most_y = page.execute_script(
        "const c = document.getElementById('map-canvas'), m = Page.maps.sharp,"
        " most = (axis) => Math.max(...m.queries[axis], ...m.gallery[axis]);"
        "return [c.clientWidth, c.clientHeight, most('x'), most('y')]"
    )
    scale = min((width - 24) / most_x, (height - 24) / most_y)
    return round((place[0] - most_x / 2) * scale), round((place[1] - most_y / 2) * scale)


def map_places() -> dict[int, tuple[int, int]]:
    """{query: its place on the map of `sharp`}."""
    text = paths.report_map("sharp").read_text(encoding="ascii")
    side = json.loads(text.partition(" = ")[2].removesuffix(";\n"))["queries"]
    return dict(zip(side["at"], zip(side["x"], side["y"], strict=True), strict=True))


@VIEWS
def test_a_region_of_the_map_chooses_the_queries_in_it(
    finished: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    page = visit(one_browser, finished, width, scheme)
    canvas, places = page.find_element(By.ID, "map-canvas"), map_places()
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    middle = np.median([*places.values()], axis=0).tolist()
    from_x, from_y = on_canvas(page, (0, 0))
    to_x, to_y = on_canvas(page, middle)
    drag = ActionChains(page).move_to_element_with_offset(canvas, from_x - 8, from_y - 8).click_and_hold()
    drag.move_by_offset(to_x - from_x, to_y - from_y).move_by_offset(8, 8).release().perform()
    until(lambda: "region=sharp" in page.current_url)
    region = [
        int(number) for number in re.split("%3A|%2C", page.current_url.partition("region=sharp")[2])[1:5]
    ]
    assert region[:2] == [0, 0] and np.allclose(region[2:], middle, atol=12)
    inside = [q for q, (x, y) in places.items() if x <= region[2] and y <= region[3]]
    assert 0 < len(inside) < 30 and sorted(shown_queries(page)) == sorted(inside)

    page.find_element(By.ID, "map-misses").click()
    missed = [q for q in inside if figures("sharp")[q]["first_hit"] != "1"]
    until(lambda: sorted(shown_queries(page)) == sorted(missed))
    address = page.execute_script("return location.hash")
    page = visit(one_browser, finished, width, scheme, address)
    assert sorted(shown_queries(page)) == sorted(missed)
    assert page.find_element(By.ID, "map-misses").is_selected()
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_script("document.getElementById('query-region-clear').click()")
    assert len(shown_queries(page)) == 30 and "region" not in page.current_url
    assert page.execute_script(CONTRAST) == [] and chromium.console(page) == []


def test_a_photo_on_the_map_is_shown_by_pointer_and_by_keys(page: WebDriver) -> None:
    canvas, places = page.find_element(By.ID, "map-canvas"), map_places()
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    for colour in ("label", "verdict"):
        choose(page, "map-colour", colour)
    shown, tip = sides(), page.find_element(By.ID, "map-tip")
    # The query that is furthest from every other photo, so that it is the one that is pointed at.
    alone = max(
        places, key=lambda q: min(np.hypot(*np.subtract(places[q], at)) for p, at in places.items() if p != q)
    )
    ActionChains(page).move_to_element_with_offset(canvas, *on_canvas(page, places[alone])).perform()
    until(tip.is_displayed)
    assert page.execute_script("return arguments[0].querySelector('img').src", tip).endswith(
        f"{shown['queries']['ids'][alone]}.jpg"
    )
    assert texts(page, "#map-tip b") == [shown["labels"][shown["queries"]["label"][alone]]]
    ActionChains(page).click().perform()
    until(lambda: page.find_element(By.ID, "viewer").is_displayed())
    send(page, Keys.ESCAPE)
    until(lambda: not page.find_element(By.ID, "viewer").is_displayed())

    ActionChains(page).move_to_element_with_offset(canvas, 0, -canvas.size["height"] // 2 - 30).perform()
    page.execute_script("arguments[0].blur(); arguments[0].focus()", canvas)
    send(page, Keys.ARROW_RIGHT)
    until(lambda: tip.is_displayed() and texts(page, "#map-photo")[0].startswith("Query "))
    send(page, Keys.SPACE)
    until(lambda: "region=sharp" in page.current_url)
    assert 0 < len(shown_queries(page)) < 30
    page.execute_script("arguments[0].focus()", canvas)
    send(page, Keys.ESCAPE)
    until(lambda: "region" not in page.current_url)
    assert len(shown_queries(page)) == 30 and chromium.console(page) == []


@VIEWS
def test_the_address_holds_what_is_shown(
    finished: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    page = visit(one_browser, finished, width, scheme)
    label = reported.ODD_LABELS[2]
    page.execute_script(
        "Selection.set({show: 'missed', k: '5', text: arguments[0], order: 'name', row: 'blurred'})", label
    )
    address = page.execute_script("return location.hash")
    shown = shown_queries(page)
    assert 0 < len(shown) < 6
    page = visit(one_browser, finished, width, scheme, address)
    assert shown_queries(page) == shown
    assert page.find_element(By.ID, "query-text").get_attribute("value") == label
    assert page.execute_script("return document.getElementById('query-k').value") == "5"
    press(page, "#query-link")
    until(lambda: texts(page, "#query-link") == ["Copied"])
    pasted = page.find_element(By.ID, "query-text")
    page.execute_script(
        "document.querySelector('#query-controls:not(:popover-open)')?.matches('[popover]') && innerWidth < 640 && document.getElementById('query-controls').showPopover()"
    )
    pasted.send_keys(Keys.CONTROL, "a", "v")
    assert pasted.get_attribute("value") == page.current_url

    # What this report does not have is ignored; a page beyond the last is the last.
    page = visit(
        one_browser, finished, width, scheme, "#queries?show=nothing&a=gone&rows=sharp,gone&k=5&page=9"
    )
    assert texts(page, "#query-count") == ["30 of 30 queries, page 3 of 3"]
    assert {text.split()[0] for text in texts(page, ".query .model")} == {"sharp"}
    page.execute_script("location.hash = '#queries?rows=blurred'")
    until(lambda: {text.split()[0] for text in texts(page, ".query .model")} == {"blurred"})
    page.execute_script(
        "location.hash = '#queries'"
    )  # as the navigation does: the address names what is shown
    until(lambda: page.current_url.endswith("#queries?rows=blurred"))
    press(page, "#query-clear")
    assert {text.split()[0] for text in texts(page, ".query .model")} == set(ROWS)
    assert page.current_url.endswith("#queries")
    assert not page.find_element(By.ID, "query-clear").is_displayed()
    assert chromium.console(page) == []


def test_on_a_narrow_screen_filters_are_in_a_drawer_and_three_answers_in_a_row(
    finished: Path, one_browser: WebDriver
) -> None:
    page = visit(one_browser, finished, 400, "light")
    drawer = page.find_element(By.ID, "query-controls")
    assert not drawer.is_displayed()
    press(page, ".drawer-button")
    assert drawer.is_displayed() and page.execute_script(CONTRAST) == []
    choose(page, "query-filter", "missed")
    page.find_element(By.CSS_SELECTOR, '#query-models input[value="blurred"]').click()
    send(page, Keys.ESCAPE)
    assert not drawer.is_displayed()
    assert texts(page, ".drawer-button") == ["Filters (2 set)"]
    visible = page.execute_script(
        "const strip = document.querySelector('.strip').getBoundingClientRect();"
        "return [...document.querySelectorAll('.query:first-child .row:first-child .answer')]"
        ".filter((e) => e.getBoundingClientRect().right <= strip.right + 1).length"
    )
    assert visible == 3
    chromium.emulate(page, 1280, 900, "light")
    assert drawer.is_displayed() and not page.find_element(By.CLASS_NAME, "drawer-button").is_displayed()


@VIEWS
def test_the_first_screen_shows_what_the_best_row_wins_and_loses(
    finished: Path, one_browser: WebDriver, width: int, scheme: str
) -> None:
    page = visit(one_browser, finished, width, scheme)
    own = {row: figures(row) for row in ("sharp", "middling")}

    def lead(a: str, b: str, q: int) -> float:
        only_a = own[a][q]["first_hit"] == "1" != own[b][q]["first_hit"]
        return only_a + round(float(own[a][q]["map_at_r"]), 4) - round(float(own[b][q]["map_at_r"]), 4)

    expected = []
    for a, b in (("sharp", "middling"), ("middling", "sharp")):
        ahead = [q for q in range(30) if float(own[a][q]["map_at_r"]) > float(own[b][q]["map_at_r"])]
        labels: list[str] = []
        for q in sorted(ahead, key=lambda q: (-lead(a, b, q), q)):
            labels += [own[a][q]["label"]] * (own[a][q]["label"] not in labels)
        expected += labels[:3]
    spaced = [" ".join(text.split()) for text in texts(page, ".example .unmarked b")]
    assert spaced == [" ".join(label.split()) for label in expected]
    assert len(texts(page, ".example")) > 3
    assert len(texts(page, ".example .right .mark, .example .wrong .mark")) == 2 * len(expected)
    assert texts(page, "#examples-other") == ["middling"]
    wins = page.execute_script("return document.querySelector('.examples').children.length")
    first = {row: [line["first_hit"] == "1" for line in lines] for row, lines in own.items()}
    alone = [
        sum(a and not b for a, b in zip(first[x], first[y], strict=True))
        for x, y in pairwise([*first, *first][:3])
    ]
    assert [int(text.split(":")[1].split()[0]) for text in texts(page, "#examples h3")] == alone
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d UTC\.$", texts(page, "#made")[0])
    top = page.execute_script("return document.querySelector('.example img').getBoundingClientRect().top")
    assert top < 900, "a photo is on the first screen"
    press(page, ".example .look")
    until(lambda: texts(page, "#viewer-title") == ["Answer 1 of sharp"])
    for number in range(1, wins + 1):
        assert texts(page, "#viewer-position") == [f"Query {number} of {wins}"]
        send(page, Keys.ARROW_DOWN)  # through the examples, and not beyond the last
    assert texts(page, "#viewer-position") == [f"Query {wins} of {wins}"]
    send(page, Keys.ESCAPE)
    page.find_element(By.CLASS_NAME, "tip").click()
    shown = "return getComputedStyle(document.querySelector('.tip'), '::after').content"
    assert page.execute_script(shown).startswith('"p ')


def test_a_date_of_another_page_is_not_shown(finished: Path, one_browser: WebDriver) -> None:
    original = paths.REPORT_MADE.read_text(encoding="utf-8")
    try:
        paths.REPORT_MADE.write_text(re.sub(r'\["\w+"\]', '["0123456789abcdef"]', original), encoding="utf-8")
        page = visit(one_browser, finished, 1280, "light")
        assert texts(page, "#made") == ["The date did not come with this copy."]
        assert not page.find_element(By.ID, "made-project").is_displayed()
    finally:
        paths.REPORT_MADE.write_text(original, encoding="utf-8")


@VIEWS
def test_without_labels_photos_are_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_browser: WebDriver, width: int, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    images = [Image(i.name, i.split, None, i.vector) for i in clustered(2, 2, 4, 1.0)]
    reported.run({"one": images, "two": images})
    page = visit(one_browser, tmp_path, width, scheme)
    assert texts(page, "#query-count") == ["4 of 4 queries, page 1 of 1"]
    press(page, ".query .row:first-child .look")
    until(lambda: len(texts(page, "#viewer-ranks tbody tr")) == 2)
    assert texts(page, "#viewer-answer .mark") == ["? unknown"]
    assert page.execute_script(CONTRAST) == [] and chromium.console(page) == []


# Texts whose contrast with the ground behind them is below 4.5 (WCAG 2.1, 1.4.3), colours as computed.
CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
};
return [...document.querySelectorAll('main *:not(svg *):not(option)')].filter((e) => !e.disabled && e.checkVisibility()
    && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).filter((e) => {
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05) < 4.5;
}).map((e) => e.outerHTML.slice(0, 120));
"""


def test_a_score_shows_the_pictures_of_both_errors_and_their_counts(page: WebDriver) -> None:
    lines = figures("middling")
    choose(page, "match-row", "middling")
    right = sorted(float(line["top_score"]) for line in lines if line["first_hit"] == "1")
    # In the widest gap of the middle half, where rounding cannot matter.
    middle = right[len(right) // 4 : -len(right) // 4]
    low, high = max(pairwise(middle), key=lambda ends: ends[1] - ends[0])
    least = (low + high) / 2
    page.execute_script(
        "const slider = document.getElementById('match-score');"
        "slider.value = arguments[0]; slider.dispatchEvent(new Event('input'))",
        least,
    )
    missed = sum(
        int(line["relevant"]) > 0 and not (line["first_hit"] == "1" and float(line["top_score"]) >= least)
        for line in lines
    )
    matched = sum(line["label"] != "" and float(line["wrong_score"] or -9) >= least for line in lines)
    assert 0 < missed < len(lines) and 0 < matched < len(lines)
    until(lambda: f"({missed} of " in texts(page, "#match-errors")[0])
    assert f"({matched} of " in texts(page, "#match-errors")[0]
    for box, count in (("match-missed", missed), ("match-false", matched)):
        assert len(page.find_elements(By.CSS_SELECTOR, f"#{box} .pair-card")) == min(count, 24)
    assert texts(page, "#match-curve .label") != [] and page.find_elements(
        By.CSS_SELECTOR, "#match-histogram .bin"
    )
