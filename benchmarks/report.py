"""The report's page with 50,000 queries in headless Chromium, and the disk that its photos take.

Run: python -m benchmarks.report [--queries 50000] [--rows 3] [--photos FOLDER]
Takes about 8 minutes on two cores.

The data are made up: clusters of vectors, searched, scored and reported by the real stages. All thumbnails
are equal. --photos adds the disk that the pictures of 50,000 such photos take.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver

from benchmarks import command
from lineup import cli, machine, paths
from lineup.photos import decoding, image_preparation, thumbnails
from lineup.settings.sections import Preprocess
from lineup.storage import files
from stages import compare, report, slices
from tests.support import browser as chromium
from tests.support import collection

LINKS_PER_FILE = 10_000  # ext4 allows 65,000
QUERIES_PER_LABEL, GALLERY_PER_LABEL = 10, 10
PHOTOS_MEASURED, PHOTOS_OF_A_TEAM = 300, 50_000

# Milliseconds from a change of a control until the frame that shows it is on the screen.
CHANGE = """
const [id, value, done] = arguments, control = document.getElementById(id), start = performance.now();
control.value = value;
control.dispatchEvent(new Event("change"));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""
# The lengths of frames, in milliseconds, as the list of queries is scrolled from its top to its end.
SCROLL = """
const done = arguments[0], frames = [];
document.documentElement.style.scrollBehavior = "auto";
document.getElementById("queries").scrollIntoView();
let last = performance.now();
function step(now) {
  frames.push(now - last);
  last = now;
  const before = scrollY;
  scrollBy(0, 60);
  if (scrollY > before && frames.length < 200) requestAnimationFrame(step);
  else done(frames.slice(2));
}
requestAnimationFrame(step);
"""


def write_report(queries: int, rows: int) -> None:
    """The report of made-up photos, in the working directory."""
    labels = queries // QUERIES_PER_LABEL
    noise = [0.4 + 0.15 * row for row in range(rows)]
    images = {
        f"row_{row}": collection.clustered(labels, QUERIES_PER_LABEL, GALLERY_PER_LABEL, noise[row], seed=row)
        for row in range(rows)
    }
    collection.run(images)
    collection.write_attributes(
        images["row_0"],
        tone={image.name: "dark" if number % 3 else "light" for number, image in enumerate(images["row_0"])},
        brightness={image.name: float(number) for number, image in enumerate(images["row_0"])},
    )
    slices.main([])
    compare.main([])
    files.write_text(paths.LEAKS, "kind,path_a,path_b,across\n")
    buffer = io.BytesIO()
    Image.effect_noise((256, 192), 60).convert("RGB").save(buffer, "JPEG", quality=75)
    paths.REPORT_THUMBNAILS.mkdir(parents=True)
    linked = paths.REPORT_THUMBNAILS
    for number, image in enumerate(images["row_0"]):
        file = paths.REPORT_THUMBNAILS / f"{image.id}.jpg"
        if number % LINKS_PER_FILE == 0:
            file.write_bytes(buffer.getvalue())
            linked = file
        else:
            os.link(linked, file)
    for row in images:
        report.main(["--row", row])
    report.main([])


def measure_page(browser: WebDriver) -> None:
    start = time.perf_counter()
    browser.get(paths.REPORT.resolve().as_uri())
    browser.execute_async_script(
        "const done = arguments[0]; const wait = () => document.querySelector('.query .answer')"
        " && document.documentElement.dataset.loaded ? done() : setTimeout(wait, 20); wait();"
    )
    loaded = time.perf_counter() - start
    paint = browser.execute_script(
        "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    print(f"first paint: {paint:,.0f} ms; every row loaded: {loaded:.1f} s")
    for name, control, values in (
        ("filter", "query-filter", ("missed", "only-a", "disagree", "neither", "all")),
        ("order", "query-order", ("easiest", "name", "hardest", "name", "hardest")),
        ("k", "query-k", ("5", "1", "10", "5", "1")),
        ("group", "query-slice", ("tone: dark", "tone: light", "tone: dark", "")),
    ):
        times = [browser.execute_async_script(CHANGE, control, value) for value in values]
        print(f"{name}: {', '.join(f'{value:.0f}' for value in times)} ms")
    frames = browser.execute_async_script(SCROLL)
    median = sorted(frames)[len(frames) // 2]
    print(f"scroll: {len(frames)} frames, median {median:.0f} ms, longest {max(frames):.0f} ms")
    memory = browser.execute_script("return performance.memory.usedJSHeapSize")
    print(f"JavaScript's memory: {memory / 1e6:,.0f} MB")


def measure_files() -> None:
    rows, ranks = paths.report_row("row_0").parent, paths.report_ranks("row_0").parent
    for folder in (paths.REPORT_ASSETS, rows, ranks):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder}: {size / 1e6:,.0f} MB")


def measure_photos(folder: Path) -> None:
    """The disk that prepared photos and their pictures take, and the time that drawing takes."""
    shorter_side_px = Preprocess().shorter_side_px
    total_bytes = {"prepared image": 0.0, "thumbnail": 0.0, "picture": 0.0}
    seconds, count = 0.0, 0
    for data in photos(folder):
        prepared = image_preparation.prepare(data, shorter_side_px).replacement or data
        start = time.process_time()
        drawn = thumbnails.draw(prepared)
        seconds += time.process_time() - start
        total_bytes["prepared image"] += len(prepared)
        total_bytes["thumbnail"] += len(drawn.thumbnail)
        total_bytes["picture"] += len(drawn.picture) * 4 / 3  # base64
        count += 1
    for name, size in total_bytes.items():
        each = size / count
        of_all = f"{each * PHOTOS_OF_A_TEAM / 1e9:.2f} GB for {PHOTOS_OF_A_TEAM:,} photos"
        print(f"{name}: {each / 1e3:.1f} KB, {of_all}")
    print(f"drawing both: {1e3 * seconds / count:.1f} ms of processor time a photo")


def photos(folder: Path) -> Iterator[bytes]:
    """Sheets of four of the folder's photos, two by two, since small photos would not be shrunk."""
    names = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for start in range(0, len(names) - 3, max(4, len(names) // PHOTOS_MEASURED)):
        four = [decoding.decode(name.read_bytes()) for name in names[start : start + 4]]
        width, height = four[0].size
        sheet = Image.new("RGB", (2 * width, 2 * height))
        for i, photo in enumerate(four):
            sheet.paste(photo.resize((width, height)), (i % 2 * width, i // 2 * height))
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


def main() -> None:
    parser = command.parser("report")
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--photos", type=Path)
    arguments = parser.parse_args()
    print(f"{machine.cpu_name()}, {machine.threads()} threads")
    print(f"{arguments.queries:,} queries, {arguments.rows} rows")
    if arguments.photos:
        measure_photos(arguments.photos)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_report(arguments.queries, arguments.rows)
        measure_files()
        browser = chromium.start(Path(folder) / "profile")
        try:
            measure_page(browser)
        finally:
            browser.quit()
            os.chdir("/")


if __name__ == "__main__":
    cli.run(main)
