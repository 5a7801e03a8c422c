"""Who runs which task, and who keeps a copy of it: pure, so that properties can be tested over random clusters.

Three steps. The *target* is balanced and keeps tasks where they run, else puts them where their state is. A task runs
at its target only if that is *caught up*; until then it runs where it runs, or at another member that is, and the
target gets a warm-up copy. Standbys go to other members, apart by tags, where a copy is already.

How far a member lags behind is told by comparing sums of changelog offsets with the largest one any member has. The
ends of the changelogs are not needed: nobody can restore less than the member that has most.

Source: HighAvailabilityTaskAssignor (KIP-441), ClientTagAwareStandbyTaskAssignor (KIP-708). Next: `assignor`, which
tells the members.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streamlib.runtime.partitions import TaskId


@dataclass(frozen=True)
class Candidate:
    """A member that may be given tasks.

    Attributes:
        process_id: Of its state directory.
        owned: Tasks it was given to run.
        running: Those of them whose state is complete.
        standbys: Tasks of which it keeps a copy now.
        warm_ups: Tasks that are to move to it: it makes a copy now.
        offsets: For each task it has state of, the sum of the offsets up to which it holds the changelogs.
        tags: Where it runs.
    """

    process_id: str = ""
    owned: frozenset[TaskId] = frozenset()
    running: frozenset[TaskId] = frozenset()
    standbys: frozenset[TaskId] = frozenset()
    warm_ups: frozenset[TaskId] = frozenset()
    offsets: Mapping[TaskId, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlacementOptions:
    """What the leader goes by.

    Attributes:
        standbys: Copies of each task besides the one that runs.
        acceptable_lag: A copy that has so many changelog records less than another one counts as caught up.
        max_warm_ups: Warm-up copies in the whole group at a time.
        spread_tags: Names of tags in whose values the copies of a task should differ.
    """

    standbys: int = 0
    acceptable_lag: int = 10_000
    max_warm_ups: int = 2
    spread_tags: tuple[str, ...] = ()


@dataclass
class Placement:
    """The decision, by member; every member is a key of ``actives``, ``standbys`` and ``warm_ups``.

    Attributes:
        actives: Tasks to run.
        standbys: Tasks to keep a copy of.
        warm_ups: Tasks to make a copy of, because they are to move there.
        moves: Tasks that do not run at their target yet, with that target: ask again when more is caught up.
    """

    actives: dict[str, list[TaskId]]
    standbys: dict[str, list[TaskId]]
    warm_ups: dict[str, list[TaskId]]
    moves: dict[TaskId, str]


def place(
    tasks: Sequence[TaskId],
    stateful: Collection[TaskId],
    logged: Collection[TaskId],
    members: Mapping[str, Candidate],
    options: PlacementOptions,
) -> Placement:
    """Where every task runs, and where copies are kept.

    Once nothing moves any more, members differ by at most one task, and by at most one stateful task.

    Args:
        tasks: All tasks, in the order in which they are spread.
        stateful: Those with stores.
        logged: Those whose stores have changelogs; others have no copies.
        members: Who is there, by member id.
        options: How many copies, and how good they must be.
    """
    names = sorted(members, key=lambda name: (members[name].process_id, name))
    actives, standbys, warm_ups = ({name: list[TaskId]() for name in names} for _ in range(3))
    placement = Placement(actives, standbys, warm_ups, {})
    if not names:
        return placement
    view = _View({name: members[name] for name in names}, options.acceptable_lag)
    load = dict.fromkeys(names, 0)
    target: dict[TaskId, str] = {}
    for group in ([task for task in tasks if task in stateful], [task for task in tasks if task not in stateful]):
        target |= _balanced(group, view, load)
    runs_at = {task: name for task, name in target.items() if view.caught_up(name, task)}
    active_load = {name: sum(at == name for at in runs_at.values()) for name in names}
    for task in tasks:
        if task not in runs_at:
            placement.moves[task] = target[task]
            runs_at[task] = view.interim(task, active_load)
            active_load[runs_at[task]] += 1
    nearest = sorted(placement.moves, key=lambda task: (view.lag(target[task], task), task))
    copies = {task: [target[task]] for task in nearest[: options.max_warm_ups]}
    for task, (name,) in copies.items():
        placement.warm_ups[name].append(task)
    _add_standbys([task for task in tasks if task in logged], view, runs_at, copies, options, placement.standbys)
    for task, name in runs_at.items():
        placement.actives[name].append(task)
    for kind in (placement.actives, placement.standbys, placement.warm_ups):
        for mine in kind.values():
            mine.sort()
    return placement


class _View:
    """The members, and what they have of each task."""

    def __init__(self, members: Mapping[str, Candidate], acceptable_lag: int) -> None:
        self.members = members
        self._acceptable = acceptable_lag
        self._latest: dict[TaskId, int] = {}
        for member in members.values():
            for task, offsets in member.offsets.items():
                self._latest[task] = max(offsets, self._latest.get(task, 0))
        self.owners: dict[TaskId, str] = {}
        for name, member in members.items():
            for task in sorted(member.owned):
                other = self.owners.get(task)  # one that was expelled may still believe that it has it
                if self.caught_up(name, task) and (other is None or self.lag(name, task) < self.lag(other, task)):
                    self.owners[task] = name

    def lag(self, name: str, task: TaskId) -> int:
        member = self.members[name]
        return 0 if task in member.running else self._latest.get(task, 0) - member.offsets.get(task, 0)

    def caught_up(self, name: str, task: TaskId) -> bool:
        return self.lag(name, task) <= self._acceptable

    def interim(self, task: TaskId, load: Mapping[str, int]) -> str:
        """Who runs a task while its target is not caught up; somebody always is."""
        if task in self.owners:
            return self.owners[task]
        return min(
            (name for name in self.members if self.caught_up(name, task)),
            key=lambda name: (self.quality(name, task) > 0, load[name], self.lag(name, task)),
        )

    def quality(self, name: str, task: TaskId) -> int:
        """How little work it is to keep a copy there; lower is less."""
        member = self.members[name]
        if task in member.standbys or task in member.warm_ups or task in member.running:
            return 0
        if task not in member.offsets:
            return 3
        return 1 if self.caught_up(name, task) else 2


def _balanced(group: Iterable[TaskId], view: _View, load: dict[str, int]) -> dict[TaskId, str]:
    """The target of one group of tasks on top of ``load``, which is kept up to date."""
    group = list(group)
    capacity = _capacities(group, view, load)
    owned = {task: view.owners[task] for task in group if task in view.owners}
    surplus = {name: -capacity[name] for name in capacity}
    for name in owned.values():
        surplus[name] += 1
    placed: dict[TaskId, str] = {}

    def put(task: TaskId, name: str) -> None:
        placed[task] = name
        surplus[name] += 1
        if task in owned:
            surplus[owned[task]] -= 1

    # Where state is: first what nobody runs, then what members with too many tasks give away, the same as last time.
    of_group = set(group)
    held = [
        (task in owned, task not in member.warm_ups, view.lag(name, task), task, name)
        for name, member in view.members.items()
        for task in member.offsets.keys() & of_group
    ]
    for is_owned, _, _, task, name in sorted(held):
        if task not in placed and surplus[name] < 0 and (not is_owned or surplus[owned[task]] > 0):
            put(task, name)
    homeless = [task for task in group if task not in placed and task not in owned]
    for task in reversed(group):
        if task in owned and task not in placed:
            placed[task] = owned[task]
            if surplus[owned[task]] > 0:
                homeless.append(task)
                surplus[owned[task]] -= 1
    for task in homeless:
        placed[task] = min(capacity, key=lambda name: (surplus[name], load[name] + capacity[name]))
        surplus[placed[task]] += 1
    for name in placed.values():
        load[name] += 1
    return placed


def _capacities(group: Sequence[TaskId], view: _View, load: Mapping[str, int]) -> dict[str, int]:
    """How many of the group's tasks each member takes, so that total loads differ by at most one.

    Where the division leaves a choice, the extra ones go to members that run more of these tasks, then to those that
    have the state of more.
    """
    runs = dict.fromkeys(load, 0)
    holds = dict.fromkeys(load, 0)
    for task in group:
        if task in view.owners:
            runs[view.owners[task]] += 1
    of_group = set(group)
    for name, member in view.members.items():
        holds[name] = len(member.offsets.keys() & of_group)
    capacity = dict.fromkeys(load, 0)
    for _ in group:
        least = min(load, key=lambda m: (load[m] + capacity[m], capacity[m] - runs[m], capacity[m] - holds[m]))
        capacity[least] += 1
    return capacity


def _add_standbys(
    tasks: Sequence[TaskId],
    view: _View,
    runs_at: Mapping[TaskId, str],
    copies: dict[TaskId, list[str]],
    options: PlacementOptions,
    standbys: dict[str, list[TaskId]],
) -> None:
    """Choose members for the standbys of each task: apart by tags, then balanced, then where a copy is.

    Balanced means that each member keeps as many copies, and that those of one member's tasks are spread, so that the
    others share them when it is lost.
    """
    others = max(1, len(view.members) - 1)
    fair = -(-len(tasks) * options.standbys // len(view.members))
    run = Counter(runs_at[task] for task in tasks)
    kept_for = Counter[tuple[str, str]]()  # of whose tasks a member keeps how many copies
    for task in tasks:
        owner = runs_at[task]
        taken = [owner, *copies.get(task, ())]
        apart = [owner]
        for _ in range(min(options.standbys, len(view.members) - len(taken))):
            name = min(
                (name for name in view.members if name not in taken),
                key=lambda name: (
                    _alike(name, apart, view, options.spread_tags),
                    len(standbys[name]) >= fair,
                    kept_for[owner, name] >= -(-run[owner] * options.standbys // others),
                    view.quality(name, task),
                    len(standbys[name]),
                ),
            )
            standbys[name].append(task)
            kept_for[owner, name] += 1
            taken.append(name)
            apart.append(name)


def _alike(name: str, others: Collection[str], view: _View, tags: Collection[str]) -> int:
    """How many tags' values a member shares with others."""
    mine = view.members[name].tags
    return sum(mine.get(tag) == view.members[other].tags.get(tag) for other in others for tag in tags)
