"""The sentences on what people judged: how many pairs, how far they agree, and what that decides."""

from __future__ import annotations

from typing import Literal

from lineup.evaluation.row_metrics import JudgesAgreement, PeopleJudged, RowMetrics

_AGREEMENTS_SHOWN = 3


def judged(people: PeopleJudged) -> str:
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


def right(metrics: RowMetrics) -> str:
    """Which images are right, where people judged pairs."""
    if metrics.relevance == "none":
        return "people judged which images are right"
    rule = "as data/raw/qrels.csv says" if metrics.relevance == "qrels" else "those with the query's label"
    return f"right images are those that people judged as right, and where nobody judged, {rule}"


def why_unlabelled(metrics: RowMetrics) -> str:
    """What follows the number of queries of which nothing is known, such as "without a label"."""
    if not metrics.people or not metrics.people.pairs:
        return "without a label"
    return "that nobody judged" if metrics.relevance == "none" else "without a label that nobody judged"


def sample(metrics: RowMetrics) -> str:
    """Of which queries the figures are, where people judged some of them; empty where labels decide."""
    if not metrics.people or metrics.relevance != "none" or metrics.scored == metrics.queries:
        return ""
    return (
        "The judging page asks first for the queries on which rows differ, so these figures may not hold for "
        "the others."
    )


def _agreement(own: JudgesAgreement) -> str:
    kappa = "" if own.kappa is None else f", Cohen's kappa {own.kappa:.2f}"
    return f"{own.first} and {own.second} agree on {own.agreed:,} of {_counted(own.pairs, 'pair')}{kappa}"


def _counted(count: int, noun: Literal["pair", "query"]) -> str:
    return f"{count:,} {noun if count == 1 else {'pair': 'pairs', 'query': 'queries'}[noun]}"
