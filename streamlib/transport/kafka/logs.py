"""What aiokafka may log: no records, no passwords, and the same complaint at most every half minute."""

import logging
import time

LOGGERS = (
    "aiokafka",
    "aiokafka.client",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)
REPEAT_AFTER_S = 30.0
REMEMBERED = 1_000


class OncePerWhile(logging.Filter):
    """Lets a warning or an error through, and the same again only after half a minute, with a count.

    While a broker is away, aiokafka tries again some ten times a second and complains each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log ``record``."""
        if record.levelno < logging.WARNING:
            return True
        message = record.getMessage()
        now = time.monotonic()
        told_at, kept_back = self._told.get((record.name, message), (-REPEAT_AFTER_S, 0))
        if now - told_at < REPEAT_AFTER_S:
            self._told[record.name, message] = (told_at, kept_back + 1)
            return False
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[record.name, message] = (now, 0)
        if kept_back:
            record.msg, record.args = f"{message} (and {kept_back} times more since the last line like this)", ()
        return True


def tame_aiokafka() -> None:
    """Keep aiokafka's loggers at INFO or above, as they print requests at DEBUG, and thin out their repetitions."""
    root = logging.getLogger("aiokafka")
    if root.level < logging.INFO:
        root.setLevel(logging.INFO)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, OncePerWhile) for known in logger.filters):
            logger.addFilter(OncePerWhile())
