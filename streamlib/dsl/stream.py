"""`KStream`: records one after the other, and `BranchedKStream`, its branches.

Next: `flow`, where a stream stands; `grouped` and `table`, what becomes of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Generic, Literal, TypeVar, Unpack, overload

from streamlib.dsl.flow import Flow, Partitioner, as_table, repartition_step, repartitioned
from streamlib.dsl.graph import Step
from streamlib.dsl.grouped import KGroupedStream
from streamlib.dsl.joins import Join, join_global_table, join_table
from streamlib.dsl.options import Materialized, NewValues, StoreOptions, ValueOptions
from streamlib.dsl.table import GlobalKTable, KTable
from streamlib.serdes.base import Serde
from streamlib.topology.nodes import (
    Branch,
    Filter,
    FlatMap,
    FlatMapValues,
    ForEach,
    MapRows,
    MapValues,
    PassThrough,
    Peek,
    SelectKey,
    Sink,
)

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
VR = TypeVar("VR")
VT = TypeVar("VT")


class KStream(Generic[K, V]):
    """A stream of records with keys and values; made by `StreamsBuilder.stream`.

    Operations do nothing but add nodes to the builder's topology, and give the stream after them. User functions get
    keys and values as they are and must not change them in place. An operation that makes new keys or values takes
    their serde (``key_serde=``, ``value_serde=``): without one the builder's default is used, or, if the builder has
    none, the serde from before.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._repartition: Step | None = None

    def filter(self, predicate: Callable[[K, V], object], *, name: str | None = None) -> "KStream[K, V]":
        """The records for which ``predicate(key, value)`` holds."""
        node_name = self._flow.graph.name(name, "KSTREAM-FILTER-")
        return KStream(self._flow.then(Filter(name=node_name, predicate=predicate)))

    def filter_not(self, predicate: Callable[[K, V], object], *, name: str | None = None) -> "KStream[K, V]":
        """The records for which ``predicate(key, value)`` does not hold."""
        node_name = self._flow.graph.name(name, "KSTREAM-FILTER-")
        return KStream(self._flow.then(Filter(name=node_name, predicate=predicate, negate=True)))

    def map(
        self,
        mapper: Callable[[K, V], tuple[KR, VR]],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
    ) -> "KStream[KR, VR]":
        """The ``(key, value)`` that ``mapper(key, value)`` gives for each record.

        Later grouping and joining repartitions; use `map_values` where the key stays.
        """
        node = MapRows(name=self._flow.graph.name(name, "KSTREAM-MAP-"), mapper=mapper)
        return KStream(self._flow.rekeyed_by(node, key_serde, value_serde))

    @overload
    def map_values(
        self, mapper: Callable[[V], VR], *, with_key: Literal[False] = False, **options: Unpack[NewValues[VR]]
    ) -> "KStream[K, VR]": ...
    @overload
    def map_values(
        self, mapper: Callable[[K, V], VR], *, with_key: Literal[True], **options: Unpack[NewValues[VR]]
    ) -> "KStream[K, VR]": ...
    def map_values(
        self, mapper: Callable[..., Any], *, with_key: bool = False, **options: Unpack[NewValues[Any]]
    ) -> "KStream[K, Any]":
        """The same keys with ``mapper(value)``, or ``mapper(key, value)``."""
        given = ValueOptions(**options)
        node_name = self._flow.graph.name(given.name, "KSTREAM-MAPVALUES-")
        node = MapValues(name=node_name, mapper=mapper, with_key=with_key)
        return KStream(self._flow.then(node, value_serde=self._flow.new_value_serde(given.value_serde, node_name)))

    def flat_map(
        self,
        mapper: Callable[[K, V], Iterable[tuple[KR, VR]]],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
    ) -> "KStream[KR, VR]":
        """All ``(key, value)`` pairs that ``mapper(key, value)`` gives, in their order.

        Later grouping and joining repartitions; use `flat_map_values` where the key stays.
        """
        node = FlatMap(name=self._flow.graph.name(name, "KSTREAM-FLATMAP-"), mapper=mapper)
        return KStream(self._flow.rekeyed_by(node, key_serde, value_serde))

    @overload
    def flat_map_values(
        self, mapper: Callable[[V], Iterable[VR]], *, with_key: Literal[False] = False, **options: Unpack[NewValues[VR]]
    ) -> "KStream[K, VR]": ...
    @overload
    def flat_map_values(
        self, mapper: Callable[[K, V], Iterable[VR]], *, with_key: Literal[True], **options: Unpack[NewValues[VR]]
    ) -> "KStream[K, VR]": ...
    def flat_map_values(
        self, mapper: Callable[..., Iterable[Any]], *, with_key: bool = False, **options: Unpack[NewValues[Any]]
    ) -> "KStream[K, Any]":
        """The key with each of the values that ``mapper(value)``, or ``mapper(key, value)``, gives."""
        given = ValueOptions(**options)
        node_name = self._flow.graph.name(given.name, "KSTREAM-FLATMAPVALUES-")
        node = FlatMapValues(name=node_name, mapper=mapper, with_key=with_key)
        return KStream(self._flow.then(node, value_serde=self._flow.new_value_serde(given.value_serde, node_name)))

    def select_key(
        self, mapper: Callable[[K, V], KR], *, name: str | None = None, key_serde: Serde[KR] | None = None
    ) -> "KStream[KR, V]":
        """The same values under the key ``mapper(key, value)``; later grouping and joining repartitions."""
        node = SelectKey(name=self._flow.graph.name(name, "KSTREAM-KEY-SELECT-"), mapper=mapper)
        serde = self._flow.new_key_serde(key_serde, node.name)
        return KStream(self._flow.then(node, key_serde=serde, rekeyed=True))

    def peek(self, action: Callable[[K, V], object], *, name: str | None = None) -> "KStream[K, V]":
        """The same records, after ``action(key, value)`` has seen them."""
        node_name = self._flow.graph.name(name, "KSTREAM-PEEK-")
        return KStream(self._flow.then(Peek(name=node_name, action=action)))

    def for_each(self, action: Callable[[K, V], object], *, name: str | None = None) -> None:
        """Nothing: ``action(key, value)`` is called for each record, and the stream ends here.

        An action may see a record again after a failure, also under exactly-once.
        """
        node_name = self._flow.graph.name(name, "KSTREAM-FOREACH-")
        self._flow.then(ForEach(name=node_name, action=action))

    def merge(self, other: "KStream[K, V]", *, name: str | None = None) -> "KStream[K, V]":
        """The records of both streams, each in its order; there is no order between the two."""
        step = Step([PassThrough(name=self._flow.graph.name(name, "KSTREAM-MERGE-"))])
        return KStream(self._flow.merged_with(other._flow, step))

    def split(self, *, name: str | None = None) -> "BranchedKStream[K, V]":
        """A splitter: each record goes to the first of its branches whose predicate holds."""
        return BranchedKStream(self._flow, self._flow.graph.name(name, "KSTREAM-BRANCH-"))

    def repartition(
        self,
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        partitions: int | None = None,
        partitioner: Partitioner | None = None,
    ) -> "KStream[K, V]":
        """The same records after a way through an internal topic, which puts equal keys into one partition.

        Args:
            name: Of the topic, without ``-repartition``.
            key_serde: Of the topic's keys, if not that of the stream.
            value_serde: Of the topic's values, likewise.
            partitions: How many the topic has; by default as many as the topics the stream comes from.
            partitioner: Chooses partitions instead of the key's hash.

        Source: KIP-221.
        """
        flow = self._flow.with_serdes(key_serde, value_serde, "repartition")
        return KStream(repartitioned(flow, name, partitions, partitioner))

    def to(
        self,
        topic: str | Callable[[K, V], str],
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        partitioner: Partitioner | None = None,
    ) -> None:
        """Nothing: the records are written to a topic, and the stream ends here.

        Args:
            topic: Its name, or ``topic(key, value)`` that names one for each record. It must exist.
            name: Of the sink.
            key_serde: How keys are written, if not as the stream's serde does.
            value_serde: Likewise for values.
            partitioner: Chooses partitions instead of the key's hash.
        """
        flow = self._flow.with_serdes(key_serde, value_serde, "to")
        node_name = flow.graph.name(name, "KSTREAM-SINK-")
        sink = Sink(name=node_name, topic=None, key_serde=flow.key_serde, value_serde=flow.value_serde)
        if callable(topic):
            flow.then(replace(sink, topic_fn=topic, partitioner=partitioner))
        else:
            flow.graph.check_name(topic, "the topic name")
            flow.then(replace(sink, topic=topic, partitioner=partitioner))

    def to_table(
        self,
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[K, V]:
        """A table of the latest value for each key; records without a key are dropped and counted.

        State: A store if it is named, or once an operation needs the table's rows.
        """
        options, flow = StoreOptions(**materialized), self._flow.with_serdes(key_serde, value_serde, "to_table")
        return KTable(as_table(flow, name, options), options.store_name)

    def group_by(
        self,
        key_selector: Callable[[K, V], KR],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[V] | None = None,
    ) -> KGroupedStream[KR, V]:
        """The records under the key ``key_selector(key, value)``, to be aggregated; they are repartitioned first.

        Args:
            key_selector: Gives the new key.
            name: Of the node, and of the repartition topic without ``-repartition``.
            key_serde: Of the new keys.
            value_serde: Of the values in the repartition topic, if not that of the stream.
        """
        node = SelectKey(name=self._flow.graph.name(name, "KSTREAM-KEY-SELECT-"), mapper=key_selector)
        serde = self._flow.new_key_serde(key_serde, node.name)
        flow = self._flow.then(node, key_serde=serde, rekeyed=True)
        return KGroupedStream(flow.with_serdes(None, value_serde, "group_by"), name)

    def group_by_key(
        self, *, name: str | None = None, key_serde: Serde[K] | None = None, value_serde: Serde[V] | None = None
    ) -> KGroupedStream[K, V]:
        """The records, to be aggregated by their key; they are repartitioned first if keys may have changed.

        Args:
            name: Of the repartition topic, without ``-repartition``.
            key_serde: Of the keys in the repartition topic and the store, if not that of the stream.
            value_serde: Of the values in the repartition topic, likewise.
        """
        if name is not None:
            self._flow.graph.check_name(name, "the name")
        return KGroupedStream(self._flow.with_serdes(key_serde, value_serde, "group_by_key"), name)

    @overload
    def join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[V, VT], VR],
        *,
        with_key: Literal[False] = False,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[K, V, VT], VR],
        *,
        with_key: Literal[True],
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        table: GlobalKTable[KR, VT],
        joiner: Callable[[V, VT], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[False] = False,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def join(
        self,
        table: GlobalKTable[KR, VT],
        joiner: Callable[[K, V, VT], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[True],
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    def join(
        self,
        table: KTable[K, Any] | GlobalKTable[Any, Any],
        joiner: Callable[..., Any],
        *,
        key_selector: Callable[[K, V], Any] | None = None,
        with_key: bool = False,
        **options: Unpack[NewValues[Any]],
    ) -> "KStream[K, Any]":
        """Each record with the table's current value for its key: ``joiner(value, table value)``.

        A record without a match is left out. Only records of the stream make results, not updates of the table.

        Args:
            table: A table with the same keys (the stream is repartitioned first if its keys may have changed; both
                sides need equal partition counts), or a global table.
            joiner: With ``with_key`` it is called with the stream's key first.
            key_selector: For a global table: ``key_selector(key, value)`` gives the table's key.
            with_key: See ``joiner``.
            options: ``name`` (also that of the repartition topic, without ``-repartition``) and ``value_serde``.
        """
        return KStream(self._join(table, Join(joiner, False, with_key, ValueOptions(**options)), key_selector))

    @overload
    def left_join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[V, VT | None], VR],
        *,
        with_key: Literal[False] = False,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[K, V, VT | None], VR],
        *,
        with_key: Literal[True],
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        table: GlobalKTable[KR, VT],
        joiner: Callable[[V, VT | None], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[False] = False,
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    @overload
    def left_join(
        self,
        table: GlobalKTable[KR, VT],
        joiner: Callable[[K, V, VT | None], VR],
        *,
        key_selector: Callable[[K, V], KR],
        with_key: Literal[True],
        **options: Unpack[NewValues[VR]],
    ) -> "KStream[K, VR]": ...
    def left_join(
        self,
        table: KTable[K, Any] | GlobalKTable[Any, Any],
        joiner: Callable[..., Any],
        *,
        key_selector: Callable[[K, V], Any] | None = None,
        with_key: bool = False,
        **options: Unpack[NewValues[Any]],
    ) -> "KStream[K, Any]":
        """Each record with the table's current value for its key, or with None where there is none.

        As `join` otherwise; records without a key come out too.
        """
        return KStream(self._join(table, Join(joiner, True, with_key, ValueOptions(**options)), key_selector))

    def _join(
        self, table: KTable[K, Any] | GlobalKTable[Any, Any], join: Join, key_selector: Callable[[K, V], Any] | None
    ) -> Flow:
        if isinstance(table, GlobalKTable):
            return join_global_table(self._flow, table._graph, table._store, join, key_selector)
        if not isinstance(table, KTable):
            msg = f"a stream can be joined with a KTable or a GlobalKTable, got {table!r}"  # type: ignore[unreachable]
            self._flow.graph.problems.append(msg)
            return self._flow
        if key_selector is not None:
            self._flow.graph.problems.append("a join with a table is by key: leave out key_selector, use select_key")
        return join_table(self._partitioned(join.options.name), table._flow, join)

    def _partitioned(self, name: str | None) -> Flow:
        """The stream, repartitioned if its keys may have changed: once for all joins without a name."""
        if not self._flow.rekeyed:
            return self._flow
        step = repartition_step(self._flow, name or self._flow.step.output)
        if self._repartition is None or name is not None:
            self._repartition = step
            self._flow.graph.add(step, self._flow.step)
        return self._flow.behind(self._repartition)


class BranchedKStream(Generic[K, V]):
    """The branches of a stream, made by `KStream.split`: a record goes into the first whose predicate holds."""

    def __init__(self, flow: Flow, name: str) -> None:
        self._flow = flow
        self._splitter = Step([Branch(name=name, predicates=(), targets=())])
        self._flow.graph.add(self._splitter, flow.step)
        self._branches: dict[str, KStream[K, V]] = {}

    def branch(self, predicate: Callable[[K, V], object], *, name: str | None = None) -> "BranchedKStream[K, V]":
        """The same splitter with one more branch, for records that no branch before has taken.

        Its name is that of the splitter followed by ``name``, or by the number of the branch, counted from 1.
        """
        splitter = self._node
        target = self._add(name or str(len(splitter.predicates) + 1))
        self._splitter.change(predicates=(*splitter.predicates, predicate), targets=(*splitter.targets, target))
        return self

    def default_branch(self, *, name: str | None = None) -> dict[str, KStream[K, V]]:
        """All branches by name, and one more, named like the splitter and ``name`` or 0, for all other records."""
        self._splitter.change(default=self._add(name or "0"))
        return self._branches

    def no_default_branch(self) -> dict[str, KStream[K, V]]:
        """All branches by name; other records are left out."""
        return self._branches

    @property
    def _node(self) -> Branch:
        (node,) = self._splitter.nodes
        assert isinstance(node, Branch)
        return node

    def _add(self, suffix: str) -> str:
        graph, name = self._flow.graph, f"{self._node.name}{suffix}"
        graph.check_name(name, "the name")
        graph.names.node("")
        step = Step([PassThrough(name=name)])
        graph.add(step, self._splitter)
        self._branches[name] = KStream(self._flow.after(step))
        return name
