from collections.abc import Callable

import pytest

from streamlib.serdes.primitives import INT64, STRING
from streamlib.state.base import Engine
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine
from streamlib.state.segments import segment_interval
from streamlib.state.window import (
    WindowTimestampedStore,
    split_window_store_key,
    window_store_key,
)

RETENTION_MS = 120_000  # so that a segment is 60,000 ms long
MINUTE_MS = 60_000
MAX_TIME = 2**63 - 1


def commit(store: WindowTimestampedStore[str], engine: Engine) -> None:
    engine.write(store.pending(), {})
    store.applied()


def put(store: WindowTimestampedStore[str], key: bytes, start: int, value: str | None, timestamp: int = 0) -> None:
    store.put_many([window_store_key(key, start)], [value], [timestamp])


def value_of(store: WindowTimestampedStore[str], key: bytes, start: int) -> str | None:
    row = store.get(window_store_key(key, start))
    return None if row is None else row[0]


def segments(engine: Engine) -> list[str]:
    return sorted(engine.tables())


@pytest.fixture(params=[0, 1_000_000], ids=["uncached", "cached"])
def store(request: pytest.FixtureRequest, engine: Engine, changelog) -> WindowTimestampedStore[str]:
    return WindowTimestampedStore("w", STRING, engine, changelog, retention_ms=RETENTION_MS, cache_bytes=request.param)


# From the Kafka class WindowKeySchema.
@pytest.mark.parametrize(
    ("key", "start", "sequence", "store_key"),
    [
        ("k", 0, 0, "6b000000000000000000000000"),
        ("k", 1000, 5, "6b00000000000003e800000005"),
        ("k", 1700000000000, 0, "6b0000018bcfe5680000000000"),
        ("", 7, 0, "000000000000000700000000"),
        ("key with spaces", 1000, 0, "6b657920776974682073706163657300000000000003e800000000"),
        ("é", 1700000000000, 5, "c3a90000018bcfe5680000000005"),
    ],
)
def test_store_key_is_as_the_java_library_writes_it(key: str, start: int, sequence: int, store_key: str) -> None:
    assert window_store_key(key.encode(), start, sequence) == bytes.fromhex(store_key)
    assert split_window_store_key(bytes.fromhex(store_key)) == (key.encode(), start)


@pytest.mark.parametrize(
    ("retention_ms", "interval_ms"),
    [(0, 60_000), (60_000, 60_000), (120_000, 60_000), (120_002, 60_001), (86_400_000, 43_200_000)],
)
def test_segment_is_half_the_retention_but_at_least_a_minute(retention_ms: int, interval_ms: int) -> None:
    assert segment_interval(retention_ms) == interval_ms


def test_rows_and_changelog_are_as_the_java_library_writes_them(
    store: WindowTimestampedStore[str], engine: Engine, changelog
) -> None:
    put(store, b"k", 61_000, "v", 61_500)
    put(store, b"k", 62_000, None, 62_500)
    commit(store, engine)
    key = window_store_key(b"k", 61_000)
    assert engine.get("w/60000/1", key) == bytes.fromhex("000000000000f03c76")
    assert changelog.records == [(key, b"v", 61_500), (window_store_key(b"k", 62_000), None, 62_500)]


@pytest.mark.parametrize("committed", [False, True])
def test_windows_are_found_when_they_lie_in_several_segments(
    store: WindowTimestampedStore[str], engine: Engine, committed: bool
) -> None:
    starts = [100_000, 60_000, 119_999, 120_000, 179_999, 180_000, 0]
    keys = [window_store_key(b"k", start) for start in starts]
    store.put_many(keys[:-1], [str(start) for start in starts[:-1]], starts[:-1])
    if committed:
        commit(store, engine)
    expected = [(str(start), start) for start in starts[:-1]]
    # 180,000 has been seen, so 60,000 is past its retention and its segment is not.
    expected[1] = None  # type: ignore[call-overload]
    assert store.get_many(keys) == [*expected, None]
    assert store.get_many([window_store_key(b"other", 100_000), window_store_key(b"k", 100_001)]) == [None, None]
    assert store.observed_stream_time == 180_000


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize(
    ("observed", "readable", "writable"),
    [
        (0, True, True),
        (RETENTION_MS - 1, True, True),
        (RETENTION_MS, False, True),  # readable from observed - retention + 1 on
        (RETENTION_MS + MINUTE_MS - 1, False, True),  # the segment lives until the retention has left it whole
        (RETENTION_MS + MINUTE_MS, False, False),
    ],
)
def test_window_expires_when_stream_time_passes_its_retention(
    store: WindowTimestampedStore[str], engine: Engine, changelog, committed: bool, observed: int, readable: bool,
    writable: bool,
) -> None:  # fmt: skip
    put(store, b"old", 0, "1")
    if committed:
        commit(store, engine)
    put(store, b"new", observed, "1")
    if committed:
        commit(store, engine)
    assert value_of(store, b"old", 0) == ("1" if readable else None)
    assert [start for start, _, _ in store.fetch(b"old", 0, MAX_TIME)] == ([0] if readable else [])
    assert [key[:-12] for key, _, _ in store.scan()] == ([b"old"] if readable and observed else []) + [b"new"] + (
        [b"old"] if readable and not observed else []
    )
    put(store, b"old", 0, "2")
    assert store.expired == (0 if writable else 1)
    assert value_of(store, b"old", 0) == ("2" if readable else None)
    assert len(changelog.records) == 3  # logged in any case, as in the Java library
    commit(store, engine)
    assert ("w/60000/0" in engine.tables()) is writable


def test_rows_expire_within_a_batch_when_an_earlier_row_moves_stream_time(
    store: WindowTimestampedStore[str], engine: Engine
) -> None:
    starts = [0, 500_000, 0, 379_999, 380_001, 360_000, 359_999]
    keys = [window_store_key(b"%d" % number, start) for number, start in enumerate(starts)]
    store.put_many(keys, ["v"] * 7, starts)
    assert store.expired == 2
    assert [row is not None for row in store.get_many(keys)] == [False, True, False, False, True, False, False]
    commit(store, engine)
    assert segments(engine) == ["w/60000/6", "w/60000/8"]


def test_window_is_found_when_its_segment_was_missing_at_the_last_read(store: WindowTimestampedStore[str]) -> None:
    put(store, b"k", 200_000, "later")
    assert value_of(store, b"k", 130_000) is None
    put(store, b"k", 130_000, "v")
    assert value_of(store, b"k", 130_000) == "v"


def test_window_expires_for_reads_when_stream_time_moves_within_a_segment(store: WindowTimestampedStore[str]) -> None:
    put(store, b"k", 6_000, "v")
    put(store, b"k", 125_000, "v")
    assert value_of(store, b"k", 6_000) == "v"
    put(store, b"k", 127_000, "v")
    assert value_of(store, b"k", 6_000) is None


def test_rows_are_those_of_the_engine_when_the_work_was_discarded(engine: Engine) -> None:
    store = WindowTimestampedStore("w", STRING, engine, retention_ms=RETENTION_MS, cache_bytes=1_000_000)
    put(store, b"k", 0, "v")
    commit(store, engine)
    key = window_store_key(b"k", 0)
    engine.write({"w/60000/0": {key: bytes(8) + b"other"}}, {})
    store.discard()
    assert store.get(key) == ("other", 0)


def test_deleting_a_late_window_counts_as_expired(store: WindowTimestampedStore[str]) -> None:
    put(store, b"k", 500_000, "v")
    put(store, b"k", 0, None)
    assert store.expired == 1


def test_segment_never_reaches_the_engine_when_it_expires_before_the_commit(
    store: WindowTimestampedStore[str], engine: Engine
) -> None:
    for minute in range(100):
        put(store, b"k", minute * MINUTE_MS, "v")
    commit(store, engine)
    assert segments(engine) == ["w/60000/97", "w/60000/98", "w/60000/99"]


def test_expired_segment_stays_in_the_engine_until_the_commit(
    store: WindowTimestampedStore[str], engine: Engine
) -> None:
    put(store, b"k", 0, "v")
    commit(store, engine)
    put(store, b"k", 500_000, "v")
    assert value_of(store, b"k", 0) is None
    assert segments(engine) == ["w/60000/0"]
    store.discard()
    assert value_of(store, b"k", 0) == "v"
    assert store.observed_stream_time == 0
    put(store, b"k", 500_000, "v")
    writes = store.pending()
    put(store, b"k", 900_000, "v")  # of the next commit
    engine.write(writes, {})
    store.applied()
    assert segments(engine) == ["w/60000/8"]
    store.discard()
    assert value_of(store, b"k", 500_000) == "v"


def test_stream_time_survives_when_the_engine_is_opened_again(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    store = WindowTimestampedStore("w", STRING, engine, retention_ms=RETENTION_MS)
    store.put_many([window_store_key(b"k", start) for start in (1, 30_000, 121_000)], ["a", "b", "c"], [0] * 3)
    commit(store, engine)
    put(store, b"k", 121_500, None)  # a deletion moves stream time too
    commit(store, engine)
    before = list(store.scan())
    store = WindowTimestampedStore("w", STRING, open_rocks(), retention_ms=RETENTION_MS)
    assert store.observed_stream_time == 121_500
    assert list(store.scan()) == before
    assert [start for start, _, _ in store.fetch(b"k", 0, MAX_TIME)] == [30_000, 121_000]


def test_expired_segment_is_dropped_when_the_process_died_before(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    store = WindowTimestampedStore("w", STRING, engine, retention_ms=RETENTION_MS)
    put(store, b"k", 0, "old")
    commit(store, engine)
    put(store, b"k", 500_000, "new")
    engine.write(store.pending(), {})
    engine = open_rocks()
    store = WindowTimestampedStore("w", STRING, engine, retention_ms=RETENTION_MS)
    assert [value for _, value, _ in store.scan()] == ["new"]
    commit(store, engine)
    assert segments(engine) == ["w/60000/8"]


def test_rows_are_found_when_a_crash_left_them_without_their_stream_time(
    open_rocks: Callable[[], RocksEngine],
) -> None:
    engine = open_rocks()
    engine.create("w/60000/3")
    engine.write({"w/60000/3": {window_store_key(b"k", 200_000): bytes(8) + b"v"}}, {})
    store = WindowTimestampedStore("w", STRING, engine, retention_ms=RETENTION_MS)
    assert store.observed_stream_time == 180_000
    assert value_of(store, b"k", 200_000) == "v"
    put(store, b"k", 180_500, "x")
    commit(store, engine)
    assert value_of(store, b"k", 200_000) == "v"


def test_stream_time_goes_back_when_a_commit_made_a_segment_and_was_not_applied(
    store: WindowTimestampedStore[str], engine: Engine
) -> None:
    put(store, b"k", 70_000, "v")
    commit(store, engine)
    put(store, b"k", 200_000, "v")
    store.pending()
    store.discard()
    assert store.observed_stream_time == 70_000
    assert segments(engine) == ["w/60000/1"]


@pytest.mark.parametrize("reverse", [False, True])
def test_fetch_gives_the_windows_of_one_key_in_time_order(
    store: WindowTimestampedStore[str], engine: Engine, reverse: bool
) -> None:
    # Keys that begin with b"a" and go on with bytes of a window start lie between the windows of b"a".
    keys = [b"a", b"a\x00", b"a" + bytes(8), b"ab", b"", b"a" + window_store_key(b"", 90_000)]
    for number, start in enumerate((70_000, 130_000, 90_000, 110_000, 60_001)):
        for key in keys:
            put(store, key, start, f"{key!r}@{start}", number)
        if number == 2:
            commit(store, engine)
    for key in keys:
        expected = [(start, f"{key!r}@{start}", number) for start, number in ((90_000, 2), (110_000, 3), (130_000, 1))]
        found = list(store.fetch(key, 90_000, 130_000, reverse=reverse))
        assert found == (expected[::-1] if reverse else expected)
        assert [start for start, _, _ in store.fetch(key, -5, MAX_TIME)] == [60_001, 70_000, 90_000, 110_000, 130_000]
    assert list(store.fetch(b"a", 90_001, 109_999)) == []
    assert list(store.fetch(b"a", 5, 4)) == []
    assert list(store.fetch(b"a", -9, -5)) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_fetch_all_gives_every_key_segment_by_segment(
    store: WindowTimestampedStore[str], engine: Engine, reverse: bool
) -> None:
    for start, key in ((70_000, b"b"), (80_000, b"a"), (110_000, b"c"), (130_000, b"b"), (140_000, b"a")):
        put(store, key, start, key.decode(), start)
        if start == 110_000:
            commit(store, engine)
    expected = [(b"a", 80_000), (b"c", 110_000), (b"a", 140_000), (b"b", 130_000)]
    found = [split_window_store_key(key) for key, _, _ in store.fetch_all(80_000, 140_000, reverse=reverse)]
    assert found == (expected[::-1] if reverse else expected)
    assert list(store.fetch_all(141_000, 150_000)) == []
    assert list(store.fetch_all(9, 8)) == []


def test_scan_keeps_to_its_range_of_store_keys(store: WindowTimestampedStore[str], engine: Engine) -> None:
    for key in (b"a", b"b", b"c"):
        put(store, key, 70_000, "v")
    commit(store, engine)
    put(store, b"b", 130_000, "v")
    found = [split_window_store_key(key) for key, _, _ in store.scan(b"b", b"c")]
    assert found == [(b"b", 70_000), (b"b", 130_000)]


def test_restored_store_equals_the_logged_one(store: WindowTimestampedStore[str], engine: Engine, changelog) -> None:
    for start in (0, 100_000, 70_000, 150_000, 310_000, 40_000, 200_000):
        put(store, b"k", start, str(start), start + 1)
        put(store, b"gone", start, "v")
        put(store, b"gone", start, None)
    commit(store, engine)
    other = MemoryEngine()
    restored = WindowTimestampedStore("w", STRING, other, retention_ms=RETENTION_MS)
    for first in range(0, len(changelog.keys), 4):
        part = slice(first, first + 4)
        restored.restore(changelog.keys[part], changelog.values[part], changelog.timestamps[part])
        commit(restored, other)
    restored.restore([], [], [])
    assert restored.expired == 0
    assert restored.observed_stream_time == store.observed_stream_time == 310_000
    assert list(restored.scan()) == list(store.scan())
    assert [start for start, _, _ in restored.fetch(b"k", 0, MAX_TIME)] == [200_000, 310_000]


def test_restore_ignores_windows_that_expire_within_the_batch(store: WindowTimestampedStore[str]) -> None:
    keys = [window_store_key(b"k", start) for start in (0, 500_000)]
    store.restore(keys, [b"old", b"new"], [0, 0])
    assert store.pending_rows == 1
    assert store.expired == 0


class CountedEngine(MemoryEngine):
    """Counts the rows that are looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get_many(self, table: str, keys: list[bytes]) -> list[bytes | None]:
        self.reads += len(keys)
        return super().get_many(table, keys)


def test_engine_is_not_asked_when_a_window_cannot_be_there() -> None:
    engine = CountedEngine()
    store = WindowTimestampedStore("w", STRING, engine, retention_ms=10 * MINUTE_MS)
    first = [window_store_key(b"%d" % number, 1000) for number in range(10)]
    assert store.get_many(first) == [None] * 10
    store.put_many(first, ["v"] * 10, [0] * 10)
    commit(store, engine)
    assert engine.reads == 0
    # A later window of the same segment, and one of a new segment.
    for start in (2000, 400_000):
        keys = [window_store_key(b"%d" % number, start) for number in range(10)]
        assert store.get_many(keys) == [None] * 10
        store.put_many(keys, ["v"] * 10, [0] * 10)
        assert None not in store.get_many(keys)
        writes = store.pending()
        assert None not in store.get_many(keys)
        assert engine.reads == 0
        engine.write(writes, {})
        store.applied()
    assert None not in store.get_many(first)
    assert engine.reads == 10


@pytest.mark.parametrize("new_retention_ms", [10_000_000, 0])
def test_rows_move_when_the_retention_is_another_one(
    open_rocks: Callable[[], RocksEngine], new_retention_ms: int
) -> None:
    engine = open_rocks()
    store = WindowTimestampedStore("w", INT64, engine, retention_ms=4_000_000)
    starts = range(5_000_000, 8_000_000, 10_000)
    store.put_many([window_store_key(b"k", start) for start in starts], list(starts), list(starts))
    engine.write(store.pending(), {})
    store.applied()
    engine.create("w2")
    engine.create("w.2000000")
    store = WindowTimestampedStore("w", INT64, open_rocks(), retention_ms=new_retention_ms)
    last = 7_990_000
    kept = [start for start in starts if start >= last - new_retention_ms + 1]
    assert [start for start, _, _ in store.fetch(b"k", 0, MAX_TIME)] == kept
    assert store.observed_stream_time == last
    interval_ms = segment_interval(new_retention_ms)
    tables = open_rocks().tables()
    assert {table.rsplit("/", 1)[0] for table in tables} == {"w2", "w.2000000", f"w/{interval_ms}"}
