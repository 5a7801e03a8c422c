"""What happened to one record: every call of a user function on its way, and everything that was written.

Source: none; Kafka Streams has ``ProcessorWrapper`` (KIP-1112) for that. Next: `topology_test_driver`, which records.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from inspect import isawaitable
from typing import Any

from streamlib.topology.nodes import Node
from streamlib.topology.topology import Topology

SUPPLIERS = frozenset({"supplier"})
"""Fields of nodes that make objects once, rather than look at records."""


@dataclass(frozen=True)
class Call:
    """One call of a user function.

    Attributes:
        node: The node it belongs to.
        function: What the node calls it: ``predicate``, ``mapper``, ``aggregator``, ``joiner`` ...
        arguments: What it was called with.
        result: What it returned; an exception if it raised.
    """

    node: str
    function: str
    arguments: tuple[Any, ...]
    result: Any

    def __str__(self) -> str:
        return f"{self.node}: {self.function}({', '.join(map(repr, self.arguments))}) -> {self.result!r}"


@dataclass(frozen=True)
class Write:
    """One record written to a topic: of the user, between sub-topologies, or the changelog of a store.

    Attributes:
        topic: Its name on a broker.
        key, value: Decoded where a sink or store tells how, else bytes.
        timestamp_ms: Of the record.
    """

    topic: str
    key: Any
    value: Any
    timestamp_ms: int

    def __str__(self) -> str:
        return f"{self.topic} <- {self.key!r}: {self.value!r} @ {self.timestamp_ms}"


@dataclass
class Explanation:
    """The way of one record, in the order in which things happened; ``str()`` has a line for each.

    Attributes:
        steps: Calls and writes.
    """

    steps: list[Call | Write] = field(default_factory=list)

    @property
    def nodes(self) -> list[str]:
        """The nodes whose functions were called, each once, in order."""
        return list(dict.fromkeys(step.node for step in self.steps if isinstance(step, Call)))

    @property
    def calls(self) -> list[Call]:
        """The calls alone."""
        return [step for step in self.steps if isinstance(step, Call)]

    @property
    def writes(self) -> list[Write]:
        """The writes alone."""
        return [step for step in self.steps if isinstance(step, Write)]

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


class Recorder:
    """Takes note of calls while somebody listens.

    Attributes:
        explanation: Where notes go; None when nobody listens.
    """

    def __init__(self) -> None:
        self.explanation: Explanation | None = None

    def observed(self, topology: Topology) -> Topology:
        """The plan with user functions that report their calls."""
        return replace(topology, nodes={name: self._node(node) for name, node in topology.nodes.items()})

    def _node(self, node: Node) -> Node:
        changes: dict[str, Any] = {}
        for each in fields(node):
            value = getattr(node, each.name)
            if each.name in SUPPLIERS:
                continue
            if isinstance(value, tuple) and value and all(map(callable, value)):
                changes[each.name] = tuple(
                    self._function(node.name, f"{each.name}[{number}]", one) for number, one in enumerate(value)
                )
            elif callable(value):
                changes[each.name] = self._function(node.name, each.name, value)
        return replace(node, **changes) if changes else node

    def _function(self, node: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function, updated=())
        def reporting(*arguments: Any) -> Any:
            if self.explanation is None:
                return function(*arguments)
            try:
                result = function(*arguments)
            except Exception as error:
                self.explanation.steps.append(Call(node, name, arguments, error))
                raise
            if isawaitable(result):
                return self._awaited(Call(node, name, arguments, None), result)
            self.explanation.steps.append(Call(node, name, arguments, result))
            return result

        return reporting

    async def _awaited(self, call: Call, result: Awaitable[Any]) -> Any:
        """The result of an asynchronous function, noted when it is there."""
        try:
            given: Any = await result
        except Exception as error:
            given = error
            raise
        finally:
            if self.explanation is not None:
                self.explanation.steps.append(replace(call, result=given))
        return given
