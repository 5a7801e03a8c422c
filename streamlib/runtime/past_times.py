"""Looks now and then whether events lie so far in the past that brokers delete the changelogs of windows.

The rows of windows are deleted by age: a topic's ``retention.ms`` against the time of its records, which is that of
events. Where old records are worked off, rows are gone soon after they were written, and whoever restores the store,
after a crash say, begins without windows that are still open. Kafka Streams loses them in silence.

Next: `worker`, beside which it runs; `future_times`, for the other direction.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from math import inf

from streamlib.clock import Clock
from streamlib.errors import TransportError
from streamlib.runtime.task import Task
from streamlib.topology.internal_topics import DAY_MS
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin

log = logging.getLogger(__name__)

SECONDS = 10.0


class PastTimes:
    """Warns of changelogs that are deleted while they are needed, once of each.

    Args:
        topology: Says which stores have windows.
        running: The tasks.
        admin: Knows how long the topics are kept.
        clock: The wall clock.
    """

    def __init__(self, topology: Topology, running: Callable[[], Iterable[Task]], admin: Admin, clock: Clock) -> None:
        self._stores = {name for name, spec in topology.stores.items() if spec.expires}
        self._running = running
        self._admin = admin
        self._clock = clock
        self._kept_ms: dict[str, float] = {}  # by changelog
        self._told: set[str] = set()

    async def follow(self) -> None:
        """Look every ten seconds, without end; what a broker does not tell is asked again."""
        while self._stores:
            await self._clock.sleep(SECONDS)
            try:
                await self._look()
            except TransportError as error:
                log.debug("could not see how long changelogs are kept: %s", error)

    async def _look(self) -> None:
        ages = self._ages()
        if unknown := ages.keys() - self._kept_ms.keys():
            configs = await self._admin.topic_configs(unknown)
            self._kept_ms.update({topic: _kept_ms(configs[topic]) for topic in unknown})
        for topic, age_ms in ages.items():
            kept_ms = self._kept_ms[topic]
            if kept_ms < age_ms and topic not in self._told:
                self._told.add(topic)
                log.warning(
                    "events lie %.1f days in the past, and brokers keep the changelog %s for %.1f days: its rows are "
                    "deleted soon after they are written, and open windows are lost when the store is restored, after "
                    "a crash say. Raise the topic's retention.ms to more than %d, or set it to -1; where the topic is "
                    'yet to be made, give the store topic_configs={"retention.ms": "-1"}, or set '
                    "windowstore_changelog_additional_retention_ms",
                    age_ms / DAY_MS,
                    topic,
                    kept_ms / DAY_MS,
                    age_ms,
                )

    def _ages(self) -> dict[str, int]:
        """How far tasks are behind the clock, by changelog of a store with windows."""
        now_ms = self._clock.time_ms()
        ages: dict[str, int] = {}
        for task in self._running():
            if task.context.stream_time < 0:
                continue
            age_ms = now_ms - task.context.stream_time
            for name, tp in task.stores.changelogs.items():
                if name in self._stores:
                    ages[tp.topic] = max(age_ms, ages.get(tp.topic, age_ms))
        return ages


def _kept_ms(configs: Mapping[str, str]) -> float:
    """How old the records of a topic may become."""
    kept_ms = int(configs.get("retention.ms", -1))
    return kept_ms if kept_ms >= 0 and "delete" in configs.get("cleanup.policy", "") else inf
