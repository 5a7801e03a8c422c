"""Ends the transaction that a lost worker has left open, so that its tasks need not wait until it times out.

Whoever takes over a task reads its changelogs and its committed offsets up to the last transaction that has ended. A
worker that was killed leaves one open, for `transaction_timeout_ms` and until the broker notices. Starting a producer
under the lost worker's transactional id ends it at once. That is safe even if the worker lives and was only expelled:
the group refuses its commits anyway, and it replaces a producer that was fenced.

Source: KIP-98, ``InitProducerId``. Next: `restore`, which waits no longer.
"""

import logging
from collections.abc import Collection

from streamlib.config import StreamsConfig
from streamlib.errors import TransportError
from streamlib.transport.base import Transport

log = logging.getLogger(__name__)


def transactional_id(application_id: str, process_id: str) -> str:
    """What the worker of a state directory calls its transactions."""
    return f"{application_id}-{process_id}"


class Fencing:
    """Ends transactions of others.

    Args:
        transport: Makes producers.
        config: Settings.
    """

    def __init__(self, transport: Transport, config: StreamsConfig) -> None:
        self._transport = transport
        self._config = config

    async def end_transactions(self, process_ids: Collection[str]) -> None:
        """End what the workers of these state directories have left open; if it fails, the broker's timeout does it."""
        for process_id in sorted(process_ids):
            name = transactional_id(self._config.application_id, process_id)
            producer = self._transport.producer(name, self._config.transaction_timeout_ms)
            try:
                await producer.start()
                log.info("ended the transaction of a worker that was lost: %s", name)
            except TransportError as error:
                log.warning("the transaction of the lost worker %s is left to its timeout: %s", name, error)
            finally:
                await producer.kill()
