from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamlib.operators import value_hashes
from streamlib.operators.murmur3 import hash128_many
from streamlib.operators.value_hashes import ValueHashes


class Serialized:
    """Counts the values that were serialized."""

    def __init__(self) -> None:
        self.values = 0

    def __call__(self, values: list[Any]) -> list[bytes | None]:
        self.values += len(values)
        return [None if value is None else str(value).encode() for value in values]


def test_a_hash_is_computed_once_while_the_row_is_the_same_object() -> None:
    serialize = Serialized()
    hashes = ValueHashes(serialize, immutable=True)
    values: list[Any] = [("a", 1), None, ("b", 2)]
    first = hashes.computed(values)
    assert first[1] is None
    assert hashes.of(values[::-1]) == first[::-1]
    assert serialize.values == 3
    assert hashes.of([("c", 3), values[0]]) == [*hash128_many([b"('c', 3)"]), first[0]]
    assert serialize.values == 4


def test_an_object_that_can_change_is_hashed_each_time() -> None:
    hashes = ValueHashes(Serialized(), immutable=False)
    value = ["a"]
    hashes.computed([value])
    value.append("b")
    assert hashes.of([value]) == hash128_many([b"['a', 'b']"])


def test_only_the_latest_objects_are_held(monkeypatch) -> None:
    monkeypatch.setattr(value_hashes, "REMEMBERED", 10)
    serialize = Serialized()
    hashes = ValueHashes(serialize, immutable=True)
    values = [(number,) for number in range(100)]
    for start in range(0, 100, 5):
        hashes.computed(values[start : start + 5])
    serialize.values = 0
    hashes.of(values)
    assert 80 <= serialize.values <= 90


@given(
    batches=st.lists(st.tuples(st.booleans(), st.lists(st.one_of(st.none(), st.integers()), max_size=20)), max_size=20)
)
def test_every_hash_is_that_of_the_value(batches: list[tuple[bool, list[int | None]]]) -> None:
    hashes = ValueHashes(Serialized(), immutable=True)
    for is_new, values in batches:
        expected = hash128_many([None if value is None else str(value).encode() for value in values])
        assert (hashes.computed if is_new else hashes.of)(values) == expected
