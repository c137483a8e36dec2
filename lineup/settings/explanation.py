"""Faults of params.yaml, explained in a sentence each: where, what, and the nearest fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from lineup.errors import suggest
from lineup.settings.fault import Fault, shorten, show, walk
from lineup.settings.schema import LONGEST_NAME, SHA256_PATTERN, WEIGHTS_PATTERN

# Settings renamed after version 0.1: a pattern for the old name in full, and the new name.
RENAMED = (
    (r"preprocess\.(max_side|max_side_px)", "preprocess.shorter_side_px"),
    (r"embed\.pixels_gb", "embed.pixel_cache_gb"),
    (r"retrieve\.k", "retrieve.depth"),
    (r"score\.k", "score.cutoffs"),
    (r"leaks", "near_copies, and its `by` is now `rows`"),
    (r"models\.[^.]+\.encoder\.match", "assign_by"),
)


def explain(error: ValidationError, root: type[BaseModel], document: Any) -> str:
    """The first fault as "models.resnet50.objektive is unknown; did you mean 'objective'?".

    Args:
        error: what validating the document raised.
        root: the model it was validated as.
        document: what was validated. In a union, pydantic adds tags to an error's path; the document shows
            which parts of the path are keys.
    """
    # A misspelt key is both unknown and missing: the unknown one leads to the fix.
    errors = sorted(error.errors(include_url=False), key=lambda details: details["type"] != "extra_forbidden")
    fault = Fault(*walk(errors[0]["loc"], root, document), errors[0])
    if fault.path and fault.path[-1] == "[key]":
        sentence = _explain_row_name(fault)
    else:
        sentence = _EXPLAIN.get(fault.error["type"], _explain_value)(fault)
    return sentence + (f" ({len(errors) - 1} more after this one)" if len(errors) > 1 else "")


def _explain_row_name(fault: Fault) -> str:
    *section, name, _ = fault.path
    if isinstance(fault.value, str):
        kind = "set" if section[-1:] == ["sets"] else "row"
        rule = f"a {kind}'s name may hold only a-z, 0-9 and _, at most {LONGEST_NAME} characters"
        return f"{'.'.join(map(shorten, [*section, name]))}: {rule}"
    where = ".".join(map(shorten, section))
    return f"{where}: a row's name is {show(fault.value)}, which YAML does not read as text; put it in quotes"


def _explain_value(fault: Fault) -> str:
    message = fault.error["msg"]
    return f"{fault.where} is {show(fault.value)}: {message[0].lower()}{message[1:]}"


def _explain_unknown(fault: Fault) -> str:
    for old, new in RENAMED:
        if re.fullmatch(old, fault.where):
            return f"{fault.where} is now called {new}; rename it"
    known = _keys(fault.model) if fault.model else ()
    return f"{fault.where} is unknown{suggest(shorten(fault.path[-1]), known)}"


def _explain_choice(fault: Fault) -> str:
    return _unknown_choice(fault.where, fault.value, fault.context["expected"])


def _explain_tag(fault: Fault) -> str:
    return _unknown_choice(fault.tag, fault.context["tag"], fault.context["expected_tags"])


def _unknown_choice(where: str, value: Any, expected: str) -> str:
    """expected: as pydantic lists it, "'a', 'b' or 'c'"."""
    known = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
    return f"{where} is {show(value)}{suggest(value if isinstance(value, str) else show(value), known)}"


def _explain_mapping(fault: Fault) -> str:
    field = fault.model.model_fields.get(str(fault.path[-1])) if fault.model and fault.path else None
    if fault.value is None and field and not field.is_required() and fault.error["type"] == "dict_type":
        return f"{fault.where} is empty; for none set {fault.where}: {{}}"
    return f"{fault.where} is {show(fault.value)}: should be settings with a name each, as {{k: 10}}"


def _explain_length(fault: Fault) -> str:
    return _explain_value(fault) if fault.value else f"{fault.where} is empty"


def _explain_pattern(fault: Fault) -> str:
    fix = _PATTERN_FIXES.get(fault.context["pattern"])
    return f"{fault.where} is {show(fault.value)}: {fix}" if fix else _explain_value(fault)


def _explain_rule(fault: Fault) -> str:
    """One of our own validators failed; its message is a sentence, or ends one that begins with the key."""
    return f"{fault.where}: {fault.context['error']}" if fault.path else str(fault.context["error"])


def _should_be(what: str) -> Callable[[Fault], str]:
    def explain_type(fault: Fault) -> str:
        value = "empty" if fault.value is None else show(fault.value)
        return f"{fault.where} is {value}: should be {what}"

    return explain_type


_PATTERN_FIXES = {
    WEIGHTS_PATTERN: "use hub, hub:NAME, package:PACKAGE/FILE, file:PATH or none",
    SHA256_PATTERN: "should be 64 hexadecimal digits",
}

# By pydantic's type of error; the message of any other type is pydantic's own.
_EXPLAIN: dict[str, Callable[[Fault], str]] = {
    "extra_forbidden": _explain_unknown,
    "missing": lambda fault: f"{fault.where} is missing",
    "literal_error": _explain_choice,
    "union_tag_invalid": _explain_tag,
    "union_tag_not_found": lambda fault: f"{fault.tag} is missing",
    "model_type": _explain_mapping,
    "model_attributes_type": _explain_mapping,
    "dict_type": _explain_mapping,
    "tuple_type": _should_be("a list, as [a, b]"),
    "list_type": _should_be("a list, as [a, b]"),
    "int_type": _should_be("a whole number"),
    "float_type": _should_be("a number"),
    "bool_type": _should_be("true or false"),
    "string_type": _should_be("text; put it in quotes"),
    "too_short": _explain_length,
    "string_pattern_mismatch": _explain_pattern,
    "value_error": _explain_rule,
}


def _keys(model: type[BaseModel]) -> set[str]:
    """The keys of a model as they're written in the document."""
    return {field.alias or name for name, field in model.model_fields.items()}
