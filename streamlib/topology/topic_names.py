"""Functions that name a topic for each record: what they get, and which of them want to know where it came from.

Source: TopicNameExtractor, RecordContext. Next: `operators/sink`, which calls them.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from streamlib.record import Headers

K = TypeVar("K")
V = TypeVar("V")


class RecordContext(NamedTuple):
    """Where a record that is to be written came from, and what goes with it.

    Attributes:
        topic: Where the record at hand was read; None in punctuators and for results of a cache's flush.
        partition: Likewise.
        offset: Likewise.
        timestamp: Milliseconds since the epoch, of the record to be written.
        headers: Of the record to be written.
    """

    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int
    headers: Headers


TopicNameExtractor = Callable[[K, V], str] | Callable[[K, V, RecordContext], str]
"""(key, value), or (key, value, record context), to the name of a topic that exists."""


def takes_context(extractor: Callable[..., Any]) -> bool:
    """Whether a function needs the record context, too: one that can do without is given key and value.

    Raises:
        TypeError: It can be called with neither two nor three arguments.
    """
    try:
        signature = inspect.signature(extractor)
    except ValueError:  # some that are built in have none
        return False
    for count in (2, 3):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count == 3
    msg = f"{extractor!r} takes neither (key, value) nor (key, value, record context)"
    raise TypeError(msg)
