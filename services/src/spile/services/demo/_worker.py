"""The workers, in a process of their own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

from spile.spi import BrokerUnavailableError
from spile.testkit.broker import OwnedProcess

_POLL_S = 0.02
_READY_LIMIT_S = 30.0
_DRAIN_LIMIT_S = 15.0
_WINDOW_S = "2"  # a person waits for the archive


class WorkerProcess:
    """
    `spile run all`, started here and ended here; a context manager.

    Leaving sends SIGTERM, so that it drains, and SIGKILL when it does not end within 15 s. It ends
    with this process, whatever ends that.

    Args:
        folder: Where store, archive and log go.
        bootstrap_servers: The Kafka that it reads.
        scratch: Delete the folder even if this process is killed.
    """

    def __init__(self, folder: Path, bootstrap_servers: str, *, scratch: bool) -> None:
        self.store = folder / "events.db"
        self.archive = folder / "archive"
        self.log = folder / "worker.log"
        self.url = ""
        self._process = OwnedProcess(
            [sys.executable, "-m", "spile.services.command", "run", "all"],
            log=self.log,
            scratch=folder if scratch else None,
            environment={
                **_without_archive(os.environ),
                "SPILE_BOOTSTRAP_SERVERS": bootstrap_servers,
                "SPILE_STORE": str(self.store),
                "SPILE_ARCHIVE": str(self.archive),
                "SPILE_ARCHIVE_WINDOW_S": _WINDOW_S,
                "SPILE_HTTP_HOST": "127.0.0.1",
                "SPILE_HTTP_PORT": "0",
                "SPILE_LOG_LEVEL": "info",
                "SPILE_LOG_FORMAT": "json",
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._process.mark.send(signal.SIGTERM)
            deadline = time.monotonic() + _DRAIN_LIMIT_S
            while self.alive and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        finally:
            self._process.end()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.mark.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.mark.alive

    def wait_until_ready(self) -> None:
        """
        Wait until `/readyz` says so, at most 30 s.

        Raises:
            BrokerUnavailableError: It ended, or was not ready in time; shows the end of its log.
        """
        deadline = time.monotonic() + _READY_LIMIT_S
        while not self._is_ready():
            if not self.alive or time.monotonic() > deadline:
                verb = "was not ready within 30 s" if self.alive else "ended"
                raise BrokerUnavailableError(
                    f"the workers' process {verb}; its log ends:\n{self.log_tail()}"
                )
            time.sleep(_POLL_S)

    def log_tail(self, lines: int = 8) -> str:
        """Return the last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _is_ready(self) -> bool:
        self.url = self.url or self._find_url()
        if not self.url:
            return False
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def _find_url(self) -> str:
        """Read from its log which free port it took."""
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and "http" in entry:
                    return str(cast("dict[str, Any]", entry)["http"])
        return ""


def _without_archive(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out where a person archives otherwise, and how."""
    return {name: v for name, v in environment.items() if not name.startswith("SPILE_ARCHIVE")}
