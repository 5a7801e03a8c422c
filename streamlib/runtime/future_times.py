"""Records whose time lies far ahead of this machine's clock: a producer with a wrong clock, or seconds read as millis.

One such record moves stream time on, windows close, and everything after it counts as late. Kafka Streams takes it as
it is, and so does streamlib unless `StreamsConfig.future_timestamps` says something else; but it is told. Only records
of users' topics are looked at, and only by workers: a test driver's clock stands where the test has put it.

Next: `record_queue`, which asks for every batch.
"""

import logging

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import ProcessingError
from streamlib.metrics import Metrics
from streamlib.operators.selection import picked
from streamlib.record import RecordBatch, TopicPartition
from streamlib.runtime.rarely import Rarely

log = logging.getLogger(__name__)

MENDS = "Set the clock of its producer, or of this machine, right; or set future_timestamps to accept, clamp or skip"


class FutureTimes:
    """What a worker does about them.

    Args:
        config: Says from when on a record counts as one, and what to do.
        clock: The wall clock.
        metrics: Counts them, and knows how far ahead the last one was.
    """

    def __init__(self, config: StreamsConfig, clock: Clock, metrics: Metrics) -> None:
        self._policy = config.future_timestamps
        self._skew_ms = config.max_future_skew_ms
        self._clock = clock
        self._metrics = metrics
        self._rarely = Rarely(clock)

    def checked(self, batch: RecordBatch, node: str, tp: TopicPartition) -> RecordBatch:
        """The batch, changed if the policy is to clamp times, or to skip records.

        Args:
            batch: Decoded, with the times of events.
            node: The source.
            tp: The input.

        Raises:
            ProcessingError: A record lies in the future, and the policy is to fail.
        """
        now_ms = self._clock.time_ms()
        limit_ms = now_ms + self._skew_ms
        if not len(batch) or max(batch.timestamps) <= limit_ms:
            return batch
        rows = [row for row, time in enumerate(batch.timestamps) if time > limit_ms]
        ahead_ms = max(batch.timestamps) - now_ms
        self._metrics.count("future_records_total", len(rows), topic=tp.topic)
        self._metrics.gauge("stream_time_jump_ms", ahead_ms, topic=tp.topic, partition=str(tp.partition))
        assert batch.offsets is not None
        first = rows[0]
        told = (
            f"a record is {ahead_ms / 3_600_000:.1f} h ahead of this machine's clock: node={node} topic={tp.topic} "
            f"partition={tp.partition} offset={batch.offsets[first]} timestamp={batch.timestamps[first]}"
        )
        if self._policy == "fail":
            msg = f"{told}. It would move stream time, and later records would count as late. {MENDS}"
            raise ProcessingError(msg)
        if self._rarely.now():
            log.warning("%s: %s", told, _CONSEQUENCES[self._policy])
        if self._policy == "skip":
            self._metrics.dropped(node, "future-timestamp", len(rows))
            return picked(batch, [row for row, time in enumerate(batch.timestamps) if time <= limit_ms])
        if self._policy == "clamp":
            times = [time if time <= limit_ms else now_ms for time in batch.timestamps]
            return RecordBatch(batch.keys, batch.values, times, batch.offsets, batch.headers)
        return batch


_CONSEQUENCES = {
    "accept": "it moves stream time, and later records may count as late (future_timestamps)",
    "skip": "it is left out (future_timestamps)",
    "clamp": "it is processed as one of now (future_timestamps)",
}
