"""Writes records as lines, for looking at a stream while it is developed. Next: `stream`, which offers it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Printer:
    """Writes ``[label]: key, value`` for each record.

    Args:
        path: A file that lines are added to; None for standard output.
        label: What each line begins with.
        mapper: ``mapper(key, value)`` makes what follows; None for both of them.

    Source: PrintForeachAction.
    """

    def __init__(self, path: str | Path | None, label: str, mapper: Callable[[Any, Any], object] | None) -> None:
        self._path = None if path is None else Path(path)
        self._label = label
        self._mapper = mapper

    def __call__(self, key: Any, value: Any) -> None:
        """Write a record, at once."""
        shown = f"{key}, {value}" if self._mapper is None else self._mapper(key, value)
        line = f"[{self._label}]: {shown}\n"
        if self._path is None:
            sys.stdout.write(line)
            sys.stdout.flush()
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
