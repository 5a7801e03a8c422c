"""The group coordinator of embedded brokers, as a table: no event loop, no waiting."""

import pytest

from streamlib.errors import CommitError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata
from streamlib.transport.embedded.group import Group, RejoinNeeded, Subscription

TP = TopicPartition("t", 0)
SUBSCRIPTION = Subscription(frozenset({"t"}), b"", session_timeout_ms=10_000, rebalance_timeout_ms=60_000)


class Bench:
    """A group, and the time it lives in."""

    def __init__(self, *, expires=True):
        self.now = 0.0
        self.changes = 0
        self.group = Group("g", lambda: self.now, self._changed, expires=expires)

    def _changed(self):
        self.changes += 1

    def stable(self, *members):
        """Let these join, one by one and then together, and let the leader give it all to itself."""
        for member in members:
            self.group.join(member, SUBSCRIPTION)
        for member in members:
            if self.group.state == "PreparingRebalance":
                self.group.join(member, SUBSCRIPTION)
        leader = self.group.members()[0]
        self.group.decide(self.group.generation, {leader: ([TP], b"you")})
        assert self.group.state == "Stable"


def test_first_member_leads_generation_one_when_it_joins():
    bench = Bench()
    bench.group.join("a", SUBSCRIPTION)
    assert bench.group.joined("a") == 1
    assert list(bench.group.undecided("a", 1)) == ["a"]
    assert bench.group.decision("a", 1) is None
    bench.group.decide(1, {"a": ([TP], b"x")})
    assert bench.group.decision("a", 1) == ([TP], b"x")
    assert bench.group.undecided("a", 1) is None


def test_newcomer_waits_when_others_have_not_rejoined():
    bench = Bench()
    bench.stable("a")
    bench.group.join("b", SUBSCRIPTION)
    assert bench.group.state == "PreparingRebalance"
    assert bench.group.joined("b") is None
    with pytest.raises(RejoinNeeded):
        bench.group.decision("a", 1)
    bench.group.join("a", SUBSCRIPTION)
    assert bench.group.joined("b") == bench.group.joined("a") == 2
    assert bench.group.undecided("b", 2) is None
    assert list(bench.group.undecided("a", 2)) == ["a", "b"]


def test_members_left_out_get_nothing_when_the_leader_decides():
    bench = Bench()
    bench.stable("a", "b")
    assert bench.group.decision("b", bench.group.generation) == ((), b"")


def test_late_member_is_expelled_when_the_rebalance_time_is_up():
    bench = Bench()
    bench.stable("a")
    bench.group.join("b", SUBSCRIPTION)
    for _ in range(7):
        bench.now += 9
        bench.group.keep_alive("a")
        bench.group.keep_alive("b")
        bench.group.tick()
    assert bench.group.members() == ["b"]
    assert bench.group.joined("b") == 2
    with pytest.raises(RejoinNeeded):
        bench.group.joined("a")


def test_silent_member_is_expelled_when_its_session_expires():
    bench = Bench()
    bench.stable("a", "b")
    bench.now = 9
    bench.group.keep_alive("a")
    bench.now = 11
    bench.group.tick()
    assert bench.group.members() == ["a"]
    assert bench.group.state == "PreparingRebalance"


def test_silent_member_stays_when_sessions_do_not_expire():
    bench = Bench(expires=False)
    bench.stable("a")
    bench.now = 1_000
    bench.group.tick()
    assert bench.group.state == "Stable"


def test_decision_is_ignored_when_the_group_has_moved_on():
    bench = Bench()
    bench.group.join("a", SUBSCRIPTION)
    bench.group.join("b", SUBSCRIPTION)
    bench.group.decide(1, {"a": ([TP], b"")})
    assert bench.group.state == "PreparingRebalance"


def test_group_is_empty_but_keeps_its_generation_when_the_last_member_leaves():
    bench = Bench()
    bench.stable("a")
    bench.group.leave("a")
    assert (bench.group.state, bench.group.generation) == ("Empty", 1)
    bench.stable("b")
    assert bench.group.generation == 2


def test_rebalance_makes_everyone_rejoin_when_asked_for():
    bench = Bench()
    bench.stable("a")
    bench.group.rebalance()
    with pytest.raises(RejoinNeeded):
        bench.group.decision("a", 1)


def test_offsets_pass_only_under_the_current_membership_when_checked():
    bench = Bench()
    bench.stable("a")
    bench.group.check(GroupMetadata("g", 1, "a"))
    for stale in (GroupMetadata("g", 0, "a"), GroupMetadata("g", 1, "b"), GroupMetadata("g", -1, "")):
        with pytest.raises(CommitError, match="rejoin"):
            bench.group.check(stale)


def test_last_commit_passes_when_a_rebalance_waits_for_its_member():
    bench = Bench()
    bench.stable("a")
    bench.group.join("b", SUBSCRIPTION)
    bench.group.check(GroupMetadata("g", 1, "a"))


def test_waiters_are_told_when_anything_changes():
    bench = Bench()
    for change in (
        lambda: bench.group.join("a", SUBSCRIPTION),
        lambda: bench.group.decide(1, {}),
        bench.group.rebalance,
        lambda: bench.group.leave("a"),
    ):
        before = bench.changes
        change()
        assert bench.changes > before


def test_member_joins_again_when_the_next_rebalance_begins_before_it_has_heard_of_the_last_one():
    bench = Bench()
    bench.stable("a")
    bench.group.join("b", SUBSCRIPTION)
    bench.group.join("a", SUBSCRIPTION)  # generation 2, of which b has yet to hear
    bench.group.join("c", SUBSCRIPTION)
    with pytest.raises(RejoinNeeded):
        bench.group.joined("b")
    for member in ("a", "b"):
        bench.group.join(member, SUBSCRIPTION)
    assert bench.group.joined("b") == bench.group.joined("c") == 3
