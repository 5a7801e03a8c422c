"""Where inputs begin that have no committed offset. Source: StreamThread.resetOffsets. Next: `restore`, which asks."""

from collections.abc import Mapping
from datetime import timedelta

from streamlib.errors import ConfigError
from streamlib.offset_reset import OffsetReset
from streamlib.record import TopicPartition
from streamlib.transport.base import Admin

_MILLISECOND = timedelta(milliseconds=1)


async def starting_offsets(
    resets: Mapping[TopicPartition, OffsetReset],
    admin: Admin,
    now_ms: int,
    first: Mapping[TopicPartition, int],
    end: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The offset at which each input begins.

    Args:
        resets: What was asked for, for each input without a committed offset.
        admin: Looks offsets up by time.
        now_ms: The wall clock, from which durations are counted back.
        first: The first offset of each input.
        end: The offset after its last record: where one begins that has no record as late as asked for.

    Raises:
        ConfigError: An input may only go on from a committed offset.
    """
    starts: dict[TopicPartition, int] = {}
    by_time: dict[timedelta, list[TopicPartition]] = {}
    for tp, reset in resets.items():
        if isinstance(reset, timedelta):
            by_time.setdefault(reset, []).append(tp)
        elif reset == "none":
            msg = (
                f"no offset is committed, and offset_reset is none: topic={tp.topic} partition={tp.partition}. Say "
                "where to start with auto_offset_reset or offset_reset, or commit offsets with streamlib reset."
            )
            raise ConfigError(msg)
        else:
            starts[tp] = first[tp] if reset == "earliest" else end[tp]
    for back, tps in by_time.items():
        starts.update(await admin.offsets_for_time(tps, max(now_ms - back // _MILLISECOND, 0)))
    return starts
