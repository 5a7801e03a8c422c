"""The nodes of session windows. Next: `operators/session_aggregate`, the operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamlib.topology.nodes import AggregateKind, Node
from streamlib.topology.windows import EmitStrategy, SessionWindows


@dataclass(frozen=True, kw_only=True)
class SessionAggregate(Node):
    """count, reduce or aggregate of a grouped stream per key and session; keys become `Windowed`.

    Functions as in `StreamAggregate`; ``merger(key, one aggregate, other aggregate)`` makes one of two sessions;
    ``late`` and ``idle_ms`` as in `WindowAggregate`.
    """

    windows: SessionWindows
    kind: AggregateKind
    store: str
    emit: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE
    initializer: Callable[[], Any] | None = None
    aggregator: Callable[..., Any] | None = None
    merger: Callable[[Any, Any, Any], Any] | None = None
    send_old: bool = False
    late: str | None = None
    idle_ms: int | None = None
