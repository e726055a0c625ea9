"""The configuration of an embedded broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HOST = "127.0.0.1"
_MAX_MESSAGE_BYTES = 3 * 1024 * 1024  # the largest event of spile with room for its batch

_COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(_MAX_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(_MAX_MESSAGE_BYTES),
    # Few partitions for Kafka's own topics: each costs time at start and at fail-over.
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A dead broker is found after three seconds instead of nine.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    # Small files and few threads: many brokers share one machine.
    "log.segment.bytes": str(16 * 1024 * 1024),
    "log.index.size.max.bytes": str(1024 * 1024),
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """
    Where one broker listens, on the loopback address.

    Attributes:
        node: Node id, from 1.
        port: Port for clients.
        controller_port: Port for the quorum.
    """

    node: int
    port: int
    controller_port: int

    @property
    def client(self) -> str:
        """`host:port` for clients."""
        return f"{_HOST}:{self.port}"

    @property
    def controller(self) -> str:
        """`host:port` for the quorum."""
        return f"{_HOST}:{self.controller_port}"


def server_properties(
    address: BrokerAddress,
    cluster: Sequence[BrokerAddress],
    *,
    data: Path,
    overrides: Mapping[str, str] | None = None,
) -> str:
    """
    Return the text of `server.properties` for one broker.

    Replication is 3 with two in-sync replicas from three brokers on, else 1.

    Args:
        address: The broker.
        cluster: All brokers of its cluster, itself included.
        data: Its data folder.
        overrides: Settings that win over the ones chosen here.
    """
    replicas = 3 if len(cluster) >= 3 else 1  # noqa: PLR2004 - Kafka's usual minimum
    in_sync = max(1, replicas - 1)
    settings = _COMMON | {
        "node.id": str(address.node),
        "controller.quorum.voters": ",".join(f"{b.node}@{b.controller}" for b in cluster),
        "listeners": f"PLAINTEXT://{address.client},CONTROLLER://{address.controller}",
        "advertised.listeners": f"PLAINTEXT://{address.client}",
        "log.dirs": str(data),
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
    }
    return "".join(
        f"{name}={value}\n" for name, value in (settings | dict(overrides or {})).items()
    )
