"""The development broker: finds its tools or says what to install, starts, keeps data and address, fails loudly."""

import shutil
import socket
import stat
from pathlib import Path

import pytest

from streamlib.errors import BrokerUnavailableError, ConfigError
from streamlib.testing.kafka_broker import HOST, KafkaBroker, free_port, live_brokers, replication_settings
from streamlib.testing.kafka_jars import cache_dir, fetch_jars, find_java

FETCH = 'for last; do :; done; touch "${last#-DoutputDirectory=}/kafka-clients-4.jar"'


def script(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH besides the system's, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for needed in ("mkdir", "touch"):
        folder.joinpath(needed).symlink_to(shutil.which(needed) or "")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def test_package_to_install_is_named_when_java_is_missing(tools: Path) -> None:
    with pytest.raises(ConfigError, match="apt-get install openjdk-17-jdk-headless maven"):
        find_java()


@pytest.mark.parametrize("banner", ['openjdk version "11.0.2" 2019-01-15', 'java version "1.8.0_151"'])
def test_java_is_refused_when_it_is_too_old(tools: Path, banner: str) -> None:
    java = script(tools, "java", f"echo '{banner}' >&2")
    with pytest.raises(ConfigError, match=rf"{java} is Java (11|8)\."):
        find_java()


def test_java_home_wins_when_it_is_set(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tools, "java", "exit 1")
    (tmp_path / "jdk" / "bin").mkdir(parents=True)
    java = script(tmp_path / "jdk" / "bin", "java", "echo 'openjdk version \"21\" 2023-09-19' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java() == str(java)


def test_package_to_install_is_named_when_maven_is_missing(tools: Path) -> None:
    with pytest.raises(ConfigError, match="apt-get install"):
        fetch_jars()


def test_jars_are_fetched_once_when_maven_works(tools: Path) -> None:
    maven = script(tools, "mvn", FETCH)
    jars = fetch_jars()
    assert jars == cache_dir()
    assert [jar.name for jar in jars.iterdir()] == ["kafka-clients-4.jar"]
    maven.unlink()
    assert fetch_jars() == jars
    assert list(jars.parent.iterdir()) == [jars]


def test_last_words_of_maven_are_shown_and_nothing_is_kept_when_it_fails(tools: Path) -> None:
    script(tools, "mvn", "echo 'no route to the repository'; exit 1")
    with pytest.raises(ConfigError, match="no route to the repository"):
        fetch_jars()
    assert list(cache_dir().parent.iterdir()) == []


def test_another_processs_jars_are_taken_when_it_was_first(tools: Path) -> None:
    theirs = cache_dir()
    script(tools, "mvn", f"{FETCH}; mkdir {theirs}; touch {theirs}/theirs")
    assert [jar.name for jar in fetch_jars().iterdir()] == ["theirs"]


def test_jars_are_others_when_the_pom_changes(tmp_path: Path) -> None:
    pom = tmp_path / "pom.xml"
    pom.write_text("<project/>")
    assert cache_dir(pom) != cache_dir()


def test_nobody_is_alive_when_a_port_is_closed_or_silent() -> None:
    assert live_brokers(HOST, free_port()) == 0
    with socket.create_server((HOST, 0)) as silent:
        assert live_brokers(HOST, silent.getsockname()[1], timeout_s=0.1) == 0


def test_ports_lie_outside_the_range_of_outgoing_connections_when_they_are_chosen() -> None:
    assert all(1024 < free_port() < 32_768 for _ in range(20))


def test_three_copies_are_kept_when_there_are_three_brokers() -> None:
    assert replication_settings(1)["offsets.topic.replication.factor"] == "1"
    three = replication_settings(3)
    assert (three["default.replication.factor"], three["min.insync.replicas"]) == ("3", "2")


def test_every_broker_has_a_port_of_its_own_when_a_first_one_is_given(tmp_path: Path) -> None:
    assert KafkaBroker(brokers=3, port=19_092, data_dir=tmp_path).address == f"{HOST}:19092,{HOST}:19093,{HOST}:19094"
    with pytest.raises(ConfigError, match="not 0"):
        KafkaBroker(brokers=0)


@pytest.mark.kafka
def test_end_of_the_log_is_shown_and_nothing_is_left_when_the_broker_cannot_start() -> None:
    broker = KafkaBroker(java_options=("-Xmx1k",))
    with pytest.raises(BrokerUnavailableError, match="Too small maximum heap"), broker:
        pass
    assert not broker._data_dir.exists()


@pytest.mark.kafka
@pytest.mark.slow
def test_data_and_address_stay_when_a_broker_with_a_folder_starts_again(tmp_path: Path) -> None:
    port = free_port()
    with KafkaBroker(data_dir=tmp_path, port=port) as broker:
        assert broker.address == f"{HOST}:{port}"
        assert live_brokers(HOST, port) == 1
        broker.kill()
        with pytest.raises(BrokerUnavailableError, match="exit code"):
            broker.wait()
    cluster_id = (tmp_path / "cluster-id").read_text()
    assert live_brokers(HOST, port) == 0
    with KafkaBroker(data_dir=tmp_path, port=port):
        assert cluster_id in (tmp_path / "node-1" / "data" / "meta.properties").read_text()
