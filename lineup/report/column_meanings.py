"""What the columns of the table of all figures mean, each in one line."""

from __future__ import annotations

from lineup.evaluation.metrics import MAIN_METRIC
from lineup.summary.tables import AGAINST_THE_BEST

_MEANINGS = {
    MAIN_METRIC: "average precision over a query's first R answers, of R right images; 1 is perfect",
    AGAINST_THE_BEST: "the row's first metric minus that of the best row",
    "images/s": "prepared images embedded per second, in batches, by all threads",
    "p50 ms": "from a photo's file to its answers, by one thread: half of the queries take no longer",
    "p95 ms": "from a photo's file to its answers, by one thread: 95% of the queries take no longer",
    "query ms": "the search for one query, without its embedding",
    "dim": "numbers in each vector",
    "index MB": "what a service holds in memory to search",
    "index": "how the gallery is searched",
    "memory MB": "the most memory while embedding",
    "params M": "parameters of the network, in millions",
    "GFLOPs": "billions of operations for one image",
    "px": "side of the image that the network gets",
    "train min": "minutes of training",
    "licence": "of the weights",
    "Pareto": "no row is better at no higher cost a month",
    "$/M photos": "dollars to embed a million photos, by prices.yaml",
    "$/M queries": "dollars to answer a million queries, by prices.yaml",
    "$ index/month": "dollars a month for the memory of the index, by prices.yaml",
    "$/month": "dollars a month for the queries and the index, by prices.yaml",
}
_PREFIXES = {
    "top_": "share of queries with a right image among the first {} answers",
    "precision_": "share of the first {} answers that are right",
    "judged@": "share of the first {} answers whose relevance is known",
    "ANN recall@": "share of the exact {} nearest images that the approximate index finds",
}


def meaning(title: str) -> str | None:
    """The meaning of the column with this title, None of one that explains itself."""
    for prefix, text in _PREFIXES.items():
        if title.startswith(prefix):
            return text.format(title.removeprefix(prefix))
    return _MEANINGS.get(title)
