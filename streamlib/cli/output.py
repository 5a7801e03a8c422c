"""What commands print: lines and JSON as they are, tables by rich, all of it flushed so that a closed pipe shows here.

Next: `exits`, which ends a command quietly when its reader has gone.
"""

import json
import os
import stat
import sys
from collections.abc import Coroutine, Iterable, Sequence
from typing import IO, Any

NUMERIC = frozenset("0123456789+-.,")
"""A column of nothing but these is set on the right."""


class OutputClosedError(Exception):
    """Whoever read our output has gone, as ``head`` does once it has its lines."""


def emit(data: bytes) -> None:
    """Write bytes to stdout at once.

    Raises:
        OutputClosedError: Nobody reads it any more; stop.
    """
    try:
        write_all(sys.stdout.buffer, data)
    except BrokenPipeError:
        # What is still buffered would raise once more when the interpreter flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputClosedError from None


def write_all(stream: IO[bytes], data: bytes) -> None:
    """Write bytes to a stream at once; under PYTHONUNBUFFERED one call of its own may write only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()


async def while_read(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``, but give it up when the pipe that stdout is has no reader any more.

    Writing would tell as well, only work that waits for something to write does not write.

    Raises:
        OutputClosedError: Nobody reads.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(work)
    is_closed = False

    def closed(descriptor: int) -> None:
        nonlocal is_closed
        is_closed = True
        running.cancel()
        loop.remove_reader(descriptor)

    descriptor = _pipe()
    if descriptor is not None:
        loop.add_reader(descriptor, closed, descriptor)  # a pipe's writing end is "readable" once its reader has gone
    try:
        await running
    except asyncio.CancelledError:
        if is_closed:
            raise OutputClosedError from None
        raise
    finally:
        if descriptor is not None:
            loop.remove_reader(descriptor)


def _pipe() -> int | None:
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None


def say(text: str) -> None:
    """Write a line to stdout."""
    emit(f"{text}\n".encode())


def say_json(document: Any) -> None:
    """Write a JSON document to stdout, indented."""
    say(json.dumps(document, indent=2))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str | int]], *, footer: Sequence[str | int] = ()) -> None:
    """Write a table to stdout; numbers are on the right.

    In a pipe it is as wide as its contents, so that no name is cut off.

    Args:
        columns: The headings.
        rows: One sequence of cells for each row.
        footer: A last row, set apart.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    rows = list(rows)
    table = Table(box=SIMPLE_HEAD, show_footer=bool(footer), show_edge=False, pad_edge=False)
    last = list(footer) or [""] * len(columns)
    for number, heading in enumerate(columns):
        numeric = bool(rows) and all(set(str(row[number])) <= NUMERIC for row in rows)
        table.add_column(
            heading, str(last[number]), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric
        )
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    with console.capture() as capture:
        console.print(table)
    say("\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n"))
