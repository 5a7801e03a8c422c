"""The worker's producer, shared by all its tasks and replaced by a new one after any error. Next: `commit`."""

from collections.abc import Callable

from streamlib.transport.base import Producer


class ProducerHolder:
    """Holds the live producer.

    Args:
        make: Makes a producer that is not started yet.
    """

    def __init__(self, make: Callable[[], Producer]) -> None:
        self._make = make
        self._producer: Producer | None = None

    @property
    def current(self) -> Producer:
        """The live producer."""
        assert self._producer is not None, "no producer before start() and after close()"
        return self._producer

    async def start(self) -> None:
        """Make and start a producer.

        Raises:
            BrokerUnavailableError: Nobody answers; safe to try again.
        """
        producer = self._make()
        await producer.start()
        self._producer = producer

    async def renew(self) -> None:
        """Drop the producer with all it has not delivered, and start another one.

        Raises:
            BrokerUnavailableError: Nobody answers; safe to try again.
        """
        if self._producer is not None:
            await self._producer.kill()
        await self.start()

    async def close(self, *, deliver: bool) -> None:
        """Disconnect, after delivering what was appended or at once."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await (producer.close() if deliver else producer.kill())
