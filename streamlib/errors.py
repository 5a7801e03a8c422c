"""Every exception streamlib raises on purpose.

    StreamlibError
    ├── TopologyError           mistakes of a topology, all of them together, at build()
    ├── ConfigError             a setting that cannot work
    ├── SerdeError
    │   └── DeserializationError    bytes of a record that its serde refuses
    ├── ProcessingError         a user function raised
    │   └── BufferFullError         a suppressed table holds back more than its buffer may have
    ├── StateStoreError         a store cannot be opened, read or written
    │   ├── StateDirLockedError     another process uses the state directory
    │   └── StateCorruptedError     files of a store are damaged: set them aside and rebuild from the changelog
    ├── TaskMigratedError       the group gave the task to another worker: drop it, go on
    ├── TaskCorruptedError      local state disagrees with its changelog: rebuild that task
    ├── InternalTopicError      a repartition or changelog topic is not as it must be
    └── TransportError
        ├── BrokerUnavailableError  nobody answers at the broker's address; safe to try again
        ├── MissingTopicError       a topic does not exist
        ├── BrokerLockedError       another process uses the embedded broker's directory
        ├── OffsetOutOfRangeError   a position before the log's start or after its end
        ├── DeliveryError           a record was not written; nothing since the last flush may be committed
        └── CommitError             offsets were refused: the group has moved on

A message says what happened, where (``task= node= topic= partition= offset=``, in that order), and the mend.
"""

from collections.abc import Sequence


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


class StateStoreError(StreamlibError):
    """A state store cannot be opened, read or written."""


class StateDirLockedError(StateStoreError):
    """Another process has the state directory open."""


class StateCorruptedError(StateStoreError):
    """The files of a store are damaged; set the directory aside and rebuild that task from the changelog."""


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


class DeliveryError(TransportError):
    """A record could not be written; nothing produced since the last flush may be committed."""


class CommitError(TransportError):
    """The group refused offsets, because its generation has moved on."""
