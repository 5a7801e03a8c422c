"""Which topics an application ran with, by their ids: one that was deleted, or made anew, took something along.

Brokers forget the committed offsets of a deleted topic, and an offset does not say which log it is of. So a source
topic that is made anew would be read from wherever `auto_offset_reset` says, and a changelog that is missing made anew
without what it held. Both would look like a first start. A file in the state directory tells them apart.

Source: KIP-516 (topic ids), KIP-698 (missing internal topics). Next: `internal_topics`, which makes those missing.
"""

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from streamlib.config import StreamsConfig
from streamlib.errors import CommitError, DataLossError
from streamlib.record import TopicPartition
from streamlib.runtime.partitions import TaskId, external_topics
from streamlib.runtime.topology_check import anything_processed
from streamlib.state.directory import GLOBAL, StateDirectory
from streamlib.state.rocksdb import set_aside
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin, OffsetAndMetadata

log = logging.getLogger(__name__)

FILE = "topics.json"
FORMAT = 1

ACCEPT = (
    "Go on without that with --set on_data_loss=earliest (or latest, for where to read a source topic that was made "
    "anew), or start over with streamlib reset; after that, delete the state directory on the other machines, too"
)


class RememberedTopics:
    """The topics of the last run on this machine.

    Args:
        config: Names the application, the state directory, and what to do about loss.
    """

    def __init__(self, config: StreamsConfig) -> None:
        self._application_id = config.application_id
        self._policy = config.on_data_loss
        self._file = config.state_dir / config.application_id / FILE
        self._before = _read(self._file)

    async def check(self, topology: Topology, admin: Admin, existing: Mapping[str, int]) -> None:
        """Compare with what there is now, before anything is created.

        Args:
            topology: What is to run, its patterns resolved.
            admin: Knows the ids.
            existing: Partition counts of all topics.

        Raises:
            DataLossError: Topics have gone or were made anew, and the policy is to fail; all are named.
        """
        ids = await admin.topic_ids(self._before.keys())
        sources = self._own_sources(topology)
        anew = [name for name in sources if self._is_another(name, ids)]
        problems = [
            f'the source topic "{name}" was deleted and made anew since this worker last ran (its id was '
            f"{self._before[name]} and is {ids[name]}): what it had and was not read is lost"
            for name in anew
        ]
        problems += [
            f'the source topic "{name}" was deleted since this worker last ran: what was not read is lost'
            for name in sources
            if name in self._before and name not in existing
        ]
        problems += await self._missing_internal(topology, admin, existing)
        if not problems:
            return
        listed = "\n".join(f"  {problem}" for problem in problems)
        if self._policy == "fail":
            msg = f"topics of {self._application_id} are not those it ran with:\n{listed}\n{ACCEPT}"
            raise DataLossError(msg)
        log.error("topics are not those of the last run, which was accepted:\n%s", listed)
        await self._move(anew, admin, existing)

    async def keep(self, topology: Topology, admin: Admin, directory: StateDirectory) -> dict[str, str]:
        """Remember the topics as they are now; state on disk that belongs to others of the same name is set aside.

        Returns:
            The ids of source topics and internal topics.
        """
        internal = {topic.name: topic.kind for topic in internal_topics(topology, self._application_id)}
        ids = await admin.topic_ids([*external_topics(topology), *internal])
        for task_id in self._stale(topology, {name for name in ids if self._is_another(name, ids)}, directory):
            kept = set_aside(directory.task_path(task_id))
            log.warning("the state of task %s is of topics that were made anew: it is in %s now", task_id, kept)
        text = json.dumps({"format": FORMAT, "topics": dict(sorted(ids.items()))}, indent=1)
        if not self._file.exists() or self._file.read_text() != text:
            new = self._file.with_suffix(".new")
            new.write_text(text)
            new.replace(self._file)
        return ids

    def _own_sources(self, topology: Topology) -> list[str]:
        """Source topics of which something was read once and for all: not those of global tables, read anew."""
        of_tables = {topic for each in topology.subtopologies if each.is_global for topic in each.source_topics}
        return sorted(external_topics(topology) - of_tables)

    def _is_another(self, name: str, ids: Mapping[str, str]) -> bool:
        return name in ids and self._before.get(name, ids[name]) != ids[name]

    async def _missing_internal(self, topology: Topology, admin: Admin, existing: Collection[str]) -> list[str]:
        kinds = {topic.name: topic.kind for topic in internal_topics(topology, self._application_id)}
        missing = [name for name in sorted(kinds) if name not in existing]
        known = [name for name in missing if name in self._before]
        if not missing or (self._before and not known):
            return []
        held = await admin.group_offsets(self._application_id)
        offsets = {tp: each.offset for tp, each in held.items()}
        if not await anything_processed(admin, offsets, existing):
            return []
        if not self._before:
            log.warning(
                "%s has processed records already, and these topics are made now: %s. Unless they are new in the "
                "topology, what they held is lost",
                self._application_id,
                ", ".join(missing),
            )
        return [
            f'the {kinds[name]} topic "{name}" was deleted since this worker last ran: '
            + ("the state it held is lost" if kinds[name] == "changelog" else "records that wait in it are lost")
            for name in known
        ]

    async def _move(self, topics: Collection[str], admin: Admin, existing: Mapping[str, int]) -> None:
        """Let the group read topics that were made anew from where the policy says."""
        tps = [TopicPartition(topic, number) for topic in topics for number in range(existing[topic])]
        if not tps:
            return
        found = await (admin.beginning_offsets(tps) if self._policy == "earliest" else admin.end_offsets(tps))
        try:
            await admin.set_group_offsets(
                self._application_id, {tp: OffsetAndMetadata(offset) for tp, offset in found.items()}
            )
        except CommitError:
            log.warning("other workers run already: they have decided where %s is read from", ", ".join(sorted(topics)))

    def _stale(self, topology: Topology, changed: Collection[str], directory: StateDirectory) -> list[str]:
        """Tasks whose stores are of changelogs, or source topics in their place, that are others now."""
        numbers = set()
        tables = False
        for each in topology.subtopologies:
            logs = {topology.changelog_topic(store, self._application_id) for store in each.stores}
            if each.is_global:
                tables = tables or not set(changed).isdisjoint(each.source_topics)
            elif logs.intersection(changed):
                numbers.add(each.number)
        stale = [text for text in directory.task_ids() if TaskId.parse(text).subtopology in numbers]
        return [*stale, GLOBAL] if tables and directory.task_path(GLOBAL).exists() else stale


def _read(file: Path) -> dict[str, str]:
    """Ids by name; none when this is the first run here, or what is kept cannot be read."""
    try:
        kept = json.loads(file.read_text())
        if kept["format"] != FORMAT:
            msg = f"format {kept['format']}"
            raise ValueError(msg)
        return {str(name): str(number) for name, number in kept["topics"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is left out of account: %r", file, error)
        return {}
