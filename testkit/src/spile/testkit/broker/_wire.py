"""Two Kafka requests by hand, so that readiness needs no Kafka client."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

_METADATA, _METADATA_VERSION = 3, 1
_DESCRIBE_QUORUM = 55


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """
    What one broker knows of its cluster.

    Attributes:
        brokers: Address of each registered broker by node id.
        controller: Node id to send administrative requests to, -1 when none is known.
    """

    brokers: dict[int, str]
    controller: int


def cluster_view(address: str, *, timeout_s: float = 1.0) -> ClusterView | None:
    """
    Ask a broker for its view of the cluster (Metadata v1, KIP-4).

    Args:
        address: `host:port` of the broker, without TLS.
        timeout_s: Limit in seconds for connecting and for each read.

    Returns:
        The view, or None when nothing that speaks Kafka answers in time.
    """
    header = struct.pack(">hhih", _METADATA, _METADATA_VERSION, 1, -1)
    try:
        return _decoded(_answer(address, header + struct.pack(">i", 0), timeout_s))
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def quorum_leader(address: str, *, timeout_s: float = 2.0) -> int | None:
    """
    Ask a broker which node leads the metadata quorum (DescribeQuorum v0, KIP-595).

    Metadata does not tell: in KRaft it names any live broker as controller.

    Args:
        address: `host:port` of the broker, without TLS.
        timeout_s: Limit in seconds for connecting and for each read.

    Returns:
        The node id, or None when nothing answers in time or the quorum has no leader.
    """
    topic = b"__cluster_metadata"
    body = b"\x02" + bytes([len(topic) + 1]) + topic + b"\x02" + struct.pack(">i", 0) + bytes(3)
    header = struct.pack(">hhihx", _DESCRIBE_QUORUM, 0, 1, -1)
    try:
        answer = _answer(address, header + body, timeout_s)
        # Behind correlation id, no tags, error, one topic with its name, one partition's index.
        error, leader = struct.unpack_from(">hi", answer, 4 + 1 + 2 + 1 + 1 + len(topic) + 1 + 4)
    except (OSError, struct.error):
        return None
    return leader if error == 0 and leader >= 0 else None


def _answer(address: str, request: bytes, timeout_s: float) -> bytes:
    """Send one request over a connection of its own and return the response without its size."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        return _read(connection, size)


def _read(connection: socket.socket, size: int) -> bytes:
    """Read exactly so many bytes."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionResetError("the broker closed the connection")
        parts += part
    return bytes(parts)


def _decoded(body: bytes) -> ClusterView:
    """Take the brokers and the controller out of a Metadata v1 response."""
    _, count = struct.unpack_from(">ii", body, 0)
    at, brokers = 8, dict[int, str]()
    for _ in range(count):
        (node,) = struct.unpack_from(">i", body, at)
        host, at = _string(body, at + 4)
        (port,) = struct.unpack_from(">i", body, at)
        _, at = _string(body, at + 4)
        brokers[node] = f"{host}:{port}"
    (controller,) = struct.unpack_from(">i", body, at)
    return ClusterView(brokers=brokers, controller=controller)


def _string(body: bytes, at: int) -> tuple[str, int]:
    """Read a string with its 16-bit length; a null string (-1) reads as empty."""
    (size,) = struct.unpack_from(">h", body, at)
    end = at + 2 + max(size, 0)
    return body[at + 2 : end].decode(), end
