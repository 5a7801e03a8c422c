"""``streamlib topics``: list, create and delete topics. Next: `groups`, who reads them."""

import difflib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from streamlib.cli.connection import BrokerFlags, BrokerOptions, administering
from streamlib.cli.options import argument, command, option
from streamlib.cli.output import say, say_json, say_table
from streamlib.cli.settings import pairs


@command
async def list_topics(
    broker: BrokerOptions,
    as_json: Annotated[bool, option("--json", scope="topics", help="For programs.")] = False,
) -> None:
    """List the topics and how many partitions each has."""
    async with administering(broker) as admin:
        counts = dict(sorted((await admin.partition_counts()).items()))
    if as_json:
        say_json([{"topic": topic, "partitions": partitions} for topic, partitions in counts.items()])
    elif counts:
        say_table(["topic", "partitions"], list(counts.items()))
    else:
        say("there are no topics")


@command
async def create(
    names: Annotated[list[str], argument("NAME...", help="Topics to create.")],
    broker: BrokerFlags,  # its --config would be another
    partitions: Annotated[int, option("--partitions", scope="topics", min=1, help="How many partitions.")] = 1,
    replication_factor: Annotated[
        int, option("--replication-factor", scope="topics", help="Copies of each partition; -1: the broker's default.")
    ] = -1,
    config: Annotated[
        list[str] | None,
        option("--config", scope="topics", metavar="NAME=VALUE", help="A setting of the topic; may be repeated."),
    ] = None,
) -> None:
    """Create topics."""
    from streamlib.errors import TransportError
    from streamlib.transport.base import TopicSpec

    configs = pairs("--config", ",".join(config or []))
    async with administering(broker) as admin:
        if existing := await admin.partition_counts(names):
            name, count = next(iter(existing.items()))
            msg = f"the topic {name} exists already, with {count} partitions; nothing was created"
            raise TransportError(msg)
        await admin.create_topics([TopicSpec(name, partitions, replication_factor, configs) for name in names])
    say(f"created {', '.join(names)} with {partitions} partitions")


@command
async def delete(
    names: Annotated[list[str], argument("NAME...", help="Topics to delete, with all their records.")],
    broker: BrokerOptions,
) -> None:
    """Delete topics and everything in them."""
    from streamlib.errors import MissingTopicError

    async with administering(broker) as admin:
        known = await admin.partition_counts()
        if missing := [name for name in names if name not in known]:
            nearest = difflib.get_close_matches(missing[0], known, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else " See: streamlib topics"
            msg = f"there is no topic {missing[0]}; nothing was deleted.{hint}"
            raise MissingTopicError(msg)
        await admin.delete_topics(names)
    say(f"deleted {', '.join(names)}")


class DefaultsToList(TyperGroup):
    """``streamlib topics`` alone, or with flags only, lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` where no command is named."""
        named = args and (not args[0].startswith("-") or args[0] == "--help")
        return super().parse_args(ctx, args if named else ["list", *args])


app = typer.Typer(help="List, create and delete topics.", cls=DefaultsToList, rich_markup_mode=None)
app.command("list")(list_topics)
app.command("create")(create)
app.command("delete")(delete)
