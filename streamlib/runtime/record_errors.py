"""Carries out what is to happen to a record that failed: the policy of its node, or the worker's for such errors.

A policy either lets the caller go on without the record, which is counted then, or raises. Nothing here is on the way
of records that do not fail. As in Kafka Streams a record is left out at the node where it failed: what nodes before it
have stored or sent of it stays.

Source: ProcessorNode.process, RecordDeserializer, RecordCollectorImpl. Next: `task_errors`, which tells what failed.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.dead_letters import letter_headers
from streamlib.error_policies import (
    DeadLetter,
    ErrorContext,
    ErrorPolicy,
    Fail,
    OnError,
    Retry,
    topic_of,
    what_is_wrong,
)
from streamlib.errors import ConfigError, ProcessingError, RetryLaterError, StreamlibError, TooManyErrorsError
from streamlib.metrics import Metrics
from streamlib.record import Headers
from streamlib.runtime.breaker import Breaker
from streamlib.runtime.rarely import Rarely
from streamlib.topology.nodes import Node

log = logging.getLogger(__name__)

FORGOTTEN_SECONDS = 600.0  # after a record's last failure its attempts count from the beginning again
ATTEMPTS_MAX = 10_000


class Letters(Protocol):
    """Where dead letters are written; implemented by `record_collector.RecordCollector`."""

    def write_letter(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers
    ) -> None:
        """Write one, to that partition or, in a topic with fewer, to another one.

        Raises:
            MissingTopicError: The topic does not exist.
        """


class RecordErrors:
    """What happens to records that fail; one for all tasks of a worker.

    Args:
        config: The worker's policies.
        nodes: The plan's nodes by name, with policies of their own.
        letters: Where dead letters go; None where nothing can be written, as for global tables, which every worker
            reads: a record is only left out then.
        metrics: Counters.
        clock: Time.

    Attributes:
        breaker: Is told of all records.
    """

    def __init__(
        self,
        config: StreamsConfig,
        nodes: Mapping[str, Node],
        letters: Letters | None,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.breaker = Breaker(config.errors_max_share, clock)
        self._nodes = nodes
        self._letters = letters
        self._metrics = metrics
        self._clock = clock
        self._default_topic = config.errors_dead_letter_queue_topic_name
        self._policies: dict[str, OnError] = {
            "deserialization": config.deserialization_exception_handler,
            "processing": config.processing_exception_handler,
            "production": config.production_exception_handler,
        }
        self._attempts: dict[tuple[object, ...], tuple[int, float]] = {}
        self._decided: StreamlibError | None = None
        self._rarely = Rarely(clock)

    def handle(self, context: ErrorContext, error: Exception, fatal: Callable[[], StreamlibError]) -> None:
        """Return if the record is to be left out, which is counted; else raise.

        Args:
            context: What failed.
            error: Why.
            fatal: Makes what is raised if the worker is to stop.

        Raises:
            RetryLaterError: It is to be tried again.
            TooManyErrorsError: Too many were left out of late.
            StreamlibError: What ``fatal`` made; or the policy is a function that raised.
        """
        if error is self._decided:  # on its way up through user code
            raise error
        try:
            self._apply(context, error, fatal)
        except StreamlibError as decided:
            self._decided = decided
            raise

    def _apply(self, context: ErrorContext, error: Exception, fatal: Callable[[], StreamlibError]) -> None:
        key = (context.task_id, context.node, context.topic, context.partition, context.offset)
        attempt = self._attempts_of(key)
        policy = self._policy(replace(context, attempt=attempt), error)
        if isinstance(policy, Retry):
            if attempt < policy.attempts:
                self._attempts[key] = (attempt + 1, self._clock.monotonic())
                msg = f"a record is tried again, {attempt + 1} of {policy.attempts} times: {_told(context, error)}"
                raise RetryLaterError(msg, policy.backoff_ms) from error
            policy = policy.then
        if isinstance(policy, Fail):
            stop = fatal()
            if stop is error:
                raise stop
            raise stop from (stop.__cause__ or error)
        if isinstance(policy, DeadLetter) and self._letters is not None:
            self._bury(policy, self._letters, context, error)
        else:
            self._metrics.dropped(context.node, f"{context.kind}-error")
        if self._rarely.now():
            log.warning("a record was left out, and others may have been: %s", _told(context, error))
        if (found := self.breaker.failed()) is not None:
            self._trip(*found, _told(context, error))

    def _policy(self, context: ErrorContext, error: Exception) -> ErrorPolicy:
        node = self._nodes.get(context.node)
        given = self._policies[context.kind] if node is None or node.on_error is None else node.on_error
        if isinstance(given, ErrorPolicy):
            return given
        try:
            answer = given(context, error)
        except Exception as raised:
            msg = f"the error handler raised {raised!r}: task={context.task_id} node={context.node}"
            raise ProcessingError(msg) from raised
        if not isinstance(answer, ErrorPolicy):
            wrong = what_is_wrong(answer) or f"the error handler gave another one, {answer!r}"  # type: ignore[unreachable]
            msg = f"{wrong}: task={context.task_id} node={context.node}"
            raise ProcessingError(msg)
        return answer

    def _attempts_of(self, key: tuple[object, ...]) -> int:
        if not self._attempts:
            return 0
        oldest = self._clock.monotonic() - FORGOTTEN_SECONDS
        if len(self._attempts) > ATTEMPTS_MAX:
            self._attempts = {each: held for each, held in self._attempts.items() if held[1] > oldest}
        count, when = self._attempts.get(key, (0, 0.0))
        return count if when > oldest else 0

    def _bury(self, policy: DeadLetter, letters: Letters, context: ErrorContext, error: Exception) -> None:
        topic = policy.topic or self._default_topic
        if topic is None:
            msg = (
                f"dead_letter() without a topic needs the setting errors_dead_letter_queue_topic_name: "
                f"node={context.node}"
            )
            raise ConfigError(msg)
        headers = letter_headers(context, error)
        key, value = context.source_raw_key, context.source_raw_value
        letters.write_letter(topic, context.partition or 0, key, value, context.timestamp, headers)
        self._metrics.count("dead_letters_total", node=context.node, topic=topic, reason=f"{context.kind}-error")

    def _trip(self, failed: int, records: int, last: str) -> None:
        msg = (
            f"{failed} of {records} records of the last minute failed, more than errors_max_share="
            f"{self.breaker.max_share:g}. The last one: {last}. Find out why, or raise errors_max_share."
        )
        raise TooManyErrorsError(msg)


def _told(context: ErrorContext, error: Exception) -> str:
    """What failed and where, in one line."""
    where = "" if context.topic is None else f" topic={context.topic} partition={context.partition}"
    return f"{error!r}: task={context.task_id} node={context.node}{where} offset={context.offset}"


def dead_letter_topics(nodes: Mapping[str, Node], config: StreamsConfig) -> frozenset[str]:
    """The dead letter topics that are known before a record fails; functions may name others.

    Raises:
        ConfigError: A policy needs the setting ``errors_dead_letter_queue_topic_name``.
    """
    policies = [
        config.deserialization_exception_handler,
        config.processing_exception_handler,
        config.production_exception_handler,
        *(node.on_error for node in nodes.values() if node.on_error is not None),
    ]
    named = [letter.topic for policy in policies if (letter := topic_of(policy)) is not None]
    default = config.errors_dead_letter_queue_topic_name
    if None in named and default is None:
        msg = (
            "a dead_letter() without a topic needs the setting errors_dead_letter_queue_topic_name, "
            'e.g. --dead-letter-topic failed; or name the topic: dead_letter("failed")'
        )
        raise ConfigError(msg)
    return frozenset(topic for topic in [*named, default] if topic is not None)
