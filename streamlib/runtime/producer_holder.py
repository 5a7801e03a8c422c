"""The worker's producer, shared by all its tasks and replaced by a new one after any error.

Under exactly-once it is always inside a transaction, which the broker hears of with the first record. Next: `commit`.
"""

import logging
from collections.abc import Callable

from streamlib.errors import TransportError
from streamlib.transport.base import Producer

log = logging.getLogger(__name__)


class ProducerHolder:
    """Holds the live producer.

    Args:
        make: Makes a producer that is not started yet.
        transactional: Whether it has a transactional id.
    """

    def __init__(self, make: Callable[[], Producer], *, transactional: bool = False) -> None:
        self.transactional = transactional
        self._make = make
        self._producer: Producer | None = None

    @property
    def current(self) -> Producer:
        """The live producer."""
        assert self._producer is not None, "no producer before start() and after close()"
        return self._producer

    async def start(self) -> None:
        """Make and start a producer; a transactional one ends what an earlier one with its id left open.

        Raises:
            BrokerUnavailableError: Nobody answers; safe to try again.
        """
        producer = self._make()
        await producer.start()
        self._producer = producer
        await self.begin()

    async def begin(self) -> None:
        """Go into the next transaction, if there are any.

        Raises:
            DeliveryError: The producer must be renewed.
        """
        if self.transactional:
            await self.current.begin()

    async def renew(self) -> None:
        """Drop the producer with all it has not delivered, and start another one.

        Raises:
            BrokerUnavailableError: Nobody answers; safe to try again.
        """
        if self._producer is not None:
            await self._producer.kill()
        await self.start()

    async def close(self) -> None:
        """Disconnect without delivering what was appended; an open transaction is aborted, if the broker answers."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if not self.transactional:
            await producer.kill()
            return
        try:
            await producer.close()
        except TransportError as error:
            log.warning("the last transaction is left to its timeout: %s", error)
            await producer.kill()
