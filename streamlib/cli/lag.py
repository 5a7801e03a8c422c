"""``streamlib lag GROUP``: how far a group is behind. Next: `reset`, which moves it."""

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from streamlib.cli.connection import BrokerOptions, administering
from streamlib.cli.options import argument, command, option
from streamlib.cli.output import say_json, say_table

if TYPE_CHECKING:
    from streamlib.transport.base import Admin


@dataclass(frozen=True)
class PartitionLag:
    """One partition: what the group committed, where the log ends, and the records between."""

    topic: str
    partition: int
    committed: int
    end: int

    @property
    def lag(self) -> int:
        """Records not yet processed; transaction markers count as records, as they do in Kafka's tools."""
        return max(0, self.end - self.committed)


@command
async def lag(
    group: Annotated[str, argument("GROUP", help="The consumer group: a worker's application id.")],
    broker: BrokerOptions,
    as_json: Annotated[bool, option("--json", scope="lag", help="For programs.")] = False,
) -> None:
    """Show how many records a group has yet to process."""
    async with administering(broker) as admin:
        lags = await read_lags(admin, group)
    total = sum(each.lag for each in lags)
    rows = [(each.topic, each.partition, each.committed, each.end, each.lag) for each in lags]
    columns = ["topic", "partition", "committed", "end", "lag"]
    if as_json:
        partitions = [dict(zip(columns, row, strict=True)) for row in rows]
        say_json({"group": group, "lag": total, "partitions": partitions})
    else:
        say_table(columns, rows, footer=["total", "", "", "", total])


async def read_lags(admin: "Admin", group: str) -> list[PartitionLag]:
    """The lag of each partition with a committed offset, in order; topics deleted since then are left out.

    Raises:
        TransportError: The group has never committed anything; the nearest name is told.
    """
    from streamlib.errors import TransportError

    committed = await admin.group_offsets(group)
    if not committed:
        names = await admin.groups()
        nearest = difflib.get_close_matches(group, names, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest and nearest[0] != group else " See: streamlib groups"
        msg = f"the group {group} has committed nothing.{'' if group in names else ' There is no such group.'}{hint}"
        raise TransportError(msg)
    existing = await admin.partition_counts({tp.topic for tp in committed})
    tps = sorted(tp for tp in committed if tp.partition < existing.get(tp.topic, 0))
    ends = await admin.end_offsets(tps)
    return [PartitionLag(tp.topic, tp.partition, committed[tp].offset, ends[tp]) for tp in tps]
