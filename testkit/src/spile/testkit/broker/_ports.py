"""
Free TCP ports for brokers.

Ports lie below 32768, outside the ephemeral range: a broker that restarts must find its port free,
and above that another process's outgoing connection may have taken it.
"""

from __future__ import annotations

import fcntl
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from spile.spi import ConfigurationError

_FIRST, _LAST = 20_000, 32_767
_HOST = "127.0.0.1"


class PortLease:
    """
    Ports that no other starter on this machine takes while the lease is open.

    A lock file per port keeps parallel starters apart between the test of a port and its use, and
    while a broker is down for a restart. The system drops the locks when the process ends.

    Args:
        folder: Folder of the lock files, shared by all starters.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._locks: list[IO[bytes]] = []

    def take(self, count: int) -> list[int]:
        """
        Lease free ports.

        Raises:
            ConfigurationError: When fewer are free.
        """
        taken: list[int] = []
        for port in _candidates():
            if len(taken) == count:
                return taken
            if self.take_one(port):
                taken.append(port)
        raise ConfigurationError(f"no {count} free ports between {_FIRST} and {_LAST}")

    def take_one(self, port: int) -> bool:
        """Lease this port; False when it is leased or used by another."""
        lock = (self._folder / f"{port}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        if not is_free(port):
            lock.close()
            return False
        self._locks.append(lock)
        return True

    def close(self) -> None:
        """Give all ports back."""
        while self._locks:
            self._locks.pop().close()


def is_free(port: int) -> bool:
    """Say whether a broker could listen on the port of the loopback address."""
    with socket.socket() as probe:
        # As a broker does it: connections that linger in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _candidates() -> Iterator[int]:
    """Yield every port once, from a random start, so that parallel starters rarely meet."""
    span = _LAST - _FIRST + 1
    start = secrets.randbelow(span)
    for step in range(span):
        yield _FIRST + (start + step) % span
