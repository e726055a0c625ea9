"""A registry behind the Confluent-compatible HTTP API."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

from spile.adapters.delivery import Backoff
from spile.adapters.registry._credentials import Basic, Bearer
from spile.adapters.registry._definitions import check_subject, definition_of, schema_type_of
from spile.adapters.registry._registry import CACHE_SIZE, SchemaRegistry, UnknownIdError
from spile.adapters.registry._transport import NoSuchThingError, Request, Transport
from spile.adapters.registry._values import (
    Compatibility,
    CompatibilityLevel,
    SchemaType,
    SchemaVersion,
    StoredSchema,
)
from spile.spi import IncompatibleSchemaError, RegistryUnavailableError, SchemaError

_QUICK = Backoff(initial_s=0.1, max_s=2.0)


class HttpSchemaRegistry(SchemaRegistry):
    """
    Confluent Schema Registry, Karapace, Redpanda, Apicurio, or another with their API.

    Trouble of the infrastructure is always `RegistryUnavailableError` or `UnauthorisedError`, never
    a `SchemaError`: no answer in time, no connection, 429, 5xx, redirects (which are not
    followed), and answers that are not of a registry. A schema above 1 MiB is a `SchemaError`, as
    it stays so large; other answers of that size are not of a registry. Timeouts, lost
    connections, 429 and 5xx are tried again first. One call takes at most
    `(1 + retries) * timeout_s` and the waits between, which Retry-After makes up to 5 s. Reading a
    cached schema is no request, a compatibility check two or more, the rest one.

    Args:
        url: Base address: that of the server, for Apicurio with `/apis/ccompat/v7`. The only one
            that is ever asked.
        auth: Credentials; they are sent with each request and shown nowhere.
        timeout_s: Seconds that one attempt may take, 5 by default.
        retries: Further attempts after the first, 3 by default.
        backoff: Waits between attempts: 0.1 s, doubled up to 2 s, by default.
        cache_size: Number of schemas to keep in memory, 512 by default.
        ssl_context: What to trust; by default the system's certificates, host name checked.

    Raises:
        ConfigurationError: The address is none of http or https, or holds credentials.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Basic | Bearer | None = None,
        timeout_s: float = 5.0,
        retries: int = 3,
        backoff: Backoff = _QUICK,
        cache_size: int = CACHE_SIZE,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(cache_size=cache_size)
        self._transport = Transport(
            url,
            auth=auth,
            timeout_s=timeout_s,
            retries=retries,
            backoff=backoff,
            ssl_context=ssl_context,
        )

    def __repr__(self) -> str:
        return f"HttpSchemaRegistry({self._transport.url!r})"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._transport.close()

    async def subjects(self) -> list[str]:
        return sorted(_texts(await self._get("/subjects")))

    async def versions(self, subject: str) -> list[int]:
        try:
            found = await self._get(f"{_subject(subject)}/versions")
        except NoSuchThingError:
            return []
        if not isinstance(found, list):
            raise _odd("a list of versions")
        numbers = cast("list[object]", found)
        return sorted(number for number in numbers if isinstance(number, int))

    async def version(self, subject: str, number: int | None = None) -> SchemaVersion:
        which = "latest" if number is None else str(number)
        try:
            return self._version_in(await self._get(f"{_subject(subject)}/versions/{which}"))
        except NoSuchThingError as exc:
            what = "versions" if number is None else f"version {number}"
            raise SchemaError(f"subject {subject!r} has no {what}") from exc

    async def compatibility_level(self, subject: str | None = None) -> CompatibilityLevel:
        # Without the query Apicurio answers NONE for a subject that has no level of its own.
        query = {} if subject is None else {"defaultToGlobal": "true"}
        try:
            found = await self._get(_config(subject), query)
        except NoSuchThingError:
            if subject is None:
                raise
            return await self.compatibility_level()
        try:
            return CompatibilityLevel(_field(found, "compatibilityLevel", str))
        except ValueError:
            raise _odd("a compatibility level") from None

    async def set_compatibility_level(
        self, level: CompatibilityLevel, subject: str | None = None
    ) -> None:
        self._require_open()
        body = {"compatibility": level.value}
        await self._transport.send(Request(method="PUT", path=_config(subject), body=body))

    async def _register(self, subject: str, text: str, kind: SchemaType) -> int:
        path = f"{_subject(subject)}/versions"
        request = Request(method="POST", path=path, body=_definition(text, kind))
        try:
            made = await self._transport.send(request)
        except IncompatibleSchemaError as exc:
            raise IncompatibleSchemaError(f"{subject}: {exc}") from exc
        return _field(made, "id", int)

    async def _fetch(self, schema_id: int) -> StoredSchema:
        try:
            found = await self._get(f"/schemas/ids/{schema_id}")
        except NoSuchThingError as exc:
            raise UnknownIdError(f"the registry has no schema {schema_id}") from exc
        return _stored(found, schema_id)

    async def _lookup(self, subject: str, text: str, kind: SchemaType) -> SchemaVersion | None:
        request = Request(method="POST", path=_subject(subject), body=_definition(text, kind))
        try:
            return self._version_in(await self._transport.send(request), kind)
        except NoSuchThingError:
            return None

    async def _check(self, subject: str, text: str, kind: SchemaType) -> Compatibility:
        # Not every server has the path that checks all versions at once.
        level = await self.compatibility_level(subject)
        against: list[int | str] = ["latest"]
        if level.is_transitive:
            against = [*reversed(await self.versions(subject))]
        for version in against:
            found = await self._check_against(subject, version, _definition(text, kind))
            if not found:
                return found
        return Compatibility(compatible=True)

    async def _check_against(
        self, subject: str, version: int | str, definition: dict[str, Any]
    ) -> Compatibility:
        request = Request(
            method="POST",
            path=f"/compatibility{_subject(subject)}/versions/{version}",
            body=definition,
            query={"verbose": "true"},
        )
        try:
            found = await self._transport.send(request)
        except NoSuchThingError:
            return Compatibility(compatible=True)
        compatible: bool = _field(found, "is_compatible", bool)
        reasons = _texts(cast("dict[str, object]", found).get("messages") or [])
        return Compatibility(compatible=compatible, reasons=tuple(reasons))

    async def _get(self, path: str, query: dict[str, str] | None = None) -> Any:
        self._require_open()
        return await self._transport.send(Request(method="GET", path=path, query=query or {}))

    def _version_in(self, found: Any, kind: SchemaType = SchemaType.AVRO) -> SchemaVersion:
        stored = _stored(found, _field(found, "id", int), kind)
        return SchemaVersion(
            subject=_field(found, "subject", str),
            version=_field(found, "version", int),
            stored=self._keep(stored),
        )


def _subject(subject: str) -> str:
    return f"/subjects/{quote(check_subject(subject), safe='')}"


def _config(subject: str | None) -> str:
    return "/config" if subject is None else f"/config/{quote(check_subject(subject), safe='')}"


def _definition(text: str, kind: SchemaType) -> dict[str, Any]:
    return {"schema": text, "schemaType": kind.value}


def _stored(found: Any, schema_id: int, unsaid: SchemaType = SchemaType.AVRO) -> StoredSchema:
    """Read a schema from an answer, which leaves Avro unsaid; Apicurio's to a lookup, any type."""
    text = _field(found, "schema", str)
    answer = cast("dict[str, object]", found)
    if answer.get("references"):
        raise SchemaError(f"schema {schema_id} refers to other subjects, which is not supported")
    kind = schema_type_of(str(answer.get("schemaType", unsaid)))
    return StoredSchema(schema_id=schema_id, schema_type=kind, schema=definition_of(text, kind))


def _field(found: Any, name: str, kind: type[Any]) -> Any:
    value = cast("dict[str, object]", found).get(name) if isinstance(found, dict) else None
    if type(value) is not kind:
        raise _odd(f"an object with {name}")
    return value


def _texts(found: Any) -> list[str]:
    if not isinstance(found, list):
        raise _odd("a list")
    return [str(entry) for entry in cast("list[object]", found)]


def _odd(expected: str) -> RegistryUnavailableError:
    return RegistryUnavailableError(
        f"the answer is not what a schema registry says, expected {expected}; is the address right?"
    )
