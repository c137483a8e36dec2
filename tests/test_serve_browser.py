"""The search page in a real browser: every way to ask, by mouse and keyboard, and names shown as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.support import served
from tests.support.browser import WebDriver, browser, console, emulate, requests  # noqa: F401  (browser is a fixture)  # pyright: ignore[reportUnusedImport]

pytestmark = pytest.mark.slow

# The bytes of a page's own picture as a file that was dropped or pasted.
_GIVE = """
const [kind, address, done] = arguments;
fetch(address).then((response) => response.blob()).then((blob) => {
  const given = new DataTransfer();
  given.items.add(new File([blob], "given.png", { type: "image/png" }));
  const [name, key] = kind === "drop" ? ["dataTransfer", "DragEvent"] : ["clipboardData", "ClipboardEvent"];
  document.body.dispatchEvent(new window[key](kind, { [name]: given, bubbles: true, cancelable: true }));
  done();
});
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.build(tmp_path_factory.mktemp("serve") / "project")


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    with served.serving(project, "--row", "mobilenet_v2") as address:
        yield address


class Page:
    def __init__(self, browser: WebDriver, url: str) -> None:  # noqa: F811
        self.browser = browser
        browser.get(url)
        self.wait(lambda: self.cards())

    def wait(self, met: Callable[[], object]) -> None:
        WebDriverWait(self.browser, 60).until(lambda _: met())

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def cards(self) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, "a.card")

    def ids(self) -> list[str]:
        return self.browser.execute_script(
            "return [...document.querySelectorAll('a.card')].map((card) => card.dataset.image)"
        )

    def title(self) -> str:
        return self.one("#query-title").text

    def answered(self) -> None:
        self.wait(
            lambda: (
                "nearest image" in self.one("#title").text
                and self.one("#results").get_attribute("aria-busy") == "false"
            )
        )


@pytest.fixture
def page(browser: WebDriver, url: str) -> Page:  # noqa: F811
    return Page(browser, url)


def picture(project: Path, path: str = "data/raw/test/query/large/holiday.jpg") -> str:
    return str(project / path)


def test_a_chosen_picture_is_answered_and_an_answer_is_searched_on_from(page: Page, project: Path) -> None:
    page.one("#file").send_keys(picture(project))
    page.answered()
    assert page.title() == "holiday.jpg"
    first = page.ids()
    assert len(first) == 24 and "cosine similarity" in page.one("#status").text
    assert all(card.find_element(By.TAG_NAME, "img").get_attribute("alt") for card in page.cards())
    page.cards()[1].click()
    page.wait(lambda: page.title() != "holiday.jpg" and page.ids() != first)
    page.answered()
    assert first[1] in page.browser.current_url and first[1] not in page.ids()
    page.browser.back()
    page.wait(lambda: page.title() == "holiday.jpg" and page.ids() == first)
    page.browser.back()
    page.wait(lambda: len(page.cards()) == 12)
    assert not page.one("#query").is_displayed()


def test_an_address_leads_to_its_answers_and_the_model_can_be_switched(page: Page) -> None:
    image_id = page.ids()[0]
    page.browser.get(str(page.cards()[0].get_attribute("href")))
    page.answered()
    ids = page.ids()
    page.one("#more").click()
    page.wait(lambda: len(page.ids()) > len(ids))
    assert page.ids()[: len(ids)] == ids
    model = Select(page.one("#row"))
    assert [option.text for option in model.options if not option.is_enabled()] == [
        "absent (not computed here)",
        "of_absent (not computed here)",
    ]
    assert page.one("#not-ready").text.startswith(
        "Not computed here: absent, of_absent. Run dvc repro, or dvc pull"
    )
    model.select_by_value("raw_pixels_l2")
    page.wait(lambda: "squared distance" in page.one("#status").text)
    assert f"image={image_id}" in page.browser.current_url and "row=raw_pixels_l2" in page.browser.current_url
    assert not page.one("#random").is_displayed()
    model.select_by_value("random")
    page.wait(lambda: page.one("#random").is_displayed())


def test_a_path_in_a_sentence_keeps_its_letters_and_a_row_that_does_not_fit_says_why(
    page: Page, project: Path
) -> None:
    index = project / "data/indexes/mobilenet_v2.faiss"
    aside = index.rename(index.with_suffix(".aside"))
    try:
        page.cards()[0].click()
        page.wait(
            lambda: page.one("#error").text.startswith(
                "data/indexes/mobilenet_v2.faiss: does not exist; run `dvc repro`"
            )
        )
        page.browser.refresh()
        page.wait(lambda: "mobilenet_v2 (not computed here)" in page.one("#row").text)
        assert "data/indexes/mobilenet_v2.faiss: does not exist" in str(
            page.one("#not-ready").get_attribute("title")
        )
    finally:
        aside.rename(index)


def test_a_refinement_is_offered_and_said_to_be_one(page: Page) -> None:
    groups = page.browser.find_elements(By.CSS_SELECTOR, "#row optgroup")
    offered = {
        group.get_attribute("label"): len(group.find_elements(By.TAG_NAME, "option")) for group in groups
    }
    assert offered == {"Models": len(served.COMPUTED) + 1, "Refinements": len(served.REFINEMENTS)}
    assert not page.one("#made-of").is_displayed()
    Select(page.one("#row")).select_by_value("reranked")
    assert page.one("#made-of").text == "reranked: k reciprocal of mobilenet_v2 and clip, as in the pipeline."
    page.cards()[0].click()
    page.answered()
    assert "minus the k-reciprocal distance" in page.one("#status").text
    assert [float(card.text.split()[1]) for card in page.cards()] == sorted(
        (float(c.text.split()[1]) for c in page.cards()), reverse=True
    )


def test_words_are_asked_only_of_a_model_that_reads_them(page: Page) -> None:
    assert not page.one("#words").is_displayed()
    assert (
        page.one("#no-text").text
        == "mobilenet_v2 can be searched with pictures only; choose clip or whitened to search with words."
    )
    Select(page.one("#row")).select_by_value("clip")
    page.one("#words").send_keys("a <b>slice</b> of pizza", Keys.ENTER)
    page.answered()
    assert page.title() == "“a <b>slice</b> of pizza”"
    assert not page.browser.find_elements(By.CSS_SELECTOR, "#query-title *")
    page.one("#words").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    page.one("#words").send_keys("soup", Keys.ENTER)
    page.wait(lambda: page.title() == "“soup”")
    page.browser.back()
    page.wait(lambda: page.title() == "“a <b>slice</b> of pizza”")
    assert page.one("#words").get_attribute("value") == "a <b>slice</b> of pizza"


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(page: Page, kind: str) -> None:
    image_id = page.ids()[0]
    page.browser.execute_async_script(_GIVE, kind, f"/images/{image_id}")
    page.answered()
    assert page.ids()[0] == image_id
    assert page.one(".note").text == "the same file"


def test_faults_are_sentences_and_the_page_goes_on(page: Page, project: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.jpg"
    notes.write_text("not a picture")
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as file:
        file.truncate(50 * 2**20 + 1)
    for path, sentence in (
        (notes, "This picture is not an image ("),
        (huge, "This picture has more than 50 MB; choose a smaller one."),
    ):
        page.one("#file").send_keys(str(path))
        page.wait(lambda sentence=sentence: page.one("#error").text.startswith(sentence))
        assert page.cards() == []
    page.one("#file").send_keys(picture(project, "data/raw/test/query/large/sideways.jpg"))
    page.answered()
    assert not page.one("#error").is_displayed() and page.cards()


def test_the_keyboard_suffices(page: Page) -> None:
    visited = []
    while "card" not in visited and len(visited) < 20:
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        here = page.browser.switch_to.active_element
        visited.append(here.get_attribute("id") or here.get_attribute("class") or here.tag_name)
    assert [name for name in visited if name in ("skip", "row", "file", "card")] == [
        "skip",
        "row",
        "file",
        "card",
    ]
    focused = page.browser.switch_to.active_element
    image_id = focused.get_attribute("data-image")
    ActionChains(page.browser).send_keys(Keys.ENTER).perform()
    page.answered()
    assert f"image={image_id}" in page.browser.current_url


def test_names_are_text_and_nothing_leaves_the_page(page: Page, url: str, project: Path) -> None:
    label = served.ODD_LABEL
    page.one("#file").send_keys(picture(project, served.ODD_PHOTO))
    page.answered()
    card = page.cards()[0]
    assert card.find_element(By.CSS_SELECTOR, ".label").text == label
    assert card.find_element(By.CSS_SELECTOR, ".path").text == f"test/gallery/{label}/<b>x.png"
    assert card.find_element(By.TAG_NAME, "img").get_attribute("alt") == f"Image of {label}"
    assert page.title() == "<b>x.png"
    inside = {element.tag_name for element in card.find_elements(By.CSS_SELECTOR, "*")}
    assert inside == {"img", "span", "wbr"}
    page.wait(
        lambda: page.browser.execute_script(
            "return [...document.images].some((image) => image.complete && image.naturalWidth)"
        )
    )
    assert console(page.browser) == []
    own = (url, "blob:", "data:", "chrome://", "chrome-untrusted://")
    assert [address for address in requests(page.browser) if not address.startswith(own)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(page: Page, scheme: str) -> None:
    emulate(page.browser, 400, 800, scheme)
    page.browser.get(str(page.cards()[0].get_attribute("href")))
    page.answered()
    assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 400


def test_below_the_threshold_the_page_says_that_there_is_no_match(
    browser: WebDriver,  # noqa: F811
    project: Path,
) -> None:
    with served.serving(project, "--row", "mobilenet_v2", "--threshold", "0.9999") as address:
        page = Page(browser, address)
        page.cards()[0].click()
        page.wait(lambda: page.one("#title").text.startswith("No match: the best score is 0."))
        assert page.one("#title").text.endswith(" < 1.000") and not page.ids()
