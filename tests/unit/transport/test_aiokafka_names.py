"""Pins the private names of aiokafka that the Kafka driver leans on: a release that moves one fails here, by name."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.producer import message_accumulator, sender, transaction_manager
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamlib.transport.kafka import client, columns, membership, sending
from streamlib.transport.kafka.client import BrokerConnection, Connection, KafkaClient

DRIVER = Path(client.__file__).parent
TP = TopicPartition("topic", 0)

ATTRIBUTES = {
    "client": [
        "_connections_max_idle_ms",
        "_conns",
        "_get_conn",
        "_get_conn_lock",
        "_loop",
        "_md_synchronizer",
        "_metadata_update",
        "_on_connection_closed",
        "_bootstrap_servers",
        "_sync_task",
        "cluster",
        "hosts",
    ],
    "connection": ["_writer", "_closed_fut"],
    "cluster": ["leader_for_partition", "partitions_for_topic", "unauthorized_topics", "add_listener", "failed_update"],
    "subscriptions": [
        "reassignment_in_progress",
        "wait_for_assignment",
        "fetch_context",
        "is_assigned",
        "subscription",
    ],
    "partition state": ["has_valid_position", "lso", "highwater", "timestamp", "consumed_to"],
    "fetcher": [
        "_records",
        "_fetch_task",
        "_pending_tasks",
        "_fetch_max_wait_ms",
        "_client",
        "_subscriptions",
        "_loop",
        "fetched_records",
        "seek_to",
        "close",
    ],
    "fetch result": ["_partition_records", "_topic_partition", "_assignment", "check_assignment"],
    "partition records": [
        "_records",
        "_records_iterator",
        "_tp",
        "_check_crcs",
        "_isolation_level",
        "_aborted_producers",
        "_consume_aborted_up_to",
        "_contains_abort_marker",
        "next_fetch_offset",
    ],
    "coordinator": [
        "_send_req",
        "_group_instance_id",
        "_coordination_task",
        "_heartbeat_task",
        "_start_heartbeat_task",
        "_commit_refresh_task",
        "coordinator_dead",
        "ensure_coordinator_known",
        "check_errors",
        "request_rejoin",
        "generation",
        "member_id",
        "group_id",
    ],
    "manager": [
        "_sequence_numbers",
        "_txn_partitions",
        "_txn_consumer_group",
        "_transaction_waiter",
        "_pid_and_epoch",
        "_pid_waiter",
        "state",
        "notify_task_waiter",
        "maybe_add_partition_to_txn",
        "offset_committed",
        "wait_for_transaction_end",
    ],
    "accumulator": [
        "_batches",
        "_batch_ttl",
        "_linger_time",
        "_exception",
        "_waiter_future",
        "_wakeup",
        "_txn_manager",
        "create_builder",
        "fail_all",
        "flush_for_commit",
    ],
    "batch": ["_drain_waiter", "future"],
    "builder": ["_builder", "_relative_offset"],
    "sender": ["_txn_manager", "_message_accumulator", "_sender_task", "_find_coordinator", "_coordinator_dead"],
    "handler": ["_sender", "_offsets", "_default_backoff"],
}

OVERRIDES = [
    (columns.ColumnFetcher, Fetcher, ["_get_actions_per_node", "_proc_fetch_request"]),
    (
        KafkaClient,
        AIOKafkaClient,
        ["bootstrap", "_get_conn", "_metadata_update", "force_metadata_update", "close", "send"],
    ),
    (BrokerConnection, AIOKafkaConnection, ["authenticator_oauth", "close"]),
    (
        sending.Sender,
        sender.Sender,
        [
            "_send_produce_req",
            "_do_add_partitions_to_txn",
            "_do_add_offsets_to_txn",
            "_do_txn_offset_commit",
            "_do_txn_commit",
        ],
    ),
    (
        sending.TransactionManager,
        transaction_manager.TransactionManager,
        ["increment_sequence_number", "error_transaction", "fatal_error"],
    ),
    (sending.Batch, message_accumulator.MessageBatch, ["failure"]),
    (sending.TxnOffsetCommitHandler, sender.TxnOffsetCommitHandler, ["create_request", "handle_response"]),
]


async def aiokafkas_objects() -> dict[str, Any]:
    """One instance of each class, without a network."""
    connection = KafkaClient(Connection("127.0.0.1:9", None, "pins"))
    manager = transaction_manager.TransactionManager("id", 1)
    accumulator = message_accumulator.MessageAccumulator(connection.cluster, 1000, 0, 1.0, txn_manager=manager)
    builder = accumulator.create_builder()
    subscriptions, assignment = SubscriptionState(), Assignment([TP])
    records = PartitionRecords(TP, MemoryRecords(b""), [], 0, None, None, True, 1)
    sending_task = sender.Sender(
        connection,
        acks=-1,
        txn_manager=manager,
        message_accumulator=accumulator,
        retry_backoff_ms=1,
        request_timeout_ms=1,
    )
    return {
        "client": connection,
        "connection": BrokerConnection("127.0.0.1", 9, closing={}),
        "cluster": connection.cluster,
        "subscriptions": subscriptions,
        "partition state": assignment.state_value(TP),
        "fetcher": Fetcher(connection, subscriptions),
        "fetch result": FetchResult(TP, assignment=assignment, partition_records=records, backoff=0),
        "partition records": records,
        "coordinator": GroupCoordinator(connection, subscriptions),
        "manager": manager,
        "accumulator": accumulator,
        "batch": message_accumulator.MessageBatch(TP, builder, 1.0, 0.0),
        "builder": builder,
        "sender": sending_task,
        "handler": sender.TxnOffsetCommitHandler(sending_task, {}, "group"),
    }


async def test_every_private_attribute_exists_when_aiokafka_is_the_pinned_release() -> None:
    objects = await aiokafkas_objects()
    missing = [
        f"{kind}.{name}" for kind, names in ATTRIBUTES.items() for name in names if not hasattr(objects[kind], name)
    ]
    assert missing == []
    for kind in ("fetcher", "coordinator"):
        await objects[kind].close()


@pytest.mark.parametrize(("ours", "theirs", "names"), OVERRIDES, ids=lambda value: getattr(value, "__name__", None))
def test_overrides_take_what_aiokafka_passes_when_it_calls_them(ours: type, theirs: type, names: list[str]) -> None:
    for name in names:
        old, new = inspect.signature(getattr(theirs, name)), inspect.signature(getattr(ours, name))
        assert len(new.parameters) == len(old.parameters), name
        assert inspect.iscoroutinefunction(getattr(theirs, name)) == inspect.iscoroutinefunction(getattr(ours, name)), (
            name
        )


def test_a_fetch_result_takes_another_getall_when_one_is_set_on_the_instance() -> None:
    assert not hasattr(FetchResult, "__slots__")
    calls = inspect.getsource(Fetcher.fetched_records)
    assert "res_or_error.getall(max_records)" in calls
    assert "type(res_or_error) is FetchResult" in calls


def test_the_innermost_append_takes_positions_and_tells_full_by_none_when_it_is_compiled() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 200)
    assert builder.append(0, 5, b"k", b"v" * 500, [("h", None)]) is not None  # a first record always fits
    assert builder.append(1, 6, b"k", b"v", []) is None
    batch = MemoryRecords(bytes(builder.build())).next_batch()
    assert isinstance(batch, DefaultRecordBatch)
    assert batch.validate_crc()
    (record,) = batch
    assert (record.key, record.value, record.timestamp, list(record.headers)) == (b"k", b"v" * 500, 5, [("h", None)])


def private_names(path: Path) -> Iterator[str]:
    """Private attributes a module reads or writes on other objects than ``self``, or defines by overriding."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield node.attr


def own_names(module: Any) -> set[str]:
    """Private names that a driver module defines itself."""
    tree = ast.parse(Path(module.__file__).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.attr for target in targets if isinstance(target, ast.Attribute)}
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__slots__" for target in node.targets):
            names |= set(ast.literal_eval(node.value))
    return names


@pytest.mark.parametrize("module", [client, columns, membership, sending], ids=lambda module: module.__name__)
def test_no_private_name_is_used_unpinned_when_a_driver_module_changes(module: Any) -> None:
    pinned = {name for names in ATTRIBUTES.values() for name in names}
    pinned |= {name for _, _, names in OVERRIDES for name in names}
    used = set(private_names(Path(module.__file__)))
    assert used - pinned - own_names(module) == set()


def test_no_other_module_touches_aiokafkas_private_names_when_it_imports_aiokafka() -> None:
    allowed = {"client.py", "columns.py", "membership.py", "sending.py"}
    elsewhere = {
        (path.name, node.attr)
        for path in DRIVER.glob("*.py")
        if path.name not in allowed
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }
    assert elsewhere == {("producer.py", "_builder"), ("producer.py", "_relative_offset")}
