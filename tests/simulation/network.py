"""Requests and answers between the clients of a process and the broker: each takes its time, and may go astray.

What the client cannot tell apart is apart here: a request that never arrives, one whose answer never arrives, and one
that arrives after the client has given up. Next: `broker`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from streamlib.errors import BrokerUnavailableError
from tests.simulation.broker import Broker
from tests.simulation.loop import CURRENT, Process, SimulationLoop
from tests.simulation.partition import Refused

T = TypeVar("T")

REQUEST_SECONDS = 1.0
RECHECK_SECONDS = 0.1


@dataclass
class Route:
    """What becomes of one request.

    Attributes:
        there: Seconds until it arrives; None for never.
        back: Seconds until the answer arrives; None for never.
        reset: Seconds until the client hears that the connection is gone; None if it is not.
        before: Called when it arrives.
        after: Called when the broker has done it.
        refusal: What the broker answers instead of doing it.
    """

    there: float | None = 0.0
    back: float | None = 0.0
    reset: float | None = None
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    refusal: Refused | None = None


class Routes(Protocol):
    """Decides what becomes of requests."""

    def route(self, process: Process | None, kind: str) -> Route:
        """The route of the next request."""


class Network:
    """Connects everyone to one broker.

    Args:
        broker: Where requests go.
        routes: Decides what becomes of them; None brings all of them, at once.

    Attributes:
        closed: Nobody is reached any more.
    """

    def __init__(self, broker: Broker, routes: Routes | None = None) -> None:
        self.broker = broker
        self.closed = False
        self._routes = routes
        self._loop = asyncio.get_running_loop()
        self._names = 0

    def next_name(self) -> str:
        """A name that no other client has."""
        self._names += 1
        return f"client-{self._names}"

    async def call(
        self,
        kind: str,
        job: Callable[[Broker], T | None],
        *,
        wait: float = 0.0,
        recheck: bool = False,
        timeout: float = REQUEST_SECONDS,
    ) -> T:
        """What the broker answers.

        Args:
            kind: Of request.
            job: Does it; where the broker may wait, None says that there is no answer yet.
            wait: How long the broker may wait for one, in seconds.
            recheck: Whether time alone may bring the answer, without any change that rings.
            timeout: How long to wait for the answer besides.

        Raises:
            BrokerUnavailableError: There was none: the request may have been done, may be done later, or never.
            Refused: The answer is an error.
        """
        loop, process = self._loop, CURRENT.get(None)
        if self.closed:
            raise BrokerUnavailableError("the simulation is over")
        route = Route() if self._routes is None else self._routes.route(process, kind)
        answer: asyncio.Future[T] = loop.create_future()
        request = _Request(self, kind, job, wait, recheck, route, answer, process)
        if route.there is not None:
            request.depart(route.there)
        timer = loop.call_later(timeout + wait if route.reset is None else route.reset, _give_up, answer, kind)
        try:
            return await answer
        finally:
            timer.cancel()

    def note(self, *what: object) -> None:
        """Make something part of the trace."""
        if isinstance(self._loop, SimulationLoop):
            self._loop.note(*what)


class _Request:
    """One request on its way."""

    def __init__(
        self,
        network: Network,
        kind: str,
        job: Callable[[Broker], Any],
        wait: float,
        recheck: bool,
        route: Route,
        answer: "asyncio.Future[Any]",
        process: Process | None,
    ) -> None:
        self._network = network
        self._loop = network._loop
        self._kind = kind
        self._job = job
        self._wait = wait
        self._recheck = recheck
        self._route = route
        self._answer = answer
        self._name = process.name if process is not None else "?"
        self._context = self._loop.world.context if isinstance(self._loop, SimulationLoop) else None

    def depart(self, seconds: float) -> None:
        """Arrive later."""
        self._loop.call_later(seconds, self._arrive, context=self._context)

    def _arrive(self) -> None:
        if self._network.closed:
            return
        if self._route.before is not None:
            self._route.before()
        self._network.note(self._name, self._kind)
        self._ask(self._loop.time() + self._wait)

    def _ask(self, deadline: float) -> None:
        if self._network.closed:
            return
        result: Any
        try:
            if self._route.refusal is not None:
                raise self._route.refusal
            result = self._job(self._network.broker)
        except Refused as refusal:
            result = refusal
        if result is None and self._loop.time() < deadline:
            self._wait_for_change(deadline)
            return
        if self._route.after is not None:
            self._route.after()
        if isinstance(result, Refused):
            self._network.note(self._name, self._kind, "refused", result.code)
        if self._route.back is not None:
            self._loop.call_later(self._route.back, _answered, self._answer, result, context=self._context)

    def _wait_for_change(self, deadline: float) -> None:
        left = deadline - self._loop.time()
        bell = self._network.broker.bell
        woken = False

        def wake(_: object = None) -> None:
            nonlocal woken
            if not woken:
                woken = True
                timer.cancel()
                bell.remove_done_callback(wake)
                self._ask(deadline)

        timer = self._loop.call_later(min(left, RECHECK_SECONDS) if self._recheck else left, wake)
        bell.add_done_callback(wake, context=self._context)


def _answered(answer: "asyncio.Future[Any]", result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, Refused):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _give_up(answer: "asyncio.Future[Any]", kind: str) -> None:
    if not answer.done():
        answer.set_exception(BrokerUnavailableError(f"{kind}: no answer"))
