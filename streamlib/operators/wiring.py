"""What an operator's builder is given: where its output goes, and the tables of its task. Next: the operators."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.cached_origins import CachedOrigins, wants_origins
from streamlib.operators.getters import StoredGetter, TableGetter
from streamlib.operators.materialized import Materialized, Outgoing
from streamlib.operators.table_rows import TableRows
from streamlib.operators.value_hashes import ValueHashes
from streamlib.state.base import StateStore
from streamlib.topology.nodes import Node
from streamlib.topology.topology import Topology


def no_child(name: str) -> Forward:
    """For operators without children that can be chosen.

    Raises:
        LookupError: Always.
    """
    msg = f'there is no child "{name}"'
    raise LookupError(msg)


@dataclass(frozen=True)
class Wiring:
    """The surroundings of one operator.

    Attributes:
        topology: The plan.
        context: What the task offers.
        tables: Rows of every timestamped store the task may use, by store name.
        stores: Every store the task may use, by name.
        forward: Where the operator's output goes.
        getters: How to read a table that has no store, by the type of its node.
        forward_to: Makes what takes output to the child of that name alone.
        beside: What has a beginning and an end like an operator, but takes no rows: builders add to it.
        value_hashes: Of foreign-key joins, by the name of the node that subscribes.
    """

    topology: Topology
    context: OperatorContext
    tables: Mapping[str, TableRows]
    stores: Mapping[str, StateStore]
    forward: Forward
    getters: Mapping[type[Node], Callable[[Any, "Wiring"], TableGetter]]
    forward_to: Callable[[str], Forward] = no_child
    beside: list[Any] = field(default_factory=list)
    value_hashes: dict[str, ValueHashes] = field(default_factory=dict)

    def materialized(self, store: str, *, send_old: bool, outgoing: Outgoing | None = None) -> Materialized:
        """The table that an operator owns.

        Args:
            store: Its store.
            send_old: Whether updates carry old values.
            outgoing: Makes the keys that go down the plan, where they are not those that come in.
        """
        rows = self.tables[store]
        if rows.cache is not None and rows.origins is None and wants_origins(self.topology, store):
            rows.origins = CachedOrigins(self.context)
        return Materialized(rows, self.forward, send_old=send_old, outgoing=outgoing)

    def getter(self, table: str) -> TableGetter:
        """How to read the table of a node: from its store, or computed from the nearest stores above it."""
        node = self.topology.nodes[table]
        store: str | None = getattr(node, "store", None)
        return self.getters[type(node)](node, self) if store is None else self.store_getter(store)

    def store_getter(self, store: str) -> TableGetter:
        """How to read a store, also one that another sub-topology fills: a global table's."""
        return StoredGetter(self.tables[store])
