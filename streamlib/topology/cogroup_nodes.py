"""The node where the aggregations of a cogroup meet. Next: `operators/cogroup`, the operator."""

from dataclasses import dataclass

from streamlib.topology.nodes import Node


@dataclass(frozen=True, kw_only=True)
class CogroupMerge(Node):
    """The table that several aggregations make in one store, ``store``; passes their updates on.

    It writes nothing, so the store is not among its ``stores``. Source: KTablePassThrough.
    """

    store: str
