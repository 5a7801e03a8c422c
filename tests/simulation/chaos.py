"""What goes wrong in one run, drawn from its seed: how the network is, and when a worker is struck.

A strike hits a worker at its n-th callback, so at any await of whatever it is doing, or at its n-th request of one
kind: before the broker does it, after, or a few callbacks after the answer. Most requests chosen are those of commit
and restore. Next: `scenario`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tests.simulation.loop import Process, SimulationLoop
from tests.simulation.network import Route
from tests.simulation.partition import OUT_OF_ORDER_SEQUENCE, Refused

Deed = Literal["crash", "freeze", "stop", "cut"]
Strike = Callable[[Process, Deed], None]

DELICATE = (
    "produce",
    "add-partitions",
    "add-offsets",
    "txn-offset-commit",
    "end-txn",
    "offset-commit",
    "offset-fetch",
    "list-offsets",
    "init-producer",
    "join-group",
    "sync-group",
    "heartbeat",
    "fetch",
)
ABSENCES: dict[Deed, tuple[float, float]] = {
    "crash": (0.02, 3.0),
    "stop": (0.02, 2.0),
    "freeze": (0.2, 8.0),
    "cut": (0.2, 6.0),
}
LATE_SECONDS = (1.0, 6.0)
RESETS = 0.5
OUTAGE_SECONDS = (0.0, 0.0, 0.0, 0.3, 1.5, 3.0)
LATE_STRIKES = 0.5
LATENCY_SECONDS = (0.0005, 0.002, 0.01)
MARKER_SECONDS = (0.002, 0.02, 0.3, 2.0)


@dataclass
class Plan:
    """When one worker is struck.

    Attributes:
        deed: What happens to it.
        kind: The request it happens at; None for a callback.
        left: How many of them are to come before.
        place: Before or after the broker does it, or so many callbacks after that.
    """

    deed: Deed
    kind: str | None
    left: int
    place: Literal["before", "after"] | int


@dataclass(frozen=True)
class Focus:
    """Where to strike in all runs of a test, instead of anywhere.

    Attributes:
        deed: What happens.
        kind: The request it happens at.
        place: As of `Plan`; an int is the most callbacks after the answer.
        seconds: How long the worker is away, at least and at most.
        first: It is one of so many first requests of that kind.
        late_ends: Share of the requests to end a transaction that come late, when the worker dies.
        refusals: Share of the batches that are refused.
        marker_seconds: How long a marker takes at most; None leaves it to the seed.
    """

    deed: Deed = "crash"
    kind: str = "end-txn"
    place: Literal["before", "after"] | int = "after"
    seconds: tuple[float, float] | None = None
    first: int = 12
    late_ends: float = 0.0
    refusals: float = 0.0
    marker_seconds: float | None = None


class Chaos:
    """Implements `network.Routes`.

    Args:
        loop: Chance and time.
        strike: Called when a worker is to be struck.
        focus: Where, if not anywhere.

    Attributes:
        active: Whether anything goes wrong at all.
    """

    def __init__(self, loop: SimulationLoop, strike: Strike, focus: Focus | None = None) -> None:
        random = loop.random
        self.active = True
        self._loop = loop
        self._random = random
        self._strike = strike
        self._latency = random.choice(LATENCY_SECONDS)
        self._marker = random.choice(MARKER_SECONDS)
        self._loss = random.choice((0.0, 0.0, 0.01, 0.04))
        joins = random.choice((0.0, 0.0, 0.1, 0.3))
        self._lost = {"end-txn": random.choice((0.0, 0.02, 0.1)), "join-group": joins, "sync-group": joins}
        self._refusal = random.choice((0.0, 0.0, 0.01))
        begin = random.uniform(0.0, 5.0)
        self._outage = (begin, begin + random.choice(OUTAGE_SECONDS))
        self._began = loop.time()
        self._cut_until: dict[Process, float] = {}
        self._plans: dict[Process, Plan] = {}
        self._focus = focus
        if focus is not None:
            self._loss, self._refusal = 0.0, focus.refusals
            self._outage = (0.0, 0.0)
            self._lost = {"end-txn": focus.late_ends}
            if focus.marker_seconds is not None:
                self._marker = focus.marker_seconds

    def threaten(self, process: Process) -> None:
        """Plan the next strike on a worker, which may come or not."""
        random, focus = self._random, self._focus
        deed: Deed = random.choice(("crash", "crash", "freeze", "freeze", "stop", "cut"))
        if focus is not None:
            place = focus.place if isinstance(focus.place, str) else random.randrange(focus.place)
            plan = Plan(focus.deed, focus.kind, random.randrange(focus.first), place)
        elif random.random() < 0.3:
            plan = Plan(deed, None, int(random.random() ** 2 * 1500), "before")
        else:
            place = random.choice(("before", "after", random.randrange(1, 12)))
            plan = Plan(deed, random.choice(DELICATE), int(random.random() ** 2 * 25), place)
        self._plans[process] = plan
        process.on_step = self._on_step if plan.kind is None else None

    def absence(self, deed: Deed) -> float:
        """How many seconds a worker that is struck stays away."""
        seconds = None if self._focus is None else self._focus.seconds
        return self._random.uniform(*(seconds or ABSENCES[deed]))

    @property
    def quiet(self) -> bool:
        """Whether no request of this run could come late."""
        return not (self._loss or self._lost["end-txn"])

    def spare(self, processes: Iterable[Process]) -> None:
        """Plan nothing for these any more."""
        for process in processes:
            self._plans.pop(process, None)
            process.on_step = None

    def marker_delay(self) -> float:
        """How long a marker takes."""
        return self._random.random() * (self._marker if self.active else MARKER_SECONDS[0])

    def route(self, process: Process | None, kind: str) -> Route:
        """The route of the next request."""
        random = self._random
        latency = self._latency
        route = Route(random.random() * latency, random.random() * latency)
        if not self.active:
            return route
        if self._unreachable(process):
            route.there, route.reset = None, random.choice((None, 0.01))
        elif random.random() < self._lost.get(kind, self._loss):
            fate = random.randrange(3) if self._focus is None else 2
            if random.random() < RESETS:
                route.reset = random.uniform(0.0, 0.05)
            if fate == 0:
                route.there = None
            elif fate == 1:
                route.back = None
            else:
                route.there = random.uniform(*LATE_SECONDS)
                if process is not None and random.random() < (LATE_STRIKES if self._focus is None else 1.0):
                    route.after = lambda: self._late(process)
        if kind == "produce" and random.random() < self._refusal:
            route.refusal = Refused(OUT_OF_ORDER_SEQUENCE, "a batch is refused")
        if process is not None and (plan := self._plans.get(process)) is not None and plan.kind == kind:
            self._aim(process, plan, route)
        return route

    def cut(self, process: Process, seconds: float) -> None:
        """Nothing that a worker sends arrives for a while."""
        self._cut_until[process] = self._loop.time() + seconds

    def _unreachable(self, process: Process | None) -> bool:
        now = self._loop.time()
        begin, end = self._outage
        out = begin <= now - self._began < end
        return out or (process is not None and now < self._cut_until.get(process, 0.0))

    def _late(self, process: Process) -> None:
        """A request has come that nobody waits for any more: the worst moment to die."""
        if self.active and process.alive:
            self.spare([process])
            self._strike(process, "crash")

    def _aim(self, process: Process, plan: Plan, route: Route) -> None:
        plan.left -= 1
        if plan.left >= 0:
            return
        if plan.place == "before":
            route.before = lambda: self._hit(process, plan)
        elif plan.place == "after":
            route.after = lambda: self._hit(process, plan)
        else:
            route.after = lambda: self._count_down(process, plan)

    def _count_down(self, process: Process, plan: Plan) -> None:
        assert isinstance(plan.place, int)
        plan.left = plan.place
        process.on_step = self._on_step

    def _on_step(self, process: Process) -> None:
        plan = self._plans.get(process)
        if plan is None:
            return
        plan.left -= 1
        if plan.left < 0:
            self._hit(process, plan)

    def _hit(self, process: Process, plan: Plan) -> None:
        if self._plans.get(process) is plan and self.active:
            self.spare([process])
            self._strike(process, plan.deed)


class MissedGeneration(Chaos):
    """The first worker does not hear what a generation gives it; the second one works on its tasks, and dies."""

    def __init__(self, loop: SimulationLoop, strike: Strike, focus: Focus | None = None) -> None:
        super().__init__(loop, strike, focus)
        self._marker = MARKER_SECONDS[0]
        self._syncs = self._ends = 0

    def threaten(self, process: Process) -> None:
        """Nothing but what `route` does."""

    def absence(self, deed: Deed) -> float:
        """Until the end."""
        return 30.0

    def route(self, process: Process | None, kind: str) -> Route:
        """The first worker's second assignment goes astray; the second worker dies after its third commit."""
        route = Route(LATENCY_SECONDS[0], LATENCY_SECONDS[0])
        if process is not None and self.active:
            if process.name == "w0.1" and kind == "sync-group":
                self._syncs += 1
                if self._syncs == 2:
                    route.back, route.reset = None, 0.9
            if process.name == "w1.1" and kind == "end-txn":
                self._ends += 1
                if self._ends == 3:
                    route.after = lambda: self._strike(process, "crash")
        return route
