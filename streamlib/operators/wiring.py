"""What an operator's builder is given: where its output goes, and the tables of its task. Next: the operators."""

from collections.abc import Mapping
from dataclasses import dataclass

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.getters import TableGetter, step_of
from streamlib.operators.materialized import Materialized, Outgoing
from streamlib.operators.table_rows import TableRows
from streamlib.state.base import StateStore
from streamlib.topology.topology import Topology


@dataclass(frozen=True)
class Wiring:
    """The surroundings of one operator.

    Attributes:
        topology: The plan.
        context: What the task offers.
        tables: Rows of every timestamped store the task may use, by store name.
        stores: Every store the task may use, by name.
        forward: Where the operator's output goes.
    """

    topology: Topology
    context: OperatorContext
    tables: Mapping[str, TableRows]
    stores: Mapping[str, StateStore]
    forward: Forward

    def materialized(self, store: str, *, send_old: bool, outgoing: Outgoing | None = None) -> Materialized:
        """The table that an operator owns.

        Args:
            store: Its store.
            send_old: Whether updates carry old values.
            outgoing: Makes the keys that go down the plan, where they are not those that come in.
        """
        return Materialized(self.tables[store], self.forward, send_old=send_old, outgoing=outgoing)

    def getter(self, table: str) -> TableGetter:
        """How to read the table of a node: by the nearest store at or above it."""
        node = self.topology.nodes[table]
        store: str | None = getattr(node, "store", None)
        if store is not None:
            return TableGetter(self.tables[store])
        parent = self.getter(node.parents[0])
        return TableGetter(parent.rows, (*parent.steps, step_of(node)))

    def store_getter(self, store: str) -> TableGetter:
        """How to read a store that another sub-topology fills: a global table's."""
        return TableGetter(self.tables[store])
