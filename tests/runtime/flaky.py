"""A transport that fails when a test says so: the real one, with errors in its calls."""

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

from streamlib.errors import BrokerUnavailableError
from streamlib.transport.base import Transport


class Faults:
    """Which calls are to fail.

    Attributes:
        calls: How often each was made, as ``admin.partition_counts``.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._planned: dict[str, list[tuple[int, Exception, bool]]] = {}

    def fail(self, name: str, times: int = 1, error: Exception | None = None, *, after: bool = False) -> None:
        """The next ``times`` calls of ``name`` raise; after they have taken effect, if ``after``."""
        self._planned[name] = [(times, error or BrokerUnavailableError(f"{name} found no broker"), after)]

    def next(self, name: str) -> tuple[Exception | None, bool]:
        """Count a call; how it fails, if it does."""
        self.calls[name] += 1
        planned = self._planned.get(name)
        if not planned:
            return None, False
        times, error, after = planned.pop()
        if times > 1:
            planned.append((times - 1, error, after))
        return type(error)(*error.args), after


class _Flaky:
    def __init__(self, kind: str, real: Any, faults: Faults) -> None:
        self._kind, self._real, self._faults = kind, real, faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return self._failing(name, found) if inspect.iscoroutinefunction(found) else found

    def _failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def failing(*args: Any, **kwargs: Any) -> Any:
            error, after = self._faults.next(f"{self._kind}.{name}")
            if error is not None and not after:
                raise error
            answer = await call(*args, **kwargs)
            if error is not None:
                raise error
            return answer

        return failing


class FlakyTransport:
    """Another transport, with faults."""

    def __init__(self, real: Transport, faults: Faults) -> None:
        self.address = real.address
        self.max_workers = real.max_workers
        self._real = real
        self._faults = faults

    async def start(self) -> None:
        await _Flaky("transport", self._real, self._faults).start()

    async def close(self) -> None:
        await self._real.close()

    def consumer(self, group: Any = None, isolation: Any = "read_committed") -> Any:
        kind = "reader" if group is None else "member"
        return _Flaky(kind, self._real.consumer(group, isolation), self._faults)

    def producer(self, transactional_id: str | None = None, transaction_timeout_ms: int = 10_000) -> Any:
        return _Flaky("producer", self._real.producer(transactional_id, transaction_timeout_ms), self._faults)

    async def admin(self) -> Any:
        admin = await _Flaky("transport", self._real, self._faults).admin()
        return _Flaky("admin", admin, self._faults)
