"""The records of global tables' topics become rows, the same in workers and in the driver of tests.

Next: `global_tables`, which reads the topics.
"""

from collections.abc import Mapping

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.metrics import Metrics
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.global_processors import GlobalProcessors
from streamlib.runtime.record_queue import decodes
from streamlib.state.base import StateStore
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Source
from streamlib.topology.topology import Topology


class GlobalUpdates:
    """Applies records to global stores.

    Args:
        topology: The plan.
        config: What to do with a record that cannot be decoded.
        metrics: Counters.
        stores: The opened stores by name; filled before `begin`.
        clock: For the processors of stores that have one.

    Attributes:
        specs: The stores by the topics that feed them.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig,
        metrics: Metrics,
        stores: Mapping[str, StateStore],
        clock: Clock,
    ) -> None:
        self.specs: dict[str, StoreSpec] = {
            topology.stores[name].source_topic or "": topology.stores[name]
            for subtopology in topology.subtopologies
            if subtopology.is_global
            for name in subtopology.stores
        }
        self._sources = {
            topic: node.name
            for node in topology.nodes.values()
            if isinstance(node, Source)
            for topic in node.topics
            if topic in self.specs
        }
        self._metrics = metrics
        self._stores = stores
        self._processors = GlobalProcessors(topology, config, metrics, stores, clock)

    def begin(self) -> None:
        """Get ready: the stores are open, nothing was applied yet.

        Raises:
            ProcessingError: A processor could not begin.
        """
        self._processors.begin()

    def close(self) -> None:
        """Close what fills the stores."""
        self._processors.close()

    def update(self, tp: TopicPartition, batch: FetchedBatch) -> StateStore:
        """Apply a batch; returns the store it went to.

        Raises:
            DeserializationError, ProcessingError: A row does not decode or its processor fails, and the policy is to
                fail.
        """
        store = self._stores[self.specs[tp.topic].name]
        if tp.topic in self._processors.topics:
            self._processors.update(tp, batch)
            return store
        rows = self._valid_rows(tp, batch)
        store.restore(
            [batch.keys[row] for row in rows],
            [batch.values[row] for row in rows],
            [batch.timestamps[row] for row in rows],
        )
        return store

    def _valid_rows(self, tp: TopicPartition, batch: FetchedBatch) -> list[int]:
        """Rows with a key, that decode; the others are counted."""
        spec = self.specs[tp.topic]
        rows = [row for row, key in enumerate(batch.keys) if key is not None]
        if len(rows) < len(batch):
            self._metrics.dropped(spec.name, "null-key", len(batch) - len(rows))
        try:
            spec.key_serde.deserialize_many([batch.keys[row] for row in rows])
            spec.value_serde.deserialize_many([batch.values[row] for row in rows])
        except Exception:  # the slow path finds the row
            serdes, source = (spec.key_serde, spec.value_serde), self._sources[tp.topic]
            rows = [row for row in rows if decodes(batch, row, serdes, source, tp, self._processors.errors)]
        return rows
