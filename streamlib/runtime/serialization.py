"""The bytes of what a sink writes: by column; only a column that fails is gone through row by row.

Next: `record_collector`, which spreads them over partitions.
"""

from typing import Any

from streamlib.errors import SerdeError
from streamlib.operators.base import ErrorHandler
from streamlib.operators.selection import picked
from streamlib.record import RecordBatch
from streamlib.serdes.base import AnySerde
from streamlib.topology.nodes import Sink

Bytes = list[bytes | None]


def serialized(sink: Sink, batch: RecordBatch, errors: ErrorHandler | None) -> tuple[RecordBatch, Bytes, Bytes]:
    """The rows that can be written, and the bytes of their keys and values.

    Raises:
        SerdeError: A value does not fit its serde, and nobody decides about that or the policy is to fail; names the
            node, the offset and the type of the first one.
    """
    try:
        return batch, sink.key_serde.serialize_many(batch.keys), sink.value_serde.serialize_many(batch.values)
    except Exception as error:  # a serde may raise anything
        fitting = [row for row in range(len(batch)) if _fits(sink, batch, row, errors)]
        if len(fitting) == len(batch):
            msg = f"the serdes of a sink failed for a batch, but for none of its rows: node={sink.name}: {error}"
            raise SerdeError(msg) from error
    rest = picked(batch, fitting)
    return rest, sink.key_serde.serialize_many(rest.keys), sink.value_serde.serialize_many(rest.values)


def _fits(sink: Sink, batch: RecordBatch, row: int, errors: ErrorHandler | None) -> bool:
    parts: tuple[tuple[str, AnySerde, Any], ...] = (
        ("key", sink.key_serde, batch.keys[row]),
        ("value", sink.value_serde, batch.values[row]),
    )
    for part, serde, value in parts:
        try:
            if value is not None:
                serde.serialize(value)
        except Exception as cause:
            offset = "unknown" if batch.offsets is None else batch.offsets[row]
            error = SerdeError(
                f"the {part} serde {serde.name} cannot write a {type(value).__name__}: {cause}: "
                f"node={sink.name} topic={sink.topic} input offset={offset}. "
                f"Give .to() the {part}_serde that fits, or map the {part} before it."
            )
            error.__cause__ = cause
            if errors is None:
                raise error from cause
            errors.refused(error, sink.name, batch, row)
            return False
    return True
