"""`KStream`: records one after the other.

Next: `flow`, where a stream stands; `stream_joins`, its joins; `stream_calls`, asynchronous functions; `branched`,
`grouped` and `table`, what becomes of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack, overload

from streamlib.dsl.branched import BranchedKStream
from streamlib.dsl.deduplicate import Deduplication, deduplicated
from streamlib.dsl.flow import as_table, repartitioned
from streamlib.dsl.graph import Step
from streamlib.dsl.grouped import KGroupedStream
from streamlib.dsl.options import Materialized, NewValues, StoreOptions, ValueOptions
from streamlib.dsl.printing import Printer
from streamlib.dsl.processing import processed, values_processed
from streamlib.dsl.stream_calls import StreamCalls
from streamlib.dsl.stream_joins import StreamJoins
from streamlib.dsl.table import KTable
from streamlib.error_policies import OnError
from streamlib.serdes.base import Serde
from streamlib.topology.nodes import (
    Filter,
    FlatMap,
    FlatMapValues,
    ForEach,
    MapRows,
    MapValues,
    Partitioner,
    PassThrough,
    Peek,
    SelectKey,
    Sink,
)
from streamlib.topology.processor_api import FixedKeyProcessorSupplier, ProcessorSupplier
from streamlib.topology.topic_names import TopicNameExtractor

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
VR = TypeVar("VR")


class KStream(StreamJoins[K, V], StreamCalls[K, V]):
    """A stream of records with keys and values; made by `StreamsBuilder.stream`.

    Operations do nothing but add nodes to the builder's topology, and give the stream after them. User functions get
    keys and values as they are and must not change them in place. An operation that makes new keys or values takes
    their serde (``key_serde=``, ``value_serde=``): without one the builder's default is used, or, if the builder has
    none, the serde from before. Where a function is given, ``on_error=`` says what happens to a record for which it
    raises: see `streamlib.error_policies`.
    """

    def filter(
        self, predicate: Callable[[K, V], object], *, name: str | None = None, on_error: OnError | None = None
    ) -> "KStream[K, V]":
        """The records for which ``predicate(key, value)`` holds."""
        node_name = self._flow.graph.name(name, "KSTREAM-FILTER-")
        return KStream(self._flow.then(Filter(name=node_name, predicate=predicate, on_error=on_error)))

    def filter_not(
        self, predicate: Callable[[K, V], object], *, name: str | None = None, on_error: OnError | None = None
    ) -> "KStream[K, V]":
        """The records for which ``predicate(key, value)`` does not hold."""
        node_name = self._flow.graph.name(name, "KSTREAM-FILTER-")
        node = Filter(name=node_name, predicate=predicate, negate=True, on_error=on_error)
        return KStream(self._flow.then(node))

    def map(
        self,
        mapper: Callable[[K, V], tuple[KR, VR]],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
        on_error: OnError | None = None,
    ) -> "KStream[KR, VR]":
        """The ``(key, value)`` that ``mapper(key, value)`` gives for each record.

        Later grouping and joining repartitions; use `map_values` where the key stays.
        """
        node = MapRows(name=self._flow.graph.name(name, "KSTREAM-MAP-"), mapper=mapper, on_error=on_error)
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
        node = MapValues(name=node_name, mapper=mapper, with_key=with_key, on_error=given.on_error)
        return KStream(self._flow.then(node, value_serde=self._flow.new_value_serde(given.value_serde, node_name)))

    def flat_map(
        self,
        mapper: Callable[[K, V], Iterable[tuple[KR, VR]]],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
        on_error: OnError | None = None,
    ) -> "KStream[KR, VR]":
        """All ``(key, value)`` pairs that ``mapper(key, value)`` gives, in their order.

        Later grouping and joining repartitions; use `flat_map_values` where the key stays.
        """
        node = FlatMap(name=self._flow.graph.name(name, "KSTREAM-FLATMAP-"), mapper=mapper, on_error=on_error)
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
        node = FlatMapValues(name=node_name, mapper=mapper, with_key=with_key, on_error=given.on_error)
        return KStream(self._flow.then(node, value_serde=self._flow.new_value_serde(given.value_serde, node_name)))

    def select_key(
        self,
        mapper: Callable[[K, V], KR],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        on_error: OnError | None = None,
    ) -> "KStream[KR, V]":
        """The same values under the key ``mapper(key, value)``; later grouping and joining repartitions."""
        node_name = self._flow.graph.name(name, "KSTREAM-KEY-SELECT-")
        node = SelectKey(name=node_name, mapper=mapper, on_error=on_error)
        serde = self._flow.new_key_serde(key_serde, node.name)
        return KStream(self._flow.then(node, key_serde=serde, rekeyed=True))

    def peek(
        self, action: Callable[[K, V], object], *, name: str | None = None, on_error: OnError | None = None
    ) -> "KStream[K, V]":
        """The same records, after ``action(key, value)`` has seen them."""
        node_name = self._flow.graph.name(name, "KSTREAM-PEEK-")
        return KStream(self._flow.then(Peek(name=node_name, action=action, on_error=on_error)))

    def print(
        self,
        path: str | Path | None = None,
        *,
        label: str | None = None,
        mapper: Callable[[K, V], object] | None = None,
        name: str | None = None,
        on_error: OnError | None = None,
    ) -> None:
        """Nothing: each record is written as a line ``[label]: key, value``, and the stream ends here.

        Args:
            path: A file that lines are added to, by all tasks; standard output without one.
            label: What lines begin with; the name of the node before without one.
            mapper: ``mapper(key, value)`` makes what follows the label.
            name: Of the node.
            on_error: What happens to a record that cannot be written; see `NewValues`.

        Source: Printed.
        """
        node_name = self._flow.graph.name(name, "KSTREAM-PRINTER-")
        printer = Printer(path, self._flow.step.output if label is None else label, mapper)
        self._flow.then(ForEach(name=node_name, action=printer, on_error=on_error))

    def for_each(
        self, action: Callable[[K, V], object], *, name: str | None = None, on_error: OnError | None = None
    ) -> None:
        """Nothing: ``action(key, value)`` is called for each record, and the stream ends here.

        An action may see a record again after a failure, also under exactly-once.
        """
        node_name = self._flow.graph.name(name, "KSTREAM-FOREACH-")
        self._flow.then(ForEach(name=node_name, action=action, on_error=on_error))

    def merge(self, other: "KStream[K, V]", *, name: str | None = None) -> "KStream[K, V]":
        """The records of both streams, each in its order; there is no order between the two."""
        step = Step([PassThrough(name=self._flow.graph.name(name, "KSTREAM-MERGE-"))], merges=True)
        return KStream(self._flow.merged_with(other._flow, step))

    def split(self, *, name: str | None = None, on_error: OnError | None = None) -> "BranchedKStream[K, V]":
        """A splitter: each record goes to the first of its branches whose predicate holds."""
        return BranchedKStream(self._flow, self._flow.graph.name(name, "KSTREAM-BRANCH-"), on_error)

    def deduplicate(
        self,
        within: timedelta,
        *,
        key: Callable[[K, V], KR] | None = None,
        id_serde: Serde[KR] | None = None,
        name: str | None = None,
        store: str | None = None,
        in_memory: bool | None = None,
        on_error: OnError | None = None,
    ) -> "KStream[K, V]":
        """The first record of each id; those of the same id that come later are left out if they are near in time.

        That is so if their timestamp is at most ``within`` away, on either side, from that of one that has passed: a
        record that was left out does not prolong the time. They are counted as dropped, with the reason ``duplicate``;
        records whose key or id is None with ``null-key``. Ids are compared within a partition, so records of one id
        must have equal keys; they are repartitioned first if keys may have changed.

        Args:
            within: How far apart two records of one id may be, at least 1 ms.
            key: ``key(key, value)`` gives the id; without it the id is the key.
            id_serde: Of the ids that ``key`` gives, if it is neither the builder's default nor that of the keys.
            name: Of the node, and of the repartition topic without ``-repartition``.
            store: Name of the store.
            in_memory: Whether ids are kept in memory instead of RocksDB.
            on_error: What happens to a record for which ``key`` raises; see `NewValues`.

        Time: Records may be out of order by ``within``; of older ones a duplicate may pass.
        State: A window store of ids with a changelog; they expire with stream time, after twice ``within``.
        Source: KIP-655.
        """
        options = StoreOptions(store=store or False, in_memory=in_memory)
        return KStream(deduplicated(self._flow, Deduplication(within, key, id_serde, name, options, on_error)))

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
            partitioner: ``(key, value, number of partitions)`` to the partition, instead of the key's hash; to several
                of them, to none, which drops and counts the record, or to None for the key's hash.

        Source: KIP-221.
        """
        flow = self._flow.with_serdes(key_serde, value_serde, "repartition")
        return KStream(repartitioned(flow, name, partitions, partitioner))

    def to(
        self,
        topic: str | TopicNameExtractor[K, V],
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        partitioner: Partitioner | None = None,
        on_error: OnError | None = None,
    ) -> None:
        """Nothing: the records are written to a topic, and the stream ends here.

        Args:
            topic: Its name, or a function that names one for each record: ``topic(key, value)``, or
                ``topic(key, value, context)`` if it takes a third argument, a `RecordContext`. It must exist.
            name: Of the sink.
            key_serde: How keys are written, if not as the stream's serde does.
            value_serde: Likewise for values.
            partitioner: ``(key, value, number of partitions)`` to the partition, instead of the key's hash; to several
                of them, to none, which drops and counts the record, or to None for the key's hash.
            on_error: What happens to a record that the serdes refuse, or that is too large: one of
                `streamlib.error_policies`, or a function that is asked. Without it, what the setting
                ``production_exception_handler`` says.
        """
        flow = self._flow.with_serdes(key_serde, value_serde, "to")
        node_name = flow.graph.name(name, "KSTREAM-SINK-")
        sink = Sink(
            name=node_name, topic=None, key_serde=flow.key_serde, value_serde=flow.value_serde, on_error=on_error
        )
        if callable(topic):
            sink = replace(sink, topic_fn=topic, with_context=flow.graph.takes_context(topic, node_name))
        else:
            flow.graph.check_name(topic, "the topic name")
            sink = replace(sink, topic=topic)
        flow.then(replace(sink, partitioner=partitioner))

    def process(
        self,
        supplier: ProcessorSupplier[K, V, KR, VR],
        *stores: str,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
        on_error: OnError | None = None,
    ) -> "KStream[KR, VR]":
        """What a `Processor` forwards; later grouping and joining repartitions, since it may change keys.

        Args:
            supplier: Gives a new processor for each task; often the class itself. See `ProcessorSupplier`.
            stores: Names of stores it uses beside those the supplier brings: a table's, or one of `add_state_store`.
            name: Of the node.
            key_serde: Of the keys it forwards.
            value_serde: Of the values it forwards.
            on_error: What happens to a record for which it raises, or one of its punctuators; see `NewValues`.

        Source: KStream.process, KIP-820.
        """
        options = ValueOptions(name, value_serde, on_error)
        return KStream(processed(self._flow, supplier, stores, options, key_serde))

    def process_values(
        self, supplier: FixedKeyProcessorSupplier[K, V, VR], *stores: str, **options: Unpack[NewValues[VR]]
    ) -> "KStream[K, VR]":
        """What a `FixedKeyProcessor` forwards: the keys stay, and nothing is repartitioned.

        Args:
            supplier: Gives a new processor for each task; often the class itself.
            stores: Names of stores it uses beside those the supplier brings.
            options: ``name`` of the node, ``value_serde`` of the values it forwards.

        Source: KStream.processValues, KIP-820.
        """
        return KStream(values_processed(self._flow, supplier, stores, ValueOptions(**options)))

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
        on_error: OnError | None = None,
    ) -> KGroupedStream[KR, V]:
        """The records under the key ``key_selector(key, value)``, to be aggregated; they are repartitioned first.

        Args:
            key_selector: Gives the new key.
            name: Of the node, and of the repartition topic without ``-repartition``.
            key_serde: Of the new keys.
            value_serde: Of the values in the repartition topic, if not that of the stream.
            on_error: What happens to a record for which ``key_selector`` raises; see `NewValues`.
        """
        node_name = self._flow.graph.name(name, "KSTREAM-KEY-SELECT-")
        node = SelectKey(name=node_name, mapper=key_selector, on_error=on_error)
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
