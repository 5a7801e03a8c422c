"""Updates that a cache held back tell where they came from; what nobody knows is left unknown."""

from types import SimpleNamespace
from typing import Any

from streamlib.operators.cached_origins import CachedOrigins, forward_from
from streamlib.record import ChangeBatch, TopicPartition

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def context(tp: TopicPartition | None = None) -> Any:
    return SimpleNamespace(tp=tp)


def test_each_update_has_the_offset_of_its_record_when_every_record_made_one() -> None:
    task = context(A)
    origins = CachedOrigins(task)
    origins.note(2, [10, 11])
    task.tp = B
    origins.note(3, [7])
    assert origins.of([3, 1, 2]) == [(B, 7), (A, 10), (A, 11)]


def test_offsets_are_unknown_when_some_records_made_no_update() -> None:
    origins = CachedOrigins(context(A))
    origins.note(1, [10, 11])
    origins.note(2, None)
    assert origins.of([1, 2, 3]) == [(A, None), (A, None), (None, None)]


def test_batches_are_forgotten_when_they_were_flushed() -> None:
    origins = CachedOrigins(context(A))
    origins.note(2, [10, 11])
    origins.note(3, [12])
    origins.forget(2)
    assert origins.of([1, 3]) == [(A, None), (A, 12)]


def test_changes_go_down_in_order_as_if_their_records_were_at_hand() -> None:
    task = context(A)
    changes = ChangeBatch(["x", "y", "z"], [1, 2, 3], [5, 6, 7], olds=[None, 1, 2])
    changes.store_keys = [b"x", b"y", b"z"]
    seen: list[Any] = []

    def forward(part: ChangeBatch) -> None:
        seen.append((task.tp, part.keys, part.values, part.olds, part.offsets, part.store_keys))

    forward_from([(B, 1), (B, 2), (A, None)], changes, task, forward)
    assert seen == [
        (B, ["x", "y"], [1, 2], [None, 1], [1, 2], [b"x", b"y"]),
        (A, ["z"], [3], [2], None, [b"z"]),
    ]
    assert task.tp == A
