"""Dead letters: records that failed, as they were read, with headers that tell what went wrong and where.

The names of the headers are Kafka Streams' own (KIP-1034), so that tools for its dead letters read these, too; the name
of the node is added. Source: ExceptionHandlerUtils. Next: `runtime/record_errors`, which writes them.
"""

import traceback
from dataclasses import dataclass

from streamlib.error_policies import ErrorContext
from streamlib.record import FetchedBatch, Headers

PREFIX = "__streams.errors."
EXCEPTION, MESSAGE, STACKTRACE = f"{PREFIX}exception", f"{PREFIX}message", f"{PREFIX}stacktrace"
TOPIC, PARTITION, OFFSET = f"{PREFIX}topic", f"{PREFIX}partition", f"{PREFIX}offset"
NODE = "__streamlib.errors.node"

MESSAGE_CHARACTERS, STACKTRACE_CHARACTERS = 2_000, 20_000  # a letter must not be refused for what is told of it


@dataclass(frozen=True)
class FailedRecord:
    """A record out of a dead letter topic.

    Attributes:
        key: Bytes as they were read.
        value: Likewise.
        timestamp: In ms.
        headers: Of the record that was read.
        exception: The class of what was raised.
        message: What it said.
        stacktrace: Where it was raised.
        topic: Where the record was read from; None if that was not known.
        partition: Likewise.
        offset: Likewise.
        node: The node of the topology at which it failed; None in letters of others.
    """

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = ()
    exception: str | None = None
    message: str | None = None
    stacktrace: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    node: str | None = None


def letter_headers(context: ErrorContext, error: BaseException) -> list[tuple[str, bytes | None]]:
    """The headers of the record that was read, and those that tell of the error."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    stacktrace = "".join(traceback.format_exception(error))
    told = {
        EXCEPTION: name,
        MESSAGE: str(error)[:MESSAGE_CHARACTERS],
        STACKTRACE: stacktrace[-STACKTRACE_CHARACTERS:],
        TOPIC: context.topic,
        PARTITION: str(-1 if context.partition is None else context.partition),
        OFFSET: str(-1 if context.offset is None else context.offset),
        NODE: context.node,
    }
    about = [(header, None if text is None else text.encode(errors="replace")) for header, text in told.items()]
    return [*context.headers, *about]


def is_letter(headers: Headers) -> bool:
    """Whether a record is a dead letter."""
    return any(name == EXCEPTION for name, _ in headers)


def failed_record(key: bytes | None, value: bytes | None, timestamp: int, headers: Headers) -> FailedRecord:
    """A record of a dead letter topic, taken apart."""
    told = {name: data.decode(errors="replace") for name, data in headers if data is not None and _tells(name)}
    return FailedRecord(
        key,
        value,
        timestamp,
        [(name, data) for name, data in headers if not _tells(name)],
        told.get(EXCEPTION),
        told.get(MESSAGE),
        told.get(STACKTRACE),
        told.get(TOPIC),
        _number(told, PARTITION),
        _number(told, OFFSET),
        told.get(NODE),
    )


def failed_record_at(batch: FetchedBatch, row: int) -> FailedRecord:
    """A row of what was read of a dead letter topic."""
    headers = () if batch.headers is None else batch.headers[row]
    return failed_record(batch.keys[row], batch.values[row], batch.timestamps[row], headers)


def _tells(name: str) -> bool:
    return name.startswith(PREFIX) or name == NODE


def _number(told: dict[str, str], name: str) -> int | None:
    text = told.get(name, "")
    return int(text) if text.isdecimal() else None
