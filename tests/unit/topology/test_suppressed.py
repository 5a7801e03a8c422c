"""Bounds of buffers and the two kinds of suppression: what the calls make, and what they refuse."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import BufferConfig, EagerBufferConfig, StrictBufferConfig, Suppressed


def test_a_bound_makes_a_buffer_that_emits_early() -> None:
    assert BufferConfig.max_records(3) == EagerBufferConfig(records_max=3)
    assert BufferConfig.max_bytes(4).with_max_records(3) == EagerBufferConfig(records_max=3, bytes_max=4)
    assert BufferConfig.max_records(3).with_max_bytes(4) == EagerBufferConfig(records_max=3, bytes_max=4)


def test_a_buffer_is_strict_when_it_is_unbounded_or_shuts_down() -> None:
    assert BufferConfig.unbounded() == StrictBufferConfig()
    assert BufferConfig.unbounded().with_max_records(3) == StrictBufferConfig(records_max=3)
    assert BufferConfig.max_bytes(4).shut_down_when_full() == StrictBufferConfig(bytes_max=4)
    assert BufferConfig.max_bytes(4).shut_down_when_full().emit_early_when_full() == EagerBufferConfig(bytes_max=4)
    assert BufferConfig.max_bytes(4).with_no_bound() == StrictBufferConfig()


def test_logging_stays_as_it_was_set_when_other_settings_follow() -> None:
    silent = BufferConfig.max_records(3).with_logging_disabled().shut_down_when_full()
    assert silent == StrictBufferConfig(records_max=3, logging=False)
    loud = silent.with_logging_enabled({"segment.bytes": "1"}).with_no_bound()
    assert loud == StrictBufferConfig(topic_configs={"segment.bytes": "1"})
    assert loud.with_logging_disabled().with_logging_enabled() == StrictBufferConfig()


@pytest.mark.parametrize("bound", [-1, 2.5, "3", True])
def test_a_bound_is_refused_when_it_is_no_count(bound: Any) -> None:
    with pytest.raises(ValueError, match=rf"at most so many records: an int that is not negative, not {bound!r}"):
        BufferConfig.max_records(bound)
    with pytest.raises(ValueError, match=r"at most so many bytes: an int"):
        BufferConfig.unbounded().with_max_bytes(bound)


def test_a_suppression_knows_its_time_and_its_buffer() -> None:
    eager = BufferConfig.max_records(3)
    assert Suppressed.until_time_limit(timedelta(seconds=2), eager) == Suppressed(2000, eager)
    assert Suppressed.until_window_closes(BufferConfig.unbounded()) == Suppressed(None, StrictBufferConfig())


def test_final_results_are_refused_when_the_buffer_emits_early() -> None:
    with pytest.raises(TypeError, match=r"needs a strict buffer.*add \.shut_down_when_full\(\)"):
        Suppressed.until_window_closes(BufferConfig.max_records(3))  # type: ignore[arg-type]


def test_a_time_limit_is_refused_when_it_is_none() -> None:
    unbounded: Any = BufferConfig.unbounded()
    with pytest.raises(ValueError, match="cannot be negative"):
        Suppressed.until_time_limit(timedelta(milliseconds=-1), unbounded)
    with pytest.raises(TypeError, match=r"must be a timedelta"):
        Suppressed.until_time_limit(5, unbounded)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"needs a BufferConfig, e\.g\. BufferConfig\.unbounded\(\), not 7"):
        Suppressed.until_time_limit(timedelta(1), 7)  # type: ignore[arg-type]
