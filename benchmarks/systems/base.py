"""What the harness must know of a system to run it: how to install it, start it, and read what it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PYTHON_WORKLOADS = ("map", "count", "window", "repartition", "table-join")
"""Those that the Python peers can do, too."""
ALL_WORKLOADS = (*PYTHON_WORKLOADS, "stream-join", "session", "foreign-key-join")


EXACTLY_ONCE = "-exactly-once"
EXACTLY_ONCE_WORKLOADS = tuple(f"{name}{EXACTLY_ONCE}" for name in ("map", "count", "window"))
"""The same under exactly_once_v2 with commits every 100 ms, as it is by default."""


@dataclass(frozen=True)
class Job:
    """One run of one workload by one system.

    Attributes:
        workload: What it does, without the guarantee.
        exactly_once: Whether it commits in transactions.
        application_id: Names the consumer group and is part of every topic name of this run.
        folder: State and logs, deleted after the run.
    """

    workload: str
    application_id: str
    broker: str
    partitions: int
    folder: Path
    exactly_once: bool = False

    @classmethod
    def labelled(cls, label: str, application_id: str, broker: str, partitions: int, folder: Path) -> "Job":
        """The job of a workload as the command line names it."""
        exactly_once = label.endswith(EXACTLY_ONCE)
        return cls(label.removesuffix(EXACTLY_ONCE), application_id, broker, partitions, folder, exactly_once)

    @property
    def label(self) -> str:
        """The workload as the command line and the results name it."""
        return self.workload + EXACTLY_ONCE * self.exactly_once

    @property
    def commit_interval_ms(self) -> int:
        return 100 if self.exactly_once else 1000

    @property
    def guarantee(self) -> str:
        return "exactly_once_v2" if self.exactly_once else "at_least_once"

    @property
    def input_topic(self) -> str:
        return f"{self.application_id}-in"

    @property
    def output_topic(self) -> str:
        return f"{self.application_id}-out"

    @property
    def table_topic(self) -> str:
        return f"{self.application_id}-table"

    def arguments(self) -> list[str]:
        """For the programs in `peers`, all of which take these in this order."""
        topics = [self.input_topic, self.output_topic, self.table_topic]
        settings = [str(self.folder), str(self.partitions), self.guarantee]
        return [self.workload, self.broker, self.application_id, *topics, *settings]


class System(Protocol):
    """A stream processor under measurement."""

    @property
    def name(self) -> str:
        """On the command line and in results."""

    @property
    def workloads(self) -> Sequence[str]:
        """Those it can do; others are left out of the table."""

    @property
    def note(self) -> str:
        """What a reader of the table must know of it."""

    def prepare(self, cache: Path) -> Mapping[str, str]:
        """Install it if need be; its versions."""

    def command(self, job: Job) -> list[str]:
        """What to start."""

    def environment(self, job: Job) -> Mapping[str, str]:
        """What to add to its environment."""

    def decode(self, workload: str, key: bytes, value: bytes) -> tuple[Any, Any]:
        """An output record in the form that `verify` compares."""
