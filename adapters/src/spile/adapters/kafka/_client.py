# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# aiokafka ships no types; the `*_client.py` files are where that ends.
"""
What every aiokafka client of spile shares: how to connect, deadlines, and the pins.

Importing this module changes aiokafka for the whole process, in four ways:

- OffsetFetch speaks version 1 only. From version 2 on a coordinator that moves or loads says so in
  a field that aiokafka does not read, and a group seems to have no committed offset.
- Nothing below INFO leaves its loggers: at DEBUG it logs payloads and SASL messages.
- What it logs as an error and then tries again, or raises so that we say it, is a warning.
- INVALID_RECORD, which it does not know, is told apart from an unknown error.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import errors as kafka
from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchRequest_v1

from spile.adapters.kafka._errors import translated

OffsetFetchRequest._CLASSES = (OffsetFetchRequest_v1,)


_RAISED_TOO = ('Unable connect to "%s:%s": %s',)
"""Comes just before the error that nothing answers, which carries the same."""

_COORDINATOR = "Group Coordinator Request failed: %s"
"""Tried again where it is retriable; the first group on a new cluster always sees it (error 15)."""


class _Honest(logging.Filter):
    """
    Lets nothing below INFO through, and what is no error as a warning.

    Holds even when somebody sets the level of a logger to DEBUG.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.ERROR and _is_no_error(record):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            return logging.getLogger(record.name).isEnabledFor(logging.WARNING)
        return record.levelno >= logging.INFO


def _is_no_error(record: logging.LogRecord) -> bool:
    """Say whether somebody else says so if it becomes one; an unknown line is an error."""
    if record.msg in _RAISED_TOO:
        return True
    args = record.args if isinstance(record.args, tuple) else ()
    return (
        record.msg == _COORDINATOR
        and bool(args)
        and isinstance(args[0], kafka.KafkaError)
        and args[0].retriable
    )


def pin_log_levels() -> None:
    """Keep the client's loggers honest, at INFO or above; those that exist by now: call it late."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("aiokafka.")]
    for name in ["aiokafka", *names]:
        logger = logging.getLogger(name)
        if not any(isinstance(kept, _Honest) for kept in logger.filters):
            logger.addFilter(_Honest())
    root = logging.getLogger("aiokafka")
    root.setLevel(max(root.level, logging.INFO))


pin_log_levels()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """
    How to reach and convince the brokers.

    Attributes:
        bootstrap_servers: `host:port`, separated by commas.
        client_id: Name that brokers log and that quotas hang on.
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        ssl_context: For SSL and SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
        sasl_username: For PLAIN and SCRAM.
        sasl_password: For PLAIN and SCRAM.
        oauth_token: Returns the token of the moment, for OAUTHBEARER; runs in a thread.
        request_timeout_ms: Time that one request may take.
        retry_backoff_ms: Wait between the client's own attempts.
    """

    bootstrap_servers: str
    client_id: str
    security_protocol: str
    ssl_context: ssl.SSLContext | None
    sasl_mechanism: str
    sasl_username: str | None
    sasl_password: str | None
    oauth_token: Callable[[], str] | None
    request_timeout_ms: int
    retry_backoff_ms: int

    def __repr__(self) -> str:
        return f"Connection({self.bootstrap_servers!r}, {self.security_protocol})"

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that every aiokafka class takes, timeouts left out."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context,
        }
        if self.security_protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.sasl_password
            if self.oauth_token is not None:
                arguments["sasl_oauth_token_provider"] = _TokenProvider(self.oauth_token)
        return arguments


class _TokenProvider(AbstractTokenProvider):
    """Asks for the token at each connection, so that a renewed one is picked up."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return await asyncio.to_thread(self._token)


@asynccontextmanager
async def deadline(seconds: float, doing: str) -> AsyncGenerator[None]:
    """
    Bound what is awaited inside, and raise our errors instead of the client's.

    Raises:
        DeliveryTimeoutError: The time is up.
        SpileError: See `translate`.
    """
    with translated(doing):
        async with asyncio.timeout(seconds):
            yield


async def refusal(connection: Connection) -> Exception | None:
    """
    Return why the brokers refuse a connection, None when it can be made.

    The client's own start only says that it could not bootstrap, so that a wrong password looks
    like a broker that is down.
    """
    arguments = connection.arguments()
    probe = AIOKafkaClient(bootstrap_servers=arguments.pop("bootstrap_servers"))
    last: Exception | None = None
    for host, port, _ in probe.hosts:
        try:
            opened = await create_conn(
                host, port, request_timeout_ms=connection.request_timeout_ms, **arguments
            )
        except (OSError, kafka.KafkaError) as exc:
            last = exc
        else:
            opened.close()
            return None
    return last


async def finish(tasks: Iterable[asyncio.Task[Any] | None], *, limit_s: float = 1.0) -> None:
    """Cancel tasks that a client left behind and wait for them, within the limit."""
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    if running:
        done, _ = await asyncio.wait(running, timeout=limit_s)
        for task in done:
            if not task.cancelled():
                task.exception()
