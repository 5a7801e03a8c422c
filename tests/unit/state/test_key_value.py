import itertools

import pytest

from streamlib.errors import DeserializationError, SerdeError, StateStoreError
from streamlib.serdes.base import Serde
from streamlib.serdes.primitives import INT64, STRING
from streamlib.state.base import Engine
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.memory import MemoryEngine


def commit(store: KeyValueTimestampedStore[str], engine: Engine) -> None:
    engine.write(store.pending(), {})
    store.applied()


@pytest.fixture(params=[0, 1_000_000], ids=["uncached", "cached"])
def store(request: pytest.FixtureRequest, engine: Engine, changelog) -> KeyValueTimestampedStore[str]:
    return KeyValueTimestampedStore("names", STRING, engine, changelog, cache_bytes=request.param)


# From the Kafka classes ValueAndTimestampSerializer and WindowKeySchema.
@pytest.mark.parametrize(
    ("value", "timestamp", "row"),
    [
        ("v", 0, "000000000000000076"),
        ("", 0, "0000000000000000"),
        ("größer", 1000, "00000000000003e86772c3b6c39f6572"),
        ("v", 1700000000000, "0000018bcfe5680076"),
        ("", 9223372036854775807, "7fffffffffffffff"),
    ],
)
def test_row_is_as_the_java_library_writes_it_when_put(
    engine: Engine, changelog, value: str, timestamp: int, row: str
) -> None:
    store = KeyValueTimestampedStore("names", STRING, engine, changelog)
    store.put_many([b"k"], [value], [timestamp])
    commit(store, engine)
    assert engine.get("names", b"k") == bytes.fromhex(row)
    assert changelog.records == [(b"k", value.encode(), timestamp)]
    assert store.get(b"k") == (value, timestamp)


def test_rows_are_found_when_they_are_new_sent_applied_or_only_in_the_engine(
    store: KeyValueTimestampedStore[str], engine: Engine
) -> None:
    expected = {}
    for stage, number in itertools.product(("engine", "applied", "sent", "new"), range(20)):
        expected[f"{stage}{number}".encode()] = (stage, number)

    def put(stage: str) -> None:
        rows = {key: row for key, row in expected.items() if row[0] == stage}
        store.put_many(list(rows), [row[0] for row in rows.values()], [row[1] for row in rows.values()])

    put("engine")
    commit(store, engine)
    store.discard()
    put("applied")
    commit(store, engine)
    put("sent")
    store.pending()
    put("new")
    keys = [*expected, b"nothing"]
    for _ in range(2):
        assert store.get_many(keys) == [*expected.values(), None]
    assert [row[0] for row in store.scan()] == sorted(expected)


def test_last_row_wins_when_a_key_comes_twice_in_a_batch(store: KeyValueTimestampedStore[str], changelog) -> None:
    store.put_many([b"k", b"j", b"k"], ["a", "b", "c"], [1, 2, 3])
    assert store.get(b"k") == ("c", 3)
    assert changelog.records == [(b"k", b"a", 1), (b"j", b"b", 2), (b"k", b"c", 3)]


@pytest.mark.parametrize("committed", [False, True])
def test_row_is_gone_when_it_is_deleted(
    store: KeyValueTimestampedStore[str], engine: Engine, changelog, committed: bool
) -> None:
    store.put_many([b"a", b"b"], ["1", "2"], [1, 2])
    if committed:
        commit(store, engine)
    store.put_many([b"a"], [None], [9])
    assert store.get_many([b"a", b"b"]) == [None, ("2", 2)]
    assert list(store.scan()) == [(b"b", "2", 2)]
    assert changelog.records[-1] == (b"a", None, 9)
    commit(store, engine)
    assert store.get_many([b"a", b"b"]) == [None, ("2", 2)]
    assert engine.get("names", b"a") is None


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_merges_the_layers_when_rows_hide_each_other(
    store: KeyValueTimestampedStore[str], engine: Engine, reverse: bool
) -> None:
    store.put_many([b"a", b"b", b"c", b"d", b"e"], ["engine"] * 5, [1] * 5)
    commit(store, engine)
    store.put_many([b"b", b"c", b"d", b"b2"], ["sent", None, "sent", "sent"], [2] * 4)
    store.pending()
    store.put_many([b"d", b"b2", b"c", b"f"], [None, "new", "new", "new"], [3] * 4)
    expected = [
        (b"a", "engine", 1),
        (b"b", "sent", 2),
        (b"b2", "new", 3),
        (b"c", "new", 3),
        (b"e", "engine", 1),
        (b"f", "new", 3),
    ]
    assert list(store.scan(reverse=reverse)) == (expected[::-1] if reverse else expected)
    assert list(store.scan(b"b", b"e", reverse=reverse)) == (expected[3:0:-1] if reverse else expected[1:4])


def test_scan_shows_the_moment_of_its_call_when_rows_are_put_before_it_is_read(
    store: KeyValueTimestampedStore[str], engine: Engine
) -> None:
    store.put_many([b"a", b"b"], ["1", "1"], [1, 1])
    commit(store, engine)
    store.put_many([b"c"], ["1"], [1])
    scan = store.scan()
    store.put_many([b"a", b"b", b"c", b"d"], ["2", None, "2", "2"], [2] * 4)
    commit(store, engine)
    assert list(scan) == [(b"a", "1", 1), (b"b", "1", 1), (b"c", "1", 1)]


def test_rows_put_during_a_commit_wait_for_the_next_one(store: KeyValueTimestampedStore[str], engine: Engine) -> None:
    store.put_many([b"a", b"b"], ["1", "1"], [1, 1])
    writes = store.pending()
    store.put_many([b"a", b"c"], ["2", "2"], [2, 2])
    assert {key: len(rows) for key, rows in writes.items()} == {"names": 2}
    engine.write(writes, {"names": 2})
    store.applied()
    assert store.get_many([b"a", b"b", b"c"]) == [("2", 2), ("1", 1), ("2", 2)]
    assert store.pending_rows == 2
    store.discard()
    assert store.get_many([b"a", b"b", b"c"]) == [("1", 1), ("1", 1), None]


def test_rows_of_a_failed_write_come_again_with_the_next_commit(
    store: KeyValueTimestampedStore[str], engine: Engine
) -> None:
    store.put_many([b"a", b"b"], ["1", "1"], [1, 1])
    store.pending()  # never written
    store.put_many([b"b", b"c"], ["2", "2"], [2, 2])
    commit(store, engine)
    store.discard()
    assert list(store.scan()) == [(b"a", "1", 1), (b"b", "2", 2), (b"c", "2", 2)]


def test_everything_uncommitted_is_gone_when_the_work_is_discarded(
    store: KeyValueTimestampedStore[str], engine: Engine
) -> None:
    store.put_many([b"a"], ["1"], [1])
    commit(store, engine)
    store.put_many([b"a", b"b"], ["2", "2"], [2, 2])
    store.discard()
    assert store.get_many([b"a", b"b"]) == [("1", 1), None]
    assert store.pending_rows == 0
    assert store.pending() == {}


def test_restored_rows_equal_the_logged_ones(store: KeyValueTimestampedStore[str], engine: Engine, changelog) -> None:
    store.put_many([b"a", b"b", b"c"], ["1", "2", ""], [1, 2, 3])
    store.put_many([b"b", b"a"], [None, "4"], [5, 6])
    commit(store, engine)
    other = MemoryEngine()
    restored = KeyValueTimestampedStore("names", STRING, other, None)
    restored.restore(changelog.keys, changelog.values, changelog.timestamps)
    assert list(restored.scan()) == list(store.scan()) == [(b"a", "4", 6), (b"c", "", 3)]
    commit(restored, other)
    assert list(other.scan("names", None, None)) == list(engine.scan("names", None, None))


def test_engine_is_not_touched_when_nothing_was_ever_committed(engine: Engine) -> None:
    store = KeyValueTimestampedStore("names", STRING, engine)
    store.put_many([b"a"], ["1"], [1])
    assert store.get_many([b"a", b"b"]) == [("1", 1), None]
    assert engine.tables() == []


def test_cached_rows_need_no_engine_when_they_are_hot(engine: Engine) -> None:
    store = KeyValueTimestampedStore("names", STRING, engine, cache_bytes=100_000)
    store.put_many([b"a", b"b"], ["1", "2"], [1, 2])
    commit(store, engine)
    engine.write({"names": {b"a": None}}, {})  # behind the store's back: visible once the cache is asked no more
    assert store.get(b"a") == ("1", 1)
    store.discard()
    assert store.get(b"a") is None


def test_cache_stays_within_its_bytes_when_many_rows_pass(engine: Engine) -> None:
    cache_bytes = 200_000
    store = KeyValueTimestampedStore("names", STRING, engine, cache_bytes=cache_bytes)
    for first in range(0, 20_000, 500):
        keys = [number.to_bytes(8, "big") for number in range(first, first + 500)]
        store.put_many(keys, ["x" * 100] * 500, [first] * 500)
        commit(store, engine)
        assert store.get_many(keys) == [("x" * 100, first)] * 500
        assert len(store._cache) * 270 <= cache_bytes
    assert len(store._cache) * 270 > cache_bytes // 2


def test_cache_never_shows_an_old_row_when_a_commit_is_larger_than_the_cache(engine: Engine) -> None:
    store = KeyValueTimestampedStore("names", INT64, engine, cache_bytes=20_000)
    keys = [number.to_bytes(8, "big") for number in range(1000)]
    for version in range(5):
        store.put_many(keys[:30], [version * 10] * 30, [0] * 30)
        engine.write(store.pending(), {})
        store.applied()
        assert store.get_many(keys[:30]) == [(version * 10, 0)] * 30
        store.put_many(keys, [version] * 1000, [0] * 1000)
        engine.write(store.pending(), {})
        store.applied()
        assert store.get_many(keys) == [(version, 0)] * 1000


def test_error_names_store_key_and_serde_when_a_row_cannot_be_read(engine: Engine) -> None:
    store = KeyValueTimestampedStore("names", INT64, engine)
    store.restore([b"good", b"bad"], [bytes(8), b"short"], [1, 2])
    with pytest.raises(DeserializationError, match=r"store 'names': the row with key b'bad' .* serde int64"):
        store.get_many([b"good", b"bad"])
    with pytest.raises(DeserializationError, match="key b'bad'"):
        list(store.scan())


def test_nothing_is_written_when_a_value_is_refused(engine: Engine, changelog) -> None:
    store: KeyValueTimestampedStore[int] = KeyValueTimestampedStore("names", INT64, engine, changelog)
    with pytest.raises(SerdeError, match=r"store 'names': the value for key b'b', a str, .* serde int64"):
        store.put_many([b"a", b"b"], [1, "no number"], [1, 2])  # type: ignore[list-item]
    assert store.get_many([b"a", b"b"]) == [None, None]
    assert changelog.records == []


def test_serde_that_fails_only_now_and_then_raises_its_own_error(engine: Engine) -> None:
    answers = itertools.count()

    def moody(_: bytes) -> int:
        if next(answers) == 0:
            msg = "not in the mood"
            raise ValueError(msg)
        return 1

    store = KeyValueTimestampedStore("names", Serde("moody", lambda _: b"", moody), engine)
    store.put_many([b"a"], [1], [1])
    with pytest.raises(ValueError, match="not in the mood"):
        store.get(b"a")


def test_store_fails_when_its_engine_was_closed(open_rocks) -> None:
    engine = open_rocks()
    store = KeyValueTimestampedStore("names", STRING, engine)
    store.put_many([b"a"], ["1"], [1])
    commit(store, engine)
    engine.close()
    with pytest.raises(StateStoreError, match="closed"):
        store.get(b"a")
