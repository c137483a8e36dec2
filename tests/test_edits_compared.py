"""What the comparison says of queries that are edited copies; and a pile of photos on its way to that table."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from lineup import paths
from lineup.evaluation import row_metrics
from lineup.evaluation.quality_records import EditedCopies
from lineup.layouts import edit_kinds
from tests.support import project
from tests.support.collection import Image, run
from tests.support.photographs import photograph

GALLERY = np.eye(4)  # The photos 0 to 3, each in a direction of its own.


def edited(kind: str, photo: int, vector: list[float]) -> Image:
    name = f"{kind}/{photo}"
    return Image(name, "query", f"{photo}.jpg", vector, f"test/query/edits/{kind}/{photo}.jpg")


def originals() -> list[Image]:
    return [Image(f"{photo}", "gallery", None, vector.tolist()) for photo, vector in enumerate(GALLERY)]


def judged(*queries: Image) -> list[tuple[str, str, int]]:
    return [(query.name, query.name.rpartition("/")[2], 1) for query in queries]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def page() -> str:
    return paths.COMPARISON.read_text(encoding="utf-8")


# Of two mirrored photos, `good` ranks both originals first and `bad` one. Of two crops, `good` ranks one first
# and the other second, and `bad` has them in the second and in the third place.
GOOD = {
    ("mirror", 0): [1.0, 0.1, 0.0, 0.0],
    ("mirror", 1): [0.0, 1.0, 0.1, 0.0],
    ("crop", 2): [0.0, 0.0, 1.0, 0.5],
    ("crop", 3): [0.9, 0.2, 0.1, 0.8],
}
BAD = {
    ("mirror", 0): [1.0, 0.1, 0.0, 0.0],
    ("mirror", 1): [1.0, 0.9, 0.1, 0.0],
    ("crop", 2): [0.0, 1.0, 0.8, 0.5],
    ("crop", 3): [0.9, 1.0, 0.1, 0.8],
}


def rows(**vectors: dict[tuple[str, int], list[float]]) -> dict[str, list[Image]]:
    return {
        row: [*originals(), *(edited(kind, photo, vector) for (kind, photo), vector in of_row.items())]
        for row, of_row in vectors.items()
    }


@pytest.mark.slow
@pytest.mark.usefixtures("inside")
def test_figures_of_edits_are_those_by_hand() -> None:
    images = rows(good=GOOD, bad=BAD)
    run(images, judged(*images["good"][4:]))
    good, bad = (row_metrics.read(row) for row in ("good", "bad"))
    assert good.quality["map_at_r"].mean == good.quality["top_1"].mean == 3 / 4
    assert bad.quality["map_at_r"].mean == bad.quality["top_1"].mean == 1 / 4
    assert bad.quality["mrr"].mean == pytest.approx((1 + 1 / 2 + 1 / 2 + 1 / 3) / 4)
    assert good.edits == {
        "mirror": EditedCopies(queries=2, top_1=1.0),
        "crop": EditedCopies(queries=2, top_1=0.5),
    }
    assert bad.edits == {
        "mirror": EditedCopies(queries=2, top_1=0.5),
        "crop": EditedCopies(queries=2, top_1=0.0),
    }


@pytest.mark.slow
@pytest.mark.usefixtures("inside")
def test_the_page_says_that_edits_are_measured_and_which_a_row_survives() -> None:
    images = rows(good=GOOD, bad=BAD)
    run(images, judged(*images["good"][4:]))
    assert page().startswith(
        "# Which model finds edited copies of your own photos?\n\n"
        "4 queries, edited copies of gallery photos, each searched in 4 gallery images; its original is right, and "
        "so is any exact copy of that.\n"
        "The figures say which edits a row survives. They do not say which photos it finds that people would call "
        "right.\n\n"
        "**Best at finding edited copies: `good`**, but not told apart from `bad` by these queries. "
        "`good` finds the fewest originals after crop (0.50).\n\n"
    )
    assert (
        "## Edits\n\n| row    | crop | mirror |\n| ------ | ---: | -----: |\n"
        "| `good` | 0.50 |   1.00 |\n| `bad`  | 0.00 |   0.50 |\n\n"
    ) in page()
    assert (
        "comes first (top_1). With 2 queries of a kind, chance moves it by up to 0.69 either way; " in page()
    )
    assert "\n- mirror (2 queries): left and right swapped.\n" in page()
    assert "resampling queries.\n" in page()  # Each is of another photo.
    assert "by label" not in page().split("## Cost")[0]
    assert "right picture" not in page() and "blur" not in page()


@pytest.mark.usefixtures("inside")
def test_an_original_found_after_every_edit_is_said_so() -> None:
    images = rows(good={key: vector for key, vector in GOOD.items() if key != ("crop", 3)})
    run(images, judged(*images["good"][4:]))
    assert "`good` finds every original, whatever the edit." in page()


@pytest.mark.slow
@pytest.mark.usefixtures("inside")
def test_queries_without_a_right_answer_leave_the_title_and_others_do_not() -> None:
    """A pile that was laid out with plain queries and then with edits; later, somebody judged one of them."""
    images = rows(good=GOOD)
    images["good"].append(Image("plain", "query", None, [0.0, 0.0, 0.0, 1.0]))
    lines = judged(*images["good"][4:8])
    run(images, lines)
    assert page().startswith(
        "# Which model finds edited copies of your own photos?\n\n4 of 5 queries, edited copies"
    )
    assert "Left out: 1 without a right answer in the gallery." in page()
    run(images, [*lines, ("plain", "3", 1)])
    assert page().startswith("# Which model finds the right picture?")
    assert (
        "Of these queries, 4 are edited copies of gallery photos: they say which edits a row survives, not"
        in page()
    )
    assert "## Edits" in page() and "**Best" not in page()  # There is but one row.


@pytest.mark.usefixtures("inside")
def test_other_queries_are_no_edits() -> None:
    """A label may be called "edits", and have photos in folders."""
    images = [
        Image(name, split, "edits", [1.0, 0.0], f"test/{split}/edits/{name}")
        for name, split in (("side/1.jpg", "query"), ("crop", "query"), ("side/2.jpg", "gallery"))
    ]
    run({"row": images})
    assert row_metrics.read("row").edits == {}
    assert "edited" not in page() and "## Edits" not in page()


def test_the_kind_of_an_edit_follows_from_its_path() -> None:
    assert {kind: edit_kinds.kind_of(f"test/query/edits/{kind}/a/b.jpg") for kind in edit_kinds.NAMES} == {
        kind: kind for kind in edit_kinds.NAMES
    }
    for path in ("test/query/edits/crop", "test/query/edits/other/a.jpg", "edits/crop/a.jpg", "crop/a.jpg"):
        assert edit_kinds.kind_of(path) is None


@pytest.mark.slow
def test_a_pile_without_labels_gets_its_table_of_edits_in_two_commands(tmp_path: Path) -> None:
    pile = tmp_path / "pile"
    pile.mkdir()
    for seed in range(48):
        (pile / f"{seed}.jpg").write_bytes(photograph(seed, 160, 120))
    # The same pixels in other bytes: as right an answer as the original.
    with Pillow.open(pile / "0.jpg") as image:
        image.save(pile / "copy of 0.png")
    with Pillow.open(io.BytesIO(photograph(1, 160, 120))) as image:
        image.save(pile / "copy of 1.bmp")
    folder = project.create(tmp_path / "project", project.demo_params("mobilenet_v2", "raw_pixels_l2"))

    laid_out = project.run(
        "python",
        "-m",
        "lineup",
        "photos",
        str(pile),
        "--queries-from",
        "edits",
        "--queries",
        "160",
        cwd=folder,
    )
    project.repro(folder)

    assert "160 queries: 20 crop, 20 rotation, 20 mirror, 20 jpeg, " in laid_out.stdout
    shown = project.run("python", "-m", "lineup", "show", cwd=folder).stdout
    assert shown.startswith("# Which model finds edited copies of your own photos?")
    assert "160 queries, edited copies of gallery photos, each searched in 50 gallery images" in shown
    [header, _, *lines] = shown.partition("## Edits\n\n")[2].partition("\n\n")[0].splitlines()
    table = {
        cells[1].strip(" `"): dict(zip(edit_kinds.NAMES, map(float, cells[2:-1]), strict=True))
        for cells in (line.split("|") for line in lines)
    }
    assert [cell.strip() for cell in header.split("|")[2:-1]] == [*edit_kinds.NAMES]
    # Pixels that are not normalised look to the network like a photo of another brightness already.
    assert table["mobilenet_v2"]["brightness"] > table["raw_pixels_l2"]["brightness"] + 0.2
    assert table["mobilenet_v2"]["jpeg"] > 0.8
    assert project.repro(folder) == []
