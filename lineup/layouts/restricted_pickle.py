"""Reads a pickle of numbers, texts, lists and NumPy arrays, and runs nothing that a stranger wrote into it.

A pickle is a program: it may name any function of Python and call it. This reader admits the few names that
NumPy writes for arrays and numbers, and puts classes of its own in their place, so that not even NumPy's code
sees the content. Any other name is refused before it is imported.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from lineup.errors import UserError, explained, printable

_MAX_FILE_MB = 16
_MAX_NAME_CHARACTERS = 80
# Numbers, bytes and texts of fixed length. Objects, "O", are lists already.
_ELEMENT_TYPE = re.compile(r"[iuf][1248]|b1|[US]\d{1,4}")


def load(path: Path) -> Any:
    """The content of a pickle: dicts, lists, tuples, texts, numbers; an array is a flat list.

    Args:
        path: a file that was written by any version of pickle, Python and NumPy.
    Raises:
        UserError: it is damaged, too large, or calls something else.
    """
    if path.stat().st_size > _MAX_FILE_MB * 10**6:
        raise UserError(f"{path}: is larger than {_MAX_FILE_MB} MB; get the file from its authors")
    content = path.read_bytes()
    with explained(f"{path}: is not a pickle of numbers and texts", "get the file from its authors"):
        return _Reader(content, path).load()


# The reader in Python: a pickle numbers what it repeats, and that in C makes room for any number it names.
class _Reader(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage]
    def __init__(self, content: bytes, path: Path) -> None:
        # Python 2 wrote the bytes of an array as text.
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            called = printable(f"{module}.{name}", _MAX_NAME_CHARACTERS)
            raise UserError(
                f"{self._path}: was not read, because it would call {called}, and such a file needs numbers, "
                "texts and lists only; get the file from its authors"
            )
        return stand_in


class _StandIn:
    """Stands for something of NumPy's. A pickle can make one, and change neither it nor its class."""

    def __setstate__(self, state: object) -> None:
        raise ValueError("it changes an object")


class _ArrayType(_StandIn):
    """`numpy.ndarray` itself."""


class _ElementType(_StandIn):
    """`numpy.dtype`."""

    def __init__(self, name: str, *_: object) -> None:
        self._name, self._byte_order = name, "="

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("it has an unknown kind of numbers")
        self._byte_order = state[1]

    def values(self, content: object) -> list[Any]:
        """The elements of an array, flat.

        Args:
            content: their bytes; for objects, the list itself.
        """
        if self._name in ("O", "O8") and isinstance(content, list):
            return list(content)
        if isinstance(content, str):
            content = content.encode("latin1")
        if not isinstance(content, bytes | bytearray) or not _ELEMENT_TYPE.fullmatch(self._name):
            raise ValueError("it has an unknown kind of numbers")
        if not content:
            return []
        return np.frombuffer(content, np.dtype(self._byte_order + self._name)).tolist()


class _Array(_StandIn, list[Any]):
    """`numpy.core.multiarray._reconstruct`: an array whose content follows."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _ElementType):
            raise ValueError("it has a damaged array")
        self[:] = state[2].values(state[4])


class _ArrayOfBuffer(_StandIn):
    """`numpy.core.numeric._frombuffer`: an array of protocol 5."""

    def __new__(cls, content: object, element_type: _ElementType, *_: object) -> Any:
        return element_type.values(content)


class _Scalar(_StandIn):
    """`numpy.core.multiarray.scalar`: one number."""

    def __new__(cls, element_type: _ElementType, content: object) -> Any:
        (value,) = element_type.values(content)
        return value


class _Bytes(_StandIn):
    """`_codecs.encode` and `bytes`, by which protocol 2 writes bytes."""

    def __new__(cls, text: str = "", *_: object) -> Any:
        return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _ElementType,
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Bytes,
    ("builtins", "bytes"): _Bytes,
    # NumPy 2 renamed its package `core`.
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _ArrayOfBuffer),
        )
    },
}
