"""Fingerprints: the same for the same meaning, another for any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineup.fingerprint import code_digest, fingerprint

CODE = '''\
"""What this module is for."""

SCALE = 2.0


class Scaler:
    """Scales."""

    def apply(self, value):
        """One value."""
        return SCALE * (value + 1)

    async def apply_later(self, value):
        """The same."""
        return self.apply(value)
'''


@pytest.fixture
def plain(tmp_path: Path) -> str:
    return digest(tmp_path, CODE)


def digest(folder: Path, text: str) -> str:
    file = folder / "code.py"
    file.write_text(text, encoding="utf-8")
    return code_digest(file)


def test_the_fingerprint_knows_values_not_order() -> None:
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert len({fingerprint({"a": value}) for value in (1, 2, "1", None, [1], 1.5, True)}) == 7


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0\n", "# A comment.\nSCALE = 2.0  # and another\n"),
        ('"""What this module is for."""\n', ""),
        ("What this module is for.", "Says\n\nit at greater length."),
        ('    """Scales."""\n', ""),
        ("One value.", "A value, scaled."),
        ('        """The same."""\n', ""),
        ("SCALE * (value + 1)", "(\n            SCALE\n            * (value+1)\n        )"),
        ("(self, value):", "(\n        self,\n        value,\n    ):"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(
    plain: str, old: str, new: str, tmp_path: Path
) -> None:
    changed = CODE.replace(old, new)
    assert changed != CODE and digest(tmp_path, changed) == plain


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0", "2.5"),
        ("2.0", "2"),
        ("value + 1", "value - 1"),
        ("SCALE * (value + 1)", "SCALE * value + 1"),
        ("SCALE", "FACTOR"),
        ("Scaler", "Resizer"),
        ('        """One value."""\n', '        unit = "One value."\n'),
        ("async def", "def"),
    ],
)
def test_a_constant_an_operator_or_a_name_counts(plain: str, old: str, new: str, tmp_path: Path) -> None:
    changed = CODE.replace(old, new)
    assert changed != CODE and digest(tmp_path, changed) != plain


def test_which_file_holds_what_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text("a = 1\n", encoding="utf-8")
    second.write_text("b = 2\n", encoding="utf-8")
    assert code_digest(first, second) != code_digest(second, first) != code_digest(second)
