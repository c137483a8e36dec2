"""The judging page in a real browser: by mouse and by keyboard, in two tabs, and with a server that ends."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support import browser as chromium
from tests.support import page_server, pooled
from tests.support.browser import WebDriver
from tests.support.pooled import image_id

pytestmark = pytest.mark.slow

PAGE, ROWS = "judging page", ("one", "two", "three")
ODD_LABEL = "<script>document.title='attacked'</script><b>&\"'"
ODD_PATH = "test/gallery/<img src=x onerror=alert(1)>/g1.png"
QUERIES = 5_000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """5,000 queries with odd names, and pictures; the working directory is there."""
    folder = tmp_path_factory.mktemp("judging")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        labels = {f"q{number}": ODD_LABEL for number in range(QUERIES)}
        names = {f"g{number}": ODD_PATH for number in range(60)}
        ranked = pooled.random_rankings(QUERIES, 60, 8, ROWS)
        pooled.write(ranked, labels=labels, names=names, pixels=True)
        yield folder


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    started = chromium.start(tmp_path_factory.mktemp("chromium"))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    with page_server.serving(project, PAGE, "judge", "--port", "0", "--k", "4", "--judge", "ann") as address:
        yield address


# Of each row of the verdict: its name and numbers, and where its bar begins and ends, as shares of its track.
DRAWN = """
return [...document.querySelectorAll("#standing-rows tr")].map((line) => {
  const track = line.querySelector(".track").getBoundingClientRect();
  const bar = line.querySelector(".bar").getBoundingClientRect();
  const [mean, interval] = [...line.querySelectorAll(".number")].map((cell) => cell.textContent);
  const drawn = [bar.left, bar.right].map((x) => (x - track.left) / track.width);
  return { row: line.querySelector("code").textContent, mean, interval, drawn };
});
"""


class Page:
    def __init__(self, browser: WebDriver, url: str) -> None:
        self.browser = browser
        chromium.emulate(browser, 1280, 900, "light")
        browser.get(url)
        browser.execute_script("sessionStorage.clear()")
        browser.get(url)
        self.wait(self.pictures)

    def wait(self, met: Callable[[], object]) -> None:
        for _ in range(400):
            if met():
                return
            time.sleep(0.05)
        raise AssertionError(f"the page did not get there; it says {self.text('body')!r}")

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def pictures(self) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, ".picture")

    def ids(self) -> list[str]:
        return self.browser.execute_script(
            "return [...document.querySelectorAll('.picture')].map((e) => e.dataset.image)"
        )

    def query(self) -> str:
        return str(self.one("#query-picture").get_attribute("src")).rpartition("/")[2]

    def marks(self) -> list[str]:
        return self.browser.execute_script(
            "return [...document.querySelectorAll('.picture')].map((e) => e.dataset.mark)"
        )

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self) -> str:
        return self.browser.execute_script("return document.activeElement.getAttribute('aria-label')")

    def save(self, press: Callable[[], None]) -> None:
        """Saves the screen once it may be saved, and waits for the next."""
        before = self.query()
        time.sleep(0.3)  # the page ignores a second Enter that follows at once
        press()
        self.wait(lambda: self.query() != before)

    def judged(self) -> int:
        return int(self.text("#progress-text").split()[0].replace(",", ""))


@pytest.fixture
def page(one_browser: WebDriver, url: str) -> Page:
    return Page(one_browser, url)


def said(query: str, judge: str = "ann") -> dict[str, str]:
    """What counts of a judge's lines on a query, {gallery_id: relevance}, in the file."""
    return {line[1]: line[2] for line in pooled.lines() if (line[0], line[3]) == (query, judge)}


def test_by_mouse(page: Page) -> None:
    query, ids = page.query(), page.ids()
    assert page.text("#question") == f"Which of these {len(ids)} are right?" and len(ids) > 5
    pictures = page.pictures()
    pictures[1].click()
    pictures[2].click()
    pictures[2].click()
    for number, action in ((3, "junk"), (4, "unsure"), (0, "junk")):
        page.browser.execute_script(
            "arguments[0].querySelector(`[data-action=${arguments[1]}]`).click()", pictures[number], action
        )
    pictures[0].click()
    assert page.marks()[:5] == ["1", "1", "", "-1", "unsure"]
    assert page.text("#next-text") == "2 right, next"
    before = page.judged()
    page.save(page.one("#next").click)
    expected = dict(zip(ids, ["1", "1", "0", "-1", "", *["0"] * (len(ids) - 5)], strict=True))
    assert said(query) == expected
    assert page.marks() == [""] * len(page.ids())
    page.save(page.one("#nothing").click)
    page.save(page.one("#unsure").click)
    assert page.judged() >= before + 2
    assert Counter(line[2] for line in pooled.lines())[""] > 1


def test_the_keyboard_suffices(page: Page) -> None:
    query, ids = page.query(), page.ids()
    columns = page.browser.execute_script(
        "return getComputedStyle(document.getElementById('pictures')).gridTemplateColumns.split(' ').length"
    )
    assert page.focused() == f"Picture 1 of {len(ids)}"
    page.press(" ", Keys.ARROW_RIGHT, "j", Keys.ARROW_RIGHT, "t", Keys.ARROW_LEFT, Keys.ARROW_DOWN, " ")
    below = 1 + columns
    assert page.focused() == f"Picture {below + 1} of {len(ids)}, right"
    assert [page.marks()[number] for number in (0, 1, 2, below)] == ["1", "-1", "unsure", "1"]
    page.press("u")
    assert page.marks()[below] == ""
    page.press(Keys.HOME, "z")
    assert page.text("#zoom-title") == f"Picture 1 of {len(ids)}: right"
    page.press(Keys.ARROW_RIGHT, " ")
    assert page.text("#zoom-title") == f"Picture 2 of {len(ids)}: right"
    page.press(Keys.ESCAPE)
    page.wait(lambda: page.focused() == f"Picture 2 of {len(ids)}, right")  # the event "close" comes later
    page.save(lambda: page.press(Keys.ENTER))
    expected = dict(zip(ids, ["1", "1", "", *["0"] * (len(ids) - 3)], strict=True))
    assert said(query) == expected
    page.press(Keys.ENTER)  # at once, and therefore not meant
    second = page.query()
    page.press("u")
    assert page.query() == query and page.marks()[:3] == ["1", "1", "unsure"]
    page.press(" ")
    page.save(lambda: page.press(Keys.ENTER))
    assert page.query() == second and said(query)[ids[0]] == "0", "the latest counts"
    page.save(lambda: page.press("n"))
    third = page.query()
    page.save(lambda: page.press("c"))
    assert {*said(second).values()} == {"0"} and {*said(third).values()} == {""}


def test_all_others_are_right_at_one_key(page: Page) -> None:
    query, ids = page.query(), page.ids()
    page.press("j", Keys.ARROW_RIGHT, "a", " ")
    expected = ["-1", "", *["1"] * (len(ids) - 2)]
    page.wait(lambda: page.marks() == expected)
    page.press("u", "u")
    page.wait(lambda: page.marks() == ["-1", *[""] * (len(ids) - 1)])
    page.press("a")
    page.wait(lambda: page.marks() == ["-1", *["1"] * (len(ids) - 1)])
    page.save(lambda: page.press(Keys.ENTER))
    assert said(query) == dict(zip(ids, ["-1", *["1"] * (len(ids) - 1)], strict=True))


def test_a_reload_in_the_middle_keeps_marks_and_the_way_back(page: Page) -> None:
    first = page.query()
    page.save(lambda: page.press(Keys.ENTER))
    query = page.query()
    page.press(" ", Keys.ARROW_RIGHT, "j")
    page.browser.refresh()
    page.wait(page.pictures)
    assert page.query() == query and page.marks()[:2] == ["1", "-1"]
    page.browser.execute_script("sessionStorage.removeItem('marks')")
    page.browser.refresh()
    page.wait(page.pictures)
    page.press("u")
    assert page.query() == first


def test_two_tabs_are_given_other_queries_and_lose_nothing(page: Page, url: str) -> None:
    first_tab, first = page.browser.current_window_handle, page.query()
    page.press(" ")
    page.browser.switch_to.new_window("tab")
    try:
        second_page = Page(page.browser, url)
        second = second_page.query()
        assert second != first
        second_page.press(" ")
        second_page.save(lambda: second_page.press(Keys.ENTER))
    finally:
        page.browser.close()
        page.browser.switch_to.window(first_tab)
    page.save(lambda: page.press(Keys.ENTER))
    assert Counter(said(first).values())["1"] == Counter(said(second).values())["1"] == 1


def test_the_verdict_is_shown_with_names_as_code(page: Page) -> None:
    page.save(lambda: page.press(Keys.ENTER))
    page.wait(lambda: page.one("#verdict").is_displayed())
    assert "can't be told apart yet" in page.text("#sentences")
    assert page.text("#sentences code") in ROWS


def test_each_row_is_drawn_with_its_interval(page: Page) -> None:
    page.save(lambda: page.press(Keys.ENTER))
    page.wait(lambda: page.one("#verdict").is_displayed())
    page.one("#standing summary").click()
    page.wait(lambda: page.one("#standing table").is_displayed())
    lines = page.browser.execute_script(DRAWN)
    assert {line["row"] for line in lines} == set(ROWS)
    for line in lines:
        low, high = (float(bound) for bound in line["interval"].split(" to "))
        assert 0 <= low <= float(line["mean"]) <= high <= 1
        assert line["drawn"] == pytest.approx([low, high], abs=0.02)
    assert page.browser.execute_script(
        "const asked = document.getElementById('asked'); return asked.scrollWidth <= asked.clientWidth"
    )
    assert "of the 5,000 queries" in page.text("#verdict-note")
    page.browser.execute_script("document.getElementById('asked').scrollTop = 10_000")
    page.wait(lambda: page.browser.execute_script("return document.getElementById('asked').scrollTop > 0"))
    page.save(lambda: page.press(Keys.ENTER))
    assert page.browser.execute_script("return document.getElementById('asked').scrollTop") == 0


def test_names_are_text_and_nothing_leaves_the_page(page: Page, url: str) -> None:
    assert page.text("#query-title") == ODD_LABEL
    page.press("z")
    assert page.text("#zoom-path") == ODD_PATH
    assert not page.browser.find_elements(
        By.CSS_SELECTOR, "figcaption script, figcaption img, figcaption b b"
    )
    page.press(Keys.ESCAPE)
    assert page.browser.title.endswith("judged: Lineup")
    page.wait(
        lambda: page.browser.execute_script("return [...document.images].every((i) => i.naturalWidth > 0)")
    )
    assert chromium.console(page.browser) == []
    own = (url, "data:", "chrome://", "chrome-untrusted://")
    assert [asked for asked in chromium.requests(page.browser) if not asked.startswith(own)] == []


def test_the_next_screen_is_loaded_before_it_is_asked_for(page: Page) -> None:
    chromium.requests(page.browser)
    page.save(lambda: page.press(Keys.ENTER))
    shown = {*page.ids(), page.query()}
    page.wait(lambda: page.browser.execute_script("return [...document.images].every((i) => i.complete)"))
    loaded = page.browser.execute_script(
        "return performance.getEntriesByType('resource').map((e) => [e.name, e.startTime])"
    )
    saved_at = max(start for name, start in loaded if name.endswith("/judgements"))
    assert shown <= {name.rpartition("/")[2] for name, start in loaded if start < saved_at}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(page: Page, scheme: str) -> None:
    chromium.emulate(page.browser, 400, 800, scheme)
    assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 400
    bar = page.one(".actions").rect
    assert bar["y"] + bar["height"] == 800, "the buttons are below the thumb"
    overlap = "return document.elementFromPoint(50, 770).closest('.actions') !== null"
    assert page.browser.execute_script(overlap)
    page.pictures()[4].click()
    assert page.marks()[4] == "1"


def test_a_server_that_was_killed_costs_no_mark(one_browser: WebDriver, project: Path) -> None:
    command = ("judge", "--k", "4", "--judge", "bea", "--port")  # Ann's own page is open
    server = page_server.start(project, *command, "0")
    url = page_server.address(server, PAGE)
    page = Page(one_browser, url)
    query = page.query()
    page.press(" ")
    server.kill()
    server.communicate(timeout=60)
    time.sleep(0.3)
    page.press(Keys.ENTER)
    page.wait(lambda: page.one("#error").is_displayed())
    assert page.text("#error").startswith(
        "Not saved: the server does not respond; start `lineup judge` again"
    )
    assert page.query() == query and page.marks()[0] == "1" and said(query, "bea") == {}
    with page_server.serving(project, PAGE, *command, url.rpartition(":")[2]):
        page.save(lambda: page.press(Keys.ENTER))
        assert Counter(said(query, "bea").values())["1"] == 1 and not page.one("#error").is_displayed()
    chromium.console(page.browser)


def test_the_end_is_said_and_leads_back(one_browser: WebDriver, tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        labels = {"q1": "fig", "a": "pear", "b": "fig"}
        pooled.write({"one": {"q1": "ab"}, "two": {"q1": "ab"}}, labels=labels, pixels=True)
        command = ("judge", "--port", "0", "--suspects", "--judge", "ann")
        with page_server.serving(tmp_path, PAGE, *command) as url:
            page = Page(one_browser, url)
            assert page.text("#question") == "Is it right after all?"
            assert page.text(".picture .label") == "pear" and page.text("#query-title") == "fig"
            page.press(" ")
            time.sleep(0.3)
            page.press(Keys.ENTER)
            page.wait(lambda: page.one("#end").is_displayed())
            assert page.text("#end-title") == "All doubtful labels are judged."
            assert said(image_id("q1")) == {image_id("a"): "1"}
            page.press("u")
            page.wait(lambda: page.marks() == ["1"])
    finally:
        os.chdir(before)
