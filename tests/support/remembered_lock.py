"""What DVC has read and written of dvc.lock, remembered. A fork of `fork_server` imports it with DVC.

After each stage DVC parses the whole file in pure Python and writes it again, which takes longer than most stages of
the tests do. Here the text that was written last isn't parsed, and a stage that DVC left alone keeps its text. The
file is the same to the byte; a test compares.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TextIO

from dvc.utils.serialize import _yaml


class RememberedLock:
    """The last text of dvc.lock that this process wrote, by stage."""

    def __init__(self, parse: Callable[[str, str], Any], dump: Callable[[Any, TextIO], Any]) -> None:
        self._dvc_parse, self._dvc_dump = parse, dump
        self._head = ""
        self._stages: dict[str, tuple[Any, str]] = {}  # data and text of each

    def parse(self, text: str, path: str) -> Any:
        """The data of a YAML file that is to be changed."""
        if not self._stages or text != self._text():
            return self._dvc_parse(text, path)
        return {"schema": "2.0", "stages": {name: data for name, (data, _) in self._stages.items()}}

    def dump(self, data: Any, stream: TextIO) -> None:
        """Writes the data of a YAML file. DVC replaces the data of a stage and never changes it in place."""
        if list(data) != ["schema", "stages"] or not data["stages"] or data["schema"] != "2.0":
            self._dvc_dump(data, stream)
            return
        self._head = f"{self._dumped({'schema': data['schema']})}stages:\n"
        self._stages = {
            name: (stage, self._stage_text(name, stage)) for name, stage in data["stages"].items()
        }
        stream.write(self._text())

    def _text(self) -> str:
        return self._head + "".join(text for _, text in self._stages.values())

    def _stage_text(self, name: str, stage: Any) -> str:
        known, text = self._stages.get(name, (None, ""))
        return text if known is stage else self._dumped({"stages": {name: stage}}).removeprefix("stages:\n")

    def _dumped(self, data: Any) -> str:
        stream = io.StringIO()
        self._dvc_dump(data, stream)
        return stream.getvalue()


_lock = RememberedLock(_yaml.parse_yaml_for_update, _yaml._dump)
_yaml.parse_yaml_for_update, _yaml._dump = _lock.parse, _lock.dump
