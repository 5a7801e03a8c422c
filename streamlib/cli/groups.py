"""``streamlib groups``: the consumer groups of a broker; a worker's group is its application id. Next: `lag`."""

from collections.abc import Iterable
from typing import Annotated

from streamlib.cli.connection import BrokerOptions, administering
from streamlib.cli.options import command, option
from streamlib.cli.output import say, say_json, say_table


@command
async def groups(
    broker: BrokerOptions,
    as_json: Annotated[bool, option("--json", scope="groups", help="For programs; members with their hosts.")] = False,
) -> None:
    """List consumer groups with their state and members."""
    async with administering(broker) as admin:
        found = [await admin.describe_group(name) for name in sorted(await admin.groups())]
    if as_json:
        say_json([{"group": each.group_id, "state": each.state, "members": dict(each.members)} for each in found])
    elif found:
        rows = [(each.group_id, each.state, len(each.members), _hosts(each.members.values())) for each in found]
        say_table(["group", "state", "members", "hosts"], rows)
    else:
        say("there are no consumer groups")


def _hosts(hosts: Iterable[str]) -> str:
    return ", ".join(sorted(set(hosts)))
