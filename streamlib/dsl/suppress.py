"""Suppressed tables. Next: `topology/suppress_nodes`, what is left of one in the plan."""

from dataclasses import dataclass, replace
from datetime import timedelta

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Step, TableStep
from streamlib.dsl.idle import idle_ms, idle_ms_above
from streamlib.dsl.options import StoreOptions
from streamlib.topology.suppress_nodes import TableSuppress
from streamlib.topology.suppressed import StrictBufferConfig, Suppressed
from streamlib.topology.windows import FixedWindows, SessionWindows


@dataclass(eq=False, kw_only=True)
class SuppressStep(TableStep):
    """A suppressed table: its rows are those of the table above, except for keys that wait.

    Attributes:
        buffer: Name of the store of what waits.
    """

    buffer: str

    def view(self) -> tuple[str, ...]:
        """Names of the stores from which the table's rows can be had. Source: KTableSuppressProcessorSupplier.view."""
        assert self.above is not None
        return (self.buffer, *self.above.view())

    def send_old_values(self, *, force: bool) -> bool:
        """Old values are always sent, since the table above sends them."""
        assert self.above is not None
        return self.above.send_old_values(force=force)


def suppress(flow: Flow, how: Suppressed, name: str | None, close_after_idle: timedelta | None = None) -> Flow:
    """The flow of a suppressed table; the table above is made to send old values, with a store if it takes one.

    Two numbers for names are taken if it has no name, none if it has one. Source: KTableImpl.suppress.
    """
    graph, table = flow.graph, flow.step
    assert isinstance(table, TableStep)
    if not isinstance(how, Suppressed):
        graph.problems.append(  # type: ignore[unreachable]
            f"suppress needs a Suppressed, e.g. Suppressed.until_window_closes(BufferConfig.unbounded()), got {how!r}"
        )
        return flow
    if name is not None:
        graph.check_name(name, "the name")
    node_name = graph.names.node("KTABLE-SUPPRESS-") if name is None else name
    wait_ms = how.wait_ms
    if wait_ms is None:
        wait_ms = _grace_ms(table)
        if wait_ms is None:
            graph.problems.append(
                f'"{node_name}" waits until windows close, but not every table above it comes from a windowed '
                "aggregation: suppress the windowed table itself, or use Suppressed.until_time_limit"
            )
            wait_ms = 0
    if table.is_versioned:
        graph.problems.append(
            f'"{node_name}" suppresses a versioned table, whose updates may be older than its rows: leave out the '
            "versioned store, or the suppression"
        )
    config = how.buffer
    options = StoreOptions(
        store=False if name is None else f"{name}-store",
        caching=False,
        logging=config.logging,
        topic_configs=config.topic_configs,
    )
    spec = replace(graph.store(options, "KTABLE-SUPPRESS-", flow.key_serde, flow.value_serde), kind="buffer")
    node = TableSuppress(
        name=node_name,
        stores=(spec.name,),
        buffer=spec.name,
        wait_ms=wait_ms,
        final=how.wait_ms is None,
        records_max=config.records_max,
        bytes_max=config.bytes_max,
        shut_down_when_full=isinstance(config, StrictBufferConfig),
        idle_ms=idle_ms_above(table) if close_after_idle is None else idle_ms(graph, close_after_idle, node_name),
    )
    table.send_old_values(force=True)
    step = SuppressStep([node], stores=[spec], above=table, buffer=spec.name)
    graph.add(step, table)
    return flow.after(step)


def _grace_ms(step: Step) -> int | None:
    """How long after its end a window may still change: of the nearest windowed aggregations, the longest time.

    None when there is a way up without one. Source: GraphGraceSearchUtil.
    """
    for node in step.nodes:
        windows = getattr(node, "windows", None)
        if isinstance(windows, SessionWindows):
            return windows.grace_ms + windows.gap_ms
        if isinstance(windows, FixedWindows):
            return windows.grace_ms
    graces = [_grace_ms(parent) for parent in step.parents]
    return None if not graces or None in graces else max(grace for grace in graces if grace is not None)
