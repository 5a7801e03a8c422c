"""What to do with a record that fails: stop, leave it out, try again, or keep it in a dead letter topic.

A record fails where its bytes cannot be decoded, where a user function raises, or where a result cannot be written. For
each of the three a worker has a policy, and so may each node (``on_error=``). A policy is one of the four that are made
here; or a function that is asked for one, each time.

Source: KIP-161, KIP-210, KIP-1033, KIP-1034. Next: `dead_letters`; `runtime/record_errors`, which carries policies out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from streamlib.errors import ConfigError

if TYPE_CHECKING:  # the command line imports settings, and must not import msgspec for its help
    from streamlib.record import Headers

ErrorKind = Literal["deserialization", "processing", "production"]


@dataclass(frozen=True)
class Fail:
    """The worker stops, and nothing since the last commit counts; made by `fail`."""


@dataclass(frozen=True)
class Skip:
    """The record is left out at that node and counted; made by `skip`."""


@dataclass(frozen=True)
class DeadLetter:
    """The record it comes from is written to a topic, and left out; made by `dead_letter`."""

    topic: str | None


@dataclass(frozen=True)
class Retry:
    """The work since the last commit is undone and done again, so many times; made by `retry`."""

    attempts: int
    backoff_ms: int
    then: Fail | Skip | DeadLetter


ErrorPolicy: TypeAlias = Fail | Skip | DeadLetter | Retry


@dataclass(frozen=True)
class ErrorContext:
    """What is known of a record that failed.

    Attributes:
        kind: What went wrong with it.
        task_id: As text, ``0_3``; ``-1_-1`` for global tables.
        node: Where, by its name in the topology.
        topic: Where the record that was read comes from; None if it is not known: what a punctuator forwards, or a
            flushed cache.
        partition: Likewise.
        offset: Likewise.
        timestamp: Of the record that was read, or else of the row that failed, in ms.
        headers: Of the record that was read.
        key: Of the row that failed, as the node has it; bytes when they could not be decoded.
        value: Likewise.
        source_raw_key: The bytes of the record that was read; None if they are not at hand.
        source_raw_value: Likewise.
        attempt: How often it has been tried again.

    Source: ErrorHandlerContext.
    """

    kind: ErrorKind
    task_id: str
    node: str
    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int
    headers: "Headers"
    key: Any
    value: Any
    source_raw_key: bytes | None
    source_raw_value: bytes | None
    attempt: int = 0


ErrorHandler: TypeAlias = Callable[[ErrorContext, Exception], ErrorPolicy]
"""Decides about one record; what it raises stops the worker."""

OnError: TypeAlias = ErrorPolicy | ErrorHandler


def fail() -> Fail:
    """The worker stops: the default. Source: LogAndFailExceptionHandler."""
    return Fail()


def skip() -> Skip:
    """The record is left out at that node, and counted as dropped. Source: LogAndContinueExceptionHandler."""
    return Skip()


def dead_letter(topic: str | None = None) -> DeadLetter:
    """The record is left out, and the one that was read is kept in a topic, with headers that tell of the error.

    Args:
        topic: Its name; it must exist. None: that of the setting ``errors_dead_letter_queue_topic_name``.

    Source: KIP-1034.
    """
    return DeadLetter(topic)


def retry(attempts: int, backoff: timedelta = timedelta(0), then: Fail | Skip | DeadLetter | None = None) -> Retry:
    """The worker undoes its work since the last commit, waits, and does it again: nothing was half done then.

    That is for what passes by itself, such as a service that is away. An asynchronous function has retries of its own,
    which hold up nothing else (`KStream.map_values_async`).

    Args:
        attempts: How often a record is tried again, at least once.
        backoff: How long the worker waits before each time.
        then: What happens if it still fails; by default the worker stops.

    Raises:
        ConfigError: Fewer than one attempt, a negative wait, or a policy that decides nothing in the end.
    """
    backoff_ms = backoff // timedelta(milliseconds=1)
    if attempts < 1 or backoff_ms < 0:
        msg = f"retry needs at least 1 attempt and no negative backoff, got {attempts} and {backoff_ms} ms"
        raise ConfigError(msg)
    last = Fail() if then is None else then
    if not isinstance(last, Fail | Skip | DeadLetter):
        msg = f"retry ends with fail(), skip() or dead_letter(), not {last!r}"  # type: ignore[unreachable]
        raise ConfigError(msg)
    return Retry(attempts, backoff_ms, last)


def policy_of(text: str) -> ErrorPolicy:
    """The policy that is written ``fail``, ``skip``, ``dead-letter[:TOPIC]`` or ``retry:ATTEMPTS[:then]``.

    Raises:
        ConfigError: It is none of these.
    """
    name, _, rest = text.partition(":")
    if name in ("fail", "skip") and not rest:
        return Fail() if name == "fail" else Skip()
    if name == "dead-letter":
        return DeadLetter(rest or None)
    if name == "retry":
        attempts, colon, then = rest.partition(":")
        last = policy_of(then) if colon else Fail()
        if attempts.isdecimal() and not isinstance(last, Retry):
            return retry(int(attempts), then=last)
    msg = f'"{text}" is no error policy: use fail, skip, dead-letter:TOPIC, retry:ATTEMPTS or retry:ATTEMPTS:skip'
    raise ConfigError(msg)


def what_is_wrong(given: object) -> str | None:
    """Why something cannot be used as ``on_error=``; None if it can."""
    makers = (fail, skip, dead_letter, retry)
    if isinstance(given, ErrorPolicy) or (callable(given) and given not in makers and not isinstance(given, type)):
        return None
    return f"{given!r} is no error policy: use fail(), skip(), dead_letter(topic), retry(attempts), or a function"


def topic_of(policy: OnError) -> DeadLetter | None:
    """The dead letters that a policy writes; None if it writes none, or is a function, of which nobody knows."""
    last = policy.then if isinstance(policy, Retry) else policy
    return last if isinstance(last, DeadLetter) else None
