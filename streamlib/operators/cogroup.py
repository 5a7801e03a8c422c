"""The table of a cogroup: the updates of several aggregations of one store, as they come.

Source: KTablePassThrough. Next: `aggregate`, `window_aggregate` and `session_aggregate`, which feed it.
"""

from streamlib.operators.base import Forward
from streamlib.operators.wiring import Wiring
from streamlib.topology.cogroup_nodes import CogroupMerge


class CogroupMergeOperator:
    """Passes updates on.

    Args:
        forward: Where to.
    """

    def __init__(self, forward: Forward) -> None:
        self.process = forward


def cogroup_merge(_: CogroupMerge, wiring: Wiring) -> CogroupMergeOperator:
    """The operator of a cogroup's table."""
    return CogroupMergeOperator(wiring.forward)
