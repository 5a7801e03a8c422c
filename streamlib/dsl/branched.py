"""`BranchedKStream`: one stream taken apart. Next: `stream`, which each branch is again."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Step
from streamlib.topology.nodes import Branch, PassThrough

if TYPE_CHECKING:
    from streamlib.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")


class BranchedKStream(Generic[K, V]):
    """The branches of a stream, made by `KStream.split`: a record goes into the first whose predicate holds."""

    def __init__(self, flow: Flow, name: str) -> None:
        self._flow = flow
        self._splitter = Step([Branch(name=name, predicates=(), targets=())])
        self._flow.graph.add(self._splitter, flow.step)
        self._branches: dict[str, KStream[K, V]] = {}

    def branch(self, predicate: Callable[[K, V], object], *, name: str | None = None) -> "BranchedKStream[K, V]":
        """The same splitter with one more branch, for records that no branch before has taken.

        Its name is that of the splitter followed by ``name``, or by the number of the branch, counted from 1.
        """
        splitter = self._node
        target = self._add(name or str(len(splitter.predicates) + 1))
        self._splitter.change(predicates=(*splitter.predicates, predicate), targets=(*splitter.targets, target))
        return self

    def default_branch(self, *, name: str | None = None) -> dict[str, "KStream[K, V]"]:
        """All branches by name, and one more, named like the splitter and ``name`` or 0, for all other records."""
        self._splitter.change(default=self._add(name or "0"))
        return self._branches

    def no_default_branch(self) -> dict[str, "KStream[K, V]"]:
        """All branches by name; other records are left out."""
        return self._branches

    @property
    def _node(self) -> Branch:
        (node,) = self._splitter.nodes
        assert isinstance(node, Branch)
        return node

    def _add(self, suffix: str) -> str:
        graph, name = self._flow.graph, f"{self._node.name}{suffix}"
        graph.check_name(name, "the name")
        graph.names.node("")
        step = Step([PassThrough(name=name)])
        graph.add(step, self._splitter)
        self._branches[name] = graph.make_stream(self._flow.after(step))
        return name
