import gc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.serdes.primitives import INT64
from streamlib.state.cache import WriteCache
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.memory import MemoryEngine

MIB = 1 << 20


def test_shares_are_even_when_nobody_has_said_what_it_needs() -> None:
    memory = CacheMemory(12 * MIB)
    shares = [memory.share(1) for _ in range(3)]
    assert [share.granted_bytes for share in shares] == [4 * MIB] * 3


def test_others_have_more_when_one_needs_little() -> None:
    memory = CacheMemory(12 * MIB)
    small, *others = [memory.share(1) for _ in range(3)]
    small.want(2 * MIB, short=False)
    assert small.granted_bytes == 2 * MIB * 5 // 4
    assert [share.granted_bytes for share in others] == [(12 * MIB - small.granted_bytes) // 2] * 2


def test_half_of_an_even_part_is_kept_for_a_cache_that_needs_nothing() -> None:
    memory = CacheMemory(12 * MIB)
    idle, *others = [memory.share(1) for _ in range(3)]
    idle.want(0, short=False)
    assert idle.granted_bytes == 2 * MIB
    assert [share.granted_bytes for share in others] == [5 * MIB] * 2


def test_what_nobody_needs_is_spread_evenly() -> None:
    memory = CacheMemory(12 * MIB)
    first, second = memory.share(1), memory.share(1)
    first.want(4 * MIB, short=False)
    second.want(3 * MIB, short=False)
    assert first.granted_bytes - second.granted_bytes == MIB * 5 // 4
    assert first.granted_bytes + second.granted_bytes == 12 * MIB


def test_the_share_of_a_cache_that_is_gone_goes_to_the_others_when_they_ask() -> None:
    memory = CacheMemory(12 * MIB)
    stays, goes = memory.share(1), memory.share(1)
    stays.want(MIB, short=False)
    del goes
    gc.collect()
    stays.want(2 * MIB, short=False)
    assert stays.granted_bytes == 12 * MIB


@given(
    total_bytes=st.integers(0, 1_000_000),
    demands=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2_000_000), st.booleans()), max_size=30),
)
def test_shares_never_exceed_the_memory_and_leave_none_of_it_idle(
    total_bytes: int, demands: list[tuple[int, int, bool]]
) -> None:
    memory = CacheMemory(total_bytes)
    shares = [memory.share(1) for _ in range(10)]
    for number, needed_bytes, short in demands:
        shares[number].want(needed_bytes, short=short)
    granted = [share.granted_bytes for share in shares]
    assert total_bytes - 10 < sum(granted) <= total_bytes
    by_demand = [share.granted_bytes for share in sorted(shares, key=lambda share: share.wanted_bytes)]
    assert all(less <= more + 1 for less, more in pairwise(by_demand))


@pytest.mark.parametrize("reads", [False, True], ids=["of dirty rows", "of clean rows"])
def test_a_cache_whose_rows_do_not_fit_takes_what_another_leaves(*, reads: bool) -> None:
    memory = CacheMemory(MIB)
    busy, idle = (
        WriteCache(KeyValueTimestampedStore(name, INT64, MemoryEngine()), INT64, memory=memory) for name in "bi"
    )
    for cache in (busy, idle):
        cache.put(b"0", 1, 1, "0")
        cache.flush()
    assert busy.max_entries == idle.max_entries
    even = busy.max_entries
    keys = [b"%d" % number for number in range(2 * even)]
    if reads:
        busy.entries_of(keys)
        busy.entries_of(keys)
    else:
        busy.put_many(keys, range(len(keys)), range(len(keys)), keys)
        assert busy.is_full()
        busy.flush()
    assert busy.max_entries > 1.25 * even
