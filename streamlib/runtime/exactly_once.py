"""What must hold before a worker may promise exactly-once; refused at its start otherwise.

Next: `producer_holder`, which keeps the worker inside a transaction; `commit`, which ends one.
"""

from streamlib.config import StreamsConfig
from streamlib.errors import ConfigError
from streamlib.runtime.calls import longest_ms
from streamlib.topology.async_nodes import AsyncCalls
from streamlib.topology.topology import Topology


def check_transactions(topology: Topology, config: StreamsConfig) -> None:
    """Refuse what would break the promise, or make every transaction run out of time.

    Raises:
        ConfigError: Python's assert statements are off, by which the client guards its transaction states; or
            asynchronous calls may take longer than a transaction.
    """
    if not config.exactly_once:
        return
    if not __debug__:
        msg = "exactly_once_v2 needs Python's assert statements: run without -O and without PYTHONOPTIMIZE"
        raise ConfigError(msg)
    for node in topology.nodes.values():
        if not isinstance(node, AsyncCalls):
            continue
        longest = longest_ms(node.policy) + config.commit_interval_ms
        if longest >= config.transaction_timeout_ms:
            msg = (
                f"the asynchronous calls of {node.name} may take {longest_ms(node.policy)} ms with all their retries, "
                f"and a commit waits for them: the broker aborts a transaction after transaction_timeout_ms="
                f"{config.transaction_timeout_ms}. Give the calls a shorter timeout, or raise transaction_timeout_ms "
                f"above {longest}."
            )
            raise ConfigError(msg)
