"""Names of nodes, stores and topics: generated with Java's counter, or given by the user and checked.

Next: `nodes`, which carry them.
"""

import re

MAX_LENGTH = 249
"""Of a topic on a broker, and so of everything a topic may be named after."""

_LEGAL = re.compile(r"[A-Za-z0-9._-]+")
_GENERATED = re.compile(r"^K(STREAM|TABLE)-.*\d{10}|-STATE-STORE-\d{10}")


class UnstableNameWarning(UserWarning):
    """Stores or repartition topics have generated names.

    Such a name holds the position of its operation in the topology: adding an operation before it renames the topic,
    and what was in the old one is no longer read. Give the operations ``store=`` or ``name=``, or build with
    ``require_names=True`` to make this an error.
    """


class Names:
    """The counter behind generated names: one per builder, and every operation takes its numbers from it.

    An operation that the user has named takes its numbers too, so that naming one does not rename the others.
    Source: InternalStreamsBuilder, NamedInternal.
    """

    def __init__(self, first: int = 0) -> None:
        self._next = first

    def copy(self) -> "Names":
        """A counter that goes on from here by itself."""
        return Names(self._next)

    def node(self, prefix: str) -> str:
        """A new name, e.g. ``KSTREAM-MAP-0000000003`` for the prefix ``KSTREAM-MAP-``."""
        number = self._next
        self._next += 1
        return f"{prefix}{number:010}"

    def store(self, prefix: str) -> str:
        """A new store name, e.g. ``KSTREAM-REDUCE-STATE-STORE-0000000003``."""
        return self.node(f"{prefix}STATE-STORE-")


def what_is_wrong(name: str) -> str | None:
    """Why a broker would refuse a topic named like this; None when it would not."""
    if not isinstance(name, str):
        return f"it is {type(name).__name__}, not text"  # type: ignore[unreachable]
    if not name:
        return "it is empty"
    if name in {".", ".."}:
        return "a broker would take it for a folder"
    if len(name) > MAX_LENGTH:
        return f"it has {len(name)} characters, at most {MAX_LENGTH} are allowed"
    if not _LEGAL.fullmatch(name):
        return "only ASCII letters, digits, '.', '_' and '-' are allowed"
    return None


def is_generated(name: str) -> bool:
    """Whether a store or repartition topic has a name that moves when the topology is edited."""
    return _GENERATED.search(name) is not None
