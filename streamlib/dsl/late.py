"""Late records as a stream of their own. Next: `operators/late`, which passes them on."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Step
from streamlib.topology.nodes import Node, PassThrough, Sink

if TYPE_CHECKING:
    from streamlib.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")
AnyNode = TypeVar("AnyNode", bound=Node)

LateTo = str | Callable[["KStream[K, V]"], object]
"""A topic, or a function that is given the stream of late records and says what becomes of them."""


def passing_late(node: AnyNode, late_to: object | None) -> AnyNode:
    """A node as it is, or one that passes its late records on.

    Their way is named after the node, so asking for it moves no generated name.
    """
    return node if late_to is None else replace(node, late=f"{node.name}-late")  # type: ignore[call-arg]


def add_late(flow: Flow, step: Step, late_to: "LateTo[Any, Any] | None") -> None:
    """Add the way of late records, if there is one.

    Args:
        flow: The records that reach the node.
        step: That of the node, which is in the graph.
        late_to: A topic or a function.
    """
    if late_to is None:
        return
    node, graph = step.nodes[0], flow.graph
    late = Step([PassThrough(name=f"{node.name}-late")])
    graph.add(late, step)
    way = flow.after(late, rekeyed=False)
    if isinstance(late_to, str):
        graph.check_name(late_to, "the topic of late_to")
        name = f"{node.name}-late-sink"
        way.then(Sink(name=name, topic=late_to, key_serde=way.key_serde, value_serde=way.value_serde))
    elif callable(late_to):
        late_to(graph.make_stream(way))
    else:
        msg = f'"{node.name}" cannot send late records to {late_to!r}: give a topic, or a function of their stream'  # type: ignore[unreachable]
        graph.problems.append(msg)
