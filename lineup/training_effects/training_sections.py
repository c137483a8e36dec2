"""What the comparison says of trained rows: what they gained, and what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from lineup.settings.params import Params
from lineup.summary.tables import Section
from lineup.training_effects import seen_label_sentences, seen_value_sentences, transfer_sentences
from lineup.training_effects.seen_labels import OfLabels
from lineup.training_effects.seen_values import OfValues
from lineup.training_effects.transfer import Transferred


def sections(
    labels: Sequence[OfLabels], values: Sequence[OfValues], elsewhere: Sequence[Transferred], params: Params
) -> list[Section]:
    """The sections that have something to say.

    Args:
        labels: rows on seen and unseen labels.
        values: rows on seen and unseen values of attributes.
        elsewhere: rows on second test sets.
    """
    every = [
        Section(
            seen_label_sentences.TITLE,
            seen_label_sentences.table(labels),
            seen_label_sentences.sentences(labels),
        ),
        Section(
            seen_value_sentences.TITLE,
            seen_value_sentences.table(values),
            seen_value_sentences.sentences(values),
        ),
        Section(
            transfer_sentences.TITLE,
            transfer_sentences.table(elsewhere),
            transfer_sentences.sentences(elsewhere, params),
        ),
    ]
    return [section for section in every if section.table or section.sentences]
