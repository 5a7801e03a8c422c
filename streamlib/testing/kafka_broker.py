"""A real Apache Kafka on this machine, for development and tests: started, paused, killed and started again.

    with KafkaBroker() as broker:
        print(broker.address)          # 127.0.0.1:12345

Everything listens on the loopback interface only. Next: `transport/kafka`, which talks to it.
"""

import asyncio
import base64
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from streamlib.errors import BrokerUnavailableError, ConfigError
from streamlib.testing.kafka_jars import fetch_jars, find_java

HOST = "127.0.0.1"
_chance = random.SystemRandom()  # test runners seed the common one: processes beside each other would agree on ports
TEST_JAVA_OPTIONS = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

# Small, quick to react, and without surprises: topics are made on purpose, and no timestamp is too old or too new.
SETTINGS = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "2000",
    "log.retention.ms": "-1",
    "log.cleaner.backoff.ms": "86400000",  # it would delete the windows of old events from changelogs
    "log.message.timestamp.after.max.ms": "9223372036854775807",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "broker.session.timeout.ms": "4000",  # a killed broker may come back only after that
    "broker.heartbeat.interval.ms": "500",
}


class KafkaBroker:
    """A KRaft cluster of one or more combined broker and controller processes.

    Args:
        brokers: How many processes.
        port: Port of the first broker (the next ones follow), or 0 for free ports.
        data_dir: Where logs and settings live; what is there is used again. None for a temporary folder,
            deleted by `close`.
        settings: Kafka's own settings, over those made for tests.
        java_options: Options of each JVM: heap and JIT. The default starts fast; benchmarks want the JVM's own.
        listeners: More listeners by name, with their security protocol: ``{"SECURE": "SASL_SSL"}``; see `listener`.
        format_options: More options of Kafka's storage tool, such as ``--add-scram``.

    Attributes:
        address: ``host:port`` of every broker, separated by commas; stays the same over stop and start.
    """

    def __init__(
        self,
        *,
        brokers: int = 1,
        port: int = 0,
        data_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = TEST_JAVA_OPTIONS,
        listeners: Mapping[str, str] | None = None,
        format_options: Sequence[str] = (),
    ) -> None:
        if brokers < 1:
            msg = f"a cluster needs at least one broker, not {brokers}"
            raise ConfigError(msg)
        self._temporary = data_dir is None
        self._data_dir = Path(tempfile.mkdtemp(prefix="streamlib-kafka-")) if data_dir is None else data_dir.absolute()
        self._settings = SETTINGS | replication_settings(brokers) | dict(settings or {})
        self._java_options = tuple(java_options)
        self._ports = [port + node for node in range(brokers)] if port else [free_port() for _ in range(brokers)]
        self._protocols = dict(listeners or {})
        self._listener_ports = {name: [free_port() for _ in range(brokers)] for name in self._protocols}
        self._format_options = tuple(format_options)
        self._controller_ports = [free_port() for _ in range(brokers)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.address = ",".join(f"{HOST}:{port}" for port in self._ports)

    @property
    def nodes(self) -> range:
        """Node ids: 1, 2, ..."""
        return range(1, len(self._ports) + 1)

    def listener(self, name: str) -> str:
        """``host:port`` of every broker on one of the additional listeners; its certificates name ``localhost``."""
        return ",".join(f"localhost:{port}" for port in self._listener_ports[name])

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the brokers that do not run, and return once all of them answer and know each other.

        Raises:
            ConfigError: Java or Maven is missing.
            BrokerUnavailableError: A broker ended, or was not ready in time; the message shows the end of its log.
        """
        java, jars = find_java(), fetch_jars()
        cluster_id = self._cluster_id()
        for node in self.nodes:
            if not self._runs(node):
                self._launch(node, [java, *self._java_options, *_log_options(), "-cp", f"{jars}/*"], cluster_id)
        deadline = time.monotonic() + timeout_s
        for node in self.nodes:
            self._wait_until_ready(node, deadline)

    def stop(self, node: int | None = None, *, timeout_s: float = 20.0) -> None:
        """End one broker, or all: politely first, then not. Data and ports stay, so `start` goes on from there."""
        processes = self._running(node)
        for process in processes:
            _signal_group(process, signal.SIGCONT)
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()

    def kill(self, node: int | None = None) -> None:
        """End one broker, or all, as a crash does."""
        for process in self._running(node):
            _signal_group(process, signal.SIGKILL)
            process.wait()

    def pause(self, node: int | None = None) -> None:
        """Freeze one broker, or all: connections stay open and nobody answers."""
        for process in self._running(node):
            _signal_group(process, signal.SIGSTOP)

    def resume(self, node: int | None = None) -> None:
        """Let paused brokers run on."""
        for process in self._running(node):
            _signal_group(process, signal.SIGCONT)

    def close(self) -> None:
        """Stop, and delete a temporary data folder."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self._data_dir, ignore_errors=True)

    def wait(self) -> None:
        """Block until a broker ends by itself, which is an error.

        Raises:
            BrokerUnavailableError: With the end of that broker's log.
        """
        while all(self._runs(node) for node in self.nodes):
            time.sleep(0.2)
        node = next(node for node in self.nodes if not self._runs(node))
        raise self._failure(node, f"ended with exit code {self._processes[node].poll()}")

    def log_tail(self, node: int = 1, lines: int = 30) -> str:
        """The end of a broker's log."""
        log = self._node_dir(node) / "broker.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log yet)"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def _node_dir(self, node: int) -> Path:
        return self._data_dir / f"node-{node}"

    def _runs(self, node: int) -> bool:
        process = self._processes.get(node)
        return process is not None and process.poll() is None

    def _running(self, node: int | None) -> list[subprocess.Popen[bytes]]:
        nodes = self.nodes if node is None else [node]
        return [self._processes[each] for each in nodes if self._runs(each)]

    def _cluster_id(self) -> str:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        kept = self._data_dir / "cluster-id"
        if not kept.exists():
            kept.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A"))
        return kept.read_text()

    def _launch(self, node: int, java: list[str], cluster_id: str) -> None:
        folder = self._node_dir(node)
        folder.mkdir(exist_ok=True)
        properties = folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._node_settings(node).items()))
        with (folder / "broker.log").open("ab") as log:
            if not (folder / "data" / "meta.properties").exists():
                command = [
                    "kafka.tools.StorageTool",
                    "format",
                    "-t",
                    cluster_id,
                    "-c",
                    str(properties),
                    *self._format_options,
                ]
                done = subprocess.run([*java, *command], stdout=log, stderr=log, check=False)  # noqa: S603
                if done.returncode != 0:
                    raise self._failure(node, "could not format its data folder")
            self._processes[node] = subprocess.Popen(  # noqa: S603
                [*java, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that Ctrl-C in a terminal reaches us first, and brokers stop in order
            )

    def _node_settings(self, node: int) -> dict[str, str]:
        controllers = enumerate(self._controller_ports, 1)
        own = {name: f"{name}://localhost:{ports[node - 1]}" for name, ports in self._listener_ports.items()}
        own["PLAINTEXT"] = f"PLAINTEXT://{HOST}:{self._ports[node - 1]}"
        protocols = {**self._protocols, "PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        return {
            **self._settings,
            "process.roles": "broker,controller",
            "node.id": str(node),
            "controller.quorum.voters": ",".join(f"{each}@{HOST}:{port}" for each, port in controllers),
            "listeners": ",".join([*own.values(), f"CONTROLLER://{HOST}:{self._controller_ports[node - 1]}"]),
            "advertised.listeners": ",".join(own.values()),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._node_dir(node) / "data"),
        }

    def _wait_until_ready(self, node: int, deadline: float) -> None:
        while live_brokers(HOST, self._ports[node - 1]) < len(self._ports):
            if not self._runs(node):
                raise self._failure(node, f"ended with exit code {self._processes[node].poll()}")
            if time.monotonic() > deadline:
                raise self._failure(node, "was not ready in time")
            time.sleep(0.05)

    def _failure(self, node: int, what: str) -> BrokerUnavailableError:
        log = self._node_dir(node) / "broker.log"
        return BrokerUnavailableError(
            f"Kafka broker {node} at {HOST}:{self._ports[node - 1]} {what}. "
            f"Is the port free, and the data folder not in use? Log {log} ends with:\n{self.log_tail(node)}"
        )


def replication_settings(brokers: int) -> dict[str, str]:
    """Replication of new topics and of the broker's own: three copies where there are three brokers."""
    copies, in_sync = str(min(3, brokers)), str(2 if brokers >= 3 else 1)
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def free_port() -> int:
    """A port nobody listens on, below the range that outgoing connections take theirs from.

    Inside that range a client that knocks at a stopped broker's port may be given this very port, and so hold it.
    """
    while True:
        port = _chance.randint(15_000, 31_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def live_brokers(host: str, port: int, *, timeout_s: float = 2.0) -> int:
    """How many brokers the one at this port says are alive, by a Metadata request; 0 when it does not answer."""
    request = struct.pack(">hhihiB", 3, 4, 1, -1, 0, 0)  # Metadata v4, no client id, no topics, create none
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reader:
                head = reader.read(16)  # size, correlation id, throttle time, broker count
    except OSError:
        return 0
    return int(struct.unpack(">iiii", head)[3]) if len(head) == 16 else 0


def _log_options() -> list[str]:
    prefix = "-Dorg.slf4j.simpleLogger"
    return [f"{prefix}.showDateTime=true", f"{prefix}.dateTimeFormat=HH:mm:ss.SSS", f"{prefix}.showThreadName=false"]


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
