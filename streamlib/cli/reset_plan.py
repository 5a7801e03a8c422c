"""What resetting an application would change: made by looking, shown to the user, then carried out.

Source: `org.apache.kafka.tools.StreamsResetter`. Next: `reset`, which asks.
"""

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamlib.cli.times import as_text

if TYPE_CHECKING:
    from streamlib.record import TopicPartition
    from streamlib.topology.topology import Topology
    from streamlib.transport.base import Admin

_INTERNAL = re.compile(
    r".*-(changelog|repartition|subscription-registration-topic|subscription-response-topic"
    r"|KTABLE-FK-JOIN-SUBSCRIPTION-(REGISTRATION|RESPONSE)-\d+-topic)"
)


@dataclass(frozen=True)
class Target:
    """Where to start again.

    Attributes:
        kind: ``earliest``, ``latest``, an ``offset``, the first record of a ``moment`` (ms since the epoch), or a
            ``shift`` by so many records from where the group is.
        value: The number that goes with the last three.
    """

    kind: Literal["earliest", "latest", "offset", "moment", "shift"] = "earliest"
    value: int = 0

    def __str__(self) -> str:
        if self.kind == "moment":
            return f"to {as_text(self.value)}"
        if self.kind == "shift":
            return f"by {self.value:+d}"
        return f"to offset {self.value}" if self.kind == "offset" else f"to {self.kind}"


@dataclass(frozen=True)
class Application:
    """What to reset.

    Attributes:
        application_id: The consumer group, and the prefix of internal topics.
        input_topics: Topics whose offsets move; other committed offsets stay as they are.
        patterns: The same for all topics whose names match.
        internal_topics: Internal topics to delete, or None for all whose names look like the application's.
        own_internal_topics: Those the topology has, which are certainly the application's.
        state_dir: Where local state is to be deleted, None to keep it.
    """

    application_id: str
    input_topics: Sequence[str]
    internal_topics: Sequence[str] | None = None
    own_internal_topics: frozenset[str] = frozenset()
    state_dir: Path | None = None
    patterns: Sequence[re.Pattern[str]] = ()


@dataclass(frozen=True)
class ResetPlan:
    """What would be done.

    Attributes:
        offsets: For each input partition, the committed offset (None for none) and the new one.
        topics: Internal topics to delete.
        left_alone: Topics that look like the application's, and the group that owns each.
        directories: Local state to delete.
    """

    group: str
    offsets: "Mapping[TopicPartition, tuple[int | None, int]]"
    topics: Sequence[str]
    left_alone: Mapping[str, str]
    directories: Sequence[Path]

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        moves = any(old != new for old, new in self.offsets.values())
        return not (moves or self.topics or self.directories)


def internal_topics_of(topology: "Topology", application_id: str) -> frozenset[str]:
    """The names on the broker of a topology's own changelogs and repartition topics."""
    changelogs = (
        topology.changelog_topic(name, application_id)
        for name, spec in topology.stores.items()
        if spec.source_topic is None
    )
    repartition = (topology.physical_topic(name, application_id) for name in topology.repartition_topics)
    return frozenset([*filter(None, changelogs), *repartition])


def input_topics_of(topology: "Topology") -> list[str]:
    """The topics whose offsets a topology's group commits: not internal ones, nor those of global tables."""
    read = {topic for each in topology.subtopologies if not each.is_global for topic in each.source_topics}
    return sorted(read - topology.repartition_topics.keys())


async def plan_reset(admin: "Admin", application: Application, target: Target) -> ResetPlan:
    """Look at the broker and the disk; change nothing.

    Raises:
        TransportError: The group has members: stop them first.
        MissingTopicError: An input topic, or an internal topic that was asked for, does not exist.
        ConfigError: The application id cannot be the name of a folder.
    """
    from streamlib.errors import MissingTopicError, TransportError
    from streamlib.record import TopicPartition

    group = application.application_id
    description = await admin.describe_group(group)
    if description.members:
        hosts = ", ".join(sorted(set(description.members.values())))
        msg = f"the group {group} has {len(description.members)} members (on {hosts}). Stop every worker, then reset; "
        raise TransportError(msg + "one that crashed is forgotten after its session timeout")
    known = await admin.partition_counts()
    if missing := sorted({*application.input_topics, *(application.internal_topics or ())} - known.keys()):
        msg = f"there is no topic {', '.join(missing)}; nothing was changed. See: streamlib topics"
        raise MissingTopicError(msg)
    matching = {
        topic for topic in known for pattern in application.patterns if pattern.fullmatch(topic)
    } - application.own_internal_topics
    tps = [
        TopicPartition(topic, number)
        for topic in sorted({*application.input_topics, *matching})
        for number in range(known[topic])
    ]
    committed = {tp: held.offset for tp, held in (await admin.group_offsets(group)).items()}
    new = await _new_offsets(admin, tps, committed, target)
    topics, left_alone = _internal_topics(application, known, await admin.groups())
    return ResetPlan(
        group, {tp: (committed.get(tp), new[tp]) for tp in tps}, topics, left_alone, _directories(application)
    )


async def carry_out(admin: "Admin", plan: ResetPlan) -> None:
    """Do what the plan says: offsets first, so that a failure half-way leaves nothing that a second try would miss.

    Raises:
        CommitError: The group has got members meanwhile; nothing was changed.
        StateStoreError: Local state cannot be deleted; the rest is done.
    """
    from streamlib.errors import StateStoreError
    from streamlib.transport.base import OffsetAndMetadata

    if plan.offsets:
        await admin.set_group_offsets(plan.group, {tp: OffsetAndMetadata(new) for tp, (_, new) in plan.offsets.items()})
    if plan.topics:
        await admin.delete_topics(plan.topics)
    for directory in plan.directories:
        try:
            shutil.rmtree(directory)
        except OSError as error:
            msg = f"cannot delete {directory}: {error.strerror}. Offsets and topics are reset; delete it by hand"
            raise StateStoreError(msg) from error


async def _new_offsets(
    admin: "Admin", tps: "Collection[TopicPartition]", committed: "Mapping[TopicPartition, int]", target: Target
) -> "dict[TopicPartition, int]":
    beginnings, ends = await admin.beginning_offsets(tps), await admin.end_offsets(tps)
    if target.kind == "earliest":
        return beginnings
    if target.kind == "latest":
        return ends
    if target.kind == "moment":
        return await admin.offsets_for_time(tps, target.value)
    base = {tp: 0 if target.kind == "offset" else committed.get(tp, beginnings[tp]) for tp in tps}
    return {tp: min(max(base[tp] + target.value, beginnings[tp]), ends[tp]) for tp in tps}


def _internal_topics(
    application: Application, known: Collection[str], groups: Collection[str]
) -> tuple[list[str], dict[str, str]]:
    """Topics to delete, and those whose name fits an application with a longer id as well."""
    if application.internal_topics is not None:
        return sorted(application.internal_topics), {}
    prefix = f"{application.application_id}-"
    longer = sorted((group for group in groups if group.startswith(prefix)), key=len, reverse=True)
    topics, left_alone = [], {}
    for topic in sorted(known):
        if topic not in application.own_internal_topics:
            if not topic.startswith(prefix) or not _INTERNAL.fullmatch(topic):
                continue
            if owner := next((group for group in longer if topic.startswith(f"{group}-")), None):
                left_alone[topic] = owner
                continue
        topics.append(topic)
    return topics, left_alone


def _directories(application: Application) -> list[Path]:
    """The application's state, also under the slots that ``worker -p`` makes."""
    from streamlib.errors import ConfigError

    name, base = application.application_id, application.state_dir
    if base is None or not base.is_dir():
        return []
    if name in {".", ".."} or Path(name).name != name:
        msg = f'application id "{name}" cannot name a folder of local state: leave out --local-state'
        raise ConfigError(msg)
    slots = [path for path in base.iterdir() if path.name.isdecimal()]
    folders = [folder / name for folder in [base, *sorted(slots, key=lambda path: int(path.name))]]
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]
