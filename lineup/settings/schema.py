"""What every part of params.yaml shares: unknown keys are refused, faults are told in one sentence."""

from __future__ import annotations

import re
import reprlib
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lineup.errors import suggest

# Names of files are made of a row's name, the longest by DVC (.<row>.parquet.<22 letters>.tmp), and a file
# system takes 255 bytes, or 143 where it encrypts names (eCryptfs).
LONGEST_NAME = 100
_NAME = f"a row's name may hold only a-z, 0-9 and _, at most {LONGEST_NAME} characters"
Key = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=LONGEST_NAME)]


# Settings of version 0.1, as patterns of their whole names, and what they are called since.
RENAMED = (
    (r"preprocess\.(max_side|max_side_px)", "preprocess.shorter_side_px"),
    (r"embed\.pixels_gb", "embed.pixel_cache_gb"),
    (r"retrieve\.k", "retrieve.depth"),
    (r"score\.k", "score.cutoffs"),
    (r"leaks", "near_copies, and its `by` is now `rows`"),
    (r"models\.[^.]+\.encoder\.match", "assign_by"),
)


class Strict(BaseModel):
    """A group of settings; an unknown key is an error, and values can't be changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, raw: Any) -> Any:
        """YAML takes yes, no, on and off for true and false, and pydantic those for 1 and 0."""
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        for name, value in raw.items() if isinstance(raw, dict) else ():
            if isinstance(value, bool) and name in fields and fields[name].annotation is not bool:
                raise ValueError(f"{name} is {str(value).lower()}, which is neither a number nor a text here")
        return raw


class _Shown(reprlib.Repr):
    """A value as messages show it: short, whatever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 200, 200

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write out numbers of more than 4,300 digits."""
        return repr(x) if x.bit_length() < 256 else "a number of more than 77 digits"


_shown = _Shown().repr
_SETTINGS, _LIST = "should be settings with a name each, as {k: 10}", "should be a list, as [a, b]"
_SHAPES: dict[str, str] = {
    "model_type": _SETTINGS,
    "model_attributes_type": _SETTINGS,
    "dict_type": _SETTINGS,
    "tuple_type": _LIST,
    "list_type": _LIST,
}


def explain(error: ValidationError, root: type[BaseModel], raw: Any) -> str:
    """The first fault as "models.resnet50.objektive is unknown; did you mean 'objective'?".

    `raw` is the document that was validated: it tells keys of the document from the tags that pydantic puts
    into the place of a fault inside a union.
    """
    # A misspelt key is both unknown and missing: the unknown one leads to the fix.
    faults = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    place, model = _walk(fault["loc"], root, raw)
    where = ".".join(_name(part) for part in place)
    kind: str = fault["type"]
    message = fault["msg"]
    context: dict[str, Any] = fault.get("ctx", {})
    discriminator = str(context.get("discriminator", "")).strip("'")
    if kind == "extra_forbidden" and (new := _renamed(where)):
        told = f"{where} is now called {new}; rename it"
    elif kind == "extra_forbidden":
        told = f"{where} is unknown{suggest(_name(place[-1]), _keys(model) if model else ())}"
    elif kind == "missing":
        told = f"{where} is missing"
    elif kind in ("literal_error", "union_tag_invalid"):
        word = fault["input"] if kind == "literal_error" else context["tag"]
        word = word if isinstance(word, str) else _shown(word)
        known = [
            k.strip("' ")
            for k in context.get("expected", context.get("expected_tags", ""))
            .replace(" or ", ", ")
            .split(",")
        ]
        where = where if kind == "literal_error" else f"{where}.{discriminator}"
        told = f"{where} is {_shown(word)}{suggest(word, known)}"
    elif kind == "union_tag_not_found":
        told = f"{where}.{discriminator} is missing"
    elif place and place[-1] == "[key]" and not isinstance(fault["input"], str):
        section = where.removesuffix(f".{_name(place[-2])}.[key]")
        told = f"{section}: a row's name is {_shown(fault['input'])}, which YAML takes for no text; put it in quotes"
    elif place and place[-1] == "[key]":
        told = f"{where.removesuffix('.[key]')}: {_NAME}"
    elif (
        kind == "dict_type"
        and fault["input"] is None
        and model
        and not model.model_fields[str(place[-1])].is_required()
    ):
        told = f"{where} is empty; for none say {where}: {{}}"
    elif kind in _SHAPES:
        told = f"{where} is {_shown(fault['input'])}: {_SHAPES[kind]}"
    elif kind == "too_short" and not fault["input"]:
        told = f"{where} is empty"
    elif kind == "string_pattern_mismatch" and place[-1] == "weights":
        told = (
            f"{where} is {_shown(fault['input'])}: say hub, hub:NAME, package:PACKAGE/FILE, file:PATH or none"
        )
    elif kind == "value_error":
        told = f"{where}: {context['error']}" if where else str(context["error"])
    else:
        told = f"{where} is {_shown(fault['input'])}: {message[0].lower()}{message[1:]}"
    return told + (f" ({len(faults) - 1} more after this one)" if len(faults) > 1 else "")


def _renamed(where: str) -> str | None:
    """The present name of a setting of version 0.1; None if it isn't one."""
    for old, new in RENAMED:
        if re.fullmatch(old, where):
            return new
    return None


def _name(part: int | str) -> str:
    return str(part) if len(str(part)) <= LONGEST_NAME else f"{str(part)[:LONGEST_NAME]}..."


def _walk(
    loc: tuple[int | str, ...], root: type[BaseModel], raw: Any
) -> tuple[list[int | str], type[BaseModel] | None]:
    """The place of a fault without union tags, and the model in which its last key was looked up."""
    place: list[int | str] = []
    model: type[BaseModel] | None = root
    annotation: Any = root
    for depth, part in enumerate(loc):
        choices = [a for a in _models(annotation)]
        tagged = [m for m in choices if len(choices) > 1 and part in _tags(m)]
        if tagged and not (isinstance(raw, dict) and part in raw):
            annotation = tagged[0]
            continue
        place.append(part)
        model = choices[0] if choices else None
        field = model.model_fields.get(str(part)) if model else None
        annotation = (
            field.annotation
            if field
            else (get_args(annotation)[-1] if get_origin(annotation) is dict else None)
        )
        last = depth == len(loc) - 1
        raw = raw.get(part) if isinstance(raw, dict) and not last else raw
    return place, model


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
