"""How long one operation waits for records before its windows close without them.

Next: `operators/idle`, which closes them.
"""

from datetime import timedelta

from streamlib.dsl.graph import Graph, Step
from streamlib.topology.windows import to_ms


def idle_ms(graph: Graph, given: object, where: str) -> int | None:
    """What was given in ms, None for nothing; a negative time is noted."""
    if given is None:
        return None
    if not isinstance(given, timedelta) or given < timedelta():
        graph.problems.append(f"{where} cannot close windows after an idle time of {given!r}: give a timedelta, or 0")
        return None
    return to_ms(given)


def idle_ms_above(step: Step) -> int | None:
    """What the nearest windowed aggregations were given, the longest time; None where nothing was given, or never."""
    for node in step.nodes:
        if hasattr(node, "windows"):
            given: int | None = getattr(node, "idle_ms", None)
            return given
    times = [idle_ms_above(parent) for parent in step.parents]
    return None if not times or None in times or 0 in times else max(time for time in times if time is not None)
