"""How to read the tables of quality: the metrics, their intervals, and the comparison with the best row."""

from __future__ import annotations

from lineup.comparison import comparison
from lineup.comparison.comparison import SIGNIFICANCE_LEVEL, Comparison
from lineup.comparison.pairs import FEWEST_FLIPS, FLIPS_PER_PAIR
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.summary import tables

# With fewer clusters than this, intervals and p values are rough.
_FEW_CLUSTERS = 20


def legend(compared: Comparison) -> list[str]:
    """How to read them, a line each."""
    metrics, pairs = compared.task, compared.num_pairs
    unit = "queries" if metrics.clusters == metrics.scored else "labels"
    by_label = " By label (shown where it differs): mean of the labels' means."
    if metrics.edits_only and unit == "labels":
        by_label = " The label of an edited copy is its original's label, or else its original's name."
    elif metrics.edits_only:
        by_label = ""
    main_metric = compared.metric_names[0]
    lines = [
        _main_metric_legend(compared),
        "top_k: share of queries with a right image among the first k answers.",
        *_unjudged_legend(compared),
        f"(low-high): 95% bootstrap interval, resampling {unit}.{by_label}",
        f"Against the best: paired randomisation test on {main_metric}, flipping {unit}; "
        f"p is Holm-adjusted for {pairs} pair{'s' * (pairs != 1)}{_least_p(metrics.clusters, pairs)}. "
        "Intervals are not adjusted, so one that leaves out 0 alone does not show a difference.",
        f'"Can\'t tell" (p >= {SIGNIFICANCE_LEVEL}) does not mean "equally good": '
        f"more {unit} may show a difference. All pairs are in metrics/significance.csv.",
    ]
    if metrics.clusters < _FEW_CLUSTERS:
        lines.append(f"With {metrics.clusters} {unit} only, intervals and p values are rough.")
    # Two of all 2^C flips are as extreme as the clearest difference, so no p is smaller than 2 / 2^C.
    smallest_p_holm = pairs * 2 / 2**metrics.clusters
    if pairs and smallest_p_holm >= SIGNIFICANCE_LEVEL:
        counts = f"{metrics.clusters} {unit} and {pairs} pair{'s' * (pairs > 1)}"
        lines.append(
            f"With {counts} no difference can reach p < {SIGNIFICANCE_LEVEL}: "
            f"it takes more {unit}, or fewer rows."
        )
    return lines


def _main_metric_legend(compared: Comparison) -> str:
    main_metric = compared.metric_names[0]
    if main_metric == MAIN_METRIC:
        return (
            "map_at_r: average precision over a query's first R answers, where R is the number of its right "
            "images. 1 is perfect. It decides the order."
        )
    k = main_metric.rpartition("_")[2]
    if compared.is_exact and not compared.task.is_partly_judged:
        why = "without junk, some rankings are too short for map_at_r"
    elif compared.is_exact:
        why = f"every row's first {k} answers are judged, so that it is exact"
    else:
        why = "no metric is exact yet, and rows are in the order of the middle of its range"
    return f"{main_metric}: share of the first {k} answers that are right. It decides the order: {why}."


def _unjudged_legend(compared: Comparison) -> list[str]:
    """How to read figures where the relevance of some answers is unknown; empty where all is known."""
    lines, depth = [], tables.judged_depth(compared)
    if depth is not None:
        lines += [
            f"judged@{depth}: share of the first {depth} answers that people judged, or that labels decide.",
            "map_at_r and recall_k, in metrics/rows, take as R the number of right images that are known: "
            "nobody judged what no row showed. They count unjudged answers as wrong, as TREC does, and "
            "compare rows well only where these were judged alike.",
        ]
    if not all(comparison.is_exact(compared.metrics, name) for name in compared.metric_names):
        lines.append(
            "Two figures with 'to' between them are the least, if all unknown answers are wrong, and the "
            "greatest, if all are right. The interval covers both; p is that of the least favourable case."
        )
    return lines


def _least_p(clusters: int, pairs: int) -> str:
    """The smallest p that random flips can show after Holm's correction; empty where all flips are tried."""
    flips = max(FEWEST_FLIPS, FLIPS_PER_PAIR * pairs)
    return (
        f" and can't be below {pairs / (flips + 1):.3f} with {flips:,} flips" if 2**clusters > flips else ""
    )
