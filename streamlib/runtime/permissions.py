"""What to do about calls that a broker does not permit: wait for a minute, then give up.

Somebody may be about to grant it, and a permission takes its time to reach every broker.

Next: `worker`.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streamlib.clock import Clock
from streamlib.errors import AuthorizationError

log = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
PAUSE_SECONDS = (0.1, 5.0)
FORGET_SECONDS = 300.0  # whoever must restore a lot before it is refused again needs so long between two refusals


@dataclass
class _Refusal:
    """How often something was not permitted, and when first and last."""

    since: float
    last: float
    times: int = 0


class Permissions:
    """Those that a worker has found missing; each is waited for by itself.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refusals: dict[tuple[object, str], _Refusal] = {}

    def refused(self, error: AuthorizationError, by: object = None) -> float:
        """Take note of a call that was not permitted; seconds to wait before trying again.

        Args:
            error: The refusal.
            by: Who has called: None is the worker itself.

        Raises:
            AuthorizationError: The same, when it has not been permitted for a minute.
        """
        now = self._clock.monotonic()
        told = error.needed or str(error)
        refusal = self._refusals.get((by, told))
        if refusal is None or now - refusal.last >= FORGET_SECONDS:
            refusal = self._refusals[by, told] = _Refusal(now, now)
            log.warning("waiting up to %.0f s for a permission: %s", GRACE_SECONDS, error)
        refusal.last = now
        if now - refusal.since >= GRACE_SECONDS:
            raise error
        refusal.times += 1
        return float(min(PAUSE_SECONDS[1], PAUSE_SECONDS[0] * 2 ** min(refusal.times, 10)))

    def granted(self) -> None:
        """The worker gets on: what it is refused from now on is waited for anew."""
        for each in [each for each in self._refusals if each[0] is None]:
            del self._refusals[each]

    def missing(self) -> list[str]:
        """What was refused just now."""
        now = self._clock.monotonic()
        recent = (each for each, refusal in self._refusals.items() if now - refusal.last < 2 * PAUSE_SECONDS[1])
        return sorted({told for _, told in recent})

    async def awaited(self, follow: Callable[[], Awaitable[None]]) -> None:
        """Run what goes on beside the worker, again after it was not permitted something.

        Raises:
            AuthorizationError: As `refused`.
        """
        while True:
            try:
                await follow()
            except AuthorizationError as error:
                await self._clock.sleep(self.refused(error, by=follow))
            else:
                return
