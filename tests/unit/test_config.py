"""Settings: names, defaults and what is refused."""

import inspect
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from streamlib.config import StreamsConfig
from streamlib.errors import ConfigError


def test_kafka_names_with_dots_are_accepted() -> None:
    config = StreamsConfig.from_mapping({"application.id": "app", "commit.interval.ms": 100})
    assert config == StreamsConfig(application_id="app", commit_interval_ms=100)


def test_an_unknown_name_is_refused_and_the_nearest_is_named() -> None:
    with pytest.raises(ConfigError, match=r'unknown setting "comit_interval_ms".*mean "commit_interval_ms"'):
        StreamsConfig.from_mapping({"application_id": "app", "comit_interval_ms": 1})


def test_all_names_are_listed_when_none_is_near() -> None:
    with pytest.raises(ConfigError) as caught:
        StreamsConfig.from_mapping({"application_id": "app", "xyzzy": 1})
    assert all(entry.name in str(caught.value) for entry in fields(StreamsConfig))


@pytest.mark.parametrize("settings", [{}, {"application_id": ""}])
def test_a_missing_application_id_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="application_id"):
        StreamsConfig.from_mapping(settings)


def test_defaults_are_those_of_kafka_streams() -> None:
    config = StreamsConfig("app")
    assert config.commit_interval_ms == 30_000
    assert config.statestore_cache_max_bytes == 6.4 * 10_485_760  # as many entries: Python objects are larger
    assert config.session_timeout_ms == 45_000
    assert config.heartbeat_interval_ms == 500  # Kafka has 3 s: all pause until the last has heard of a rebalance
    assert (config.num_standby_replicas, config.acceptable_recovery_lag) == (0, 10_000)
    assert (config.max_warmup_replicas, config.probing_rebalance_interval_ms) == (2, 600_000)
    assert config.state_cleanup_delay_ms == 600_000
    assert config.auto_offset_reset == "earliest"
    assert config.windowstore_changelog_additional_retention_ms == 24 * 60 * 60 * 1000


def test_state_is_kept_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert StreamsConfig("app").state_dir == Path("/home/someone/.local/state/streamlib")


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        StreamsConfig("app").application_id = "other"  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    described = re.findall(r"^    (\w+): \S", inspect.getdoc(StreamsConfig) or "", re.MULTILINE)
    assert described == [entry.name for entry in fields(StreamsConfig)]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("processing_guarantee", "at_least_once or exactly_once_v2"),
        ("on_data_loss", "fail or earliest or latest"),
        ("future_timestamps", "accept or clamp or skip or fail"),
    ],
)
def test_a_word_that_a_setting_does_not_know_is_refused_with_those_it_knows(name: str, known: str) -> None:
    with pytest.raises(ConfigError, match=f'{name}="sometimes" is not known: use {known}$'):
        StreamsConfig("app", **{name: "sometimes"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_standby_replicas": -1}, "num_standby_replicas"),
        ({"max_warmup_replicas": 0}, "max_warmup_replicas is 1 or more"),
        ({"acceptable_recovery_lag": -1}, "acceptable_recovery_lag"),
        ({"client_tags": {str(number): "x" for number in range(6)}}, "client_tags are at most 5"),
        ({"client_tags": {"rack": "x" * 101}}, "at most 100 characters"),
        ({"client_tags": {"rack": "1"}, "rack_aware_assignment_tags": ("rak",)}, 'names "rak"'),
    ],
)
def test_an_assignment_that_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamsConfig("app", **settings)
