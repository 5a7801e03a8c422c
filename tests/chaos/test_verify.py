"""The verifier finds what is wrong, and nothing else."""

from collections import defaultdict
from collections.abc import Iterator
from zlib import crc32

import pytest

from tests.chaos.checks import START, Findings, checks
from tests.chaos.load import COUNTED, GATHERED, KEY_BYTES, NUMBER, OTHER_BYTES, PAIR, SUMMED, TICK, WINDOW_MS, Load

LOAD = Load(seed=5, records=13_007, start_ms=WINDOW_MS * 7)
Rows = dict[str, list[tuple[bytes, bytes]]]


@pytest.fixture
def rows(right: Rows) -> Rows:
    """What a correct run writes; to be spoiled."""
    return {name: list(each) for name, each in right.items()}


@pytest.fixture(scope="module")
def right() -> Rows:
    """What a correct run writes."""
    made: Rows = defaultdict(list)
    counts: dict[int, tuple[int, int]] = {}
    sums: dict[tuple[int, int], tuple[int, int]] = {}
    gathered: dict[int, tuple[int, int, int]] = {}
    for number in range(LOAD.records):
        key_number, amount = LOAD.key_number(number), LOAD.amount(number)
        key = KEY_BYTES[key_number]
        made["forwarded"].append((key, LOAD.value(number)))
        count, chain = counts.get(key_number, (0, 0))
        counts[key_number] = count + 1, crc32(NUMBER.pack(number), chain)
        made["counts"].append((key, COUNTED.pack(count + 1, number, counts[key_number][1])))
        window = LOAD.time_ms(number) // WINDOW_MS * WINDOW_MS
        held = sums.get((key_number, window), (0, 0))
        sums[key_number, window] = held[0] + 1, held[1] + amount
        made["sums"].append((key + START.pack(window), SUMMED.pack(*sums[key_number, window])))
        other = LOAD.other(number)
        before = gathered.get(other, (0, 0, 0))
        gathered[other] = before[0] + 1, before[1] + amount, before[2] + number
        made["repartitioned"].append((OTHER_BYTES[other], LOAD.value(number)))
        made["gathered"].append((OTHER_BYTES[other], GATHERED.pack(*gathered[other])))
        if LOAD.on_the_right(number):
            made["pairs"] += [(key, PAIR.pack(left, number)) for left in LOAD.partners(number)]
    for sub_topology, name in enumerate(("ticks", "other-ticks")):
        made[name] = [ticked(b"%d_%d" % (sub_topology, tick % 6), tick // 6) for tick in range(10_000)]
        made[f"{name}-changelog"] = made[name][:]
    made["counts-changelog"] = made["counts"][:]
    made["gathered-changelog"] = made["gathered"][:]
    made["sums-changelog"] = [(key + bytes(4), value) for key, value in made["sums"]]
    return made


def ticked(key: bytes, tick: int) -> tuple[bytes, bytes]:
    """A tick of a task that changes its owner every hundred ticks: two processes, each of which gets it back."""
    return key, TICK.pack(tick + 1, 77 + tick // 100 % 2, tick // 200 + 1, tick % 100 + 1)


def judged(rows: Rows) -> dict[str, Findings]:
    """The findings in topics that have any."""
    found = {}
    for name, check in checks(LOAD).items():
        for key, value in rows[name]:
            check.take(key, value)
        check.finish()
        if check.findings != Findings():
            found[name] = check.findings
    return found


def swapped(rows: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The second and third record of a key change places."""
    key = rows[1_000][0]
    second, third = [place for place, row in enumerate(rows) if row[0] == key][1:3]
    rows[second], rows[third] = rows[third], rows[second]
    yield from rows


def test_nothing_is_found_when_everything_is_right(rows: Rows) -> None:
    assert judged(rows) == {}


@pytest.mark.parametrize("name", ["forwarded", "counts", "repartitioned", "pairs"])
def test_lost_result_is_found(rows: Rows, name: str) -> None:
    del rows[name][5_000]
    assert judged(rows)[name].lost == 1


@pytest.mark.parametrize("name", ["forwarded", "counts", "repartitioned", "gathered", "pairs", "ticks", "other-ticks"])
def test_repeated_result_is_found(rows: Rows, name: str) -> None:
    rows[name].insert(5_000, rows[name][4_000])
    assert judged(rows)[name].duplicated >= 1


@pytest.mark.parametrize("name", ["forwarded", "counts"])
def test_swapped_results_are_found(rows: Rows, name: str) -> None:
    rows[name] = list(swapped(rows[name]))
    assert judged(rows) == {name: Findings(out_of_order=1)}


@pytest.mark.parametrize("name", ["forwarded", "counts", "sums", "repartitioned", "gathered", "pairs", "ticks"])
def test_changed_result_is_found(rows: Rows, name: str) -> None:
    key, value = rows[name][-1]
    rows[name][-1] = key, value[:-1] + bytes([value[-1] ^ 1])
    found = judged(rows)[name]
    assert found.wrong + found.duplicated >= 1


def test_lost_update_is_found_when_counts_go_on_without_it(rows: Rows) -> None:
    key = KEY_BYTES[LOAD.key_number(LOAD.records - 1)]
    last = max(place for place, row in enumerate(rows["counts"]) if row[0] == key)
    count, number, chain = COUNTED.unpack(rows["counts"][last][1])
    rows["counts"][last] = key, COUNTED.pack(count - 1, number, chain)
    assert judged(rows)["counts"] == Findings(wrong=1)


@pytest.mark.parametrize("name", ["sums", "gathered"])
def test_lost_last_result_is_found(rows: Rows, name: str) -> None:
    rows[name].pop()
    assert judged(rows)[name] == Findings(wrong=1)


@pytest.mark.parametrize("name", ["ticks", "other-ticks"])
def test_lost_tick_is_found(rows: Rows, name: str) -> None:
    del rows[name][5_000]
    assert judged(rows) == {name: Findings(wrong=2)}


def test_owner_that_commits_after_others_is_found(rows: Rows) -> None:
    first, others = ((77, 1), (78, 1))
    history = [(1, *first, 1), (2, *first, 2), (3, *others, 1), (4, *first, 3), (5, *first, 4), (6, *others, 2)]
    rows["ticks"] = rows["ticks-changelog"] = [(b"0_0", TICK.pack(*each)) for each in history]
    assert judged(rows) == {"ticks": Findings(wrong=2, mixed=2)}


def test_process_that_gets_its_task_back_is_another_owner(rows: Rows) -> None:
    history = [(1, 77, 1, 1), (2, 78, 1, 1), (3, 77, 2, 1), (4, 77, 5, 1), (5, 78, 2, 1)]
    rows["ticks"] = rows["ticks-changelog"] = [(b"0_0", TICK.pack(*each)) for each in history]
    assert judged(rows) == {}


def test_earlier_start_of_a_process_is_found_when_it_commits_after_a_later_one(rows: Rows) -> None:
    history = [(1, 77, 2, 1), (2, 77, 1, 1)]
    rows["ticks"] = rows["ticks-changelog"] = [(b"0_0", TICK.pack(*each)) for each in history]
    assert judged(rows) == {"ticks": Findings(mixed=1)}


def test_gap_in_an_owners_ticks_is_found_when_the_task_has_none(rows: Rows) -> None:
    history = [(1, 77, 1, 1), (2, 77, 1, 3)]
    rows["ticks"] = rows["ticks-changelog"] = [(b"0_0", TICK.pack(*each)) for each in history]
    assert judged(rows) == {"ticks": Findings(wrong=1)}


@pytest.mark.parametrize("name", ["counts-changelog", "sums-changelog", "gathered-changelog", "ticks-changelog"])
def test_store_that_differs_from_its_results_is_found(rows: Rows, name: str) -> None:
    rows[name].pop()
    assert judged(rows) == {name: Findings(wrong=1)}
