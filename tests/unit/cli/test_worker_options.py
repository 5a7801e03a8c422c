from dataclasses import fields
from pathlib import Path

import pytest

from streamlib.cli.worker_options import WorkerOptions
from streamlib.error_policies import dead_letter, retry, skip
from streamlib.errors import ConfigError
from streamlib.topology.topology import Topology

NAMED, UNNAMED = Topology("words", {}, {}, ()), Topology(None, {}, {}, ())


def test_the_application_is_called_as_its_topology_unless_told_otherwise() -> None:
    assert WorkerOptions().config(NAMED, {}, None).application_id == "words"
    assert WorkerOptions().config(NAMED, {"application_id": "filed"}, None).application_id == "filed"
    assert (
        WorkerOptions(application_id="given").config(NAMED, {"application_id": "filed"}, None).application_id == "given"
    )


def test_a_topology_without_a_name_needs_an_application_id() -> None:
    with pytest.raises(ConfigError, match="application_id"):
        WorkerOptions().config(UNNAMED, {}, None)


def test_every_flag_reaches_its_setting() -> None:
    options = WorkerOptions(
        application_id="a",
        state_dir=Path("s"),
        commit_interval="2s",
        cache_bytes=1,
        on_deserialization_error="skip",
        on_processing_error="dead-letter:bad",
        on_production_error="retry:3:dead-letter",
        dead_letter_topic="failed",
        errors_max_share=0.5,
        on_data_loss="latest",
        auto_offset_reset="latest",
        replication_factor=3,
        session_timeout_ms=7_000,
        shutdown_timeout="1m",
        group_instance_id="i",
        standby_replicas=1,
        client_tags=["rack=a", "zone=z"],
        sets=["max_poll_records=9"],
    )
    assert all(getattr(options, entry.name) is not None for entry in fields(options))
    config = options.config(NAMED, {}, None)
    assert (config.application_id, config.state_dir, config.commit_interval_ms) == ("a", Path("s"), 2_000)
    assert (config.statestore_cache_max_bytes, config.replication_factor, config.session_timeout_ms) == (1, 3, 7_000)
    assert config.deserialization_exception_handler == skip()
    assert config.processing_exception_handler == dead_letter("bad")
    assert config.production_exception_handler == retry(3, then=dead_letter())
    assert (config.errors_dead_letter_queue_topic_name, config.errors_max_share) == ("failed", 0.5)
    assert config.on_data_loss == "latest"
    assert (config.auto_offset_reset, config.shutdown_timeout_ms, config.group_instance_id) == ("latest", 60_000, "i")
    assert (config.num_standby_replicas, config.client_tags) == (1, {"rack": "a", "zone": "z"})
    assert config.max_poll_records == 9


def test_each_of_several_workers_has_state_and_membership_of_its_own() -> None:
    config = WorkerOptions(state_dir=Path("s"), group_instance_id="host").config(NAMED, {}, 2)
    assert (config.state_dir, config.group_instance_id) == (Path("s/2"), "host-2")
    assert WorkerOptions(state_dir=Path("s")).config(NAMED, {}, 0).group_instance_id is None
