"""One broker or a cluster of them, on this machine."""

from __future__ import annotations

import base64
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from spile.spi import BrokerUnavailableError, ConfigurationError

from ._folder import ClusterFolder
from ._ports import PortLease
from ._process import OwnedProcess, ProcessMark, start_detached
from ._properties import BrokerAddress, server_properties
from ._runtime import BrokerRuntime, find_runtime
from ._settings import BrokerSettings
from ._wire import cluster_view, quorum_leader

_POLL_S = 0.02
_READY_LIMIT_S = 60.0


class EmbeddedBroker:
    """
    A real Kafka that this object starts and ends: one broker, or a cluster of several.

    Every call blocks until it is done; from a coroutine use `asyncio.to_thread`. The brokers end
    with SIGKILL, at the latest when this process does, whatever ends it, unless `detached`.
    Topics are never created by using them.

    Args:
        brokers: Number of brokers. From three on, replication is 3 with two in-sync replicas.
        port: Port of the first broker; the others follow it. None takes free ports below 32768.
        data: Folder for configuration, logs and data, kept afterwards and used again. None takes
            a temporary one, deleted by `close`.
        detached: The brokers live on when this process ends; `close` must not be forgotten.
        overrides: Broker settings that win over the ones chosen here; a function gives those of
            one broker.
        runtime: Java and jars; None finds them.

    Raises:
        ConfigurationError: When Java or Kafka is missing, a port is taken, or the folder belongs
            to a cluster of another shape.
        BrokerUnavailableError: When a broker ends or is not ready within 60 s.
    """

    def __init__(
        self,
        *,
        brokers: int = 1,
        port: int | None = None,
        data: Path | None = None,
        detached: bool = False,
        overrides: Mapping[str, str] | Callable[[BrokerAddress], Mapping[str, str]] | None = None,
        runtime: BrokerRuntime | None = None,
    ) -> None:
        settings = BrokerSettings()
        self._runtime = runtime or find_runtime(settings.cache_dir, java_home=settings.java_home)
        self._temporary = data is None
        self._folder = ClusterFolder(
            path=Path(tempfile.mkdtemp(prefix="spile-kafka-")) if data is None else data
        )
        self._detached = detached
        self._overrides = overrides if callable(overrides) else dict(overrides or {})
        self._lease = PortLease(self._runtime.cache_dir / "ports")
        self._owned: dict[int, OwnedProcess] = {}
        self._marks: dict[int, ProcessMark] = {}
        try:
            self._cluster = self._lay_out(brokers, port)
            for node in self.nodes:
                self._launch(node)
            self.wait_until_ready(self.nodes)
        except BaseException:
            self.close()
            raise

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all brokers, joined by commas."""
        return ",".join(address.client for address in self._cluster.values())

    @property
    def nodes(self) -> tuple[int, ...]:
        """The node ids, from 1."""
        return tuple(self._cluster)

    @property
    def folder(self) -> Path:
        """The folder of configuration, logs and data."""
        return self._folder.path

    def address(self, node: int) -> str:
        """Return `host:port` of one broker."""
        return self._cluster[node].client

    def pid(self, node: int) -> int:
        """Return the process id of one broker, of its last process when it is down."""
        return self._marks[node].pid

    def is_running(self, node: int) -> bool:
        """Say whether the process of one broker is there, paused or not."""
        return node in self._marks and self._marks[node].alive

    def quorum_leader(self, *, timeout_s: float = 10.0) -> int:
        """
        Return the node that leads the metadata quorum: the active controller.

        Args:
            timeout_s: Longest wait in seconds for an election to end.

        Raises:
            BrokerUnavailableError: When no running broker names a running leader in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for node in filter(self.is_running, self.nodes):
                leader = quorum_leader(self.address(node))
                if leader is not None and self.is_running(leader):
                    return leader
            time.sleep(_POLL_S)
        raise BrokerUnavailableError(f"the metadata quorum had no leader within {timeout_s} s")

    def kill(self, node: int = 1) -> None:
        """End one broker with SIGKILL; its data stay."""
        if node in self._owned:
            self._owned.pop(node).end()
        elif node in self._marks:
            self._marks[node].end()

    def stop(self, node: int = 1, *, timeout_s: float = 10.0) -> None:
        """End one broker with SIGTERM, so that it hands over; SIGKILL after `timeout_s`."""
        if mark := self._marks.get(node):
            mark.send(signal.SIGTERM)
            deadline = time.monotonic() + timeout_s
            while mark.alive and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        self.kill(node)

    def pause(self, node: int = 1) -> None:
        """Freeze one broker with SIGSTOP: its connections stay open and nothing answers."""
        self._marks[node].send(signal.SIGSTOP)

    def resume(self, node: int = 1) -> None:
        """Let a paused broker go on."""
        self._marks[node].send(signal.SIGCONT)

    def restart(self, node: int = 1, *, wait: bool = True) -> None:
        """
        Start one broker again on the same ports and data; a running one is killed first.

        Args:
            node: Node id.
            wait: Return only when all running brokers know each other again.

        Raises:
            BrokerUnavailableError: When it ends, or is not ready within 60 s.
        """
        self.kill(node)
        self._launch(node)
        if wait:
            running = [other for other in self.nodes if other == node or self.is_running(other)]
            self.wait_until_ready(running)

    def wait_until_ready(
        self, nodes: Sequence[int] = (), *, timeout_s: float = _READY_LIMIT_S
    ) -> None:
        """
        Wait until each of these brokers lists each of them as registered.

        Args:
            nodes: Node ids; empty means every running one.
            timeout_s: Longest wait in seconds.

        Raises:
            BrokerUnavailableError: When a broker ends, or the time is over.
        """
        waited_for = nodes or [node for node in self.nodes if self.is_running(node)]
        expected = {node: self.address(node) for node in waited_for}
        deadline = time.monotonic() + timeout_s
        for node in waited_for:
            while not self._knows(node, expected):
                if not self.is_running(node):
                    raise BrokerUnavailableError(
                        f"broker {node} ended while starting; its log ends:\n{self.log_tail(node)}"
                    )
                if time.monotonic() > deadline:
                    raise BrokerUnavailableError(
                        f"broker {node} was not ready within {timeout_s:.0f} s; its log ends:\n"
                        f"{self.log_tail(node)}"
                    )
                time.sleep(_POLL_S)

    def log_tail(self, node: int = 1, *, lines: int = 20) -> str:
        """Return the last lines of one broker's log."""
        log = self._folder.log(node)
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """End all brokers with SIGKILL and delete a temporary folder. Safe to call again."""
        for node in list(self._marks):
            self.kill(node)
        self._marks.clear()
        self._lease.close()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def release(self) -> None:
        """
        Let detached brokers live on without this object; `ClusterFolder.end` ends them.

        Raises:
            ConfigurationError: When the brokers are owned by this process.
        """
        if not self._detached:
            raise ConfigurationError("only detached brokers live on; pass detached=True")
        self._marks.clear()
        self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _lay_out(self, brokers: int, port: int | None) -> dict[int, BrokerAddress]:
        """Choose ports, or take those of the folder's last run, and write the configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cluster = self._leased(brokers, port)
        identity = _random_id()
        for address in cluster:
            home = self._folder.home(address.node)
            if not (home / "data").exists():
                shutil.copytree(self._runtime.formatted, home / "data")
                _set_identity(home / "data", node=address.node, cluster=identity)
            chosen = self._overrides
            text = server_properties(
                address,
                cluster,
                data=(home / "data").resolve(),
                overrides=chosen(address) if callable(chosen) else chosen,
            )
            (home / "server.properties").write_text(text, encoding="utf-8")
        return {address.node: address for address in cluster}

    def _leased(self, brokers: int, port: int | None) -> list[BrokerAddress]:
        """Lease the ports of all brokers and remember them in the folder."""
        known = self._folder.addresses()
        if known and len(known) != brokers:
            raise ConfigurationError(
                f"{self.folder} holds a cluster of {len(known)} brokers, not {brokers}; choose"
                " another folder or delete it"
            )
        ports = self._ports(brokers, port, known)
        cluster = [
            BrokerAddress(node=i + 1, port=ports[i], controller_port=ports[brokers + i])
            for i in range(brokers)
        ]
        self._folder.remember_addresses(cluster)
        return cluster

    def _ports(self, brokers: int, port: int | None, known: list[BrokerAddress]) -> list[int]:
        """Return client ports, then controller ports, all leased."""
        if port is None and known:
            old = [*(b.port for b in known), *(b.controller_port for b in known)]
            if all(self._lease.take_one(one) for one in old):
                return old
            self._lease.close()
        if port is None:
            return self._lease.take(2 * brokers)
        wanted = list(range(port, port + brokers))
        for one in wanted:
            if not self._lease.take_one(one):
                raise ConfigurationError(f"port {one} is in use; choose another", setting="port")
        return wanted + self._lease.take(brokers)

    def _launch(self, node: int) -> None:
        """Start the process of one broker."""
        home = self._folder.home(node)
        heap_mb = 400 if len(self._cluster) == 1 else 256
        command = self._runtime.command(
            "kafka.Kafka", str((home / "server.properties").resolve()), heap_mb=heap_mb
        )
        if self._detached:
            self._marks[node] = start_detached(command, log=self._folder.log(node))
        else:
            self._owned[node] = OwnedProcess(
                command,
                log=self._folder.log(node),
                scratch=self.folder if self._temporary else None,
            )
            self._marks[node] = self._owned[node].mark
        self._folder.remember_mark(node, self._marks[node])

    def _knows(self, node: int, expected: dict[int, str]) -> bool:
        """Say whether one broker answers and lists exactly the expected brokers or more."""
        view = cluster_view(self.address(node))
        return view is not None and expected.items() <= view.brokers.items()


def _random_id() -> str:
    """Return a Kafka Uuid: 16 random bytes in URL-safe base64 that do not start with a dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith(
        "-"
    ):
        pass
    return text


def _set_identity(data: Path, *, node: int, cluster: str) -> None:
    """Give a copy of the formatted folder its own node, folder and cluster id."""
    path = data / "meta.properties"
    facts = {"node.id": str(node), "cluster.id": cluster, "directory.id": _random_id()}
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("=")[0] not in facts]
    text = "\n".join([*kept, *(f"{name}={value}" for name, value in facts.items())])
    path.write_text(f"{text}\n", encoding="utf-8")
