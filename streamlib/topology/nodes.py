"""The logical plan's nodes: one frozen dataclass for each kind of processor, named as in the Java library.

A node knows names, user functions, serdes and stores; never bytes, clocks or I/O. `dsl` makes nodes, `describe` prints
them, `runtime/lowering` alone maps a node type to its operator. Next: `topology`, which holds them together.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from streamlib.error_policies import OnError
from streamlib.offset_reset import OffsetReset
from streamlib.serdes.base import AnySerde
from streamlib.topology.windows import EmitStrategy, FixedWindows

TimestampExtractor = Callable[[Any, Any, int, int], int]
"""(key, value, record timestamp, highest timestamp seen in the partition or -1) to the event time in ms.

A negative result drops the record and counts it.
"""

Partitioner = Callable[[Any, Any, int], int | Collection[int] | None]
"""(key, value, number of partitions) to where a record goes.

A partition; several of them, each of which gets the record; none at all, ``()``, which drops and counts it; or None,
which leaves the choice to the producer. Source: StreamPartitioner, KIP-837.
"""


class ColumnPartitioner(ABC):
    """A `Partitioner` of streamlib's own, which sees the values alone and is asked about many at once."""

    @abstractmethod
    def partitions(self, values: list[Any]) -> list[int | None]:
        """Where the record of each value goes; must not raise."""

    def __call__(self, _key: Any, value: Any, _partitions: int, /) -> int | None:
        """The same for one record."""
        return self.partitions([value])[0]


AggregateKind = Literal["count", "reduce", "aggregate"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A processor of the topology.

    Attributes:
        name: Unique; also the name in metrics, errors and describe().
        parents: Names of the nodes that feed it, in the order they were connected.
        stores: Names of the stores it reads or writes, as describe() lists them.
        on_error: What happens to a record that fails here; None: what the worker's settings say.
    """

    name: str
    parents: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    on_error: OnError | None = None


@dataclass(frozen=True, kw_only=True)
class Source(Node):
    """Reads topics, or all topics whose whole names match a pattern.

    Internal (repartition) topics are named without the application id. The topics that match a pattern are known only
    where there is a broker: `patterns.resolved` fills them in.
    """

    topics: tuple[str, ...]
    key_serde: AnySerde
    value_serde: AnySerde
    timestamp_extractor: TimestampExtractor | None = None  # None: the record's timestamp; a negative one is an error
    offset_reset: OffsetReset | None = None  # None: as the worker says
    pattern: re.Pattern[str] | None = None

    @property
    def subscription(self) -> str:
        """What it reads, as describe() writes it."""
        return f"[{', '.join(self.topics)}]" if self.pattern is None else self.pattern.pattern


@dataclass(frozen=True, kw_only=True)
class Sink(Node):
    """Writes to a topic, or to the topic that ``topic_fn(key, value)`` names for each record.

    Attributes:
        with_context: ``topic_fn(key, value, record context)``.
    """

    topic: str | None
    topic_fn: Callable[..., str] | None = None
    with_context: bool = False
    key_serde: AnySerde
    value_serde: AnySerde
    partitioner: Partitioner | None = None


@dataclass(frozen=True, kw_only=True)
class Filter(Node):
    """Keeps rows for which the predicate holds (or does not, with ``negate``)."""

    predicate: Callable[[Any, Any], Any]
    negate: bool = False


@dataclass(frozen=True, kw_only=True)
class RepartitionFilter(Node):
    """Before a repartition sink: leaves out null keys, uncounted as in the Java library, unless they are needed."""

    keep_null_keys: bool = False


@dataclass(frozen=True, kw_only=True)
class MapRows(Node):
    """``mapper(key, value)`` gives a new (key, value)."""

    mapper: Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class MapValues(Node):
    """``mapper(value)`` (or ``mapper(key, value)``) gives a new value."""

    mapper: Callable[..., Any]
    with_key: bool = False


@dataclass(frozen=True, kw_only=True)
class FlatMap(Node):
    """``mapper(key, value)`` gives any number of (key, value) pairs."""

    mapper: Callable[[Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class FlatMapValues(Node):
    """``mapper(value)`` (or ``mapper(key, value)``) gives any number of values."""

    mapper: Callable[..., Any]
    with_key: bool = False


@dataclass(frozen=True, kw_only=True)
class SelectKey(Node):
    """``mapper(key, value)`` gives a new key."""

    mapper: Callable[[Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Peek(Node):
    """Calls ``action(key, value)`` and passes the row on."""

    action: Callable[[Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class ForEach(Node):
    """Calls ``action(key, value)``; nothing comes out."""

    action: Callable[[Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Branch(Node):
    """Sends a row to the first of its children whose predicate holds, else to ``default``, else nowhere.

    ``targets[i]`` is the name of the child for ``predicates[i]``.
    """

    predicates: tuple[Callable[[Any, Any], Any], ...]
    targets: tuple[str, ...]
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class PassThrough(Node):
    """Passes rows on: a merge of several parents, or one branch of a split."""


@dataclass(frozen=True, kw_only=True)
class TableSource(Node):
    """Turns a stream into table updates: of a topic, of `to_table`, or of a global table (its store is global).

    Null keys are dropped and counted. ``stores`` is empty when nobody needs the table's rows.
    """

    store: str | None = None
    send_old: bool = False


@dataclass(frozen=True, kw_only=True)
class TableFilter(Node):
    """A table's filter; a row that no longer passes becomes a deletion.

    Attributes:
        of_versions: The table above is versioned: no deletion is left out then.
        all_latest: Updates are passed on as if each were the latest.
    """

    predicate: Callable[[Any, Any], Any]
    negate: bool = False
    store: str | None = None
    send_old: bool = False
    of_versions: bool = False
    all_latest: bool = False


@dataclass(frozen=True, kw_only=True)
class TableMapValues(Node):
    """A table's map_values; ``all_latest`` as in `TableFilter`."""

    mapper: Callable[..., Any]
    with_key: bool = False
    store: str | None = None
    send_old: bool = False
    all_latest: bool = False


@dataclass(frozen=True, kw_only=True)
class TableToStream(Node):
    """A table's updates as records: the new values, old ones forgotten."""


@dataclass(frozen=True, kw_only=True)
class TableGroupBy(Node):
    """Maps both sides of an update to new (key, value) pairs, for the repartition topic of a table aggregation.

    Rows are ``Change`` values: one row with new and old when both map to the same key (KIP-904), else the removal of
    the old one first, then the addition of the new one.
    """

    mapper: Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class StreamAggregate(Node):
    """count, reduce or aggregate of a grouped stream.

    ``count`` needs no functions; ``reduce`` has ``aggregator(aggregate, value)``; ``aggregate`` has ``initializer()``
    and ``aggregator(key, value, aggregate)``.
    """

    kind: AggregateKind
    store: str
    initializer: Callable[[], Any] | None = None
    aggregator: Callable[..., Any] | None = None
    send_old: bool = False


@dataclass(frozen=True, kw_only=True)
class WindowAggregate(Node):
    """The same per key and window; keys become `Windowed`.

    Attributes:
        late: Name of the child that is given the records that are late, and nothing else; None: they are only counted.
        idle_ms: After so much wall-clock time without records windows close all the same; 0: never; None: as the worker
            says.
    """

    windows: FixedWindows
    emit: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE
    kind: AggregateKind
    store: str
    initializer: Callable[[], Any] | None = None
    aggregator: Callable[..., Any] | None = None
    send_old: bool = False
    late: str | None = None
    idle_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class TableAggregate(Node):
    """count, reduce or aggregate of a grouped table: ``subtractor`` takes old values out before ``adder`` adds.

    Functions as in `StreamAggregate`: ``adder(aggregate, value)`` for reduce, ``adder(key, value, aggregate)`` else.
    """

    kind: AggregateKind
    store: str
    initializer: Callable[[], Any] | None = None
    adder: Callable[..., Any] | None = None
    subtractor: Callable[..., Any] | None = None
    send_old: bool = False


@dataclass(frozen=True, kw_only=True)
class StreamTableJoin(Node):
    """Each stream row with the table's current value for its key; ``joiner(left, right)``.

    Attributes:
        table: Name of the table's node; when that has no store, its rows are computed from the nearest one above it.
        left: Whether rows without a match come out with None on the right.
        with_key: ``joiner(key, left, right)``.
        grace_ms: Stream rows wait for so long, by stream time, before they meet the table as of their time; None: they
            do not wait.
        buffer: The store in which they wait.
    """

    table: str
    joiner: Callable[..., Any]
    left: bool = False
    with_key: bool = False
    grace_ms: int | None = None
    buffer: str | None = None


@dataclass(frozen=True, kw_only=True)
class StreamGlobalTableJoin(Node):
    """Each stream row with the global table's value for ``key_selector(key, value)``."""

    store: str
    key_selector: Callable[[Any, Any], Any]
    joiner: Callable[..., Any]
    left: bool = False
    with_key: bool = False
