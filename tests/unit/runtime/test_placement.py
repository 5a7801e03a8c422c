"""Properties of the placement over random clusters, and over their lives: members join, leave, crash and catch up."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streamlib.runtime.partitions import TaskId
from streamlib.runtime.placement import Candidate, Placement, PlacementOptions, place

LAG = 1_000
RECORDS = 100_000  # of each task's changelogs


@dataclass
class Held:
    """What one simulated member has."""

    owned: set[TaskId] = field(default_factory=set)
    standbys: set[TaskId] = field(default_factory=set)
    warm_ups: set[TaskId] = field(default_factory=set)
    offsets: dict[TaskId, int] = field(default_factory=dict)
    rack: str = "r0"

    def candidate(self, name: str) -> Candidate:
        return Candidate(
            name,
            frozenset(self.owned),
            frozenset(self.owned),
            frozenset(self.standbys),
            frozenset(self.warm_ups),
            dict(self.offsets),
            {"rack": self.rack},
        )


class Cluster:
    """Members, their state and the tasks; `rebalance` carries out what is decided."""

    def __init__(self, tasks: list[TaskId], stateful: set[TaskId], options: PlacementOptions) -> None:
        self.tasks = tasks
        self.stateful = stateful
        self.options = options
        self.members: dict[str, Held] = {}
        self._names = 0

    def join(self, rack: str = "r0") -> str:
        name = f"m{self._names}"
        self._names += 1
        self.members[name] = Held(rack=rack)
        return name

    def crash(self, name: str) -> None:
        del self.members[name]

    def decide(self) -> Placement:
        members = {name: held.candidate(name) for name, held in self.members.items()}
        return place(self.tasks, self.stateful, self.stateful, members, self.options)

    def rebalance(self) -> Placement:
        """Decide, check what must hold of every decision, and carry it out: actives restore all, copies follow."""
        decided = self.decide()
        self.check(decided)
        for name, held in self.members.items():
            held.owned = set(decided.actives[name])
            held.standbys, held.warm_ups = set(decided.standbys[name]), set(decided.warm_ups[name])
            for task in (held.owned | held.standbys | held.warm_ups) & self.stateful:
                held.offsets[task] = RECORDS
        return decided

    def check(self, decided: Placement) -> None:
        owner = {task: name for name, mine in decided.actives.items() for task in mine}
        assert sorted(task for mine in decided.actives.values() for task in mine) == sorted(self.tasks)
        assert sum(len(mine) for mine in decided.warm_ups.values()) <= self.options.max_warm_ups
        for task in self.stateful:
            copies = [name for kind in (decided.standbys, decided.warm_ups) for name in kind if task in kind[name]]
            assert len({owner[task], *copies}) == 1 + len(copies), "two copies of a task on one member"
            warm = any(task in mine for mine in decided.warm_ups.values())
            room = len(self.members) - 1 - warm
            assert len(copies) - warm == min(self.options.standbys, room)
            if self.caught_up_anywhere(task):
                assert self.lag(owner[task], task) <= LAG, "a task runs at a cold member although another one is warm"
        for name in decided.standbys:
            assert not {*decided.standbys[name], *decided.warm_ups[name]} - self.stateful

    def settle(self) -> int:
        """Rebalance until nothing is to move; how often that took."""
        for count in range(1, 200):
            if not self.rebalance().moves:
                return count
        raise AssertionError("it never comes to rest")

    def lag(self, name: str, task: TaskId) -> int:
        held = self.members[name]
        latest = max(other.offsets.get(task, 0) for other in self.members.values())
        return 0 if task in held.owned else latest - held.offsets.get(task, 0)

    def caught_up_anywhere(self, task: TaskId) -> bool:
        return any(self.lag(name, task) <= LAG for name in self.members)

    def owners(self) -> dict[TaskId, str]:
        return {task: name for name, held in self.members.items() for task in held.owned}


def spread(counts: list[int]) -> int:
    return max(counts) - min(counts)


@st.composite
def clusters(draw: st.DrawFn, least: int = 1, spread_tags: tuple[str, ...] = ()) -> Cluster:
    subtopologies, partitions = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    tasks = [TaskId(sub, partition) for partition in range(partitions) for sub in range(subtopologies)]
    kinds = draw(st.lists(st.booleans(), min_size=subtopologies, max_size=subtopologies))
    stateful = {task for task in tasks if kinds[task.subtopology]}
    options = PlacementOptions(draw(st.integers(0, 2)), LAG, draw(st.integers(1, 4)), spread_tags)
    cluster = Cluster(tasks, stateful, options)
    for number in range(draw(st.integers(least, 5))):
        cluster.join(f"r{number % 3}")
    return cluster


@st.composite
def untidy_clusters(draw: st.DrawFn) -> Cluster:
    """Members that have run tasks and hold state in any way at all."""
    cluster = draw(clusters())
    for held in cluster.members.values():
        for task in cluster.stateful:
            if draw(st.booleans()):
                held.offsets[task] = draw(st.sampled_from([0, 10, RECORDS - LAG - 1, RECORDS - LAG, RECORDS]))
    for task in cluster.tasks:
        owner = draw(st.sampled_from([*cluster.members, None]))
        if owner is not None:
            cluster.members[owner].owned.add(task)
            if task in cluster.stateful:
                cluster.members[owner].offsets[task] = RECORDS
    return cluster


@given(untidy_clusters())
def test_every_cluster_comes_to_rest_balanced(cluster: Cluster) -> None:
    to_move = len(cluster.decide().moves)
    rounds = cluster.settle()
    assert rounds <= 2 + to_move  # at least one warm-up is made ready in each round
    loads = [len(held.owned) for held in cluster.members.values()]
    assert spread(loads) <= 1
    assert spread([len(held.owned & cluster.stateful) for held in cluster.members.values()]) <= 1


@given(untidy_clusters())
def test_nothing_moves_when_the_same_members_join_again(cluster: Cluster) -> None:
    cluster.settle()
    before = cluster.owners()
    copies = {name: set(held.standbys) for name, held in cluster.members.items()}
    cluster.rebalance()
    assert cluster.owners() == before
    cluster.settle()
    assert {name: set(held.standbys) for name, held in cluster.members.items()} == copies


@given(clusters())
def test_a_new_member_takes_its_share_and_no_task_moves_between_the_others(cluster: Cluster) -> None:
    cluster.settle()
    before = cluster.owners()
    new = cluster.join()
    cluster.settle()
    moved = {task for task, owner in cluster.owners().items() if owner != before[task]}
    elsewhere = {task for task in moved if cluster.owners()[task] != new}
    assert len(moved - elsewhere) <= -(-len(cluster.tasks) // len(cluster.members))
    # Others exchange a task only where the balance of stateful tasks shifts that of the stateless ones.
    assert not elsewhere & cluster.stateful
    if cluster.stateful in (set(), set(cluster.tasks)):
        assert not elsewhere


@given(clusters(least=2), st.data())
def test_others_give_away_no_more_than_they_took_of_a_lost_member(cluster: Cluster, data: st.DataObject) -> None:
    """Who has copies takes over at once, and may then have too many: whichever it gives away is one move."""
    cluster.settle()
    before = cluster.owners()
    lost = data.draw(st.sampled_from(sorted(cluster.members)))
    cluster.crash(lost)
    cluster.settle()
    owners = cluster.owners()
    took = Counter(owners[task] for task in cluster.stateful if before[task] == lost)
    gave = Counter(before[task] for task in cluster.stateful if before[task] not in (owners[task], lost))
    assert gave <= took
    if not cluster.options.standbys:
        assert not gave
    if not cluster.stateful:
        assert all(before[task] in (owners[task], lost) for task in cluster.tasks)


@given(clusters(least=2), st.data())
def test_the_tasks_of_a_lost_member_run_where_their_standbys_are(cluster: Cluster, data: st.DataObject) -> None:
    cluster.settle()
    lost = data.draw(st.sampled_from(sorted(cluster.members)))
    tasks = cluster.members[lost].owned & cluster.stateful
    copies = {task: {name for name, held in cluster.members.items() if task in held.standbys} for task in tasks}
    cluster.crash(lost)
    cluster.rebalance()
    for task in tasks:
        assert not copies[task] or cluster.owners()[task] in {
            name for name, held in cluster.members.items() if task in held.offsets
        }


@given(clusters(), st.lists(st.tuples(st.sampled_from(["join", "crash", "rebalance"]), st.integers(0, 9)), max_size=12))
def test_a_cluster_with_a_life_comes_to_rest(cluster: Cluster, events: list[tuple[str, int]]) -> None:
    for event, number in events:
        if event == "join" and len(cluster.members) < 6:
            cluster.join(f"r{number % 3}")
        elif event == "crash" and len(cluster.members) > 1:
            cluster.crash(sorted(cluster.members)[number % len(cluster.members)])
        cluster.rebalance()  # which checks every decision
    cluster.settle()
    loads = [len(held.owned) for held in cluster.members.values()]
    assert spread(loads) <= 1


@given(clusters(spread_tags=("rack",)))
def test_standbys_are_in_other_racks_where_there_are_any(cluster: Cluster) -> None:
    decided = cluster.decide()
    owner = {task: name for name, mine in decided.actives.items() for task in mine}
    racks = {held.rack for held in cluster.members.values()}
    for task in cluster.stateful:
        copies = [owner[task], *(name for name, mine in decided.standbys.items() if task in mine)]
        used = Counter(cluster.members[name].rack for name in copies)
        assert len(used) == min(len(racks), len(copies))


@given(clusters(least=2))
def test_standbys_are_shared_out_evenly(cluster: Cluster) -> None:
    cluster.settle()
    counts = [len(held.standbys) for held in cluster.members.values()]
    fair = -(-len(cluster.stateful) * cluster.options.standbys // len(cluster.members))
    assert max(counts) <= fair + 1


@given(clusters(least=2))
def test_the_copies_of_one_member_s_tasks_are_spread_over_the_others(cluster: Cluster) -> None:
    cluster.options = PlacementOptions(1, LAG)
    cluster.settle()
    cluster.rebalance()
    for name, held in cluster.members.items():
        mine = held.owned & cluster.stateful
        kept = [len(mine & other.standbys) for at, other in cluster.members.items() if at != name]
        assert max(kept) <= -(-len(mine) // len(kept)) + 1


def candidate(*owned: TaskId, **offsets: int) -> Candidate:
    return Candidate(
        owned=frozenset(owned),
        running=frozenset(owned),
        offsets={TaskId.parse(task.removeprefix("t")): count for task, count in offsets.items()},
    )


def test_a_task_goes_to_the_member_that_has_its_state() -> None:
    task = TaskId(0, 3)
    members = {"a": candidate(), "b": candidate(t0_3=70_000), "c": candidate(t0_3=5_000)}
    assert place([task], {task}, {task}, members, PlacementOptions()).actives["b"] == [task]


def test_a_task_stays_until_the_new_member_is_caught_up() -> None:
    tasks = [TaskId(0, 0), TaskId(0, 1)]
    runs = candidate(*tasks, t0_0=50_000, t0_1=50_000)
    first = place(tasks, set(tasks), set(tasks), {"a": runs, "b": candidate()}, PlacementOptions(max_warm_ups=1))
    assert first.actives == {"a": tasks, "b": []}
    (warming,) = first.warm_ups["b"]
    assert first.moves == {warming: "b"}
    warm = Candidate(standbys=frozenset([warming]), offsets={warming: 45_000})
    second = place(tasks, set(tasks), set(tasks), {"a": runs, "b": warm}, PlacementOptions())
    assert second.actives["b"] == [warming]
    assert second.moves == {}


def test_the_task_that_is_warm_at_the_new_member_moves_and_no_other() -> None:
    tasks = [TaskId(0, partition) for partition in range(4)]
    runs = candidate(*tasks, t0_0=50_000, t0_1=50_000, t0_2=50_000, t0_3=50_000)
    for warm in tasks:
        other = Candidate(offsets={warm: 49_000})
        placement = place(tasks, set(tasks), set(tasks), {"a": runs, "b": other}, PlacementOptions())
        assert placement.actives["b"] == [warm]


def test_little_state_moves_without_a_warm_up() -> None:
    tasks = [TaskId(0, 0), TaskId(0, 1)]
    placement = place(
        tasks,
        set(tasks),
        set(tasks),
        {"a": candidate(*tasks, t0_0=9_000, t0_1=9_000), "b": candidate()},
        PlacementOptions(),
    )
    assert [len(mine) for mine in placement.actives.values()] == [1, 1]
    assert placement.moves == {}


def test_a_member_that_was_expelled_loses_to_the_one_that_went_on() -> None:
    task = TaskId(0, 0)
    expelled = Candidate(owned=frozenset([task]), offsets={task: 10_000})
    for names in (("a", "b"), ("b", "a")):
        members = dict(zip(names, (expelled, candidate(task, t0_0=60_000)), strict=True))
        assert place([task], {task}, {task}, members, PlacementOptions()).actives[names[1]] == [task]


def test_no_copies_are_kept_of_stores_without_changelogs() -> None:
    task = TaskId(0, 0)
    placement = place([task], {task}, set(), {"a": candidate(), "b": candidate()}, PlacementOptions(standbys=1))
    assert placement.standbys == {"a": [], "b": []}


def test_nobody_is_given_anything_when_nobody_is_there() -> None:
    assert place([TaskId(0, 0)], set(), set(), {}, PlacementOptions()).actives == {}
