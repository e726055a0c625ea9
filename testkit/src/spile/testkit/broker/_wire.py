"""One Kafka request by hand, so that readiness needs no Kafka client."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

_METADATA, _VERSION = 3, 1
_NO_TOPICS = struct.pack(">i", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """
    What one broker knows of its cluster.

    Attributes:
        brokers: Address of each registered broker by node id.
        controller: Node id that answers for the controller, -1 when none is known.
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
    host, _, port = address.rpartition(":")
    header = struct.pack(">hhih", _METADATA, _VERSION, 1, -1)
    request = header + _NO_TOPICS
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            return _decoded(_read(connection, size))
    except (OSError, struct.error, UnicodeDecodeError):
        return None


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
