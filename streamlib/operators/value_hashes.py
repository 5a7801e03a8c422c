"""The hashes by which a foreign-key join knows whether an answer is to the current left row.

A left value is hashed when it is subscribed, and again when the answer comes, mostly a moment later and while it is
still the same object. Next: `foreign_key_left`.
"""

from collections.abc import Callable
from itertools import compress
from typing import Any

from streamlib.operators.murmur3 import hash128_many

REMEMBERED = 8_192
"""How many values of each generation: about those of one commit."""


class ValueHashes:
    """Hashes of serialized values; those of the latest values are remembered by object.

    An object that is remembered is held, so no other one can be taken for it.

    Args:
        serialize: The bytes of a column; None stays None.
        immutable: Whether a value can never be changed: others are always hashed.
    """

    def __init__(self, serialize: Callable[[list[Any]], list[bytes | None]], *, immutable: bool) -> None:
        self._serialize = serialize
        self._immutable = immutable
        self._young: dict[int, tuple[Any, bytes | None]] = {}
        self._old: dict[int, tuple[Any, bytes | None]] = {}

    def computed(self, values: list[Any]) -> list[bytes | None]:
        """The hash of each value, None for None; remembered from now on."""
        hashes = hash128_many(self._serialize(values))
        if self._immutable:
            if len(self._young) >= REMEMBERED:
                self._young, self._old = {}, self._young
            self._young.update(zip(map(id, values), zip(values, hashes, strict=True), strict=True))
        return hashes

    def of(self, values: list[Any]) -> list[bytes | None]:
        """The hash of each value, None for None; computed only of those that are not remembered."""
        ids = list(map(id, values))
        found = list(map(self._young.get, ids))
        if self._old and not all(found):
            look_up = self._old.get
            found = [look_up(key) if pair is None else pair for key, pair in zip(ids, found, strict=True)]
        if all(found):
            return [pair[1] for pair in found if pair is not None]
        missing = [pair is None for pair in found]
        computed = iter(hash128_many(self._serialize(list(compress(values, missing)))))
        return [next(computed) if pair is None else pair[1] for pair in found]
