"""What to do about calls that find no broker: wait, say so now and then, and give up when only this worker finds none.

Next: `worker`.
"""

import logging

from streamlib.clock import Clock
from streamlib.errors import BrokerUnavailableError, TransportError
from streamlib.runtime.rarely import Rarely
from streamlib.transport.base import Transport

log = logging.getLogger(__name__)

STUCK_SECONDS = 300.0


class Outage:
    """Lasts from the first call that finds no broker until one succeeds.

    Args:
        transport: Makes new connections, to see whether a broker answers them.
        clock: Time.

    Attributes:
        lasts: Whether there is one.

    Source: Kafka Streams' ``task.timeout.ms``.
    """

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._log = Rarely(clock)
        self._answered_at: float | None = None
        self.lasts = False

    def over(self) -> None:
        """A call has succeeded."""
        self.lasts = False
        self._answered_at = None

    async def goes_on(self, error: BrokerUnavailableError) -> None:
        """A call has found no broker.

        Raises:
            TransportError: For five minutes brokers have answered new connections, while this worker's went on failing.
        """
        self.lasts = True
        if self._log.now():
            log.warning("waiting for the broker at %s: %s", self._transport.address, error)
        now = self._clock.monotonic()
        if not await self._answers():
            self._answered_at = None
        elif self._answered_at is None:
            self._answered_at = now
        elif now - self._answered_at >= STUCK_SECONDS:
            msg = (
                f"this worker cannot go on, although the broker at {self._transport.address} answers new connections "
                f"since {now - self._answered_at:.0f} s: {error}. Start it again"
            )
            raise TransportError(msg) from error

    async def _answers(self) -> bool:
        try:
            admin = await self._transport.admin()
        except BrokerUnavailableError:
            return False
        await admin.close()
        return True
