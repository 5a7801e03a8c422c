"""What user code writes and gets in the Processor API: processors, the records they take, the context they work in.

A processor is made by its supplier, one for each task, so it may keep what it likes in its own attributes; what must
survive a restart belongs in a store. Nothing of a task runs beside it.

Source: processor.api.Processor, FixedKeyProcessor, ProcessorContext, ProcessorSupplier, ConnectedStoreProvider.
Next: `processor_nodes`, which hold suppliers; `operators/processor`, which runs processors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from streamlib.record import FixedKeyRecord, Record

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
KR = TypeVar("KR")
VR = TypeVar("VR")
KOut_contra = TypeVar("KOut_contra", contravariant=True)
VOut_contra = TypeVar("VOut_contra", contravariant=True)


class PunctuationType(Enum):
    """Which clock drives a schedule."""

    STREAM_TIME = "stream time"
    WALL_CLOCK_TIME = "wall-clock time"


class RecordMetadata(NamedTuple):
    """Where a record was read."""

    topic: str
    partition: int
    offset: int


class Cancellable(Protocol):
    """A schedule that can be ended."""

    def cancel(self) -> None:
        """Never call the punctuator again; calling this twice does nothing."""


Punctuator = Callable[[int], object]
"""Called with the time of the punctuation in ms: the stream time, or the wall clock's."""


class KeyTimers(Protocol[T_contra]):
    """One timer for each key; see `ProcessorContext.key_timers`."""

    def set(self, key: T_contra, at_ms: int) -> None:
        """Have the timer of a key fire once it is as late as ``at_ms``, and no more at the time it was set to before.

        A time that has come already fires as soon as the record at hand is processed. In ``on_timer`` take a later one
        than now, or it fires again and again.
        """

    def cancel(self, key: T_contra) -> bool:
        """Take the timer of a key away; whether it had one."""

    def get(self, key: T_contra) -> int | None:
        """When the timer of a key fires; None when it has none."""


class _Context(Protocol):
    """What both contexts offer."""

    @property
    def application_id(self) -> str:
        """Of the application."""

    @property
    def task_id(self) -> str:
        """Of the task, e.g. ``0_3``: sub-topology and partition."""

    @property
    def record_metadata(self) -> RecordMetadata | None:
        """Where the record at hand was read; None in punctuators, in ``init``, and for results of a cache's flush."""

    @property
    def current_stream_time_ms(self) -> int:
        """Highest timestamp of the records that the task has taken up to the one at hand, -1 before the first."""

    @property
    def current_system_time_ms(self) -> int:
        """The wall clock, in ms since the epoch."""

    @property
    def app_configs(self) -> Mapping[str, Any]:
        """The worker's settings by name."""

    def get_state_store(self, name: str) -> Any:
        """A store of this processor, by the type it was built with; a global store can only be read.

        A table's store is a `TimestampedKeyValueStore`, or the windowed one.

        Raises:
            StateStoreError: The store does not exist, or was not connected with this processor.
        """

    def schedule(self, interval: timedelta, kind: PunctuationType, punctuator: Punctuator) -> Cancellable:
        """Call ``punctuator`` again and again; also from ``process``.

        Stream time: first as soon as the task has a record, then when its time passes the multiples of the interval.
        Wall clock: first when the interval has passed. Intervals that were missed altogether are skipped.

        Args:
            interval: At least 1 ms.
            kind: Which clock.
            punctuator: Gets the time, and may forward.

        Raises:
            ValueError: An interval below 1 ms.
        """

    def key_timers(self, store: str, kind: PunctuationType, on_timer: Callable[[T, int], object]) -> "KeyTimers[T]":
        """Timers by key, each of which calls ``on_timer(key, at_ms)`` once; to be called in ``init``, once for a store.

        They are kept in the store with its changelog: what was set and has not fired yet does so after a restart, late
        if need be. Several that are due fire in the order of their times, then of their keys. ``on_timer`` is called
        between two records, like a punctuator: what it writes and forwards is committed with the timer being gone. In
        a topology with such timers records are processed one at a time, so that a timer fires right after the record
        that makes it due.

        Args:
            store: A store of this processor, made with `Stores.key_timers`.
            kind: Whether the times are stream time, of the task, or the wall clock's.
            on_timer: Gets the key and the time the timer was set to.

        Raises:
            StateStoreError: The processor has no such store.
        """

    def commit(self) -> None:
        """Ask for a commit soon; the record at hand will be part of it."""


class ProcessorContext(_Context, Protocol[KOut_contra, VOut_contra]):
    """What a `Processor` works in; valid from its ``init`` to its ``close``."""

    def forward(self, record: Record[KOut_contra, VOut_contra], to: str | None = None) -> None:
        """Send a record on.

        Args:
            record: Its timestamp and headers go along.
            to: Name of the one child that gets it; None for all, in the order they were connected.

        Raises:
            StateStoreError, ProcessingError: What came of it further down.
            ValueError: There is no such child.
        """


class FixedKeyProcessorContext(_Context, Protocol[KOut_contra, VOut_contra]):
    """What a `FixedKeyProcessor` works in; valid from its ``init`` to its ``close``."""

    def forward(self, record: FixedKeyRecord[KOut_contra, VOut_contra], to: str | None = None) -> None:
        """Send a record on, made from the record at hand.

        Args:
            record: Its timestamp and headers go along.
            to: Name of the one child that gets it; None for all, in the order they were connected.

        Raises:
            ValueError: It has another key, or there is no record at hand, as in a punctuator.
        """


class Processor(ABC, Generic[K, V, KR, VR]):
    """User code that takes records one by one and forwards any number of others.

    Attributes:
        context: Set by `init`.
    """

    context: ProcessorContext[KR, VR]

    def init(self, context: ProcessorContext[KR, VR]) -> None:
        """Begin: the stores are complete, and no record was processed yet. Get stores and make schedules here."""
        self.context = context

    @abstractmethod
    def process(self, record: Record[K, V]) -> None:
        """Take one record. What it raises is treated by the policy for processing errors."""

    def close(self) -> None:
        """End: the task goes away, or goes on with a new processor after uncommitted work was dropped."""


class FixedKeyProcessor(ABC, Generic[K, V, VR]):
    """User code that takes records one by one and forwards others with the same key.

    Attributes:
        context: Set by `init`.
    """

    context: FixedKeyProcessorContext[K, VR]

    def init(self, context: FixedKeyProcessorContext[K, VR]) -> None:
        """Begin: the stores are complete, and no record was processed yet. Get stores and make schedules here."""
        self.context = context

    @abstractmethod
    def process(self, record: FixedKeyRecord[K, V]) -> None:
        """Take one record. What it raises is treated by the policy for processing errors."""

    def close(self) -> None:
        """End: the task goes away, or goes on with a new processor after uncommitted work was dropped."""


class ValueTransformerWithKey(ABC, Generic[K, V, VR]):
    """User code that makes the values of a table from those of another.

    Attributes:
        context: Set by `init`; nothing can be forwarded.
    """

    context: FixedKeyProcessorContext[K, VR]

    def init(self, context: FixedKeyProcessorContext[K, VR]) -> None:
        """Begin: the stores are complete, and no update was taken yet."""
        self.context = context

    @abstractmethod
    def transform(self, key: K, value: V | None) -> VR | None:
        """The new value for a key, None for none; also called for deletions and, without a store, for old values."""

    def close(self) -> None:
        """End: the task goes away, or goes on with a new transformer after uncommitted work was dropped."""


ProcessorSupplier = Callable[[], Processor[K, V, KR, VR]]
"""Gives a new processor at each call: the class itself will often do.

It may have an attribute ``stores``, a function that gives the stores to connect and to add to the topology.
"""

FixedKeyProcessorSupplier = Callable[[], FixedKeyProcessor[K, V, VR]]
"""The same for processors that keep the key."""


ValueTransformerWithKeySupplier = Callable[[], ValueTransformerWithKey[K, V, VR]]
"""The same for transformers of a table's values."""


def gives_one_object(supplier: Callable[[], object]) -> bool:
    """Whether a supplier gives the same object each time; calls it twice. What it raises comes when a task begins.

    Source: ApiUtils.checkSupplier.
    """
    with suppress(Exception):
        return supplier() is supplier()
    return False


def one_object(node: str) -> str:
    """What to say of such a supplier."""
    return (
        f'the supplier of "{node}" gives the same object each time: it must make a new one for each task, '
        "e.g. be the class itself"
    )


def stores_of(supplier: object) -> tuple[Any, ...]:
    """The stores that a supplier brings with it."""
    stores: Callable[[], Iterable[Any] | None] | None = getattr(supplier, "stores", None)
    return () if stores is None else tuple(stores() or ())
