"""Commits are logged, and their rows go to their tables later; nobody can tell, whatever happens in between."""

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.runtime.task_stores import open_engine
from streamlib.state import logged
from streamlib.state.base import TableWrites
from streamlib.state.directory import StateDirectory
from streamlib.state.logged import LOG, LoggedEngine, LogMemory
from streamlib.state.rocksdb import CHUNK_ROWS, RocksEngine, RocksMemory

Rows = dict[bytes, bytes | None]
TABLES = ("a", "b")
KEYS = [bytes([number]) for number in range(6)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["log", "log", "log", "write", "drop", "reopen"]),
        st.sampled_from(TABLES),
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, b"", b"row", b"a longer row"]), max_size=4),
    ),
    max_size=30,
)


def log(engine: LoggedEngine, writes: TableWrites, offsets: Mapping[str, int] | None = None) -> None:
    for _ in engine.log(writes, offsets or {}):
        pass


def with_a_row_in_each(open_rocks: Callable[[], RocksEngine]) -> LoggedEngine:
    engine = LoggedEngine(open_rocks(), LogMemory(1 << 20))
    for table in TABLES:
        engine.create(table)
    log(engine, {table: {b"k": b"v"} for table in TABLES})
    return engine


def logged_commits(engine: RocksEngine) -> int:
    return len(list(engine.scan(LOG, None, None))) if LOG in engine.tables() else 0


@pytest.mark.parametrize("max_bytes", [400, 1 << 20])
@given(steps=STEPS)
@settings(deadline=None, max_examples=60)
def test_rows_are_those_of_a_plain_dict_when_commits_drops_and_restarts_mix(
    tmp_path_factory: pytest.TempPathFactory, memory: RocksMemory, max_bytes: int, steps: list[tuple[str, str, Rows]]
) -> None:
    path = tmp_path_factory.mktemp("state") / "0_0"
    model: dict[str, Rows] = {table: {} for table in TABLES}
    engine = LoggedEngine(RocksEngine.open(path, memory), LogMemory(max_bytes))
    for number, (step, table, rows) in enumerate(steps):
        for each in TABLES:
            engine.create(each)
        if step == "drop":
            engine.drop(table)
            model[table].clear()
        elif step == "reopen":
            engine.close()
            engine = LoggedEngine(RocksEngine.open(path, memory), LogMemory(max_bytes))
        else:
            for _ in (engine.write_chunks if step == "write" else engine.log)({table: rows}, {"s": number}):
                pass
            model[table].update(rows)
            assert engine.offsets() == {"s": number}
        for each in set(engine.tables()) & set(TABLES):
            kept = {key: row for key, row in model[each].items() if row is not None}
            assert engine.get_many(each, KEYS) == [kept.get(key) for key in KEYS]
            assert list(engine.scan(each, KEYS[1], None)) == sorted(row for row in kept.items() if row[0] > KEYS[0])
            assert list(engine.scan(each, None, KEYS[4], reverse=True)) == sorted(
                (row for row in kept.items() if row[0] < KEYS[4]), reverse=True
            )
            ranges = [(KEYS[0], KEYS[2]), (KEYS[3], KEYS[3]), (KEYS[2], KEYS[5])]
            assert engine.scan_many(each, ranges) == [
                sorted(item for item in kept.items() if start <= item[0] < end) for start, end in ranges
            ]
    engine.close()


def test_rows_go_to_their_tables_and_the_log_is_emptied_when_there_are_many(
    open_rocks: Callable[[], RocksEngine],
) -> None:
    rocks = open_rocks()
    engine = LoggedEngine(rocks, LogMemory(2_000))
    engine.create("t")
    for number in range(10):  # the same key again and again is one row
        log(engine, {"t": {b"k": bytes([number])}}, {"s": number})
    assert logged_commits(rocks) == 10
    assert rocks.get("t", b"k") is None
    log(engine, {"t": {b"l": b"1", b"m": b"1", b"n": b"1"}}, {"s": 10})
    assert logged_commits(rocks) == 0
    assert dict(rocks.scan("t", None, None)) == {b"k": bytes([9]), b"l": b"1", b"m": b"1", b"n": b"1"}
    assert rocks.offsets() == {"s": 10}
    assert engine.tables() == ["t"]


def test_log_is_emptied_when_it_is_large(
    open_rocks: Callable[[], RocksEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged, "MAX_BYTES", 1_000)
    rocks = open_rocks()
    engine = LoggedEngine(rocks, LogMemory(1 << 20))
    engine.create("t")
    commits = []
    for _ in range(12):
        log(engine, {"t": {b"k": bytes(299)}})
        commits.append(logged_commits(rocks))
    assert commits == [1, 2, 3, 0] * 3


def test_nothing_is_lost_when_rows_were_on_their_way_to_the_tables_at_a_crash(
    open_rocks: Callable[[], RocksEngine],
) -> None:
    engine = LoggedEngine(open_rocks(), LogMemory(3 * CHUNK_ROWS * 200))
    engine.create("t")
    log(engine, {"t": {b"gone": b"1", b"k": b"old"}}, {"s": 1})
    log(engine, {"t": {b"gone": None, b"k": b"new"}}, {"s": 2})
    many = {b"%05d" % number: b"1" for number in range(2 * CHUNK_ROWS)}
    log(engine, {"t": many}, {"s": 3})
    more = dict.fromkeys(many, b"2") | {b"z%05d" % number: b"2" for number in range(2 * CHUNK_ROWS)}
    chunks = len(list(islice(engine.log({"t": more}, {"s": 4}), 2)))
    rocks = open_rocks()
    assert chunks == 2
    assert rocks.get("t", b"00000") == b"2", "a chunk had been written"
    again = LoggedEngine(rocks, LogMemory(1 << 20))
    assert again.offsets() == {"s": 3}
    assert again.get_many("t", [b"gone", b"k", b"00000", b"19999"]) == [None, b"new", b"1", b"1"]


def test_rows_of_a_table_are_forgotten_when_it_is_gone_and_the_log_is_not(
    open_rocks: Callable[[], RocksEngine],
) -> None:
    with_a_row_in_each(open_rocks)
    rocks = open_rocks()
    rocks.drop("a")  # as a power loss may leave it: the manifest is synced, the log of RocksDB is not
    again = LoggedEngine(rocks, LogMemory(1 << 20))
    again.create("a")
    assert [again.get(table, b"k") for table in TABLES] == [None, b"v"]


def test_log_of_a_directory_is_read_when_it_is_opened_by_another_process(tmp_path: Path, memory: RocksMemory) -> None:
    first = LoggedEngine(RocksEngine.open(tmp_path / "0_0", memory), LogMemory(1 << 20))
    first.create("t")
    log(first, {"t": {b"k": b"1"}}, {"s": 7})
    first.close()
    other = RocksMemory(32 * 1024 * 1024)
    second = LoggedEngine(RocksEngine.open(tmp_path / "0_0", other), LogMemory(1 << 20))
    log(second, {"t": {b"l": b"2"}}, {"s": 8})
    second.close()
    third = LoggedEngine(RocksEngine.open(tmp_path / "0_0", other), LogMemory(1 << 20))
    assert (list(third.scan("t", None, None)), third.offsets()) == ([(b"k", b"1"), (b"l", b"2")], {"s": 8})
    third.close()


def test_rows_wait_for_less_when_more_engines_share_the_memory(tmp_path: Path, memory: RocksMemory) -> None:
    shared = LogMemory(200_000)
    waiting = []
    for number in (1, 2, 4):
        under = [RocksEngine.open(tmp_path / f"{number}_{n}", memory) for n in range(number)]
        engines = [LoggedEngine(rocks, shared) for rocks in under]
        for engine in engines:
            engine.create("t")
        for row in range(400):
            for engine in engines:
                log(engine, {"t": {b"%03d" % row: b"v"}})
        waiting.append(sum(map(logged_commits, under)))
        for engine in engines:
            engine.close()
    assert waiting[0] == 400
    assert all(0 < rows < 200_000 / 320 for rows in waiting[1:])


def test_rows_that_come_later_win_when_a_large_commit_was_interrupted(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = LoggedEngine(open_rocks(), LogMemory(0))  # every commit is too large for the log
    engine.create("t")
    writing = engine.log({"t": {b"%05d" % number: b"old" for number in range(2 * CHUNK_ROWS)}}, {"s": 1})
    next(writing)
    writing.close()
    engine.write({"t": {b"00000": b"new", b"19999": b"new"}}, {"s": 2})
    log(engine, {"t": {b"00001": b"newest"}}, {"s": 3})
    assert engine.get_many("t", [b"00000", b"00001", b"19999"]) == [b"new", b"newest", b"new"]


def test_rows_do_not_come_back_when_their_table_is_dropped_and_made_again(
    open_rocks: Callable[[], RocksEngine],
) -> None:
    engine = with_a_row_in_each(open_rocks)
    engine.drop("a")
    engine.create("a")
    log(engine, {"b": {b"l": b"w"}})
    for _ in range(2):
        assert [list(engine.scan(table, None, None)) for table in TABLES] == [[], [(b"k", b"v"), (b"l", b"w")]]
        engine = LoggedEngine(open_rocks(), LogMemory(1 << 20))


def test_a_damaged_log_is_told_as_damaged_state_and_the_engine_can_be_set_aside(
    tmp_path: Path, memory: RocksMemory
) -> None:
    directory = StateDirectory.open(tmp_path, "app", memory)
    rocks = RocksEngine.open(directory.task_path("0_0"), memory)
    rocks.create(LOG)
    rocks.write({LOG: {bytes(8): b"no commit"}}, {})
    rocks.close()
    engine = open_engine(directory, "0_0", persistent=True)
    assert engine.tables() == []
    assert [path.name.rpartition("-")[0] for path in (tmp_path / "app").glob("0_0.*")] == ["0_0.corrupt"]
    engine.close()
    directory.close()
