"""A worker compares its topology with the one that ran last, before anything is created or read.

The last one is kept in the state directory, beside the state it has made. A machine that has none (a container without
a volume) goes by what is on the broker: a changelog or repartition topic that nobody uses any more, while one that is
needed is missing, is taken for one with a new name. What a reset has deleted stands against nothing.
Next: `internal_topics`, which creates what is missing.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from streamlib.config import StreamsConfig
from streamlib.errors import ConfigError
from streamlib.record import TopicPartition
from streamlib.topology.difference import Conflict, difference
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.outline import Outline, read_outline
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin

log = logging.getLogger(__name__)

FILE = "topology.json"

ACCEPT = (
    "Give operations their old names, or start over with streamlib reset, or accept the loss with "
    "--set accept_topology_change=true"
)


class TopologyCheck:
    """Refuses a topology that cannot go on where the last one stopped.

    Args:
        topology: What is to run.
        config: Names the application, and the state directory.
    """

    def __init__(self, topology: Topology, config: StreamsConfig) -> None:
        self._topology = topology
        self._application_id = config.application_id
        self._accepted = config.accept_topology_change
        self._file = config.state_dir / config.application_id / FILE

    async def check(self, admin: Admin, existing: Collection[str]) -> None:
        """Compare with the last topology.

        Args:
            admin: For committed offsets, which are asked for only if there is a difference.
            existing: All topics of the broker.

        Raises:
            ConfigError: The state or the topics of the last one do not fit; says which, and what to do.
        """
        last = _last(self._file)
        if last is None:
            problems = await self._missing_and_unused(admin, existing)
        else:
            found = difference(last, read_outline(self._topology.to_json()))
            problems = [each.text for each in found.conflicts if await self._stands(each, admin, existing)]
        if not problems:
            return
        listed = "\n".join(f"  {problem}" for problem in problems)
        if self._accepted:
            log.warning("the topology has changed, which was accepted:\n%s", listed)
            return
        msg = f"the topology of {self._application_id} is not that which ran last:\n{listed}\n{ACCEPT}"
        raise ConfigError(msg)

    def keep(self) -> None:
        """Remember this topology as the last one; call it when the state directory is this process's own."""
        text = self._topology.to_json()
        if self._file.exists() and self._file.read_text() == text:
            return
        new = self._file.with_suffix(".new")
        new.write_text(text)
        new.replace(self._file)

    async def _stands(self, conflict: Conflict, admin: Admin, existing: Collection[str]) -> bool:
        """Whether what is in the way is still there."""
        if conflict.kind == "changelog":
            return f"{self._application_id}-{conflict.name}-changelog" in existing
        if conflict.kind == "repartition":
            return f"{self._application_id}-{conflict.name}" in existing
        committed = await admin.group_offsets(self._application_id)
        if conflict.kind == "source":
            committed = {tp: held for tp, held in committed.items() if tp.topic == conflict.name}
        return await anything_processed(admin, {tp: held.offset for tp, held in committed.items()}, existing)

    async def _missing_and_unused(self, admin: Admin, existing: Collection[str]) -> list[str]:
        wanted = {topic.name: topic.kind for topic in internal_topics(self._topology, self._application_id)}
        missing = {name: kind for name, kind in wanted.items() if name not in existing}
        if not missing:
            return []
        unused = {
            name: kind
            for name in existing
            if (kind := _kind(name)) is not None
            and name.startswith(f"{self._application_id}-")
            and name not in wanted
            and kind in missing.values()
        }
        if not unused:
            return []
        committed = await admin.group_offsets(self._application_id)
        offsets = {tp: held.offset for tp, held in committed.items()}
        if not await anything_processed(admin, offsets, existing):
            return []
        return [
            f'the {kind} topic "{name}" exists and is not used, while "{_like(missing, kind)}" is missing: '
            "under a new name it starts empty"
            for name, kind in sorted(unused.items())
        ]


def _last(file: Path) -> Outline | None:
    """The topology that ran last on this machine; None when that is not known."""
    try:
        return read_outline(file.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is left out of account: %s", file, error)
        return None


async def anything_processed(admin: Admin, committed: Mapping[TopicPartition, int], existing: Collection[str]) -> bool:
    """Whether a group has committed more than where topics begin."""
    offsets = {tp: offset for tp, offset in committed.items() if tp.topic in existing}
    first = await admin.beginning_offsets(list(offsets)) if offsets else {}
    return any(offset > first[tp] for tp, offset in offsets.items())


def _kind(name: str) -> str | None:
    return next((kind for kind in ("changelog", "repartition") if name.endswith(f"-{kind}")), None)


def _like(missing: Mapping[str, str], kind: str) -> str:
    return next(name for name, each in sorted(missing.items()) if each == kind)
