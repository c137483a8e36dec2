"""The tables in README.md and docs/demo.md hold the figures of the demo's committed run.

`python -m tests.test_demo_tables` writes the figures into both, after the demo has run anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.project import ROOT

PAGES = ("README.md", "docs/demo.md")
HEAD = "| row | what it is | map_at_r (95% interval) | top_1 | images/s | train min |"


def table(section: str) -> dict[str, dict[str, str]]:
    """The first table of a section of metrics/comparison.md: each row's cells by their heads."""
    text = (ROOT / "metrics/comparison.md").read_text(encoding="utf-8")
    lines = text.partition(f"\n## {section}\n\n")[2].partition("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines)
    return {cells[0].strip("`"): dict(zip(head, cells, strict=True)) for cells in rows}


def figures() -> dict[str, list[str]]:
    """The cells of each row's figures: map_at_r with its interval, top_1, images/s and train min."""
    quality, cost = table("Quality"), table("Cost")
    return {
        row: [
            re.sub(r"\((\.\d+)-(\.\d+)\)", r"(0\1-0\2)", cells["map_at_r"]),
            cells["top_1"].partition(" ")[0],
            f"{float(cost[row]['images/s'].partition(' ')[0].replace(',', '')):.0f}",
            cost[row]["train min"],
        ]
        for row, cells in quality.items()
    }


def with_figures(page: str) -> str:
    """A page whose table has the figures of the run; what each row is stays as it is written."""
    cells = figures()

    def line(table_line: re.Match[str]) -> str:
        return f"| `{table_line[1]}` | {table_line[2]} | {' | '.join(cells[table_line[1]])} |"

    before, head, rest = page.partition(HEAD)
    assert head, "the page has no table of the demo"
    lines, blank, after = rest.partition("\n\n")
    lines = re.sub(r"^\| `(\w+)` \| ([^|]+) \|.*$", line, lines, flags=re.MULTILINE)
    return f"{before}{head}{lines}{blank}{after}"


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_are_those_of_the_committed_run(page: str) -> None:
    written = (ROOT / page).read_text(encoding="utf-8")
    assert written == with_figures(written), "python -m tests.test_demo_tables writes them"


def test_the_demo_page_has_every_row_the_best_first() -> None:
    text = (ROOT / "docs/demo.md").read_text(encoding="utf-8").partition(HEAD)[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    cells = figures()
    assert sorted(rows) == sorted(cells)
    assert [cells[row][0][:5] for row in rows] == sorted((cells[row][0][:5] for row in rows), reverse=True)


if __name__ == "__main__":
    for name in PAGES:
        path = Path(ROOT / name)
        path.write_text(with_figures(path.read_text(encoding="utf-8")), encoding="utf-8")
