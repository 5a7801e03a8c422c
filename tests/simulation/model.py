"""Exactly-once in the small: every order of events of two workers, one task and one log, looked through to the end.

Z has the task; N gets it, in the group's second generation, while Z may know nothing of it. A record makes the task
write its count plus one, so does a timer. Requests are done at once or go astray; markers come to the log and to the
offsets each in their time. In the end, whatever happened, the committed counts must be 1, 2, 3 ..., and so must the
records that they are of. What goes wrong goes wrong with Z; N's requests are done at once, its markers come together.

`explore` finds the shortest way to a state that is wrong; with all rules kept there is none. `test_model` takes out
one rule after the other. Next: `scenario`, which shows that the worker keeps them.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

RULES = (
    "A1 fence",
    "A2 stable offsets",
    "A3 end is the high watermark",
    "A4 restore",
    "C1 await acknowledgements",
    "C2 no lost batch",
    "C3 no work of another generation",
    "C4 an offset of each task",
    "C4 nothing after the offsets",
    "C6 state after the commit",
    "new epoch",
    "drop work",
)
RECORDS, TIMERS, FAULTS = 2, 1, 1
Z, N = 0, 1


class Entry(NamedTuple):
    """A row of the log: who wrote it, the count, the record it is of (None: a timer), what became of it."""

    writer: int
    total: int
    record: int | None
    fate: str  # open, committed, aborted


class Worker(NamedTuple):
    """A worker; ``kept`` is what its disk holds: a count, and up to which offset of the log it is the fold.

    Phases: away; fetch, ends, restore; idle; open (has written); ended (its offsets are accepted); retry (nobody
    answered); gone.
    """

    phase: str = "away"
    generation: int = 1
    position: int = 0
    total: int = 0
    end: int = 0
    moved: bool = False
    lost: bool = False
    unanswered: bool = False
    sent: tuple[tuple[int, int | None], ...] = ()
    kept: tuple[int, int] = (0, 0)


class Producer(NamedTuple):
    """What the transaction coordinator knows of a worker's producer, and of its markers on their way."""

    epoch: int = 0
    known: int = 0  # the epoch that the worker has
    ongoing: bool = False
    log_marker: str = ""
    offsets_marker: str = ""
    pending: int | None = None


class World(NamedTuple):
    """Everything."""

    workers: tuple[Worker, Worker] = (Worker("idle"), Worker())
    producers: tuple[Producer, Producer] = (Producer(), Producer())
    log: tuple[Entry, ...] = ()
    generation: int = 1
    committed: int = 0
    timers: int = TIMERS
    faults: int = FAULTS
    late: tuple[tuple[int, int], ...] = ()

    def with_worker(self, who: int, **changes: Any) -> "World":
        """One worker changed."""
        workers = list(self.workers)
        workers[who] = workers[who]._replace(**changes)
        return self._replace(workers=(workers[0], workers[1]))

    def with_producer(self, who: int, **changes: Any) -> "World":
        """One producer changed."""
        producers = list(self.producers)
        producers[who] = producers[who]._replace(**changes)
        return self._replace(producers=(producers[0], producers[1]))

    @property
    def stable(self) -> int:
        """The last stable offset."""
        return next((at for at, entry in enumerate(self.log) if entry.fate == "open"), len(self.log))


def _busy(producer: Producer) -> bool:
    return bool(producer.log_marker or producer.offsets_marker)


def _decide(world: World, who: int, fate: str) -> World:
    """The coordinator ends a transaction; the markers are on their way."""
    if who == N:
        committed = world.producers[N].pending
        if fate == "committed" and committed is not None:
            world = world._replace(committed=committed)
        return world._replace(log=_marked(world.log, N, fate)).with_producer(N, ongoing=False, pending=None)
    return world.with_producer(who, ongoing=False, log_marker=fate, offsets_marker=fate)


def _marked(log: tuple[Entry, ...], who: int, fate: str) -> tuple[Entry, ...]:
    return tuple(each._replace(fate=fate) if each.writer == who and each.fate == "open" else each for each in log)


def _renew(world: World, who: int) -> World:
    """A new producer of the same id: what is open is aborted, older epochs are fenced."""
    producer = world.producers[who]
    world = world.with_producer(who, epoch=producer.epoch + 1, known=producer.epoch + 1)
    return _decide(world, who, "aborted") if producer.ongoing else world


def _start_over(world: World, who: int, broken: str) -> World:
    """Work is dropped, and the task restored; or it belongs to somebody else by now."""
    world = _renew(world, who)
    if broken == "drop work":
        return world.with_worker(who, phase="idle", sent=(), moved=False, lost=False, unanswered=False)
    mine = world.workers[who].generation == world.generation
    return world.with_worker(who, phase="fetch" if mine else "gone", sent=(), moved=False, lost=False, unanswered=False)


def steps(world: World, broken: str) -> Iterator[tuple[str, World]]:
    """Everything that may happen next."""
    yield from _group_steps(world, broken)
    for who in (Z, N):
        yield from _broker_steps(world, who)
        worker = world.workers[who]
        if worker.phase in ("fetch", "ends", "restore"):
            yield from _restoring(world, who, broken)
        elif worker.phase in ("idle", "open", "ended"):
            yield from _writing(world, who, broken)
            yield from _committing(world, who, broken)
        elif worker.phase == "retry" and not _busy(world.producers[who]):
            yield "ends, again", _end(world, who, broken)


def _group_steps(world: World, broken: str) -> Iterator[tuple[str, World]]:
    z = world.workers[Z]
    if world.generation == 1:
        yield "rebalance", world._replace(generation=2).with_worker(N, phase="fetch", generation=2)
        if world.faults and z.phase != "gone":
            after = world._replace(generation=2, faults=world.faults - 1)
            after = _renew(after, Z).with_worker(Z, phase="gone", sent=())
            yield "Z crashes and starts again as N", after.with_worker(N, phase="fetch", generation=2, kept=z.kept)
    elif z.generation == 1 and z.phase in ("idle", "open"):
        if z.phase == "idle" and not z.sent:
            yield "Z rejoins", world.with_worker(Z, phase="gone")
        elif broken == "C3 no work of another generation":
            yield "Z rejoins with its work", world.with_worker(Z, generation=2)
        else:
            yield "Z rejoins, and drops", _start_over(world, Z, "").with_worker(Z, phase="gone")


def _broker_steps(world: World, who: int) -> Iterator[tuple[str, World]]:
    producer, name = world.producers[who], "ZN"[who]
    if producer.log_marker:
        log = _marked(world.log, who, producer.log_marker)
        yield f"marker of {name} in the log", world._replace(log=log).with_producer(who, log_marker="")
    if producer.offsets_marker:
        after = world.with_producer(who, offsets_marker="", pending=None)
        if producer.offsets_marker == "committed" and producer.pending is not None:
            after = after._replace(committed=producer.pending)
        yield f"marker of {name} in the offsets", after
    if producer.ongoing and world.faults and who == Z:
        after = world._replace(faults=world.faults - 1).with_producer(who, epoch=producer.epoch + 1)
        yield f"transaction of {name} times out", _decide(after, who, "aborted")
    for late in world.late:
        if late[0] == who and not _busy(producer):
            after = world._replace(late=tuple(each for each in world.late if each != late))
            right = producer.ongoing and late[1] == producer.epoch
            yield f"late end of {name}", _decide(after, who, "committed") if right else after


def _restoring(world: World, who: int, broken: str) -> Iterator[tuple[str, World]]:
    worker, name = world.workers[who], "ZN"[who]
    if worker.generation != world.generation:
        yield f"{name} hears that the task has gone", world.with_worker(who, phase="gone")
    elif worker.phase == "fetch":
        if broken == "A2 stable offsets" or all(each.pending is None for each in world.producers):
            yield f"{name} reads its offset", world.with_worker(who, phase="ends", position=world.committed)
    elif worker.phase == "ends":
        end = world.stable if broken == "A3 end is the high watermark" else len(world.log)
        yield f"{name} reads the end", world.with_worker(who, phase="restore", end=end)
    elif broken == "A4 restore":
        yield f"{name} runs", world.with_worker(who, phase="idle", total=worker.kept[0])
    elif world.stable >= worker.end:
        total, at = worker.kept
        for entry in world.log[at : worker.end]:
            total = entry.total if entry.fate == "committed" else total
        kept = (total, max(at, worker.end))
        yield f"{name} restores", world.with_worker(who, phase="idle", total=total, kept=kept)


def _writing(world: World, who: int, broken: str) -> Iterator[tuple[str, World]]:
    worker, producer, name = world.workers[who], world.producers[who], "ZN"[who]
    total = worker.total + 1
    if worker.phase != "ended" and worker.position < RECORDS and not _stale(worker):
        yield (
            f"{name} takes {worker.position}",
            world.with_worker(
                who,
                phase="open",
                total=total,
                position=worker.position + 1,
                moved=True,
                sent=(*worker.sent, (total, worker.position)),
            ),
        )
    if world.timers and not _stale(worker) and (worker.phase != "ended" or broken == "C4 nothing after the offsets"):
        phase = "ended" if worker.phase == "ended" else "open"
        after = world._replace(timers=world.timers - 1)
        yield f"timer of {name}", after.with_worker(who, phase=phase, total=total, sent=(*worker.sent, (total, None)))
    if worker.sent and not _busy(producer):
        (value, record), *left = worker.sent
        after = world.with_worker(who, sent=tuple(left))
        if producer.known == producer.epoch:
            entry = Entry(who, value, record, "open")
            written = after._replace(log=(*world.log, entry)).with_producer(who, ongoing=True)
            yield f"batch of {name} arrives", written
        if producer.known != producer.epoch or (world.faults and who == Z):
            faults = world.faults - (producer.known == producer.epoch)
            yield f"batch of {name} is lost", after._replace(faults=faults).with_worker(who, lost=True)


def _stale(worker: Worker) -> bool:
    """Whether it only carries old work into a new generation."""
    return worker.generation == 2 and worker.kept == (0, 0) and worker.end == 0 and worker.phase == "open"


def _committing(world: World, who: int, broken: str) -> Iterator[tuple[str, World]]:
    worker, producer, name = world.workers[who], world.producers[who], "ZN"[who]
    if worker.phase == "open":
        if worker.lost and broken != "C2 no lost batch":
            yield f"{name} starts over", _start_over(world, who, broken)
        elif not worker.sent or broken == "C1 await acknowledgements":
            yield from _offsets(world, who, broken)
    elif worker.phase == "idle" and broken == "C4 nothing after the offsets" and not _busy(producer):
        if worker.generation == world.generation:  # of another task of the same worker
            yield f"{name} sends other offsets", world.with_worker(who, phase="ended").with_producer(who, ongoing=True)
    elif worker.phase == "ended" and (not worker.sent or broken == "C1 await acknowledgements"):
        if producer.known != producer.epoch or (worker.lost and broken != "C2 no lost batch"):
            yield f"end of {name} is refused", _start_over(world, who, broken)
        elif not _busy(producer):
            yield f"{name} ends", _end(world, who, broken)
            if world.faults and who == Z:
                after = world._replace(faults=world.faults - 1, late=(*world.late, (who, producer.known)))
                yield f"end of {name} is late", after.with_worker(who, phase="retry", unanswered=True)


def _offsets(world: World, who: int, broken: str) -> Iterator[tuple[str, World]]:
    worker, producer, name = world.workers[who], world.producers[who], "ZN"[who]
    if broken == "C6 state after the commit":
        world = world.with_worker(who, kept=(worker.total, len(world.log)))
    if producer.known != producer.epoch:
        yield f"{name} is fenced", _start_over(world, who, broken)
    elif not worker.moved and broken == "C4 an offset of each task":
        yield f"{name} sends no offsets", world.with_worker(who, phase="ended")
    elif worker.generation != world.generation and broken != "A1 fence":
        yield f"offsets of {name} are refused", _start_over(world, who, broken)
    elif not _busy(producer):
        accepted = world.with_producer(who, pending=worker.position, ongoing=True)
        yield f"offsets of {name} are accepted", accepted.with_worker(who, phase="ended")


def _end(world: World, who: int, broken: str) -> World:
    worker, producer = world.workers[who], world.producers[who]
    if producer.known != producer.epoch:
        return _start_over(world, who, broken)
    if producer.ongoing:
        world = _decide(world, who, "committed")
    kept = worker.kept if broken == "C6 state after the commit" else (worker.total, len(world.log))
    world = world.with_worker(who, phase="idle", moved=False, lost=False, unanswered=False, kept=kept)
    if worker.unanswered and broken != "new epoch":
        epoch = producer.epoch + 1
        world = world.with_producer(who, epoch=epoch, known=epoch)
    return world


def wrong(world: World) -> str | None:
    """What is wrong, where nothing is under way."""
    if world.late or any(each.ongoing or _busy(each) or each.pending is not None for each in world.producers):
        return None
    entries = [entry for entry in world.log if entry.fate == "committed"]
    counts = [entry.total for entry in entries]
    records = [entry.record for entry in entries if entry.record is not None]
    if counts != list(range(1, len(counts) + 1)):
        return f"the counts are {counts}"
    if records != list(range(len(records))):
        return f"the records are {records}"
    if len(records) != world.committed:
        return f"{len(records)} records are in the log, the offset is {world.committed}"
    return None


def explore(broken: str = "", faults: int = FAULTS) -> tuple[int, str | None, list[str]]:
    """Go through all states; how many there are, what is wrong in the first wrong one, and the way there.

    Args:
        broken: The rule that is not kept.
        faults: How many things may go wrong on one way.
    """
    first = World(faults=faults)
    came: dict[World, tuple[World, str] | None] = {first: None}
    queue = deque([first])
    while queue:
        world = queue.popleft()
        if (problem := wrong(world)) is not None:
            way = []
            at: World = world
            while (before := came[at]) is not None:
                at, step = before
                way.append(step)
            return len(came), problem, way[::-1]
        for step, after in steps(world, broken):
            if after not in came:
                came[after] = (world, step)
                queue.append(after)
    return len(came), None, []
