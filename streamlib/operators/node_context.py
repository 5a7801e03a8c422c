"""The context of user code of the Processor API: what it may ask for, of the record at hand.

Source: ProcessorContextImpl. Next: `outbox`, where forwarded records go; `store_access`, for stores.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from functools import cached_property
from typing import Any

from streamlib.errors import ProcessingError, StateStoreError, TransportError
from streamlib.operators.base import OperatorContext
from streamlib.operators.key_timers import StoredKeyTimers
from streamlib.operators.outbox import AnyRecord, Outbox
from streamlib.operators.store_access import StoreAccess
from streamlib.topology.processor_api import Cancellable, PunctuationType, Punctuator, RecordMetadata
from streamlib.topology.windows import to_ms

NOT_THE_USERS = (ProcessingError, StateStoreError, TransportError)
"""What may come out of user code without being its fault: no policy for user functions applies."""

NO_RECORD: Any = object()


class NodeContext:
    """The context of one processor; implements `ProcessorContext` and `FixedKeyProcessorContext`.

    Args:
        node: Name of the node.
        context: What the task offers.
        access: The stores it may use.
        outbox: Where forwarded records go.
        fixed_key: Whether only records with the key of the one at hand may be forwarded.

    Attributes:
        timestamp: Of the record at hand, or of the punctuation: what is written to stores is logged at this time.
        offset: Of the record at hand; None without one.
        key: Of the record at hand.
        punctuate: Calls a punctuator; set by the operator.
    """

    punctuate: Callable[[Punctuator, int], None]

    def __init__(
        self, node: str, context: OperatorContext, access: StoreAccess, outbox: Outbox, *, fixed_key: bool
    ) -> None:
        self.timestamp = 0
        self.offset: int | None = None
        self.key: Any = NO_RECORD
        self._node = node
        self._context = context
        self._access = access
        self._outbox = outbox
        self._fixed_key = fixed_key
        self._stores: dict[str, Any] = {}

    @property
    def application_id(self) -> str:
        """Of the application."""
        return self._context.config.application_id

    @property
    def task_id(self) -> str:
        """Of the task."""
        return str(self._context.task_id)

    @property
    def record_metadata(self) -> RecordMetadata | None:
        """Where the record at hand was read."""
        tp, offset = self._context.tp, self.offset
        return None if tp is None or offset is None else RecordMetadata(tp.topic, tp.partition, offset)

    @property
    def current_stream_time_ms(self) -> int:
        """Highest timestamp that the task has taken, up to the record at hand."""
        return self._context.stream_time_at(self.offset)

    @property
    def current_system_time_ms(self) -> int:
        """The wall clock."""
        return self._context.clock.time_ms()

    @cached_property
    def app_configs(self) -> Mapping[str, Any]:
        """The worker's settings by name."""
        config = self._context.config
        return {entry.name: getattr(config, entry.name) for entry in fields(config)}

    def get_state_store(self, name: str) -> Any:
        """A store the processor may use, the same object each time. Raises as `StoreAccess.get`."""
        if name not in self._stores:
            self._stores[name] = self._access.get(name, self)
        return self._stores[name]

    def schedule(self, interval: timedelta, kind: PunctuationType, punctuator: Punctuator) -> Cancellable:
        """Call a punctuator at each interval."""
        interval_ms = to_ms(interval)
        if interval_ms < 1:
            msg = f'"{self._node}" schedules a punctuator every {interval!r}: the least is 1 ms'
            raise ValueError(msg)
        return self._context.timers.schedule(interval_ms, kind, lambda now: self.punctuate(punctuator, now))

    def key_timers(self, store: str, kind: PunctuationType, on_timer: Callable[[Any, int], object]) -> StoredKeyTimers:
        """Timers by key, and what they call. Raises as `StoreAccess.get`."""
        spec = self._access.spec(store)
        if not spec.key_timers:
            msg = f'"{self._node}" keeps timers in the store "{store}", which is made for others: use Stores.key_timers'
            raise StateStoreError(msg)
        timers = self._context.timers

        def schedule_at(at_ms: int, punctuator: Punctuator) -> Cancellable:
            return timers.schedule_at(at_ms, kind, lambda now: self.punctuate(punctuator, now))

        return StoredKeyTimers(self.get_state_store(store), spec.key_serde, schedule_at, on_timer)

    def commit(self) -> None:
        """Ask for a commit soon."""
        self._context.request_commit()

    def forward(self, record: AnyRecord, to: str | None = None) -> None:
        """Send a record on."""
        if self._fixed_key and record.key is not self.key and record.key != self.key:
            if self.key is NO_RECORD:
                msg = "a FixedKeyProcessor can forward only while it processes a record: a punctuator has no key"
                raise ValueError(msg)
            msg = f"a FixedKeyProcessor must keep the key {self.key!r}, not make it {record.key!r}: use process"
            raise ValueError(msg)
        self._outbox.add(record, self.offset, to)
