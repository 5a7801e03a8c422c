from hypothesis import given
from hypothesis import strategies as st

from streamlib.state.rows import Rows
from streamlib.state.sorted_keys import INSORT_KEYS, SortedKeys

keys = st.binary(max_size=3)


@given(st.lists(st.tuples(st.lists(keys, max_size=2 * INSORT_KEYS), st.none() | keys, st.none() | keys)))
def test_range_is_sorted_and_complete_when_keys_come_between_the_calls(
    steps: list[tuple[list[bytes], bytes | None, bytes | None]],
) -> None:
    rows: Rows = {}
    order = SortedKeys(rows)
    for added, start, end in steps:
        rows.update(dict.fromkeys(added, b"row"))
        expected = sorted(key for key in rows if (start is None or key >= start) and (end is None or key < end))
        assert order.between(start, end) == expected
        ranges = [(b"", b"\x80"), (start or b"", end or b"\xff" * 4), (b"\x80", b"\x80"), (b"a", b"b")]
        several = [(number, order.between(*each)) for number, each in enumerate(ranges)]
        assert list(order.between_many(ranges)) == [(number, found) for number, found in several if found]
