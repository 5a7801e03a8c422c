"""Rules of the driver that no supported scenario shows."""

from tests.conformance.queue_order import QueueOrder


def test_topics_come_as_javas_priority_queue_gives_them_when_times_are_equal() -> None:
    order = QueueOrder()
    for topic, time in {"a": 5, "b": 5, "c": 5, "d": 3, "e": 5, "f": 3, "g": 5}.items():
        order.add(time, topic)
    assert order.first_time == 3
    assert "".join(order.take() for _ in range(7)) == "dfcebga"
    assert order.first_time is None
