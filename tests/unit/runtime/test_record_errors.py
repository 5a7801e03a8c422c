"""What becomes of a record that failed: attempts are counted for each, and forgotten after a while."""

from typing import Any

import pytest

from streamlib.config import StreamsConfig
from streamlib.error_policies import ErrorContext, OnError, dead_letter, retry, skip
from streamlib.errors import MissingTopicError, ProcessingError, RetryLaterError
from streamlib.metrics import Metrics
from streamlib.runtime.record_errors import FORGOTTEN_SECONDS, RecordErrors, dead_letter_topics
from streamlib.testing.clock import ManualClock
from streamlib.topology.nodes import Filter


class Letters:
    def __init__(self) -> None:
        self.written: list[tuple[Any, ...]] = []

    def write_letter(self, *letter: Any) -> None:
        if letter[0] == "missing":
            raise MissingTopicError("missing")
        self.written.append(letter[:5])


class Bench:
    def __init__(self, policy: OnError, **settings: Any) -> None:
        self.clock, self.metrics, self.letters = ManualClock(), Metrics(), Letters()
        node = Filter(name="node", predicate=bool, on_error=policy)
        self.errors = RecordErrors(
            StreamsConfig("app", **settings), {"node": node}, self.letters, self.metrics, self.clock
        )

    def fail(self, offset: int | None = 0, error: Exception | None = None) -> str:
        """What happened: left out, again, or what stops the worker."""
        context = ErrorContext("processing", "0_0", "node", "in", 5, offset, 9, (), "k", "v", b"k", b"v")
        error = error or ValueError("bad")
        try:
            self.errors.handle(context, error, lambda: ProcessingError("fatal"))
        except RetryLaterError as again:
            return f"again in {again.backoff_ms}"
        except ProcessingError as fatal:
            return str(fatal) if fatal.__cause__ is error else "another cause"
        return "left out"


def test_attempts_are_counted_for_each_record() -> None:
    bench = Bench(retry(2, then=skip()))
    assert [bench.fail(1), bench.fail(2), bench.fail(1)] == ["again in 0"] * 3
    assert bench.fail(1) == "left out"
    assert [bench.fail(2), bench.fail(2)] == ["again in 0", "left out"]
    # The work is done again for the sake of another record: this one has had its attempts.
    assert bench.fail(1) == "left out"


def test_attempts_begin_anew_when_the_last_failure_is_long_ago() -> None:
    bench = Bench(retry(1))
    assert [bench.fail(None), bench.fail(None)] == ["again in 0", "fatal"]
    bench.clock.advance_ms(int(FORGOTTEN_SECONDS * 1_000) + 1)
    assert bench.fail(None) == "again in 0"


def test_a_letter_keeps_the_partition_of_its_record() -> None:
    bench = Bench(dead_letter("dead"))
    assert bench.fail() == "left out"
    assert bench.letters.written == [("dead", 5, b"k", b"v", 9)]


def test_an_error_on_its_way_up_is_not_decided_again() -> None:
    bench = Bench(lambda context, _: dead_letter("missing") if context.offset == 0 else skip())
    with pytest.raises(MissingTopicError) as caught:
        bench.fail(0)
    with pytest.raises(MissingTopicError) as again:
        bench.fail(1, error=caught.value)
    assert again.value is caught.value
    assert bench.fail(1) == "left out"


def test_the_topics_of_letters_are_known_before_a_record_fails() -> None:
    nodes = {
        "a": Filter(name="a", predicate=bool, on_error=retry(1, then=dead_letter("one"))),
        "b": Filter(name="b", predicate=bool, on_error=lambda _, __: dead_letter("unknown")),
        "c": Filter(name="c", predicate=bool),
    }
    config = StreamsConfig("app", processing_exception_handler=dead_letter("two"))
    assert dead_letter_topics(nodes, config) == {"one", "two"}
    config = StreamsConfig("app", errors_dead_letter_queue_topic_name="three")
    assert dead_letter_topics({"a": nodes["a"]}, config) == {"one", "three"}
