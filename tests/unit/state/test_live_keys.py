from hypothesis import given
from hypothesis import strategies as st

from streamlib.state.live_keys import LiveKeys

SECOND = 1_000
PUTS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 12 * SECOND)), min_size=1, max_size=5)


@given(batches=st.lists(PUTS, max_size=8), max_bytes=st.sampled_from([0, 130, 400, 10_000]))
def test_no_key_with_a_session_is_left_out(batches: list[list[tuple[bytes, int]]], max_bytes: int) -> None:
    live, retention_ms, all_puts = LiveKeys(4 * SECOND, max_bytes), 4 * SECOND, list[tuple[bytes, int]]()
    for batch in batches:
        all_puts += batch
        live_from = max(end for _, end in all_puts) - retention_ms
        live.add([key for key, _ in batch], [end for _, end in batch], live_from)
        assert live.among([b"a", b"b", b"d"], live_from) >= {k for k, end in all_puts if end >= live_from and k != b"c"}


def test_keys_without_sessions_are_left_out_when_the_others_are_all_known() -> None:
    live = LiveKeys(4 * SECOND, 10_000)
    live.add([b"old", b"new"], [0, 5 * SECOND], SECOND)
    assert live.among([b"old", b"new", b"none"], SECOND) == {b"new"}


def test_every_key_counts_until_the_sessions_of_before_are_past_the_retention() -> None:
    live = LiveKeys(4 * SECOND, 10_000)
    live.begin(10 * SECOND)
    live.add([b"a"], [11 * SECOND], 7 * SECOND)
    assert live.among([b"a", b"b"], 7 * SECOND) == {b"a", b"b"}
    assert live.among([b"a", b"b"], 10 * SECOND) == {b"a"}


def test_every_key_counts_when_there_are_too_many_to_hold() -> None:
    live = LiveKeys(4 * SECOND, 130)
    live.add([b"a", b"b"], [0, 3 * SECOND], 0)
    assert live.among([b"a", b"b", b"c"], 0) == {b"a", b"b", b"c"}
    assert live.among([b"a", b"b", b"c"], SECOND) == {b"b"}
