"""Records as tables of text, so that a test shows at a glance what goes in and what comes out.

    key | value  | time
    a   | 1      | 10
    b   | "text" | 12

Next: `topics`, which pipe and read them.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

COLUMNS = ("key", "value", "time")

_CELL = re.compile(r"""(?:^|(?<=\|))((?:"(?:[^"\\]|\\.)*"|[^|])*)""")
_PLAIN = re.compile(r"""[^|"\n]+""")


class TextRow(NamedTuple):
    """One line of a table; None where it has no such column, or says ``null``."""

    key: Any
    value: Any
    time_ms: int | None


def parsed(table: str) -> list[TextRow]:
    """The rows of a table whose first line names its columns: ``key``, ``value`` and ``time``, in any order.

    A cell is JSON where it can be (``1``, ``"a b"``, ``{"n": 1}``, ``null``) and the text itself elsewhere.

    Raises:
        ValueError: A column has another name, or a line another number of cells; shows the line.
    """
    lines = [line for line in table.split("\n") if line.strip()]
    if not lines:
        return []
    names = _cells(lines[0])
    if not set(names) <= set(COLUMNS) or len(set(names)) < len(names):
        msg = f"the first line of a table names some of the columns {', '.join(COLUMNS)}, once each: {lines[0]!r}"
        raise ValueError(msg)
    rows = []
    for line in lines[1:]:
        cells = _cells(line)
        if len(cells) != len(names):
            msg = f"a line of a table has {len(cells)} cells under {len(names)} columns: {line!r}"
            raise ValueError(msg)
        found = dict(zip(names, map(_value, cells), strict=True))
        rows.append(TextRow(found.get("key"), found.get("value"), found.get("time")))
    return rows


def formatted(rows: Iterable[tuple[Any, Any, int | None]]) -> str:
    """A table of (key, value, time) rows, its columns aligned; what `parsed` reads."""
    cells: list[Sequence[str]] = [COLUMNS, *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return "\n".join(
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cells(line: str) -> list[str]:
    """The parts between bars, but for bars inside of JSON's quotes."""
    return [cell.strip() for cell in _CELL.findall(line)]


def _value(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _text(value: Any) -> str:
    """A cell that reads as the value it shows: text in quotes only where it would read as something else."""
    if isinstance(value, str) and value == value.strip() and _PLAIN.fullmatch(value) and _value(value) == value:
        return value
    return json.dumps(value, default=str, ensure_ascii=False)
