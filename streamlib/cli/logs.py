"""Log lines on stderr, as text or JSON. Next: `worker`, which sets them up."""

import json
import logging
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from streamlib.cli.options import option
from streamlib.cli.times import as_text

CHATTY_LOGGERS = ("aiokafka", "asyncio")
"""Below WARNING they tell about their own doings; shown with ``--log-level debug``."""


@dataclass(frozen=True)
class LogOptions:
    """What is logged, and how it looks."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        option("--log-level", help="The least severe messages to show.", case_sensitive=False),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], option("--log-format", help="Lines for people, or for programs.", case_sensitive=False)
    ] = "text"


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z INFO    streamlib.runtime.worker: message``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        line = f"{as_text(int(record.created * 1000))} {record.levelname:<7} {record.name}: {record.getMessage()}"
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


class JsonFormatter(logging.Formatter):
    """One JSON object in each line: time, level, logger, message, slot (of several workers), and exception.

    Args:
        slot: Which of several workers this is.
    """

    def __init__(self, slot: int | None = None) -> None:
        super().__init__()
        self._slot = {} if slot is None else {"slot": slot}

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        document = {
            "time": as_text(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._slot,
        }
        if record.exc_info is not None:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


def configure_logging(options: LogOptions, slot: int | None = None) -> None:
    """Send log records of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(slot) if options.log_format == "json" else TextFormatter())
    logging.basicConfig(level=options.log_level.upper(), handlers=[handler], force=True)
    if options.log_level != "debug":
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
