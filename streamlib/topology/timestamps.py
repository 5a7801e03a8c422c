"""Timestamp extractors for records whose own timestamps cannot be used, e.g. those of producers that set none.

Pass one as ``timestamp_extractor=``. Each takes key, value, the record's timestamp, and the highest timestamp of the
partition so far (-1 before the first); a negative result drops the record, which is counted as
``negative-timestamp``. Source: org.apache.kafka.streams.processor, the implementations of TimestampExtractor.
"""

import logging
from typing import Any

from streamlib.clock import Clock, SystemClock

log = logging.getLogger(__name__)

_clock: Clock = SystemClock()


def fail_on_invalid(_key: Any, _value: Any, timestamp: int, _highest: int) -> int:
    """The record's timestamp; this is what happens without an extractor, too.

    Raises:
        ValueError: It is negative: the worker stops.
    """
    if timestamp < 0:
        msg = f"the record's timestamp is {timestamp}: its producer has set none, or before 1970"
        raise ValueError(msg)
    return timestamp


def log_and_skip(key: Any, _value: Any, timestamp: int, _highest: int) -> int:
    """The record's timestamp; a record with a negative one is dropped, with a line in the log."""
    if timestamp < 0:
        log.warning("a record with the timestamp %d is left out: key=%r", timestamp, key)
    return timestamp


def use_partition_time(_key: Any, _value: Any, timestamp: int, highest: int) -> int:
    """The record's timestamp; for a negative one the highest timestamp of the partition so far.

    Raises:
        ValueError: It is negative, and the partition has had none so far: the worker stops.
    """
    if timestamp >= 0:
        return timestamp
    if highest < 0:
        msg = f"the record's timestamp is {timestamp}, and the partition has had no other to take instead"
        raise ValueError(msg)
    return highest


def wall_clock(_key: Any, _value: Any, _timestamp: int, _highest: int) -> int:
    """When the record is processed, by the operating system's clock; under a test's driver as well."""
    return _clock.time_ms()
