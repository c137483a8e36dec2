"""What every part of params.yaml shares: strict types, no unknown keys, faults explained in a sentence."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from lineup.errors import suggest

# A row's name becomes part of file names, the longest of which is DVC's .<row>.parquet.<22 letters>.tmp. File
# systems allow 255 bytes for a name, or 143 where names are encrypted (eCryptfs).
LONGEST_NAME = 100
RowName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=LONGEST_NAME)]

WEIGHTS_PATTERN = r"^(hub|none|(hub|package|file):.+)$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

# Settings renamed after version 0.1: a pattern for the old name in full, and the new name.
RENAMED = (
    (r"preprocess\.(max_side|max_side_px)", "preprocess.shorter_side_px"),
    (r"embed\.pixels_gb", "embed.pixel_cache_gb"),
    (r"retrieve\.k", "retrieve.depth"),
    (r"score\.k", "score.cutoffs"),
    (r"leaks", "near_copies, and its `by` is now `rows`"),
    (r"models\.[^.]+\.encoder\.match", "assign_by"),
)


class Strict(BaseModel):
    """A group of settings; an unknown key is an error, and values can't be changed once read.

    Types are strict because YAML reads yes, no, on and off as booleans, which pydantic would otherwise accept
    as 1 and 0. Tuples are the exception, as YAML has only lists.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Repr(reprlib.Repr):
    """Formats a value for a message, shortened where it is long or deeply nested."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 200, 200

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write out numbers of more than 4,300 digits."""
        return repr(x) if x.bit_length() < 256 else "a number of more than 77 digits"

    def repr_bool(self, x: bool, level: int) -> str:
        return str(x).lower()


_show = _Repr().repr


class _Fault(NamedTuple):
    """One of pydantic's errors, and where in the document it is.

    Attributes:
        path: the keys that lead to it; "[key]" comes last where the key itself is at fault.
        model: the group of settings in which the last key was looked up; None if it was a list or dict.
        error: as pydantic reports it.
    """

    path: list[int | str]
    model: type[BaseModel] | None
    error: ErrorDetails

    @property
    def where(self) -> str:
        return ".".join(map(_shorten, self.path))

    @property
    def value(self) -> Any:
        return self.error["input"]

    @property
    def context(self) -> dict[str, Any]:
        return self.error.get("ctx", {})

    @property
    def tag(self) -> str:
        """The key that decides which kind of settings these are, such as objective.name."""
        return f"{self.where}.{self.context['discriminator'].strip(chr(39))}"


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
    fault = _Fault(*_walk(errors[0]["loc"], root, document), errors[0])
    if fault.path and fault.path[-1] == "[key]":
        sentence = _explain_row_name(fault)
    else:
        sentence = _EXPLAIN.get(fault.error["type"], _explain_value)(fault)
    return sentence + (f" ({len(errors) - 1} more after this one)" if len(errors) > 1 else "")


def _explain_row_name(fault: _Fault) -> str:
    *section, name, _ = fault.path
    if isinstance(fault.value, str):
        kind = "set" if section[-1:] == ["sets"] else "row"
        rule = f"a {kind}'s name may hold only a-z, 0-9 and _, at most {LONGEST_NAME} characters"
        return f"{'.'.join(map(_shorten, [*section, name]))}: {rule}"
    where = ".".join(map(_shorten, section))
    return (
        f"{where}: a row's name is {_show(fault.value)}, which YAML does not read as text; put it in quotes"
    )


def _explain_value(fault: _Fault) -> str:
    message = fault.error["msg"]
    return f"{fault.where} is {_show(fault.value)}: {message[0].lower()}{message[1:]}"


def _explain_unknown(fault: _Fault) -> str:
    for old, new in RENAMED:
        if re.fullmatch(old, fault.where):
            return f"{fault.where} is now called {new}; rename it"
    known = _keys(fault.model) if fault.model else ()
    return f"{fault.where} is unknown{suggest(_shorten(fault.path[-1]), known)}"


def _explain_choice(fault: _Fault) -> str:
    return _unknown_choice(fault.where, fault.value, fault.context["expected"])


def _explain_tag(fault: _Fault) -> str:
    return _unknown_choice(fault.tag, fault.context["tag"], fault.context["expected_tags"])


def _unknown_choice(where: str, value: Any, expected: str) -> str:
    """expected: as pydantic lists it, "'a', 'b' or 'c'"."""
    known = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
    return f"{where} is {_show(value)}{suggest(value if isinstance(value, str) else _show(value), known)}"


def _explain_mapping(fault: _Fault) -> str:
    field = fault.model.model_fields.get(str(fault.path[-1])) if fault.model and fault.path else None
    if fault.value is None and field and not field.is_required() and fault.error["type"] == "dict_type":
        return f"{fault.where} is empty; for none set {fault.where}: {{}}"
    return f"{fault.where} is {_show(fault.value)}: should be settings with a name each, as {{k: 10}}"


def _explain_length(fault: _Fault) -> str:
    return _explain_value(fault) if fault.value else f"{fault.where} is empty"


def _explain_pattern(fault: _Fault) -> str:
    fix = _PATTERN_FIXES.get(fault.context["pattern"])
    return f"{fault.where} is {_show(fault.value)}: {fix}" if fix else _explain_value(fault)


def _explain_rule(fault: _Fault) -> str:
    """One of our own validators failed; its message is a sentence, or ends one that begins with the key."""
    return f"{fault.where}: {fault.context['error']}" if fault.path else str(fault.context["error"])


def _should_be(what: str) -> Callable[[_Fault], str]:
    def explain_type(fault: _Fault) -> str:
        value = "empty" if fault.value is None else _show(fault.value)
        return f"{fault.where} is {value}: should be {what}"

    return explain_type


_PATTERN_FIXES = {
    WEIGHTS_PATTERN: "use hub, hub:NAME, package:PACKAGE/FILE, file:PATH or none",
    SHA256_PATTERN: "should be 64 hexadecimal digits",
}

# By pydantic's type of error; the message of any other type is pydantic's own.
_EXPLAIN: dict[str, Callable[[_Fault], str]] = {
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


def _shorten(part: int | str) -> str:
    return str(part) if len(str(part)) <= LONGEST_NAME else f"{str(part)[:LONGEST_NAME]}..."


def _walk(
    loc: tuple[int | str, ...], root: type[BaseModel], document: Any
) -> tuple[list[int | str], type[BaseModel] | None]:
    """The path of a fault without the tags of unions, and the group that its last key was looked up in."""
    path: list[int | str] = []
    model: type[BaseModel] | None = root
    annotation: Any = root
    for depth, part in enumerate(loc):
        choices = _models(annotation)
        tagged = [choice for choice in choices if len(choices) > 1 and part in _tags(choice)]
        if tagged and not (isinstance(document, dict) and part in document):
            annotation = tagged[0]
            continue
        path.append(part)
        model = choices[0] if choices else None
        field = model.model_fields.get(str(part)) if model else None
        annotation = (
            field.annotation
            if field
            else (get_args(annotation)[-1] if get_origin(annotation) is dict else None)
        )
        if isinstance(document, dict) and depth < len(loc) - 1:
            document = document.get(part)
    return path, model


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation can hold: of X, X | None, Annotated[X | Y, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (dict, list, tuple):
        return []
    return [model for arg in get_args(annotation) for model in _models(arg)]


def _keys(model: type[BaseModel]) -> set[str]:
    """The keys of a model as they're written in the document."""
    return {field.alias or name for name, field in model.model_fields.items()}


def _tags(model: type[BaseModel]) -> set[Any]:
    """The literal values by which a model of a tagged union is known."""
    return {
        value
        for field in model.model_fields.values()
        for value in get_args(field.annotation)
        if get_origin(field.annotation) is not Union
    }
