"""The sentences of the comparison: the task, the verdict, the notes, and how to read the tables."""

from __future__ import annotations

from collections.abc import Sequence

from lineup.comparison import comparison
from lineup.comparison.comparison import ComparedRow, Comparison, MeasurementSetup
from lineup.evaluation.row_metrics import RowMetrics
from lineup.summary import cost_sentences, edit_sentences, people_sentences, quality_legend, tables
from lineup.summary.rich_text import Code, Data, Listing, Span, Strong, Text, names

_TITLE = "Which model finds the right picture?"
_TITLE_OF_EDITS = "Which model finds edited copies of your own photos?"


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
                (metrics.without_label, people_sentences.why_unlabelled(metrics)),
                (metrics.without_answer, "without a right answer in the gallery"),
            )
            if count
        ] + _judgements_left_out(metrics)
    omitted = f"Left out: {', '.join(left_out)}." if left_out else ""
    judged = people_sentences.judged(metrics.people) if metrics.people else ""
    sentences = [
        summary,
        judged,
        edit_sentences.meaning(metrics),
        omitted,
        people_sentences.sample(metrics),
        own_picture(metrics),
    ]
    return [sentence for sentence in sentences if sentence]


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
        right = people_sentences.right(metrics)
    elif qrels_unusable:
        right = f"data/raw/qrels.csv has no judgement that can be used, so {right}"
    gallery = f"each searched in {metrics.gallery:,} gallery images"
    return f"{queries}{labels}, {gallery}; {right}, the query itself doesn't count."


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
        *edit_sentences.survival(best),
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
    quality = quality_legend.legend(compared) if compared.metric_names else []
    return [*quality, *edit_sentences.legend(compared.task), *cost]
