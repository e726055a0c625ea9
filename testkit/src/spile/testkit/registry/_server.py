"""One schema registry on this machine."""

from __future__ import annotations

import base64
import http.client
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from spile.spi import BrokerUnavailableError
from spile.testkit.broker import BrokerSettings, OwnedProcess, PortLease
from spile.testkit.registry._program import RegistryProgram, find_program

_HOST = "127.0.0.1"
_PATH = "/apis/ccompat/v7"
_POLL_S = 0.05
_READY_LIMIT_S = 60.0
_FLAGS = (
    *("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    *(f"-Dquarkus.http.host={_HOST}", f"-Dquarkus.management.host={_HOST}"),
    "-Dquarkus.management.port=0",  # its default is 9000 on every address
    "-Dquarkus.http.access-log.enabled=false",
    # One test client at a time needs no pool of 20.
    *("-Dapicurio.datasource.jdbc.initial-size=1", "-Dapicurio.datasource.jdbc.min-size=1"),
)
_GUARDED_FLAGS = (
    *("-Dapicurio.authn.enabled=true", "-Dquarkus.oidc.tenant-enabled=false"),
    "-Dquarkus.http.auth.basic=true",
    "-Dquarkus.security.users.embedded.plain-text=true",
    "-Dquarkus.http.auth.permission.all.paths=/apis/*",
    "-Dquarkus.http.auth.permission.all.policy=authenticated",
)


class EmbeddedRegistry:
    """
    A real Apicurio Registry that this object starts and ends; it keeps its schemas in memory.

    Every call blocks until it is done; from a coroutine use `asyncio.to_thread`. The process ends
    with SIGKILL, at the latest when this one does, and takes its schemas with it. The global
    compatibility level starts as NONE, unlike that of other registries.

    Args:
        users: Passwords by user name; with some, Apicurio's own basic authentication is on, and
            a request without credentials is refused. None lets everybody in. The passwords can
            be seen in the process list: they are for tests.
        program: Java and Apicurio; None finds them.

    Raises:
        ConfigurationError: When Java 21+ or Apicurio is missing, or no port is free.
        BrokerUnavailableError: When it ends or does not answer within 60 s.
    """

    def __init__(
        self, *, users: Mapping[str, str] | None = None, program: RegistryProgram | None = None
    ) -> None:
        settings = BrokerSettings()
        self._program = program or find_program(settings.cache_dir, java_home=settings.java_home)
        self._users = dict(users or {})
        self._folder = Path(tempfile.mkdtemp(prefix="spile-registry-"))
        self._lease = PortLease(self._program.cache_dir / "ports")
        self._process: OwnedProcess | None = None
        try:
            (self._port,) = self._lease.take(1)
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The base address of the Confluent-compatible API, without a slash at the end."""
        return f"http://{_HOST}:{self._port}{_PATH}"

    @property
    def port(self) -> int:
        """The port of the loopback address; the same after a restart."""
        return self._port

    def start(self) -> None:
        """
        Start it on its port, empty; returns when a real request succeeded.

        Raises:
            BrokerUnavailableError: When it ends or does not answer within 60 s.
        """
        self.kill()
        self._process = OwnedProcess(self._command(), log=self._log, scratch=self._folder)
        deadline = time.monotonic() + _READY_LIMIT_S
        while not self._answers():
            alive = self._process.mark.alive
            if not alive or time.monotonic() > deadline:
                what = "did not answer within 60 s" if alive else "ended while starting"
                raise BrokerUnavailableError(f"the registry {what}; its log ends:\n{self._tail()}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it with SIGKILL; its port refuses connections and stays leased."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def pause(self) -> None:
        """Freeze it with SIGSTOP: its port takes connections and nothing answers."""
        if self._process is not None:
            self._process.mark.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        if self._process is not None:
            self._process.mark.send(signal.SIGCONT)

    def close(self) -> None:
        """End it and delete what it wrote. Safe to call again."""
        self.kill()
        self._lease.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _command(self) -> list[str]:
        guarded = [
            *(_GUARDED_FLAGS if self._users else ()),
            *(f"-Dquarkus.security.users.embedded.users.{u}={p}" for u, p in self._users.items()),
            *(f"-Dquarkus.security.users.embedded.roles.{u}=sr-admin" for u in self._users),
        ]
        return [
            *(str(self._program.java.program), *_FLAGS, *guarded),
            *(f"-Djava.io.tmpdir={self._folder}", f"-Dquarkus.http.port={self._port}"),
            *("-jar", str(self._program.folder / "quarkus-run.jar")),
        ]

    def _answers(self) -> bool:
        headers: dict[str, str] = {}
        for user, password in self._users.items():
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=5.0)
        try:
            connection.request("GET", f"{_PATH}/subjects", headers=headers)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _tail(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-20:])
