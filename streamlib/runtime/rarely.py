"""A log line for what goes on and on: the first one at once, then one every half minute. Next: `worker`."""

from streamlib.clock import Clock

SECONDS = 30.0


class Rarely:
    """Says when to log again.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next = clock.monotonic()

    def now(self) -> bool:
        """Whether to log: yes, and then not for half a minute."""
        now = self._clock.monotonic()
        if now < self._next:
            return False
        self._next = now + SECONDS
        return True
