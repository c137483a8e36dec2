"""What rows cost: prices, dollars, which rows no other beats, and the sentences on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineup import paths
from lineup.costs.money import Worth, beats, pareto_optimal
from lineup.errors import UserError
from lineup.settings import prices
from lineup.settings.prices import Prices
from lineup.storage import files
from stages import compare
from tests.support import measured
from tests.support.collection import run
from tests.test_compare import cells, change_costs, page, rows

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_pareto_optimal_rows_of_a_hand_worked_case() -> None:
    worth = {
        "best": Worth(0.90, 10.0),
        "as good, 5% cheaper": Worth(0.90, 9.5),  # neither is clearly cheaper, so that both stay
        "as good, 20% dearer": Worth(0.90, 12.0),
        "half the cost": Worth(0.80, 5.0),
        "5% cheaper than that, worse": Worth(0.70, 4.8),  # not clearly cheaper
        "cheapest": Worth(0.10, 1.0),
        "its twin": Worth(0.10, 1.0),  # equal rows do not beat each other
    }
    assert pareto_optimal(worth) == {"best", "as good, 5% cheaper", "half the cost", "cheapest", "its twin"}
    assert pareto_optimal({}) == set() and pareto_optimal({"only": Worth(0.0, 1.0)}) == {"only"}


WORTHS = st.dictionaries(
    st.text("abc", min_size=1),
    st.builds(Worth, st.sampled_from([0.1, 0.2, 0.5]), st.sampled_from([1.0, 1.05, 1.1, 1.2, 5.0])),
    min_size=1,
)


@pytest.mark.slow
@given(WORTHS)
def test_pareto_optimal_is_the_definition_written_as_two_loops(worths: dict[str, Worth]) -> None:
    expected = set()
    for row, (quality, cost) in worths.items():
        lost = False
        for other, (better, dearer) in worths.items():
            if other == row:
                continue
            clearly_dearer, clearly_cheaper = dearer >= 1.1 * cost, 1.1 * dearer <= cost
            lost |= (better > quality and not clearly_dearer) or (better == quality and clearly_cheaper)
        if not lost:
            expected.add(row)
    assert pareto_optimal(worths) == expected
    assert expected, "some row is always Pareto-optimal"
    assert not any(beats(one, one) for one in worths.values())


@pytest.mark.slow
def test_dollars_of_a_hand_worked_case() -> None:
    """2 processors at 0.05 are 0.10 an hour: 3,600 s at 100/s are 360,000 queries."""
    run(rows(a=1.0))
    measured.write("a", images_per_second=(50.0,), per_second=(100.0,))
    change_costs("a", index_mb=500.0)
    files.write_text(paths.PRICES, "{processor_hour: 0.05, memory_gb_month: 4.0, queries_per_month: 2000000}")
    compare.main([])
    assert cells("Money")["a"] == {
        "map_at_r": cells("Cost")["a"]["map_at_r"],
        "Pareto": "✓",
        "$/M photos": "0.56",
        "$/M queries": "0.28",
        "$ index/month": "2.00",
        "$/month": "2.56",
    }
    files.write_text(paths.PRICES, "{machine_hour: 36.0}")
    compare.main([])
    assert cells("Money")["a"]["$/M queries"] == "100.00"


@pytest.mark.slow
def test_without_a_price_for_a_gpu_there_are_no_dollars() -> None:
    run(rows(a=1.0))
    measured.write("a", images_per_second=(50.0,), gpu=True, device="Some GPU")
    compare.main([])
    assert "## Money" not in page() and cells("Cost")["a"]["p50 ms"] == "4.0"
    files.write_text(paths.PRICES, "{machine_hour: 1.0}")
    compare.main([])
    assert "✓" in cells("Money")["a"]["Pareto"]


def three_rows(**settings: Any) -> None:
    """The best row is the dearest; one that is worse costs half, and the worst costs as much as that."""
    run(rows(good=0.8, middling=1.6, bad=4.0), **settings)
    for row, per_second in (("good", 100.0), ("middling", 200.0), ("bad", 200.0)):
        measured.write(row, images_per_second=(1.0,), network=row, per_second=(per_second,))
        change_costs(row, index_mb=0.0)


@pytest.mark.slow
def test_the_verdict_names_the_best_of_the_clearly_cheaper_rows_with_an_interval() -> None:
    three_rows()
    compare.main([])
    quality = {
        row: files.read_json(paths.row_metrics(row))["quality"]["map_at_r"]["mean"]
        for row in ("good", "middling")
    }
    share = f"{quality['middling'] / quality['good']:.0%}"
    (sentence,) = [line for line in page().splitlines() if line.startswith("**Best")]
    assert (
        f"`middling` has {share} (" in sentence
        and " of the best row's map_at_r at 50% of its $/month." in sentence
    )
    low, high = sentence.split(f"{share} (")[1].split(")")[0].split(" to ")
    assert float(low.rstrip("%")) <= float(share.rstrip("%")) <= float(high.rstrip("%")) < 100
    assert "Pareto-optimal in map_at_r and $/month: `good`, `middling`." in page()
    assert [cells("Money")[row]["Pareto"] for row in ("good", "middling", "bad")] == ["✓", "✓", ""]


@pytest.mark.slow
def test_a_cheaper_row_that_is_not_told_apart_gets_no_share_of_the_quality() -> None:
    run(rows(one=1.5, other=1.5, bad=5.0))
    first, second, _ = cells("Quality")
    for row, per_second in ((first, 100.0), (second, 150.0), ("bad", 150.0)):
        measured.write(row, images_per_second=(1.0,), network=row, per_second=(per_second,))
    compare.main([])
    assert f"`{second}` is not told apart from it at 67% of its $/month." in page()


@pytest.mark.slow
def test_rows_of_different_machines_and_random_rows_are_not_marked() -> None:
    three_rows()
    change_costs("good", random=True)
    compare.main([])
    money_ = cells("Money")
    assert money_["good (random weights)"]["Pareto"] == "" and money_["middling"]["Pareto"] == "✓"
    measured.write("bad", images_per_second=(1.0,), device="Another CPU")
    compare.main([])
    assert not any(line["Pareto"] for line in cells("Money").values())
    assert "No other row beats" not in page()


@pytest.mark.slow
def test_a_row_that_was_not_measured_has_no_figures() -> None:
    three_rows()
    paths.latency("bad").unlink()
    compare.main([])
    assert cells("Cost")["bad"]["p50 ms"] == "-" and cells("Money")["bad"]["$/month"] == "-"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{machine_hours: 1.0}", "prices.yaml: machine_hours is unknown; did you mean 'machine_hour'"),
        ("{processor_hour: 0.0}", "prices.yaml: processor_hour is 0.0: "),
        ("{processor_hour: .inf}", "prices.yaml: processor_hour is inf: "),
        ("{memory_gb_month: cheap}", "prices.yaml: memory_gb_month is 'cheap': should be a number"),
    ],
)
def test_a_fault_in_prices_is_named(text: str, message: str) -> None:
    files.write_text(paths.PRICES, text)
    with pytest.raises(UserError) as error:
        prices.load()
    assert str(error.value).startswith(message)


def test_the_prices_file_states_the_defaults() -> None:
    """Who removes a line gets what it said."""
    assert prices.load(Path(__file__).parents[1] / "prices.yaml") == Prices() == prices.load()


@pytest.mark.slow
def test_small_prices_keep_two_digits() -> None:
    run(rows(a=1.0))
    measured.write("a", images_per_second=(50.0,))
    shown = {}
    for index_mb in (0.0, 0.1, 1.0, 43.0, 1000.0):
        change_costs("a", index_mb=index_mb)
        compare.main([])
        shown[index_mb] = cells("Money")["a"]["$ index/month"]
    assert shown == {0.0: "0.00", 0.1: "< 0.001", 1.0: "0.0023", 43.0: "0.10", 1000.0: "2.33"}
