"""`BranchedKStream`: one stream taken apart; `Branched`: what becomes of a branch.

Next: `stream`, which each branch is again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Step
from streamlib.error_policies import OnError
from streamlib.topology.nodes import Branch, PassThrough

if TYPE_CHECKING:
    from streamlib.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Branched(Generic[K, V]):
    """The name of a branch, and what becomes of it; made by `as_`, `with_function` and `with_consumer`.

    Attributes:
        name: Follows the name of the splitter; None: the number of the branch does.
        function: Makes of the branch the stream that the splitter gives in its place; None leaves it out.
        consumer: Takes the branch, which the splitter does not give then.

    Source: Branched (KIP-418).
    """

    name: str | None = None
    function: "Callable[[KStream[K, V]], KStream[K, V] | None] | None" = None
    consumer: "Callable[[KStream[K, V]], object] | None" = None

    @staticmethod
    def as_(name: str) -> "Branched[Any, Any]":
        """A branch with a name, given as it is."""
        return Branched(name)

    @staticmethod
    def with_function(
        function: "Callable[[KStream[K, V]], KStream[K, V] | None]", name: str | None = None
    ) -> "Branched[K, V]":
        """A branch in whose place the stream is given that ``function`` makes of it; nothing, if it gives None.

        Args:
            function: Called with the branch at once.
            name: Of the branch.
        """
        return Branched(name, function=function)

    @staticmethod
    def with_consumer(consumer: "Callable[[KStream[K, V]], object]", name: str | None = None) -> "Branched[K, V]":
        """A branch that ``consumer`` takes; it is not among those the splitter gives.

        Args:
            consumer: Called with the branch at once.
            name: Of the branch.
        """
        return Branched(name, consumer=consumer)

    def with_name(self, name: str) -> "Branched[K, V]":
        """The same under another name."""
        return replace(self, name=name)


class BranchedKStream(Generic[K, V]):
    """The branches of a stream, made by `KStream.split`: a record goes into the first whose predicate holds."""

    def __init__(self, flow: Flow, name: str, on_error: OnError | None) -> None:
        self._flow = flow
        self._splitter = Step([Branch(name=name, predicates=(), targets=(), on_error=on_error)])
        self._flow.graph.add(self._splitter, flow.step)
        self._branches: dict[str, KStream[K, V]] = {}

    def branch(
        self,
        predicate: Callable[[K, V], object],
        branched: Branched[K, V] | None = None,
        *,
        name: str | None = None,
    ) -> "BranchedKStream[K, V]":
        """The same splitter with one more branch, for records that no branch before has taken.

        Its name is that of the splitter followed by ``name``, or by the number of the branch, counted from 1.

        Args:
            predicate: ``predicate(key, value)`` tells whether a record belongs to it.
            branched: What becomes of it; without it the branch is among those the splitter gives.
            name: Of the branch, as with ``Branched.as_(name)``.
        """
        splitter = self._node
        stream = self._add(name, branched, len(splitter.predicates) + 1)
        target = stream._flow.step.output
        self._splitter.change(predicates=(*splitter.predicates, predicate), targets=(*splitter.targets, target))
        self._give(stream, branched)
        return self

    def default_branch(
        self, branched: Branched[K, V] | None = None, *, name: str | None = None
    ) -> dict[str, "KStream[K, V]"]:
        """All branches by name, and one more, named like the splitter and ``name`` or 0, for all other records.

        Args:
            branched: What becomes of it.
            name: Of the branch, as with ``Branched.as_(name)``.
        """
        stream = self._add(name, branched, 0)
        self._splitter.change(default=stream._flow.step.output)
        self._give(stream, branched)
        return self._branches

    def no_default_branch(self) -> dict[str, "KStream[K, V]"]:
        """All branches by name; other records are left out."""
        return self._branches

    @property
    def _node(self) -> Branch:
        (node,) = self._splitter.nodes
        assert isinstance(node, Branch)
        return node

    def _add(self, given: str | None, branched: Branched[K, V] | None, number: int) -> "KStream[K, V]":
        """The stream of one more branch. Takes a number from the counter of names, whatever its name."""
        if given is None and branched is not None:
            given = branched.name
        graph, name = self._flow.graph, f"{self._node.name}{number if given is None else given}"
        graph.check_name(name, "the name")
        graph.names.node("")
        step = Step([PassThrough(name=name)])
        graph.add(step, self._splitter)
        stream: KStream[K, V] = graph.make_stream(self._flow.after(step))
        return stream

    def _give(self, stream: "KStream[K, V]", branched: Branched[K, V] | None) -> None:
        """Note what the splitter gives for a branch."""
        name, given = stream._flow.step.output, stream
        if branched is None:
            self._branches[name] = given
        elif branched.function is not None:
            made = branched.function(stream)
            if isinstance(made, type(stream)):
                self._branches[name] = made
            elif made is not None:
                self._flow.graph.problems.append(
                    f'the function of the branch "{name}" gives {made!r}, which is no stream: give a KStream or None'
                )
        elif branched.consumer is not None:
            branched.consumer(stream)
        else:
            self._branches[name] = given
