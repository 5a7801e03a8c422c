"""What users test with: shipped, not internal. Start with `TopologyTestDriver`."""

from streamlib.testing.clock import ManualClock
from streamlib.testing.topics import TestInputTopic, TestOutputTopic, TestRecord
from streamlib.testing.topology_test_driver import TopologyTestDriver

__all__ = ["ManualClock", "TestInputTopic", "TestOutputTopic", "TestRecord", "TopologyTestDriver"]
