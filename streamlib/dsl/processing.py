"""The DSL meets the Processor API: operations that add a node with user code.

Next: `topology/processor_nodes`, what is left of it in the plan.
"""

from typing import Any

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Graph, Step, TableStep
from streamlib.dsl.options import ValueOptions
from streamlib.error_policies import OnError
from streamlib.serdes.base import AnySerde
from streamlib.state.spec import StoreSpec
from streamlib.topology.processor_api import gives_one_object, one_object, stores_of
from streamlib.topology.processor_nodes import ProcessorNode, TableTransformValues


def processed(
    flow: Flow, supplier: Any, stores: tuple[str, ...], options: ValueOptions, key_serde: AnySerde | None
) -> Flow:
    """The flow after a `Processor`, which may change keys."""
    step = processor_step(flow.graph, _name(flow.graph, options.name, "KSTREAM-PROCESSOR-"), supplier, stores)
    step.change(on_error=options.on_error)
    flow.graph.add(step, flow.step)
    return flow.after(
        step,
        key_serde=flow.new_key_serde(key_serde, step.output),
        value_serde=flow.new_value_serde(options.value_serde, step.output),
        rekeyed=True,
    )


def values_processed(flow: Flow, supplier: Any, stores: tuple[str, ...], options: ValueOptions) -> Flow:
    """The flow after a `FixedKeyProcessor`."""
    name = _name(flow.graph, options.name, "KSTREAM-PROCESSVALUES-")
    step = processor_step(flow.graph, name, supplier, stores, fixed_key=True)
    step.change(on_error=options.on_error)
    flow.graph.add(step, flow.step)
    return flow.after(step, value_serde=flow.new_value_serde(options.value_serde, name))


def values_transformed(
    flow: Flow,
    supplier: Any,
    stores: tuple[str, ...],
    names: tuple[str, StoreSpec | None],
    value_serde: AnySerde,
    on_error: OnError | None,
) -> Flow:
    """The flow after a `ValueTransformerWithKey` over a table.

    Args:
        flow: The table.
        supplier: Of the transformer.
        stores: Names of stores it uses.
        names: Of the node; and the table's own store, if it gets one.
        value_serde: Of the new values.
        on_error: What happens to rows for which it raises.
    """
    assert isinstance(flow.step, TableStep)
    name, spec = names
    own = supplied_stores(flow.graph, name, supplier)
    used = tuple(dict.fromkeys([*stores, *(each.name for each in own)]))
    node = TableTransformValues(name=name, supplier=supplier, used=used, stores=used, on_error=on_error)
    step = TableStep([node], stores=own, spec=spec, above=flow.step)
    step.materialize()
    flow.graph.add(step, flow.step)
    return flow.after(step, value_serde=value_serde)


def processor_step(graph: Graph, name: str, supplier: Any, stores: tuple[str, ...], *, fixed_key: bool = False) -> Step:
    """A step with one processor, and the stores that its supplier brings; not yet in the graph."""
    own = supplied_stores(graph, name, supplier)
    used = tuple(dict.fromkeys([*stores, *(spec.name for spec in own)]))
    return Step([ProcessorNode(name=name, stores=used, supplier=supplier, fixed_key=fixed_key)], stores=own)


def supplied_stores(graph: Graph, name: str, supplier: Any) -> list[StoreSpec]:
    """The stores that a supplier brings; a supplier that does not make new objects is noted."""
    if not callable(supplier):
        return []  # noted when the plan is checked
    if gives_one_object(supplier):
        graph.problems.append(one_object(name))
    own = []
    for spec in stores_of(supplier):
        if isinstance(spec, StoreSpec):
            graph.check_name(spec.name, "the store name")
            own.append(spec)
        else:
            graph.problems.append(f'"{name}" brings {spec!r}, which is no store: make it with streamlib.Stores')
    return own


def _name(graph: Graph, given: str | None, prefix: str) -> str:
    """The name of a processor's node; unlike other operations one with a name takes no number."""
    if given is None:
        return graph.names.node(prefix)
    graph.check_name(given, "the name")
    return given
