"""Requests to a registry: one fixed address, bounded in time, size and number."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog

from spile.adapters.delivery import Backoff
from spile.adapters.registry._credentials import Basic, Bearer
from spile.spi import (
    ClosedError,
    ConfigurationError,
    IncompatibleSchemaError,
    RegistryUnavailableError,
    SchemaError,
    UnauthorisedError,
)

MAX_ANSWER_BYTES: Final = 1 << 20
"""Largest answer that is read: a schema of 64 KiB with all of JSON's escapes, with room."""

_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_LONGEST_WAIT_S: Final = 5.0
_REASON_CHARACTERS: Final = 1_000
_UNFIT: Final = "#: "
_NOT_THERE: Final = frozenset({40401, 40402, 40403, 40408})

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One request.

    Attributes:
        method: GET, POST or PUT.
        path: Path below the base address, its parts quoted.
        body: JSON to send.
        query: Query, by name.
    """

    method: str
    path: str
    body: dict[str, Any] | None = None
    query: dict[str, str] = field(default_factory=dict[str, str])


class NoSuchThingError(SchemaError):
    """
    Raised when the registry says that it has no such subject, version or schema.

    Attributes:
        code: The registry's number of the error: 40401 subject, 40402 version, 40403 schema,
            40408 level of a subject.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class Transport:
    """
    Sends requests, again when that may help, and translates what comes back.

    Redirects are not followed, proxies of the environment not used, and no more than 1 MiB is
    read.

    Args:
        url: Base address.
        auth: Credentials.
        timeout_s: Seconds that one attempt may take.
        retries: Further attempts after the first.
        backoff: Waits between them.
        ssl_context: What to trust; the system's certificates by default.

    Raises:
        ConfigurationError: The address is none of http or https, or holds credentials.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Basic | Bearer | None,
        timeout_s: float,
        retries: int,
        backoff: Backoff,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.url = checked_url(url)
        self._auth = auth
        self._timeout_s = timeout_s
        self._retries = retries
        self._backoff = backoff
        self._client = httpx.AsyncClient(
            verify=ssl_context or ssl.create_default_context(),
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            headers={"Accept": f"{_MEDIA_TYPE}, application/json", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, request: Request) -> Any:
        """
        Return the decoded answer to a request.

        Raises:
            RegistryUnavailableError: No attempt was answered, or not by a schema registry.
            UnauthorisedError: The credentials are missing, wrong or not enough.
            IncompatibleSchemaError: The level of the subject forbids the schema.
            NoSuchThingError: There is no such subject, version or schema.
            SchemaError: The registry refuses the request for another reason, or gives a schema that
                is too large to read.
            ConfigurationError: The file with the secret cannot be read.
            ClosedError: `close` was called before or between the attempts.
        """
        for attempt in range(1, self._retries + 2):
            try:
                return await self._attempt(request)
            except _TryAgain as exc:
                if attempt > self._retries:
                    raise RegistryUnavailableError(
                        f"the schema registry at {self.url} {exc}; tried {attempt} times"
                    ) from exc.__cause__
                wait_s = max(self._backoff.delay(attempt), exc.wait_s)
                _log.warning(
                    "schema registry asked again",
                    method=request.method,
                    path=request.path,
                    attempt=attempt,
                    reason=str(exc),
                    wait_s=round(wait_s, 3),
                )
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _attempt(self, request: Request) -> Any:
        if self._client.is_closed:
            raise ClosedError("the schema registry was closed")
        try:
            async with asyncio.timeout(self._timeout_s):
                status, headers, content = await self._exchange(request)
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise _TryAgain(f"did not answer within {self._timeout_s:g} s") from exc
        except httpx.TransportError as exc:
            raise _TryAgain(f"cannot be reached ({type(exc).__name__})") from exc
        return self._translated(request, status, headers, content)

    async def _exchange(self, request: Request) -> tuple[int, httpx.Headers, bytes]:
        headers = {} if self._auth is None else {"Authorization": self._auth.header()}
        content = None
        if request.body is not None:
            content = msgspec.json.encode(request.body)
            headers["Content-Type"] = _MEDIA_TYPE
        made = self._client.build_request(
            request.method,
            f"{self.url}{request.path}",
            params=request.query or None,
            content=content,
            headers=headers,
        )
        answer = await self._client.send(made, stream=True)
        try:
            return answer.status_code, answer.headers, await self._read(answer)
        finally:
            await answer.aclose()

    async def _read(self, answer: httpx.Response) -> bytes:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise self._odd("compressed its answer, which was not asked for")
        content = bytearray()
        async for chunk in answer.aiter_raw():
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                if answer.status_code == HTTPStatus.OK and content.startswith(b"{"):
                    # A registry's own word: tried again it would be as large, for ever.
                    raise SchemaError(
                        f"the registry's schema has more than {MAX_ANSWER_BYTES} bytes"
                    )
                raise self._odd(f"answered with more than {MAX_ANSWER_BYTES} bytes")
        return bytes(content)

    def _translated(
        self, request: Request, status: int, headers: httpx.Headers, content: bytes
    ) -> Any:
        code, reason, body = _told(content)
        if status in _TRY_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            if request.method != "GET" and reason.startswith(_UNFIT):
                # Apicurio's JSON Schema library says so of drafts and types that it cannot compare.
                raise SchemaError(f"the registry cannot compare this schema: {reason}")
            raise _TryAgain(f"answered {status} {reason}".rstrip(), wait_s=_retry_after(headers))
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            who = "without credentials" if self._auth is None else "with these credentials"
            raise UnauthorisedError(
                f"the schema registry at {self.url} refuses {request.method} {request.path}"
                f" {who} ({status})"
            )
        if status == HTTPStatus.CONFLICT:
            raise IncompatibleSchemaError(reason or "the schema is not compatible")
        if status in {HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}:
            raise SchemaError(f"the registry refuses the schema ({code or status}): {reason}")
        if status == HTTPStatus.NOT_FOUND and code in _NOT_THERE:
            raise NoSuchThingError(reason, code=code)
        if status != HTTPStatus.OK or body is None:
            # Not what a registry says: never to be taken for "there is no such schema".
            what = "without JSON" if status == HTTPStatus.OK else reason
            raise self._odd(f"answered {status} {what}".rstrip() + "; is the address right?")
        return body

    def _odd(self, what: str) -> RegistryUnavailableError:
        return RegistryUnavailableError(f"the schema registry at {self.url} {what}")


class _TryAgain(Exception):  # noqa: N818 - not an error yet
    """Says why an attempt failed, and how long the registry wants to be left alone."""

    def __init__(self, reason: str, *, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def checked_url(url: str) -> str:
    """
    Return a base address without the slash at its end.

    Raises:
        ConfigurationError: It is none of http or https, or holds credentials, a query or a
            fragment; the message does not repeat them.
    """
    setting = "SPILE_REGISTRY_URL"
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
        parts = None
    if not good or parts is None:
        raise ConfigurationError(
            f"{setting}: expected http://host or https://host, with port and path", setting=setting
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{setting}: must not hold credentials, a query or a fragment; set"
            " SPILE_REGISTRY_USERNAME and SPILE_REGISTRY_PASSWORD",
            setting=setting,
        )
    return url.rstrip("/")


def _told(content: bytes) -> tuple[int, str, Any]:
    """Return the registry's error number, its words on one line, and the decoded answer."""
    try:
        body: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0, "", None
    if not isinstance(body, dict):
        return 0, "", cast("object", body)
    answer = cast("dict[str, object]", body)
    code, message = answer.get("error_code"), answer.get("message")
    text = " ".join(message.split())[:_REASON_CHARACTERS] if isinstance(message, str) else ""
    return (code if isinstance(code, int) else 0), text, answer


def _retry_after(headers: httpx.Headers) -> float:
    """Return the seconds that the registry asks for, at most 5. Source: RFC 9110, 10.2.3."""
    text = headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT_S) if text.isdigit() else 0.0
