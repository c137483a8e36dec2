"""Every metric against a case worked by hand, a double loop, and two independent oracles."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineup.evaluation import metrics

CUTOFFS = (1, 3, 5, 10)


def naive(relevant: list[bool], num_relevant: int, k: int) -> dict[str, float]:
    """The definitions of design.md, one query, one rank at a time."""
    if num_relevant == 0:
        return dict.fromkeys(
            ("top", "recall", "precision", "map", "ndcg", "map_at_r", "r_precision", "mrr"), math.nan
        )

    def hits(until: int) -> int:
        return sum(1 for i in range(until) if i < len(relevant) and relevant[i])

    def average_precision(until: int, denominator: int) -> float:
        return (
            sum(hits(i) / i for i in range(1, until + 1) if i <= len(relevant) and relevant[i - 1])
            / denominator
        )

    first = next((i for i, right in enumerate(relevant, start=1) if right), None)
    gain = sum(1 / math.log2(i + 1) for i in range(1, k + 1) if i <= len(relevant) and relevant[i - 1])
    return {
        "top": float(hits(k) > 0),
        "recall": hits(k) / num_relevant,
        "precision": hits(k) / k,
        "map": average_precision(k, min(num_relevant, k)),
        "ndcg": gain / sum(1 / math.log2(i + 1) for i in range(1, min(num_relevant, k) + 1)),
        "map_at_r": average_precision(num_relevant, num_relevant),
        "r_precision": hits(num_relevant) / num_relevant,
        "mrr": 1 / first if first else 0.0,
    }


def random_case(queries: int, depth: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rankings of a gallery of `depth` images, all of it: num_relevant is what they hold."""
    random = np.random.default_rng(seed)
    relevant = random.random((queries, depth)) < random.random((queries, 1)) * 0.5
    return relevant, relevant.sum(axis=1)


def test_a_case_worked_by_hand() -> None:
    # Right answers at ranks 2, 3 and 5 of 5; a fourth one isn't in the ranking.
    relevant, num_relevant = np.array([[False, True, True, False, True]]), np.array([4])
    values = {name: value[0] for name, value in metrics.per_query(relevant, num_relevant, [1, 3]).items()}
    assert values == pytest.approx(
        {
            "map_at_r": (1 / 2 + 2 / 3) / 4,
            "r_precision": 2 / 4,
            "mrr": 1 / 2,
            "top_1": 0,
            "top_3": 1,
            "recall_1": 0,
            "recall_3": 2 / 4,
            "precision_1": 0,
            "precision_3": 2 / 3,
            "map_1": 0,
            "map_3": (1 / 2 + 2 / 3) / 3,
            "ndcg_1": 0,
            "ndcg_3": (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2),
        }
    )
    assert next(iter(values)) == "map_at_r"


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 3)), min_size=1, max_size=6
    ),
    st.integers(1, 7),
)
def test_equals_a_double_loop(rows: list[tuple[list[bool], int]], k: int) -> None:
    relevant = np.array([ranked for ranked, _ in rows])
    num_relevant = np.array([sum(ranked) + unranked for ranked, unranked in rows])
    values = metrics.per_query(relevant, num_relevant, [k])
    for q, (ranked, _) in enumerate(rows):
        expected = naive(ranked, int(num_relevant[q]), k)
        for name, value in values.items():
            assert value[q] == pytest.approx(
                expected[name if name in expected else name.rsplit("_", 1)[0]], nan_ok=True
            )


def test_equals_ir_measures() -> None:
    """trec_eval's own code, by name; its AP@k divides by R, which is ours where R <= k."""
    relevant, num_relevant = random_case(40, 30, seed=1)
    num_relevant = num_relevant + 2  # two relevant images that no ranking holds
    qrels = [
        ir_measures.Qrel(str(q), f"{q}-{d}", 1)
        for q in range(40)
        for d in [*np.flatnonzero(relevant[q]), "lost", "gone"]
    ]
    run = [ir_measures.ScoredDoc(str(q), f"{q}-{d}", 100.0 - d) for q in range(40) for d in range(30)]
    ours = metrics.per_query(relevant, num_relevant, [*CUTOFFS, 60])
    theirs = {"r_precision": ir_measures.Rprec, "mrr": ir_measures.RR, "map_60": ir_measures.AP @ 60}
    for k in CUTOFFS:
        theirs |= {f"top_{k}": ir_measures.Success @ k, f"recall_{k}": ir_measures.R @ k}
        theirs |= {f"precision_{k}": ir_measures.P @ k, f"ndcg_{k}": ir_measures.nDCG @ k}
    names = {measure: name for name, measure in theirs.items()}
    expected = {
        (names[m.measure], int(m.query_id)): m.value
        for m in ir_measures.iter_calc(list(theirs.values()), qrels, run)
    }
    assert len(expected) == 40 * len(theirs)
    for (name, q), value in expected.items():
        assert ours[name][q] == pytest.approx(value, abs=1e-9), (name, q)


@pytest.mark.slow
def test_equals_ranx(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    # ranx would compile for half a minute; interpreted, it computes the same.
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    from ranx import Qrels, Run, evaluate

    relevant, num_relevant = random_case(40, 30, seed=2)
    scored = num_relevant > 0
    relevant, num_relevant = relevant[scored], num_relevant[scored]
    qrels = Qrels(
        {f"q{q:02}": {f"d{d}": 1 for d in np.flatnonzero(relevant[q])} for q in range(len(num_relevant))}
    )
    run = Run({f"q{q:02}": {f"d{d}": 100.0 - d for d in range(30)} for q in range(len(num_relevant))})
    ranked = {"ndcg": "ndcg", "recall": "recall", "precision": "precision", "hit_rate": "top"}
    names = {f"{theirs}@{k}": f"{ours}_{k}" for theirs, ours in ranked.items() for k in CUTOFFS}
    names |= {"map@30": "map_30", "mrr": "mrr"}
    ours = metrics.per_query(relevant, num_relevant, [*CUTOFFS, 30])
    theirs = evaluate(qrels, run, list(names), return_mean=False)
    assert isinstance(theirs, dict)
    for theirs_name, name in names.items():
        np.testing.assert_allclose(ours[name], theirs[theirs_name], atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_map_at_r_equals_its_authors() -> None:
    """pytorch-metric-learning is by the authors of the paper that defines MAP@R."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    random = np.random.default_rng(3)
    gallery_labels, query_labels = np.arange(60) % 12, np.arange(24) % 12
    centres = random.standard_normal((12, 8))
    gallery = (centres[gallery_labels] + 1.5 * random.standard_normal((60, 8))).astype(np.float32)
    queries = (centres[query_labels] + 1.5 * random.standard_normal((24, 8))).astype(np.float32)
    measured = ("mean_average_precision_at_r", "r_precision", "precision_at_1")
    calculator = AccuracyCalculator(include=measured, k="max_bin_count", device=torch.device("cpu"))
    theirs = calculator.get_accuracy(
        torch.tensor(queries),
        torch.tensor(query_labels),
        torch.tensor(gallery),
        torch.tensor(gallery_labels),
        ref_includes_query=False,
    )
    order = np.argsort(((queries[:, None] - gallery) ** 2).sum(axis=2), axis=1, kind="stable")
    ours = metrics.per_query(gallery_labels[order] == query_labels[:, None], np.full(24, 5), [1])
    assert 0.2 < theirs["r_precision"] < 0.8
    assert ours["map_at_r"].mean() == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)
    assert ours["r_precision"].mean() == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["top_1"].mean() == pytest.approx(theirs["precision_at_1"], abs=1e-6)


def test_a_query_without_right_answer_has_no_value() -> None:
    values = metrics.per_query(np.zeros((2, 3), bool), np.array([0, 2]), [1, 5])
    assert all(np.isnan(value[0]) and value[1] == 0 for value in values.values())


def test_a_perfect_ranking_is_1_and_a_short_one_divides_by_k() -> None:
    perfect = metrics.per_query(np.array([[True, True, False]]), np.array([2]), [1, 2])
    assert {name: value[0] for name, value in perfect.items() if name != "recall_1"} == dict.fromkeys(
        perfect.keys() - {"recall_1"}, 1.0
    )
    short = metrics.per_query(np.array([[True, True, False]]), np.array([2]), [10])
    assert short["precision_10"][0] == pytest.approx(0.2)  # not 2/3: ten answers were asked for
    assert short["map_10"][0] == short["recall_10"][0] == 1


def test_an_empty_ranking_scores_0() -> None:
    values = metrics.per_query(np.zeros((1, 0), bool), np.array([2]), [1])
    assert all(value[0] == 0 for value in values.values())
    assert metrics.first_hit(np.zeros((1, 0), bool)).tolist() == [0]


def test_first_hit() -> None:
    assert metrics.first_hit(np.array([[False, True, True], [False] * 3, [True, False, False]])).tolist() == [
        2,
        0,
        1,
    ]
