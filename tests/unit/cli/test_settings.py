from pathlib import Path
from typing import Any, Literal

import pytest

from streamlib.cli.settings import converted, pairs, read_settings, streams_config
from streamlib.error_policies import skip
from streamlib.errors import ConfigError


def test_set_wins_over_flags_and_flags_over_the_file() -> None:
    file = {"application_id": "filed", "commit_interval_ms": 1, "max_poll_records": 1, "session_timeout_ms": 1}
    flags = {"commit_interval_ms": 2, "max_poll_records": 2, "session_timeout_ms": None}
    config = streams_config(flags, ["max.poll.records=3"], file)
    assert config.application_id == "filed"
    assert (config.session_timeout_ms, config.commit_interval_ms, config.max_poll_records) == (1, 2, 3)


def test_values_become_the_types_of_their_settings() -> None:
    sets = [
        "state_dir=~/here",
        "group.instance.id=none",
        "deserialization_exception_handler=skip",
        "commit_interval_ms=100",
    ]
    config = streams_config({"application_id": "app"}, sets)
    assert config.state_dir == Path.home() / "here"
    assert config.group_instance_id is None
    assert config.deserialization_exception_handler == skip()
    assert config.commit_interval_ms == 100


def test_an_unknown_setting_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r'unknown setting "comit_interval_ms".*"commit_interval_ms"'):
        streams_config({"application_id": "app"}, ["comit.interval.ms=1"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("commit_interval_ms=soon", r"commit_interval_ms is a whole number, not 'soon'"),
        ("auto_offset_reset=earlyest", r'one of earliest, .*, not \'earlyest\'. Did you mean "earliest"\?'),
        ("topic_configs=compact", r"topic_configs is name=value"),
        ("max_poll_records", r'--set needs name=value, not "max_poll_records"'),
    ],
)
def test_a_setting_that_does_not_fit_says_what_would(entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        streams_config({"application_id": "app"}, [entry])


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (bool, "true", True),
        (bool, "0", False),
        (bool, True, True),
        (float, "0.5", 0.5),
        (int, 7, 7),
        (str, "x", "x"),
        (Path, "a/b", Path("a/b")),
        (int | None, "", None),
        (int | None, "5", 5),
        (Literal["a", "b"], "b", "b"),
        (tuple[str, ...], "rack, zone", ("rack", "zone")),
        (tuple[str, ...], ["rack"], ("rack",)),
    ],
)
def test_a_value_is_converted_to_the_kind(kind: Any, value: Any, wanted: Any) -> None:
    assert converted("name", value, kind) == wanted


@pytest.mark.parametrize(("kind", "value"), [(bool, "maybe"), (int, True), (int, 0.5), (str, 5), (float, "x")])
def test_a_value_of_another_kind_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^name is "):
        converted("name", value, kind)


def test_a_value_among_pairs_may_hold_commas() -> None:
    text = "cleanup.policy=compact,delete,retention.ms = 5"
    assert pairs("--config", text) == {"cleanup.policy": "compact,delete", "retention.ms": "5"}
    assert pairs("table", {"a": 1, "b": True}) == {"a": "1", "b": "true"}


def test_a_file_is_read_with_tables_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "prod.toml"
    path.write_text('application_id = "app"\nbroker = "local:x"\n[topic_configs]\n"retention.ms" = 5\n[security]\n')
    settings = read_settings(path)
    assert settings["broker"] == "local:x"
    assert streams_config({}, (), settings).topic_configs == {"retention.ms": "5"}


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*absent.toml: No such file"):
        read_settings(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("a = ")
    with pytest.raises(ConfigError, match=r"broken.toml is no TOML file: Invalid value"):
        read_settings(tmp_path / "broken.toml")
