"""aiokafka's repetitions are thinned out, and its debug lines, which hold records, never appear."""

import logging

from streamlib.transport.kafka import logs
from streamlib.transport.kafka.logs import OncePerWhile, tame_aiokafka


def line(message: str, *args: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", level, __file__, 1, message, args, None)


def test_same_complaint_is_kept_back_and_counted_when_it_repeats_within_half_a_minute(monkeypatch):
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    once = OncePerWhile()
    assert once.filter(line("no %s", "broker"))
    assert not once.filter(line("no %s", "broker"))
    assert not once.filter(line("no broker"))
    assert once.filter(line("no %s", "leader"))
    now += 31
    again = line("no %s", "broker")
    assert once.filter(again)
    assert again.getMessage() == "no broker (and 2 times more since the last line like this)"


def test_information_is_kept_when_it_repeats():
    once = OncePerWhile()
    assert all(once.filter(line("joined", level=logging.INFO)) for _ in range(3))


def test_memory_stays_bounded_when_complaints_differ():
    once = OncePerWhile()
    for number in range(3 * logs.REMEMBERED):
        assert once.filter(line("no %s", number))
    assert len(once._told) <= logs.REMEMBERED


def test_debug_lines_are_off_and_filters_are_single_when_tamed_twice():
    tame_aiokafka()
    tame_aiokafka()
    for name in logs.LOGGERS:
        logger = logging.getLogger(name)
        assert not logger.isEnabledFor(logging.DEBUG)
        assert sum(isinstance(known, OncePerWhile) for known in logger.filters) == 1
