"""Counters and gauges."""

from streamlib.metrics import Metrics


def test_a_total_sums_over_the_labels_that_were_not_asked_for() -> None:
    metrics = Metrics()
    metrics.count("records_total", 3, node="a", task="0_0")
    metrics.count("records_total", 4, node="a", task="0_1")
    metrics.count("records_total", 5, node="b", task="0_0")
    metrics.count("others_total", 100, node="a")
    assert metrics.total("records_total") == 12
    assert metrics.total("records_total", node="a") == 7
    assert metrics.total("records_total", task="0_0", node="b") == 5


def test_a_counter_that_nobody_touched_is_zero() -> None:
    metrics = Metrics()
    assert metrics.total("records_total") == 0
    assert list(metrics) == []


def test_label_order_makes_no_difference() -> None:
    metrics = Metrics()
    metrics.count("n", a="1", b="2")
    metrics.count("n", b="2", a="1")
    assert list(metrics) == [("n", {"a": "1", "b": "2"}, 2)]


def test_dropped_records_are_counted_by_node_and_reason() -> None:
    metrics = Metrics()
    metrics.dropped("join", "null-key", 2)
    metrics.dropped("join", "expired")
    assert metrics.total("dropped_records_total", reason="null-key") == 2
    assert metrics.total("dropped_records_total", node="join") == 3


def test_a_gauge_keeps_its_last_value() -> None:
    metrics = Metrics()
    metrics.gauge("lag_records", 5, topic="words")
    metrics.gauge("lag_records", 2.5, topic="words")
    assert list(metrics) == [("lag_records", {"topic": "words"}, 2.5)]


def test_counters_come_before_gauges() -> None:
    metrics = Metrics()
    metrics.gauge("g", 1)
    metrics.count("c")
    assert [name for name, _, _ in metrics] == ["c", "g"]
