"""What the comparison says of second test sets: which rows got better at home and worse elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lineup import paths
from lineup.comparison.comparison import SIGNIFICANCE_LEVEL
from lineup.evaluation.figure_tables import Difference
from lineup.evaluation.metrics import MAIN_METRIC
from lineup.settings import trained_rows
from lineup.settings.objective import NoObjective
from lineup.settings.params import Params
from lineup.settings.training import settings_of
from lineup.summary import tables
from lineup.summary.rich_text import Code, Data, Strong, Text
from lineup.summary.tables import Cell, RowName, Table
from lineup.training_effects.transfer import Transferred

TITLE = "What was forgotten"
HOME = paths.RAW.as_posix()
_LEGEND = (
    f"{MAIN_METRIC} on a second test set, which transfer in params.yaml names. Against its start: the "
    "difference to the row with the same encoder and objective: none, on the same queries, with its 95% "
    "interval over labels; p is Holm-adjusted. metrics/transfer.csv has all figures."
)


def table(computed: Sequence[Transferred]) -> Table | None:
    """A line for each row on a second test set; None if there is none."""
    if not computed:
        return None
    header = ["row", "start", "test set", MAIN_METRIC, "against its start", f"on {HOME}, against it"]
    return Table(header, [_cells(each) for each in computed])


def _cells(each: Transferred) -> list[Cell]:
    interval = "" if each.low is None or each.high is None else f" ({each.low:.3f}-{each.high:.3f})"
    start = tables.NO_FIGURE if each.start is None else RowName(each.start, random=False)
    differences = (_difference(each.to_start), _difference(each.at_home))
    return [
        RowName(each.model, random=False),
        start,
        Data(each.folder),
        f"{each.mean:.3f}{interval}",
        *differences,
    ]


def _difference(difference: Difference | None) -> str:
    return tables.NO_FIGURE if difference is None else tables.difference(*difference)


def sentences(computed: Sequence[Transferred], params: Params) -> list[Text]:
    """What the figures allow to say; empty where no row was measured on a second test set."""
    if not computed:
        return []
    tested = [each for each in computed if each.to_start and each.to_start.p_holm is not None]
    worse = [each for each in tested if _sign(each.to_start) < 0]
    said: list[Text] = [_loss(each, params) for each in worse]
    if tested and not worse:
        said.append(("No trained row is worse than its start on a second test set by more than chance.",))
    return [*said, *_limits(computed, params), (_LEGEND,)]


def _sign(difference: Difference | None) -> int:
    """1 or -1 where a difference is above or below 0 by more than chance, else 0."""
    if difference is None or difference.p_holm is None or difference.p_holm >= SIGNIFICANCE_LEVEL:
        return 0
    return 1 if difference.value > 0 else -1


def _loss(each: Transferred, params: Params) -> Text:
    """A row that is worse than its start; the sentence is a warning where it is better at home."""
    assert each.to_start is not None
    lost = f"lost {tables.size(*each.to_start)} on "
    if each.at_home is None or _sign(each.at_home) <= 0:
        return Code(each.model), f" {lost}", Data(each.folder), " against its start.", _advice(each, params)
    gained = f" gained {tables.size(*each.at_home)} on {HOME} and "
    return Strong((Code(each.model), gained, lost, Data(each.folder))), ".", _advice(each, params)


def _advice(each: Transferred, params: Params) -> str:
    objective = params.models[each.model].objective
    if isinstance(objective, NoObjective) or objective.name == "adapter":
        return ""
    blend = settings_of(params.train, objective).blend
    what = "blend: 0.5" if blend == 1 else f"a smaller blend than {blend:g}"
    return f" A row with {what}, or an adapter on the encoder, often forgets less."


def _limits(computed: Iterable[Transferred], params: Params) -> list[Text]:
    """What the figures can't tell, and what would change that."""
    said: list[Text] = []
    for row, fix in trained_rows.missing_starts(params).items():
        said.append((Code(row), f" is compared with no start: in transfer.rows, {fix}."))
    sets = {each.test_set: each for each in computed}.values()
    for each in sets:
        if not each.is_large:
            counts = f" has {each.queries:,} queries of {each.labels:,} labels, too few to tell a difference."
            said.append((Data(each.folder), counts))
        if each.training_photos:
            shared = (
                f" has {each.training_photos:,} photos that are also training photos; take them out, since "
                "they say nothing of what was forgotten."
            )
            said.append((Data(each.folder), shared))
    return said
