"""Until when a table holds its updates back, and how much it may hold. Next: `suppress_nodes`, which keep it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, Self

from streamlib.topology.windows import to_ms


@dataclass(frozen=True)
class BufferConfig:
    """The bounds of a buffer; made by `max_records`, `max_bytes` and `unbounded`.

    Attributes:
        records_max: How many keys it may hold; None for any number.
        bytes_max: How much memory it may take, by an estimate that is Java's: keys, values, headers and topic names as
            bytes, and 28 for each row; None for any amount.
        logging: Whether it has a changelog topic; without one, what it holds is lost with the worker's disk.
        topic_configs: Settings of that topic.

    Source: Suppressed.BufferConfig (KIP-328).
    """

    records_max: int | None = None
    bytes_max: int | None = None
    logging: bool = True
    topic_configs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, bound in (("records", self.records_max), ("bytes", self.bytes_max)):
            if bound is not None and (type(bound) is not int or bound < 0):
                msg = f"a buffer holds at most so many {what}: an int that is not negative, not {bound!r}"
                raise ValueError(msg)

    @staticmethod
    def max_records(count: int) -> "EagerBufferConfig":
        """A buffer of at most ``count`` keys; when it is full, the oldest updates come out early.

        Raises:
            ValueError: The bound is no int, or negative.
        """
        return EagerBufferConfig(records_max=count)

    @staticmethod
    def max_bytes(count: int) -> "EagerBufferConfig":
        """A buffer of at most ``count`` bytes; when it is full, the oldest updates come out early.

        Raises:
            ValueError: The bound is no int, or negative.
        """
        return EagerBufferConfig(bytes_max=count)

    @staticmethod
    def unbounded() -> "StrictBufferConfig":
        """A buffer that grows as it must."""
        return StrictBufferConfig()

    def with_max_records(self, count: int) -> Self:
        """The same with at most ``count`` keys."""
        return replace(self, records_max=count)

    def with_max_bytes(self, count: int) -> Self:
        """The same with at most ``count`` bytes."""
        return replace(self, bytes_max=count)

    def with_no_bound(self) -> "StrictBufferConfig":
        """The same, but growing as it must."""
        return StrictBufferConfig(**(_settings(self) | {"records_max": None, "bytes_max": None}))

    def emit_early_when_full(self) -> "EagerBufferConfig":
        """The same; when it is full, the oldest updates come out early, which is no good for final results."""
        return EagerBufferConfig(**_settings(self))

    def shut_down_when_full(self) -> "StrictBufferConfig":
        """The same; when it is full, the worker stops with a `BufferFullError`."""
        return StrictBufferConfig(**_settings(self))

    def with_logging_disabled(self) -> Self:
        """The same without a changelog topic."""
        return replace(self, logging=False, topic_configs={})

    def with_logging_enabled(self, topic_configs: Mapping[str, str] | None = None) -> Self:
        """The same with a changelog topic (the default).

        Args:
            topic_configs: Settings of the topic.
        """
        return replace(self, logging=True, topic_configs=dict(topic_configs or {}))


@dataclass(frozen=True)
class EagerBufferConfig(BufferConfig):
    """A buffer that lets the oldest updates go when it is full."""


@dataclass(frozen=True)
class StrictBufferConfig(BufferConfig):
    """A buffer that lets nothing go early: it has no bound, or stops the worker when it is full."""


@dataclass(frozen=True)
class Suppressed:
    """When a suppressed table lets an update go; made by `until_window_closes` and `until_time_limit`.

    Attributes:
        wait_ms: How long an update waits for others of its key; None: until its window is closed.
        buffer: The bounds of what waits.

    Source: Suppressed (KIP-328).
    """

    wait_ms: int | None
    buffer: BufferConfig

    @classmethod
    def until_window_closes(cls, buffer: StrictBufferConfig) -> "Suppressed":
        """One result for each window, once no record can change it any more: its end and the grace have passed.

        Time is that of the updates: while no record comes, no window closes.

        Args:
            buffer: Unbounded, or one that shuts down when full, since a result that came early would not be final.

        Raises:
            TypeError: The buffer emits early when it is full.
        """
        if not isinstance(buffer, StrictBufferConfig):
            msg = (  # type: ignore[unreachable]
                f"a final result cannot come early, so until_window_closes needs a strict buffer, not {buffer!r}: "
                "use BufferConfig.unbounded(), or add .shut_down_when_full()"
            )
            raise TypeError(msg)
        return cls(None, buffer)

    @classmethod
    def until_time_limit(cls, limit: timedelta, buffer: BufferConfig) -> "Suppressed":
        """At most one update for each key and time limit; each waits from the first one on that was held back.

        Args:
            limit: How long; zero lets every update through.
            buffer: What may wait.

        Raises:
            TypeError: ``limit`` is no timedelta, or ``buffer`` no `BufferConfig`.
            ValueError: ``limit`` is negative.
        """
        wait_ms = to_ms(limit)
        if wait_ms < 0:
            msg = f"the time limit of a suppression cannot be negative: {limit!r}"
            raise ValueError(msg)
        if not isinstance(buffer, BufferConfig):
            msg = f"a suppression needs a BufferConfig, e.g. BufferConfig.unbounded(), not {buffer!r}"  # type: ignore[unreachable]
            raise TypeError(msg)
        return cls(wait_ms, buffer)


def _settings(config: BufferConfig) -> dict[str, Any]:
    return {entry.name: getattr(config, entry.name) for entry in fields(config)}
