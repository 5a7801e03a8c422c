"""The string kept with a committed offset: the partition's time, so that stream time survives a restart.

Byte-equal to Kafka Streams' (TopicPartitionMetadata version 2): base64 of ``02 | partition time int64 | entries``.
"""

import base64
import binascii
import struct

_FIXED = struct.Struct(">bq")
_VERSION = 2


def encode_partition_time(partition_time_ms: int) -> str:
    """The metadata string for the highest timestamp seen in a partition (-1 when none was)."""
    return base64.b64encode(_FIXED.pack(_VERSION, partition_time_ms)).decode()


def decode_partition_time(metadata: str) -> int:
    """The partition time kept in a metadata string; -1 for one that Kafka Streams or streamlib did not write."""
    try:
        data = base64.b64decode(metadata, validate=True)
    except binascii.Error:
        return -1
    if len(data) < _FIXED.size or data[0] not in (1, _VERSION):
        return -1
    partition_time_ms: int = _FIXED.unpack_from(data)[1]
    return partition_time_ms
