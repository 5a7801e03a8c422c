"""What becomes of an application's state and topics when a new plan takes over from an old one.

Names decide: a store is found again by the name of its changelog, a repartition topic by its own, a committed offset by
the topic. Numbers of sub-topologies only name tasks and their folders; a store that moves with them is restored.
Next: `runtime/topology_check`, by which a worker finds out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from streamlib.topology.outline import Outline, StoreOutline

Kind = Literal["changelog", "repartition", "source", "local"]


@dataclass(frozen=True)
class Conflict:
    """Why the new plan cannot go on where the old one stopped.

    Attributes:
        text: One sentence: what, and what it would lead to.
        kind: What of the old plan is in the way: a store's changelog, a repartition topic, a source topic that was a
            changelog, or rows that are on a disk only.
        name: Its name: of the store, or the topic without the application id.
    """

    text: str
    kind: Kind
    name: str


@dataclass(frozen=True)
class Difference:
    """Two plans compared.

    Attributes:
        notes: What changes, one line each, changes without harm included.
        conflicts: What needs a reset.
    """

    notes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def needs_reset(self) -> bool:
        """Whether the application must start over to run the new plan."""
        return bool(self.conflicts)

    def __str__(self) -> str:
        lines = list(self.notes) or ["nothing changes"]
        if self.conflicts:
            lines += ["", "needs a reset:", *(f"  {conflict.text}" for conflict in self.conflicts)]
        else:
            lines += ["", "compatible: the application goes on where it stopped"]
        return "\n".join(lines)


def difference(old: Outline, new: Outline) -> Difference:
    """What changes from one plan to the other, and what stands against it."""
    notes = [*_store_notes(old, new), *_topic_notes(old, new), *_subtopology_notes(old, new)]
    conflicts = [*_stores_that_differ(old, new), *_renamed_stores(old, new), *_repartition_conflicts(old, new)]
    return Difference(tuple(notes), tuple(conflicts))


def _store_notes(old: Outline, new: Outline) -> Iterator[str]:
    for name, store in new.stores.items():
        before = old.stores.get(name)
        if before is None:
            yield f'store "{name}" appears: it knows nothing of what was processed before'
        elif before.subtopology != store.subtopology:
            yield (
                f'store "{name}" moves from sub-topology {before.subtopology} to {store.subtopology}: '
                "it is restored from its changelog"
            )
        else:
            yield f'store "{name}" stays'
    for name, store in old.stores.items():
        if name not in new.stores:
            left = ": its changelog is left behind" if store.logged else ""
            yield f'store "{name}" is orphaned{left}'


def _topic_notes(old: Outline, new: Outline) -> Iterator[str]:
    for name in new.repartition_topics:
        yield f'repartition topic "{name}" {"stays" if name in old.repartition_topics else "appears"}'
    for name in old.repartition_topics.keys() - new.repartition_topics.keys():
        yield f'repartition topic "{name}" is orphaned'


def _subtopology_notes(old: Outline, new: Outline) -> Iterator[str]:
    """Sub-topologies are known by what they read."""
    left = dict(old.subtopologies)
    for number, topics in new.subtopologies.items():
        like = [before for before, read in left.items() if read & topics or read == topics]
        before = number if number in like else next(iter(like), None)
        listed = ", ".join(sorted(topics))
        if before is None:
            yield f"sub-topology {number} ({listed}) appears"
            continue
        del left[before]
        moved = "stays" if before == number else f"was {before}: tasks {before}_* become {number}_*"
        yield f"sub-topology {number} ({listed}) {moved}"
    for number, topics in left.items():
        yield f"sub-topology {number} ({', '.join(sorted(topics))}) goes"


def _stores_that_differ(old: Outline, new: Outline) -> Iterator[Conflict]:
    for name in old.stores.keys() & new.stores.keys():
        before, now = old.stores[name], new.stores[name]
        changes = [
            f"{what} {before.stored[what]} to {now.stored[what]}"
            for what in now.stored
            if before.stored[what] != now.stored[what]
        ]
        kind, where = _kept_in(before, name)
        if changes:
            text = f'store "{name}" changes {" and ".join(changes)}: its rows cannot be read any more'
            yield Conflict(text, kind, where)
        elif before.source_topic != now.source_topic:
            text = f'store "{name}" has another changelog: {_changelog(before)} before, {_changelog(now)} now'
            yield Conflict(text, kind, where)
        elif kind == "local" and before.subtopology != now.subtopology:
            yield Conflict(f'store "{name}" moves to other tasks and has no changelog: its rows are lost', kind, where)


def _renamed_stores(old: Outline, new: Outline) -> Iterator[Conflict]:
    """Of equal stores one that goes and one that comes are taken for one with a new name, whose rows would be lost."""
    appearing = [name for name in new.stores if name not in old.stores]
    for name, store in old.stores.items():
        if name in new.stores:
            continue
        twin = next((each for each in appearing if new.stores[each].stored == store.stored), None)
        if twin is not None and store.source_topic is None and new.stores[twin].source_topic is None:
            appearing.remove(twin)
            text = f'store "{name}" goes and "{twin}" of the same kind appears: under the new name it starts empty'
            yield Conflict(text, *_kept_in(store, name))


def _repartition_conflicts(old: Outline, new: Outline) -> Iterator[Conflict]:
    for name, partitions in old.repartition_topics.items():
        if name not in new.repartition_topics:
            text = f'repartition topic "{name}" goes: records in it that were not processed yet are lost'
            yield Conflict(text, "repartition", name)
        elif new.repartition_topics[name] != partitions and None not in (partitions, new.repartition_topics[name]):
            text = (
                f'repartition topic "{name}" is to have {new.repartition_topics[name]} partitions instead of '
                f"{partitions}: keys would be found in other tasks than their rows"
            )
            yield Conflict(text, "repartition", name)


def _kept_in(store: StoreOutline, name: str) -> tuple[Kind, str]:
    if store.source_topic is not None:
        return "source", store.source_topic
    return ("changelog" if store.logged else "local"), name


def _changelog(store: StoreOutline) -> str:
    return "a topic of its own" if store.source_topic is None else f'"{store.source_topic}"'
