"""Generated source: written line by line, compiled once, and known to tracebacks like any file.

A traceback through generated code shows the line, and the line's comment names the node it was made for.
Next: `fusion`, which generates the loops of stateless runs.
"""

import linecache
from functools import lru_cache
from types import CodeType
from typing import Any


class Source:
    """Lines of Python under way.

    Attributes:
        depth: Indentation of the next line; Python allows 100.
        lines: What was written so far.
    """

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.lines: list[str] = []

    def line(self, text: str, node: str = "") -> None:
        """Add a line; ``node`` becomes its comment."""
        comment = f"  # {node}" if node else ""
        self.lines.append(f"{' ' * 4 * self.depth}{text}{comment}")

    def block(self, text: str, node: str = "") -> "Source":
        """Add a line that opens a block, which lasts as long as the ``with`` statement it is used in."""
        self.line(text, node)
        return self

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1

    def text(self) -> str:
        """The whole source."""
        return "\n".join([*self.lines, ""])


def load(source: str, file_name: str, names: dict[str, Any]) -> dict[str, Any]:
    """The namespace after running generated source.

    Args:
        source: Python text; its lines show in tracebacks.
        file_name: What tracebacks call it, in angle brackets.
        names: What the source may use; objects, not text, so nothing is quoted.
    """
    namespace = dict(names)
    exec(_compiled(source, file_name), namespace)  # noqa: S102 - the source is ours: user objects come in by `names`
    return namespace


@lru_cache(maxsize=1024)
def _compiled(source: str, file_name: str) -> CodeType:
    # Each partition's task makes the same source; they share one code object and one entry in linecache.
    shown, number = file_name, 1
    while shown in linecache.cache and "".join(linecache.getlines(shown)) != source:
        number += 1
        shown = f"{file_name[:-1]} {number}>"
    linecache.cache[shown] = (len(source), None, source.splitlines(keepends=True), shown)
    return compile(source, shown, "exec")
