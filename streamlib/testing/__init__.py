"""What users test with: shipped, not internal. Start with `TopologyTestDriver`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamlib.testing.clock import ManualClock
    from streamlib.testing.explain import Explanation
    from streamlib.testing.topics import TestInputTopic, TestOutputTopic, TestRecord, table
    from streamlib.testing.topology_test_driver import TopologyTestDriver

__all__ = [
    "Explanation",
    "ManualClock",
    "TestInputTopic",
    "TestOutputTopic",
    "TestRecord",
    "TopologyTestDriver",
    "table",
]

_MODULES = {
    "Explanation": "explain",
    "ManualClock": "clock",
    "TestInputTopic": "topics",
    "TestOutputTopic": "topics",
    "TestRecord": "topics",
    "TopologyTestDriver": "topology_test_driver",
    "table": "topics",
}


def __getattr__(name: str) -> Any:
    """Imported when first used: pytest loads the plugin in this package in every run, also where nobody tests this."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
