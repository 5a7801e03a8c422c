"""Looks now and then whether events lie so far in the past that brokers delete the changelogs of windows.

The rows of windows are deleted by age: a topic's ``retention.ms`` against the time of its records, which is that of
events. Where old records are worked off, rows are gone soon after they were written, and whoever restores the store,
after a crash say, begins without windows that are still open. Kafka Streams loses them in silence.

Next: `worker`, beside which it runs; `future_times`, for the other direction.
"""

import logging
from collections.abc import Callable, Iterable

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import TransportError
from streamlib.runtime.task import Task
from streamlib.topology.topology import Topology
from streamlib.transport.base import Admin

log = logging.getLogger(__name__)

SECONDS = 10.0
DAY_MS = 86_400_000
BY_AGE = {"window", "session"}
"""Kinds of stores."""


class PastTimes:
    """Warns of changelogs that are deleted while they are needed, once of each.

    Args:
        topology: Says how long windows live.
        config: Says how much longer a changelog is kept that was made for this application.
        running: The tasks.
        admin: Knows how long the topics are kept.
        clock: The wall clock.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig,
        running: Callable[[], Iterable[Task]],
        admin: Admin,
        clock: Clock,
    ) -> None:
        self._kept_ms = {
            name: spec.retention_ms + config.windowstore_changelog_additional_retention_ms
            for name, spec in topology.stores.items()
            if spec.kind in BY_AGE
        }
        self._running = running
        self._admin = admin
        self._clock = clock
        self._looked_at: set[str] = set()

    async def follow(self) -> None:
        """Look every ten seconds, without end; what a broker does not tell is asked again."""
        while self._kept_ms:
            await self._clock.sleep(SECONDS)
            try:
                await self._look()
            except TransportError as error:
                log.debug("could not see how long changelogs are kept: %s", error)

    async def _look(self) -> None:
        ages = {topic: age_ms for topic, age_ms in self._ages().items() if topic not in self._looked_at}
        configs = await self._admin.topic_configs(ages) if ages else {}
        for topic, age_ms in ages.items():
            self._looked_at.add(topic)
            kept_ms = int(configs[topic].get("retention.ms", -1))
            if "delete" in configs[topic].get("cleanup.policy", "") and 0 <= kept_ms < age_ms:
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
        """How far tasks are behind the clock, by changelog that would be deleted if it was made with this config."""
        now_ms = self._clock.time_ms()
        ages: dict[str, int] = {}
        for task in self._running():
            age_ms = now_ms - task.context.stream_time
            for name, tp in task.stores.changelogs.items():
                if task.context.stream_time >= 0 and age_ms > self._kept_ms.get(name, age_ms):
                    ages[tp.topic] = max(age_ms, ages.get(tp.topic, 0))
        return ages
