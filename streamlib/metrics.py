"""Counters of one worker, by name and labels; read by the command line, the tests and the metrics page."""

from collections import Counter
from collections.abc import Iterator

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """A registry of counters and gauges.

    Updates are per batch, never per record.
    """

    def __init__(self) -> None:
        self._counters: Counter[tuple[str, Labels]] = Counter()
        self._gauges: dict[tuple[str, Labels], float] = {}

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add ``amount`` to a counter."""
        self._counters[name, tuple(sorted(labels.items()))] += amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[name, tuple(sorted(labels.items()))] = value

    def dropped(self, node: str, reason: str, amount: int = 1) -> None:
        """Count records that ``node`` left out; ``reason`` is one of a few fixed words such as ``null-key``."""
        self.count("dropped_records_total", amount, node=node, reason=reason)

    def total(self, name: str, **labels: str) -> int:
        """The sum of a counter over all label sets that contain ``labels``."""
        wanted = set(labels.items())
        return sum(amount for (n, held), amount in self._counters.items() if n == name and wanted <= set(held))

    def __iter__(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for (name, labels), amount in self._counters.items():
            yield name, dict(labels), amount
        for (name, labels), value in self._gauges.items():
            yield name, dict(labels), value
