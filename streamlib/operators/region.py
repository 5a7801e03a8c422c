"""What is known of a run of stateless nodes before its loop is generated: ways, exits, columns, functions.

Next: `loop`, which writes the source.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from streamlib.topology.interference import FUSED, region
from streamlib.topology.nodes import (
    Branch,
    Filter,
    FlatMap,
    FlatMapValues,
    ForEach,
    MapRows,
    MapValues,
    Node,
    PassThrough,
    Peek,
    RepartitionFilter,
    SelectKey,
    TableToStream,
)
from streamlib.topology.topology import Topology

INLINED_MAX = 3
"""So many nodes that only pass rows on are repeated where ways meet, rather than called."""

ONE_TO_ONE = (MapRows, MapValues, SelectKey, Peek, PassThrough, TableToStream)


@dataclass(frozen=True)
class Way:
    """What happened to a row on its way down from the region's beginning.

    Attributes:
        one_to_one: It is still one row for each incoming one, unless a function raised.
        touched: A user function was called, so rows may be lost to errors.
        new_key, new_value: A function made a new one.
    """

    one_to_one: bool = True
    touched: bool = False
    new_key: bool = False
    new_value: bool = False

    def past(self, node: Node) -> "Way":
        """The way, one node further."""
        transparent = isinstance(node, RepartitionFilter) and node.keep_null_keys
        return Way(
            one_to_one=self.one_to_one and (transparent or isinstance(node, ONE_TO_ONE)),
            touched=self.touched or bool(user_functions(node)),
            new_key=self.new_key or isinstance(node, (MapRows, FlatMap, SelectKey)),
            new_value=self.new_value or isinstance(node, (MapRows, FlatMap, MapValues, FlatMapValues)),
        )


@dataclass(frozen=True)
class Exit:
    """Where a region's rows come out.

    Attributes:
        number: Names its columns in the generated source.
        way: What happened to the rows; never one-to-one when several ways lead here.
    """

    number: int
    way: Way

    @property
    def direct(self) -> bool:
        """The incoming batch itself comes out."""
        return self.way.one_to_one and not self.way.touched

    @property
    def columns(self) -> str:
        """The columns that the loop collects, a letter each; the others come out as they came in."""
        if not self.way.one_to_one:
            return "kvtoh"
        return "k" * self.way.new_key + "v" * self.way.new_value


class Region:
    """A run of stateless nodes.

    Attributes:
        topology: The plan it belongs to.
        parent: The node above it.
        exits: By node name, in the order a row reaches them.
        functions: User functions by the name they have in the source.
        called: The names of each node's functions.
        ways: How many ways lead to each fused node; 3 stands for more.
    """

    def __init__(self, topology: Topology, parent: str) -> None:
        self.topology = topology
        self.parent = parent
        self.exits: dict[str, Exit] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self.called: dict[str, list[str]] = {}
        self.ways: dict[str, int] = {}
        self._follow(parent, Way())
        for name in self.ways:
            calls = user_functions(topology.nodes[name])
            self.called[name] = [f"f{len(self.functions) + number}" for number in range(len(calls))]
            self.functions.update(zip(self.called[name], calls, strict=True))

    @property
    def collects_headers(self) -> bool:
        """Whether the loop must see the headers of each row."""
        return any("h" in exit_.columns for exit_ in self.exits.values())

    def aligned_below(self, name: str) -> list[Exit]:
        """The one-to-one exits below a node: those that must hear of a row that is lost there."""
        return [self.exits[exit_] for exit_ in region(self.topology, name)[1] if self.exits[exit_].way.one_to_one]

    def is_junction(self, name: str) -> bool:
        """Whether several nodes of the region feed this one, and what follows is more than a few lines."""
        parents = self.topology.nodes[name].parents
        feeding = [parent for parent in parents if parent in self.ways or parent == self.parent]
        if len(feeding) < 2:
            return False
        below = [name, *region(self.topology, name)[0]]
        return len(below) > INLINED_MAX or any(user_functions(self.topology.nodes[each]) for each in below)

    def _follow(self, name: str, way: Way) -> None:
        for child in self.topology.children(name):
            if not isinstance(child, FUSED):
                before = self.exits.get(child.name)
                if before is None:
                    self.exits[child.name] = Exit(len(self.exits), way)
                else:
                    self.exits[child.name] = replace(before, way=replace(way, one_to_one=False))
            elif self.ways.setdefault(child.name, 0) < 3:
                # The third way adds nothing: everything below has been found to have several ways already.
                self.ways[child.name] += 1
                if self.ways[child.name] < 3:
                    self._follow(child.name, way.past(child))


def user_functions(node: Node) -> list[Callable[..., Any]]:
    """The functions of a fused node that the user wrote."""
    if isinstance(node, Filter):
        return [node.predicate]
    if isinstance(node, Branch):
        return list(node.predicates)
    if isinstance(node, (MapRows, MapValues, FlatMap, FlatMapValues, SelectKey)):
        return [node.mapper]
    if isinstance(node, (Peek, ForEach)):
        return [node.action]
    return []
