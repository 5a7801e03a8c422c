"""What the facades of all stores have in common: they name their store and turn keys into bytes.

Next: `key_value_facade`, the first of them.
"""

from typing import Any, Generic, Protocol, TypeVar

from streamlib.errors import SerdeError
from streamlib.serdes.base import Serde
from streamlib.state.spec import StoreSpec

K = TypeVar("K")
R = TypeVar("R")


class Stamp(Protocol):
    """Tells the time at which a store is written."""

    @property
    def timestamp(self) -> int:
        """Of the record at hand, or of the punctuation, in ms."""


class Facade(Generic[K, R]):
    """A store as user code sees it.

    Args:
        spec: The store.
        rows: What lies below.
    """

    def __init__(self, spec: StoreSpec, rows: R) -> None:
        self._spec = spec
        self._rows = rows

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._spec.name}>"

    @property
    def name(self) -> str:
        """The store's name."""
        return self._spec.name

    def _raw(self, key: K) -> bytes:
        return raw_key(self._spec.key_serde, key, self.name)


def raw_key(serde: Serde[Any], key: Any, store: str) -> bytes:
    """The bytes of a key.

    Raises:
        SerdeError: The key is None, or the serde refuses it.
    """
    if key is None:
        msg = f"store {store!r}: a key cannot be None: leave out records without a key"
        raise SerdeError(msg)
    try:
        return serde.serialize(key)
    except Exception as error:
        msg = f"store {store!r}: the key serde {serde.name} cannot write a {type(key).__name__}: {error}"
        raise SerdeError(msg) from error


def after_prefix(prefix: bytes) -> bytes | None:
    """The first bytes after all that begin with ``prefix``; None when there are none."""
    rest = prefix.rstrip(b"\xff")
    return rest[:-1] + bytes([rest[-1] + 1]) if rest else None
