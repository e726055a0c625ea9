"""One PostgreSQL on this machine, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from spile.spi import BrokerUnavailableError, ConfigurationError
from spile.testkit.broker import BrokerSettings, OwnedProcess, PortLease

_HOST = "127.0.0.1"
_READY_LIMIT_S = 30.0
_POLL_S = 0.05
_USER = "postgres"
_SETTINGS = (
    "fsync=off",  # nobody cuts the power of a test
    "max_connections=30",
    "shared_buffers=16MB",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "autovacuum=off",
)


class EmbeddedPostgres:
    """
    A real PostgreSQL that this object starts and ends, with an empty database `spile`.

    Needs `initdb` and `postgres` (Debian: apt package `postgresql`); run by root it becomes the
    user `postgres`, since PostgreSQL refuses root. Everybody on the loopback address may connect.
    Every call blocks; from a coroutine use `asyncio.to_thread`.

    Raises:
        ConfigurationError: PostgreSQL is missing, or no port is free.
        BrokerUnavailableError: It does not come up within 30 s.
    """

    def __init__(self) -> None:
        self._programs = _find_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="spile-postgres-"))
        self._ports = PortLease(BrokerSettings().cache_dir / "ports")
        self._process: OwnedProcess | None = None
        try:
            self._port = self._ports.take(1)[0]
            self._make_data()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def dsn(self) -> str:
        """Where to connect."""
        return f"postgresql://{_USER}@{_HOST}:{self._port}/{_USER}"

    def start(self) -> None:
        """
        Start it, again after `stop`.

        Raises:
            BrokerUnavailableError: It does not come up within 30 s.
        """
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *settings]
        command += ["-p", str(self._port)]
        self._process = OwnedProcess(
            _as_user(command), log=self._folder / "log", scratch=self._folder
        )
        until = time.monotonic() + _READY_LIMIT_S
        ready = [str(self._programs / "pg_isready"), "-q", "-h", _HOST, "-p", str(self._port)]
        while subprocess.run(ready, check=False).returncode:  # noqa: S603 - the command is ours
            if time.monotonic() > until or not self._process.mark.alive:
                log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
                raise BrokerUnavailableError(f"PostgreSQL did not come up:\n{log[-2000:]}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it at once, as a crash would; the data stay until `close`."""
        process, self._process = self._process, None
        if process is not None:
            process.mark.send(signal.SIGQUIT)
            until = time.monotonic() + 5
            while process.mark.alive and time.monotonic() < until:
                time.sleep(0.01)
            process.end()

    def close(self) -> None:
        """End it and delete its data."""
        self.stop()
        self._ports.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _make_data(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._folder, _USER)
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", _USER]
        command += ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(  # noqa: S603 - the command is ours
            _as_user(command), capture_output=True, text=True, check=False, cwd=self._folder
        )
        if done.returncode:
            raise ConfigurationError(f"initdb failed:\n{done.stderr[-2000:]}")


def _as_user(command: list[str]) -> list[str]:
    """Return a command that runs as somebody whom PostgreSQL accepts."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", *command]


def _find_programs() -> Path:
    """
    Return the folder of PostgreSQL's programs, the newest where there are several.

    Raises:
        ConfigurationError: There is none.
    """
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if not debian:
        raise ConfigurationError("there is no PostgreSQL here: install the apt package postgresql")
    return debian[-1].parent
