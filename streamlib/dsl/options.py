"""What Java passes as ``Consumed`` and ``Materialized``, here keyword arguments: their names, types and meaning.

A set of them can be kept and passed on: ``counts: Materialized = {"store": "counts", "caching": False}``, then
``grouped.count(**counts)``. Next: `graph`, which makes stores from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypedDict, TypeVar

from streamlib.error_policies import OnError
from streamlib.serdes.base import AnySerde, Serde
from streamlib.topology.nodes import TimestampExtractor

V = TypeVar("V")
GivenReset = str | timedelta
"""``earliest``, ``latest``, ``none``, ``by_duration:PT1H``, or a timedelta."""


class NewValues(TypedDict, Generic[V], total=False):
    """Options of operations that make new values.

    Attributes:
        name: Of the node.
        value_serde: Of the new values; without one the builder's default, or else the serde of the values before.
        on_error: What happens to a record for which a function raises: one of `streamlib.error_policies`, or a function
            that is asked. Without it, what the setting ``processing_exception_handler`` says.
    """

    name: str | None
    value_serde: Serde[V] | None
    on_error: OnError | None


class Consumed(TypedDict, total=False):
    """How a topic is read.

    Attributes:
        name: Of the source.
        timestamp_extractor: ``(key, value, record timestamp, highest timestamp so far)`` to the event time in ms; a
            negative result drops the record. Without one the record's timestamp is used, and a negative one fails.
        offset_reset: Where to start without a committed offset, instead of the worker's ``auto_offset_reset``:
            ``earliest``, ``latest``, a timedelta or ``by_duration:PT1H`` (at the first record that is not older, or at
            the end), or ``none``, with which the worker fails.
        on_error: What happens to a record whose bytes the serde refuses: one of `streamlib.error_policies`, or a
            function that is asked. Without it, what the setting ``deserialization_exception_handler`` says.
    """

    name: str | None
    timestamp_extractor: TimestampExtractor | None
    offset_reset: GivenReset | None
    on_error: OnError | None


class Materialized(TypedDict, total=False):
    """How a table is stored.

    Attributes:
        store: Name of the store, and the middle of its changelog's name. True asks for a store without naming it.
        caching: Whether updates are gathered until the next commit (the default).
        logging: Whether the store has a changelog topic (the default); without one its rows are on one machine only,
            and a task that moves begins without them.
        in_memory: Whether rows live in memory instead of RocksDB.
        retention: Windowed tables only: how long a window is kept, at least size + grace (the default).
        versioned: Named stores without windows only: keep versions, and for how long after they were replaced. Streams
            that are joined with the table meet the version of their record's time; updates may be out of order by as
            much, older ones are dropped and counted. Such a table is not cached.
        ttl: Named stores without windows or versions only: how long a row lives after its timestamp. It is deleted,
            in the changelog and downstream as well, at the first record after which the latest timestamp of the table
            is later than its own by that, or by up to a 64th of it more. Such a table is not cached.
        topic_configs: Settings of the changelog topic.
    """

    store: str | bool
    caching: bool
    logging: bool
    in_memory: bool
    retention: timedelta
    versioned: timedelta
    ttl: timedelta
    topic_configs: Mapping[str, str]


class MaterializedValues(NewValues[V], Materialized, Generic[V], total=False):
    """Options of table operations that make new values."""


class ConsumedMaterialized(Consumed, Materialized, total=False):
    """Both, for tables that are read from a topic."""


@dataclass(frozen=True)
class ValueOptions:
    """`NewValues` with its defaults."""

    name: str | None = None
    value_serde: AnySerde | None = None
    on_error: OnError | None = None


@dataclass(frozen=True)
class SourceOptions:
    """`Consumed` with its defaults."""

    name: str | None = None
    timestamp_extractor: TimestampExtractor | None = None
    offset_reset: GivenReset | None = None
    on_error: OnError | None = None


@dataclass(frozen=True)
class StoreOptions:
    """`Materialized` with its defaults."""

    store: str | bool = False
    caching: bool = True
    logging: bool = True
    in_memory: bool | None = None
    retention: timedelta | None = None
    versioned: timedelta | None = None
    ttl: timedelta | None = None
    topic_configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def store_name(self) -> str | None:
        """What the user called the store."""
        return None if isinstance(self.store, bool) else self.store

    @property
    def asked_for(self) -> bool:
        """Whether Java would be called with a ``Materialized``: that takes numbers from the counter of names."""
        return self != StoreOptions()


def source_and_store(options: ConsumedMaterialized) -> tuple[SourceOptions, StoreOptions]:
    """The options of a table's source, and those of its store.

    Raises:
        TypeError: An unknown option.
    """
    source = {name: value for name, value in options.items() if name in Consumed.__annotations__}
    store = {name: value for name, value in options.items() if name not in source}
    return SourceOptions(**source), StoreOptions(**store)  # type: ignore[arg-type]


def values_and_store(options: MaterializedValues[V]) -> tuple[ValueOptions, StoreOptions]:
    """The options of a table's new values, and those of its store.

    Raises:
        TypeError: An unknown option.
    """
    values = {name: value for name, value in options.items() if name in NewValues.__annotations__}
    store = {name: value for name, value in options.items() if name not in values}
    return ValueOptions(**values), StoreOptions(**store)  # type: ignore[arg-type]
