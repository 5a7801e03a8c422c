"""Every exception streamlib raises on purpose.

    StreamlibError
    ├── TopologyError           mistakes of a topology, all of them together, at build()
    ├── ConfigError             a setting that cannot work
    ├── SerdeError
    │   └── DeserializationError    bytes of a record that its serde refuses
    ├── ProcessingError         a user function raised
    │   ├── BufferFullError         a suppressed table holds back more than its buffer may have
    │   ├── RetryLaterError         a record failed that the policy is to try again: undo the work, wait, redo it
    │   └── TooManyErrorsError      more records failed of late than `errors_max_share` lets pass
    ├── ProductionError         a record cannot be written, and never will be
    ├── StateStoreError         a store cannot be opened, read or written
    │   ├── StateDirLockedError     another process uses the state directory
    │   ├── DiskFullError           no room for a store: it is opened again, and goes on when there is
    │   └── StateCorruptedError     files of a store are damaged: set them aside and rebuild from the changelog
    ├── TaskMigratedError       the group gave the task to another worker: drop it, go on
    ├── TaskCorruptedError      local state disagrees with its changelog: rebuild that task
    ├── ForkedError             a worker is used in a process forked from the one that started it
    ├── StalledError            records wait and none is processed, for too long: start the worker again
    ├── InternalTopicError      a repartition or changelog topic is not as it must be
    └── TransportError
        ├── BrokerUnavailableError  nobody answers at the broker's address; safe to try again
        ├── MissingTopicError       a topic does not exist
        ├── BrokerLockedError       another process uses the embedded broker's directory
        ├── OffsetOutOfRangeError   a position before the log's start or after its end
        │   └── DataLossError           records or state that the application still needed are gone
        ├── DeliveryError           a record was not written; nothing since the last flush may be committed
        │   └── RecordRefusedError      a record will never be written: it is too large, or the broker finds it invalid
        │       └── RecordTooLargeError     it was not even sent; the producer can go on without it
        ├── CommitError             offsets were refused: the group has moved on
        └── AuthorizationError      a permission is missing

A message says what happened, where (``task= node= topic= partition= offset=``, in that order), and the mend.
`action_for` tells what follows from an error; `transport/kafka/error_codes` which error a broker's answer becomes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Action = Literal["retry", "start over", "rebuild", "apply the policy", "refuse", "stop"]
"""What follows from an error.

- ``retry``: nothing has happened; the same call again, when a broker answers.
- ``start over``: drop what is not committed, replace the producer, restore the tasks, go on.
- ``rebuild``: the same for one task, whose state on disk is set aside.
- ``apply the policy``: one record is to blame, and the user has said what to do with those.
- ``refuse``: stop; starting again is no use before something was mended.
- ``stop``: stop; starting again may help.
"""


class StreamlibError(Exception):
    """The root of the tree."""


class TopologyError(StreamlibError):
    """A topology cannot be built.

    Attributes:
        problems: One sentence for each mistake, in the order of the DSL calls.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            super().__init__(self.problems[0])
        else:
            listed = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1))
            super().__init__(f"the topology has {len(self.problems)} mistakes:\n{listed}")


class ConfigError(StreamlibError):
    """A setting is unknown, malformed, or contradicts another one."""


class SerdeError(StreamlibError):
    """A value cannot be turned into bytes, or bytes into a value."""


class DeserializationError(SerdeError):
    """The bytes of one record are refused by the serde of its source."""


class ProcessingError(StreamlibError):
    """A user function raised; ``__cause__`` is what it raised."""


class BufferFullError(ProcessingError):
    """A suppressed table holds back more than its buffer may have; give it more room, or let it emit early."""


class RetryLaterError(ProcessingError):
    """A record failed and is to be tried again: drop what is not committed, wait, and do it again.

    Attributes:
        backoff_ms: How long to wait.
    """

    def __init__(self, message: str, backoff_ms: int) -> None:
        super().__init__(message)
        self.backoff_ms = backoff_ms


class TooManyErrorsError(ProcessingError):
    """More records failed of late than `StreamsConfig.errors_max_share` lets pass."""


class ProductionError(StreamlibError):
    """A record cannot be written, and never will be: make smaller ones, or raise the limit."""


class StateStoreError(StreamlibError):
    """A state store cannot be opened, read or written."""


class StateDirLockedError(StateStoreError):
    """Another process has the state directory open."""


class DiskFullError(StateStoreError):
    """There is no room on the disk for a store. Free some: a worker goes on by itself then, and nothing is lost."""


class StateCorruptedError(StateStoreError):
    """The files of a store are damaged; set the directory aside and rebuild that task from the changelog.

    Attributes:
        path: The directory, where it is known.
    """

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class TaskMigratedError(StreamlibError):
    """The group has given this task to another worker; drop its uncommitted work and rejoin."""


class TaskCorruptedError(StreamlibError):
    """The local state of a task disagrees with its changelog; rebuild that task from the changelog.

    Attributes:
        task_id: The task, as (sub-topology, partition).
    """

    def __init__(self, message: str, task_id: tuple[int, int]) -> None:
        super().__init__(message)
        self.task_id = task_id


class ForkedError(StreamlibError):
    """A worker is used in a process that was forked from the one that started it; start another one there."""


class StalledError(StreamlibError):
    """Records wait, none is processed, and nothing that the worker can do has helped; start it again."""


class InternalTopicError(StreamlibError):
    """A repartition or changelog topic has the wrong partition count or configuration."""


class TransportError(StreamlibError):
    """The broker, or the way to it, failed."""


class BrokerUnavailableError(TransportError):
    """No broker answers; trying again later is safe."""


class MissingTopicError(TransportError):
    """A topic that must exist does not."""


class BrokerLockedError(TransportError):
    """Another process has the embedded broker's directory open."""


class OffsetOutOfRangeError(TransportError):
    """A position lies before the start of the log or after its end."""


class DataLossError(OffsetOutOfRangeError):
    """Records or state that the application still needed are gone; `StreamsConfig.on_data_loss` says what to do."""


class DeliveryError(TransportError):
    """A record could not be written; nothing produced since the last flush may be committed."""


class RecordRefusedError(DeliveryError):
    """A record will never be written: it is larger than a limit, or the broker finds it invalid."""


class RecordTooLargeError(RecordRefusedError):
    """A record is larger than the limit. It was not sent, and the producer can go on without it.

    Attributes:
        row: Its place in the column that was to be appended; the rows before it were, it and those after it were not.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


class CommitError(TransportError):
    """The group refused offsets, because its generation has moved on."""


class AuthorizationError(TransportError):
    """The broker knows who we are and does not permit it; the message has the command that grants it.

    Attributes:
        needed: The part of the message that tells who needs which permission; empty where that is not known.
    """

    def __init__(self, message: str, needed: str = "") -> None:
        super().__init__(message)
        self.needed = needed


_ACTIONS: tuple[tuple[type[Exception], Action], ...] = (
    (BrokerUnavailableError, "retry"),
    (DataLossError, "refuse"),
    (RecordRefusedError, "apply the policy"),
    (DeliveryError, "start over"),
    (CommitError, "start over"),
    (TaskMigratedError, "start over"),
    (OffsetOutOfRangeError, "start over"),
    (TaskCorruptedError, "rebuild"),
    (StateCorruptedError, "rebuild"),
    (DiskFullError, "start over"),
    (RetryLaterError, "start over"),
    (TooManyErrorsError, "refuse"),
    (ProcessingError, "apply the policy"),
    (ProductionError, "apply the policy"),
    (SerdeError, "apply the policy"),
    (AuthorizationError, "refuse"),
    (ConfigError, "refuse"),
    (InternalTopicError, "refuse"),
    (MissingTopicError, "refuse"),
    (TopologyError, "refuse"),
)  # a subclass comes before its parent


def action_for(error: BaseException) -> Action:
    """What follows from ``error``; ``stop`` for everything that is not listed, defects above all."""
    return next((action for kind, action in _ACTIONS if isinstance(error, kind)), "stop")
