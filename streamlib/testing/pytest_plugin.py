"""Fixtures for tests of topologies; pytest finds them wherever streamlib is installed.

``topology_driver`` makes `TopologyTestDriver`s that are closed when the test is over:

    def test_words_are_counted(topology_driver):
        driver = topology_driver(app.topology)
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from streamlib.testing.topology_test_driver import TopologyTestDriver


@pytest.fixture
def topology_driver() -> Iterator[Callable[..., "TopologyTestDriver"]]:
    """A function that takes what `TopologyTestDriver` takes and gives one."""
    # Imported here: a plugin is loaded by every run of pytest on the machine, also by those that need no streamlib.
    from streamlib.testing.topology_test_driver import TopologyTestDriver  # noqa: PLC0415

    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> "TopologyTestDriver":
            return stack.enter_context(TopologyTestDriver(*arguments, **options))

        yield make
