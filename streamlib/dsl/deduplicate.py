"""Leaving out duplicates. Next: `topology/deduplicate_nodes`, what is left of it in the plan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from streamlib.dsl.flow import Flow, repartition_step
from streamlib.dsl.graph import Step
from streamlib.dsl.options import StoreOptions
from streamlib.error_policies import OnError
from streamlib.serdes.base import AnySerde
from streamlib.serdes.primitives import BYTES
from streamlib.topology.deduplicate_nodes import Deduplicate
from streamlib.topology.windows import to_ms


@dataclass(frozen=True)
class Deduplication:
    """What a deduplication is told; see `KStream.deduplicate`."""

    within: timedelta
    selector: Callable[[Any, Any], Any] | None
    id_serde: AnySerde | None
    name: str | None
    store: StoreOptions
    on_error: OnError | None = None


def deduplicated(flow: Flow, told: Deduplication) -> Flow:
    """The flow without duplicates, repartitioned first if keys may have changed."""
    graph, within_ms = flow.graph, to_ms(told.within)
    name = graph.name(told.name, "KSTREAM-DEDUPLICATE-")
    serde = flow.key_serde if told.selector is None else flow.new_key_serde(told.id_serde, name)
    if told.selector is None and told.id_serde is not None:
        graph.problems.append(
            f'"{name}" looks for duplicate keys, which have a serde: leave out id_serde, or give key='
        )
    if within_ms < 1:
        graph.problems.append(f'"{name}" looks for duplicates within {told.within!r}: give it at least 1 ms')
        within_ms = 1
    spec = graph.store(told.store, "KSTREAM-DEDUPLICATE-", serde, BYTES)
    spec = replace(
        spec,
        kind="window",
        timestamped=False,
        caching=False,
        retain_duplicates=True,
        exact_expiry=True,
        window_size_ms=2 * within_ms,
        retention_ms=2 * within_ms + 1,
    )
    if flow.rekeyed:
        repartition = repartition_step(flow, told.name or spec.name)
        graph.add(repartition, flow.step)
        flow = flow.behind(repartition)
    node = Deduplicate(
        name=name,
        stores=(spec.name,),
        store=spec.name,
        within_ms=within_ms,
        selector=told.selector,
        on_error=told.on_error,
    )
    step = Step([node], stores=[spec])
    graph.add(step, flow.step)
    return flow.after(step)
