"""The life of a task, as data.

CREATED ──▶ RESTORING ──▶ RUNNING ──▶ SUSPENDED ──▶ CLOSED
               ▲  ▲          │            │
               │  └──────────┘            │        after an error: uncommitted work is dropped
               └──────────────────────────┘        the group gave the task back after work was dropped
SUSPENDED ──▶ RUNNING when a rebalance leaves the task where it was; every state may go to CLOSED.
"""

from enum import Enum


class TaskState(Enum):
    """What a task is doing."""

    CREATED = "created"
    RESTORING = "restoring"
    RUNNING = "running"
    SUSPENDED = "suspended"
    CLOSED = "closed"


LEGAL: dict[TaskState, frozenset[TaskState]] = {
    TaskState.CREATED: frozenset({TaskState.RESTORING, TaskState.CLOSED}),
    TaskState.RESTORING: frozenset({TaskState.RESTORING, TaskState.RUNNING, TaskState.CLOSED}),
    TaskState.RUNNING: frozenset({TaskState.SUSPENDED, TaskState.RESTORING, TaskState.CLOSED}),
    TaskState.SUSPENDED: frozenset({TaskState.RUNNING, TaskState.RESTORING, TaskState.CLOSED}),
    TaskState.CLOSED: frozenset(),
}
