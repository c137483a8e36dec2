"""A fault of params.yaml: one of pydantic's errors, and where in the document it is."""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from lineup.settings.schema import LONGEST_NAME


class Fault(NamedTuple):
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
        """The path, as "models.resnet50.encoder"."""
        return ".".join(map(shorten, self.path))

    @property
    def value(self) -> Any:
        """What the document has there."""
        return self.error["input"]

    @property
    def context(self) -> dict[str, Any]:
        """What pydantic adds to an error of this type."""
        return self.error.get("ctx", {})

    @property
    def tag(self) -> str:
        """The key that decides which kind of settings these are, such as objective.name."""
        return f"{self.where}.{self.context['discriminator'].strip(chr(39))}"


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


show = _Repr().repr


def shorten(part: int | str) -> str:
    """A key of a path, shortened where it is longer than any name may be."""
    return str(part) if len(str(part)) <= LONGEST_NAME else f"{str(part)[:LONGEST_NAME]}..."


def walk(
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


def _tags(model: type[BaseModel]) -> set[Any]:
    """The literal values by which a model of a tagged union is known."""
    return {
        value
        for field in model.model_fields.values()
        for value in get_args(field.annotation)
        if get_origin(field.annotation) is not Union
    }
