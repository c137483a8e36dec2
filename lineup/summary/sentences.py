"""The sentences of the comparison: the task, the verdict, the notes, and how to read the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from lineup.comparison import comparison
from lineup.comparison.comparison import SIGNIFICANCE_LEVEL, ComparedRow, Comparison, MeasurementSetup
from lineup.comparison.pairs import FEWEST_FLIPS, FLIPS_PER_PAIR
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.evaluation.row_metrics import JudgesAgreement, PeopleJudged, RowMetrics
from lineup.layouts import edit_kinds
from lineup.summary import cost_sentences, tables
from lineup.summary.rich_text import Code, Data, Span, Strong, Text, names

_TITLE = "Which model finds the right picture?"
_TITLE_OF_EDITS = "Which model finds edited copies of your own photos?"
_WEAKEST_KINDS_NAMED = 2
_AGREEMENTS_SHOWN = 3
# With fewer clusters than this, intervals and p values are rough.
FEW_CLUSTERS = 20


class Listing(NamedTuple):
    """A sentence and the items that it introduces; without items it stands alone."""

    introduction: Text
    items: list[Text]


def title(compared: Comparison) -> str:
    """What the comparison answers: another question where all queries are edited copies."""
    return _TITLE_OF_EDITS if compared.task.edits_only else _TITLE


def task(metrics: RowMetrics) -> list[str]:
    """What was searched in what, what that says, what was left out, what does not count: a sentence each."""
    qrels_unusable = metrics.judgements is not None and metrics.relevance != "qrels"
    if metrics.unscored:
        summary = f"{metrics.queries:,} queries, {metrics.gallery:,} gallery images, {metrics.unscored}: "
        summary += "quality can't be measured."
        summary += " data/raw/qrels.csv has no judgement that can be used." if qrels_unusable else ""
        left_out = _judgements_left_out(metrics)
    else:
        summary = _scored_task(metrics, qrels_unusable)
        left_out = [
            f"{count:,} {reason}"
            for count, reason in (
                (metrics.without_label, _why_unlabelled(metrics)),
                (metrics.without_answer, "without a right answer in the gallery"),
            )
            if count
        ] + _judgements_left_out(metrics)
    omitted = f"Left out: {', '.join(left_out)}." if left_out else ""
    judged = _judged(metrics.people) if metrics.people else ""
    sentences = [summary, judged, _meaning_of_edits(metrics), omitted, _sample(metrics), own_picture(metrics)]
    return [sentence for sentence in sentences if sentence]


def _sample(metrics: RowMetrics) -> str:
    """Of which queries the figures are, where people judged some of them; empty where labels decide."""
    if not metrics.people or metrics.relevance != "none" or metrics.scored == metrics.queries:
        return ""
    return (
        "The judging page asks first for the queries on which rows differ, so these figures may not hold for "
        "the others."
    )


def _scored_task(metrics: RowMetrics, qrels_unusable: bool) -> str:
    queries = f"{metrics.queries:,} queries"
    if metrics.scored != metrics.queries:
        queries = f"{metrics.scored:,} of {queries}"
    if metrics.edits_only:
        return (
            f"{queries}, edited copies of gallery photos, each searched in {metrics.gallery:,} gallery "
            "images; its original is right, and so is any exact copy of that."
        )
    labels = f" with {metrics.labels:,} labels" if metrics.labels else ""
    if metrics.relevance == "qrels":
        right = "data/raw/qrels.csv says which images are right"
    else:
        right = "images with the query's label are right"
    if metrics.people and metrics.people.pairs:
        right = _right_where_judged(metrics)
    elif qrels_unusable:
        right = f"data/raw/qrels.csv has no judgement that can be used, so {right}"
    gallery = f"each searched in {metrics.gallery:,} gallery images"
    return f"{queries}{labels}, {gallery}; {right}, the query itself doesn't count."


def _right_where_judged(metrics: RowMetrics) -> str:
    if metrics.relevance == "none":
        return "people judged which images are right"
    rule = "as data/raw/qrels.csv says" if metrics.relevance == "qrels" else "those with the query's label"
    return f"right images are those that people judged as right, and where nobody judged, {rule}"


def _why_unlabelled(metrics: RowMetrics) -> str:
    if not metrics.people or not metrics.people.pairs:
        return "without a label"
    return "that nobody judged" if metrics.relevance == "none" else "without a label that nobody judged"


def _judged(people: PeopleJudged) -> str:
    """Who judged how many pairs, how far they agree, and which judgements do not count."""
    judges = "1 person" if people.judges == 1 else f"{people.judges:,} people"
    text = f"{judges} judged {_counted(people.pairs, 'pair')} of {_counted(people.queries, 'query')}."
    if people.agreements:
        shown = sorted(people.agreements, key=lambda each: -each.pairs)[:_AGREEMENTS_SHOWN]
        differ = "none of these pairs"
        if people.disagreements:
            differ = f"{people.disagreements:,} of these pairs, which lineup judge --disputed asks for again"
        text += f" They differ on {differ} ({'; '.join(map(_agreement, shown))})."
    if people.without_right:
        text += f" No right image is known for {people.without_right:,} of these queries, which count as 0."
    if people.left_out:
        text += f" Judgements of {_counted(people.left_out, 'pair')} are about photos that no row can show."
    return text


def _counted(count: int, noun: Literal["pair", "query"]) -> str:
    return f"{count:,} {noun if count == 1 else {'pair': 'pairs', 'query': 'queries'}[noun]}"


def _agreement(own: JudgesAgreement) -> str:
    kappa = "" if own.kappa is None else f", Cohen's kappa {own.kappa:.2f}"
    return f"{own.first} and {own.second} agree on {own.agreed:,} of {_counted(own.pairs, 'pair')}{kappa}"


def _meaning_of_edits(metrics: RowMetrics) -> str:
    """What figures on edited copies say, and what they do not; empty without such copies."""
    if metrics.edits_only:
        return (
            "The figures say which edits a row survives. "
            "They do not say which photos it finds that people would call right."
        )
    if metrics.edited:
        return (
            f"Of these queries, {metrics.edited:,} are edited copies of gallery photos: they say which edits "
            "a row survives, not which photos it finds that people would call right."
        )
    return ""


def _judgements_left_out(metrics: RowMetrics) -> list[str]:
    judgements = metrics.judgements
    if judgements is None or not judgements.left_out:
        return []
    counts = f"{judgements.left_out:,} of {judgements.lines:,} judgements"
    return [f"{counts}, about photos that can't be read"]


def own_picture(metrics: RowMetrics) -> str:
    """Which gallery images count as the query itself; empty where no query's picture is in the gallery."""
    same_bytes, other_bytes = metrics.own_picture.same_bytes, metrics.own_picture.other_bytes
    if not same_bytes + other_bytes:
        return ""
    if metrics.exclude == "bytes":
        own = (
            f"own file, {_times(same_bytes)}; its picture in other bytes is an answer, {_times(other_bytes)}"
        )
        own += " (relevance.exclude: bytes)"
    else:
        own = f"own picture, {_times(same_bytes + other_bytes)}"
        own += f" ({other_bytes:,} in other bytes; relevance.exclude: pixels)"
    return f"Excluded from the answers: the query's {own}."


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def verdict(compared: Comparison) -> Text:
    """Which row is the best, and which of those that may be as good is the fastest."""
    best, undecided = compared.best, compared.with_outcome("undecided")
    if not compared.trained:
        return (Strong(("No row has trained weights: none of these figures is a result.",)),)
    if best is None:
        return ()
    cheaper = cost_sentences.cheaper(compared)
    return (
        *_ranked_first(compared, best, undecided),
        *_behind(compared),
        *((" ", *cheaper) if cheaper else ()),
        *_survival(best),
        *_if_not_exact(compared),
        *_if_too_short(compared),
    )


def _behind(compared: Comparison) -> Text:
    """In which other metrics a row is better than the best one; empty where none is by more than chance."""
    spans: list[Span] = []
    for pair, rows in compared.ahead:
        ahead = tables.difference(pair.difference, pair.low, pair.high, pair.p_holm)
        if rows == 1:
            spans += [f" In {pair.metric}, ", Code(pair.a), f" is better than it: {ahead}."]
        else:
            spans += [f" In {pair.metric}, {rows} rows are better than it, ", Code(pair.a), f" by {ahead}."]
    return tuple(spans)


def _if_not_exact(compared: Comparison) -> Text:
    if compared.is_exact or not compared.task.is_partly_judged:
        return ()
    metric = compared.metric_names[0]
    return (f" Not all answers that {metric} needs are judged: ", Code("lineup judge"), " asks for the rest.")


def _if_too_short(compared: Comparison) -> Text:
    """What to do where junk leaves too few images of a ranking; empty where it leaves enough."""
    partial = [row.metrics.partial for row in compared.rows if row.metrics.partial]
    depth = max((each.depth_needed for each in partial if each.depth_needed), default=None)
    if depth is None:
        return ()
    problem = " Without junk, some rankings are too short for exact figures: set "
    return problem, Code(f"retrieve.depth: {depth}"), " in params.yaml and run ", Code("dvc repro"), "."


def _ranked_first(compared: Comparison, best: ComparedRow, undecided: Sequence[ComparedRow]) -> Text:
    if len(compared.trained) == 1:
        trained = "" if len(compared.rows) == 1 else " with trained weights"
        return (Code(best.name), f" is the only row{trained}: there is nothing to compare it with yet.")
    at = "Best at finding edited copies: " if compared.task.edits_only else "Best: "
    headline = Strong((at, Code(best.name)))
    if not undecided:
        return headline, f", better in {compared.metric_names[0]} than every other row by more than chance."
    others = names(row.name for row in undecided)
    text = (headline, ", but not told apart from ", *others, " by these queries.")
    fastest = comparison.clearly_fastest([best, *undecided], compared.running)
    if fastest is None:
        return text
    speed = f"{fastest.metrics.costs.images_per_second:,.0f} images/s"
    return (*text, " Of these, ", Code(fastest.name), f" embeds fastest, {speed}.")


def _survival(row: ComparedRow) -> Text:
    """After which edits a row finds the fewest originals; empty without edited copies."""
    edits = row.metrics.edits
    if not edits:
        return ()
    weakest = sorted((copies.top_1, kind) for kind, copies in edits.items() if copies.top_1 < 1)
    if not weakest:
        return " ", Code(row.name), " finds every original, whatever the edit."
    named = weakest[:_WEAKEST_KINDS_NAMED]
    listed = " and ".join(f"{kind} ({tables.figure(top_1, 2)})" for top_1, kind in named)
    return " ", Code(row.name), f" finds the fewest originals after {listed}."


def measured_on(compared: Comparison) -> Listing:
    """Where and how rows were measured, with the rows of each setup where there are several."""
    setups = comparison.measurement_setups(compared)
    if len(setups) == 1:
        return Listing(("All rows ", *_setup(next(iter(setups))), "."), [])
    items: list[Text] = [(*names(rows), ": ", *_setup(setup)) for setup, rows in setups.items()]
    machines = {setup._replace(engine=None, precision=None) for setup in setups}
    if len(machines) == 1:
        return Listing(("Measured on one machine, by different engines or in different precisions:",), items)
    return Listing(("Measured in different places, so speeds of different ones can't be compared:",), items)


def _setup(setup: MeasurementSetup) -> Text:
    embedded = setup.device or "an unknown device"
    searched = f"{setup.search_device}, {setup.search_threads} threads"
    device: Text = (" on ", Data(embedded)) if embedded != searched else ()
    engine = ", ".join(value for value in (setup.engine, setup.precision) if value)
    return "embedded", *device, " (", Data(engine), ") and searched on ", Data(searched)


def notes(compared: Comparison) -> list[Text]:
    """What is worth knowing of single rows: of their training, and of images that they enlarge."""
    texts: list[Text] = [
        (Code(row.name), ": ", Data(row.metrics.costs.train_note))
        for row in compared.rows
        if row.metrics.costs.train_note
    ]
    texts += cost_sentences.busy(compared)
    texts += cost_sentences.few_queries(compared)
    texts += cost_sentences.other_photos(compared)
    for enlarged, rows in comparison.enlarging_rows(compared).items():
        counts = f"{enlarged.images:,} of {enlarged.of:,} images are smaller than the {enlarged.resize_px} px"
        texts.append((*names(rows), f": {counts} that the transform resizes to, and are enlarged"))
    return texts


def legend(compared: Comparison) -> list[str]:
    """How to read the tables, a line each."""
    cost = [
        *cost_sentences.legend(compared),
        "memory MB: peak memory of the process that embeds, or of the GPU where there is one. "
        "index MB: size on disk of the index of all gallery vectors.",
        "GFLOPs: of one image, counting a multiply-add as two operations. "
        "px: side of the image that the network sees.",
    ]
    depth = comparison.ann_depth(compared)
    if depth:
        cost.append(
            f"ANN recall@{depth}: of the {depth} images nearest by exact search, the share that the row's "
            "index finds, mean over queries. "
            "The row's quality, query ms and index MB are those of this index."
        )
    quality = _quality_legend(compared) if compared.metric_names else []
    return [*quality, *_edits_legend(compared.task), *cost]


def _edits_legend(metrics: RowMetrics) -> list[str]:
    """What each kind of edit is, and how uncertain its figures are; empty without edited copies."""
    if not metrics.edits:
        return []
    fewest = min(copies.queries for copies in metrics.edits.values())
    # Half the 95% interval of a share of one half, by the normal approximation.
    margin = 1.96 * math.sqrt(0.25 / fewest)
    kinds = [
        f"{kind} ({metrics.edits[kind].queries:,} queries): {description}."
        for kind, description in edit_kinds.DESCRIPTIONS.items()
        if kind in metrics.edits
    ]
    return [
        "Edits: share of the queries of a kind whose original, or an exact copy of it, comes first (top_1). "
        f"With {fewest:,} queries of a kind, chance moves it by up to {margin:.2f} either way; "
        "lineup photos makes more with --queries. "
        "A gallery photo that is almost the original, such as the same photo saved anew, counts as wrong.",
        *kinds,
    ]


def _least_p(clusters: int, pairs: int) -> str:
    """The smallest p that random flips can show after Holm's correction; empty where all flips are tried."""
    flips = max(FEWEST_FLIPS, FLIPS_PER_PAIR * pairs)
    return (
        f" and can't be below {pairs / (flips + 1):.3f} with {flips:,} flips" if 2**clusters > flips else ""
    )


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


def _quality_legend(compared: Comparison) -> list[str]:
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
    if metrics.clusters < FEW_CLUSTERS:
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
