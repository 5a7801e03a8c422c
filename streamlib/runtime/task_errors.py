"""Tells what is known of a record that failed in a task: where it comes from, its bytes, a message with the mend.

Next: `record_errors`, which decides.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from streamlib.error_policies import ErrorContext, ErrorKind
from streamlib.errors import DeserializationError, ProcessingError, StreamlibError
from streamlib.record import FetchedBatch, Headers, RecordBatch, TopicPartition
from streamlib.runtime.record_errors import RecordErrors

SHOWN_BYTES = 64


class RawRecord(NamedTuple):
    """A record as it was read."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers


def raw_record(fetched: FetchedBatch, row: int) -> RawRecord:
    """A row of what a poll brought."""
    headers: Headers = () if fetched.headers is None else fetched.headers[row]
    return RawRecord(fetched.keys[row], fetched.values[row], fetched.timestamps[row], headers)


class Place(Protocol):
    """Where a task is; implemented by `task.TaskContext`."""

    @property
    def task_id(self) -> object:
        """As text, e.g. ``0_3``."""

    def origin(self, offset: int | None) -> tuple[TopicPartition | None, int | None]:
        """Where the row with that offset comes from, of those being processed."""

    def raw(self, tp: TopicPartition, offset: int) -> RawRecord | None:
        """A record as it was read, if it is still at hand."""


class TaskErrors:
    """Where the errors of a task's records arrive.

    Args:
        place: The task.
        errors: Decides.

    Implements `operators.base.ErrorHandler` and `record_queue.DecodeErrors`.
    """

    def __init__(self, place: Place, errors: RecordErrors) -> None:
        self._place = place
        self._errors = errors

    def failed(self, error: Exception, node: str, key: Any, value: Any, timestamp: int, offset: int | None) -> None:
        """Return to leave a row out on which a user function raised.

        Raises:
            ProcessingError: The policy is to fail, or to try again.
        """

        def fatal() -> StreamlibError:
            if isinstance(error, ProcessingError):
                return error
            tp, at = self._place.origin(offset)
            where = "" if tp is None else f" topic={tp.topic} partition={tp.partition}"
            offset_text = "unknown (from a cache flush or a punctuator)" if at is None else str(at)
            msg = (
                f"a user function raised {error!r}: task={self._place.task_id} node={node}{where} "
                f"offset={offset_text} timestamp={timestamp}. Nothing after the last commit counts. Mend the function "
                "and start again, or leave such records out with --on-processing-error skip, or keep them with "
                "--on-processing-error dead-letter:TOPIC."
            )
            return ProcessingError(msg)

        self._handle("processing", error, node, (key, value, timestamp, offset), fatal)

    def refused(self, error: StreamlibError, node: str, batch: RecordBatch, row: int) -> None:
        """Return to leave a row out that a sink cannot write; ``error`` has the message, and the cause if there is one.

        Raises:
            SerdeError, ProductionError: The policy is to fail.
            RetryLaterError: It is to try again.
        """
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        offset = None if batch.offsets is None else batch.offsets[row]
        what = (batch.keys[row], batch.values[row], batch.timestamps[row], offset)
        self._handle("production", cause, node, what, lambda: error)

    def undecodable(
        self, error: Exception, part: str, node: str, tp: TopicPartition, fetched: FetchedBatch, row: int
    ) -> None:
        """Return to leave a record out whose key or value cannot be decoded.

        Args:
            error: What the serde raised.
            part: ``key`` or ``value``, with the name of the serde.
            node: The source.
            tp: The input.
            fetched: What a poll brought.
            row: The record.

        Raises:
            DeserializationError: The policy is to fail.
            RetryLaterError: It is to try again.
        """
        raw = raw_record(fetched, row)
        data = (raw.key if part.startswith("key") else raw.value) or b""
        offset = fetched.offsets[row]

        def fatal() -> StreamlibError:
            shown = data[:SHOWN_BYTES].hex() + ("..." if len(data) > SHOWN_BYTES else "")
            msg = (
                f"the {part} of a record cannot be decoded: {error}: task={self._place.task_id} node={node} "
                f"topic={tp.topic} partition={tp.partition} offset={offset} first bytes={shown}. Mend the source's "
                "serde, or leave such records out with --on-deserialization-error skip, or keep them with "
                "--on-deserialization-error dead-letter:TOPIC."
            )
            return DeserializationError(msg)

        context = ErrorContext(
            "deserialization",
            str(self._place.task_id),
            node,
            *tp,
            offset,
            raw.timestamp,
            raw.headers,
            raw.key,
            raw.value,
            raw.key,
            raw.value,
        )
        self._errors.breaker.took(1)  # such a record never gets to where the others are counted
        self._errors.handle(context, error, fatal)

    def _handle(
        self,
        kind: ErrorKind,
        error: Exception,
        node: str,
        row: tuple[Any, Any, int, int | None],
        fatal: Callable[[], StreamlibError],
    ) -> None:
        key, value, timestamp, offset = row
        tp, offset = self._place.origin(offset)
        raw = None if tp is None or offset is None else self._place.raw(tp, offset)
        topic, partition = (None, None) if tp is None else tp
        known = RawRecord(None, None, timestamp, ()) if raw is None else raw
        context = ErrorContext(
            kind,
            str(self._place.task_id),
            node,
            topic,
            partition,
            offset,
            known.timestamp,
            known.headers,
            key,
            value,
            known.key,
            known.value,
        )
        self._errors.handle(context, error, fatal)
