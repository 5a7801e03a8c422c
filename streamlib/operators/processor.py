"""Runs user code of the Processor API: one record at a time goes in, what it forwards goes on in batches.

Everything a processor can ask for is that of the record at hand, also when records come in batches: time, headers,
offset, stream time. What it forwards leaves when the batch is done, or at once where a node further down writes a store
that it reads. Punctuators are called by the task between two records; their results have no offset and no headers but
those they are given.

A processor is made anew for each task, and again after uncommitted work was dropped, since what it kept beside its
stores may be of that work.

Source: ProcessorNode, StreamTask.punctuate. Next: `node_context`, what a processor asks; `runtime/punctuation`, its
schedules.
"""

import logging
from itertools import repeat
from typing import Any

from streamlib.errors import ProcessingError
from streamlib.operators.node_context import NO_RECORD, NOT_THE_USERS, NodeContext
from streamlib.operators.outbox import Outbox, never_meet
from streamlib.operators.store_access import StoreAccess
from streamlib.operators.wiring import Wiring
from streamlib.record import FixedKeyRecord, Record, RecordBatch
from streamlib.topology.interference import nodes_below
from streamlib.topology.processor_api import Punctuator
from streamlib.topology.processor_nodes import ProcessorNode

log = logging.getLogger(__name__)


class ProcessorOperator:
    """One processor of one task.

    Args:
        node: Which one.
        wiring: Its surroundings.
    """

    def __init__(self, node: ProcessorNode, wiring: Wiring) -> None:
        topology, context = wiring.topology, wiring.context
        self._node = node
        self._context = context
        self._errors = context.errors
        self._record: type[Record[Any, Any]] | type[FixedKeyRecord[Any, Any]]
        self._record = FixedKeyRecord if node.fixed_key else Record
        self._outbox = Outbox(
            wiring.forward,
            wiring.forward_to,
            frozenset(child.name for child in topology.children(node.name)),
            apart=never_meet(topology, node.name),
            eager=any(set(node.stores) & set(each.stores) for each in nodes_below(topology, node.name).values()),
        )
        self._access = StoreAccess(topology, wiring.stores, wiring.tables, node.name, node.stores)
        self._processor: Any = None
        self._at: NodeContext | None = None

    def init(self) -> None:
        """Make a processor and let it begin; one that was there is closed.

        Raises:
            ProcessingError: The supplier, or the processor's ``init``, raised.
        """
        self.close()
        self._outbox.clear()
        node = self._node
        at = NodeContext(node.name, self._context, self._access, self._outbox, fixed_key=node.fixed_key)
        at.punctuate = self._punctuate
        at.timestamp = max(self._context.stream_time, 0)
        try:
            self._processor = node.supplier()
            self._processor.init(at)
        except NOT_THE_USERS:
            raise
        except Exception as error:
            msg = f"the processor could not begin, {error!r}: task={self._context.task_id} node={node.name}"
            raise ProcessingError(msg) from error
        self._at = at
        self._outbox.send()

    def process(self, batch: RecordBatch) -> None:
        """Give the processor each record."""
        at, make, process, outbox = self._at, self._record, self._processor.process, self._outbox
        assert at is not None, f"{self._node.name} was not initialized"
        offsets = repeat(None, len(batch)) if batch.offsets is None else batch.offsets
        headers: Any = repeat((), len(batch)) if batch.headers is None else batch.headers
        for key, value, timestamp, offset, each in zip(
            batch.keys, batch.values, batch.timestamps, offsets, headers, strict=True
        ):
            at.key, at.timestamp, at.offset = key, timestamp, offset
            try:
                process(make(key, value, timestamp, each))
            except NOT_THE_USERS:
                raise
            except Exception as error:
                self._errors.failed(error, self._node.name, key, value, timestamp, offset)
        at.key = NO_RECORD
        at.offset = None
        outbox.send()

    def close(self) -> None:
        """Close the processor. What it raises is logged: the task goes away all the same."""
        processor, self._processor, self._at = self._processor, None, None
        if processor is not None:
            try:
                processor.close()
            except Exception as error:
                log.warning("a processor could not be closed: node=%s: %r", self._node.name, error)

    def _punctuate(self, punctuator: Punctuator, now: int) -> None:
        """Call a punctuator between two records."""
        at, outbox = self._at, self._outbox
        if at is None:  # cancelled by the end of the processor, while others were called
            return
        at.key, at.timestamp, at.offset = NO_RECORD, now, None
        try:
            punctuator(now)
        except NOT_THE_USERS:
            raise
        except Exception as error:
            self._errors.failed(error, self._node.name, None, None, now, None)
        outbox.send()


def processor(node: ProcessorNode, wiring: Wiring) -> ProcessorOperator:
    """The operator of a processor."""
    return ProcessorOperator(node, wiring)
