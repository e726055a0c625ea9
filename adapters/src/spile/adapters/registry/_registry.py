"""What all registries have in common, whatever keeps the schemas."""

from __future__ import annotations

import time
from abc import abstractmethod
from types import TracebackType
from typing import Any, Self

from spile.adapters.registry._cache import (
    MAX_DECODED_BYTES,
    MAX_PARSED_BYTES,
    BoundedCache,
    weight_of,
)
from spile.adapters.registry._definitions import (
    Check,
    canonical,
    check_of,
    check_subject,
    schema_type_of,
)
from spile.adapters.registry._values import (
    Compatibility,
    CompatibilityLevel,
    SchemaType,
    SchemaVersion,
    StoredSchema,
)
from spile.spi import ClosedError, ProtocolSchemaRegistry, SchemaError

CACHE_SIZE = 512
_UNKNOWN_FOR_S = 5.0


class UnknownIdError(SchemaError):
    """Raised when the registry answered that it has no schema with this id."""


class SchemaRegistry(ProtocolSchemaRegistry):
    """
    A registry of JSON Schema, Avro and Protobuf definitions; made by its subclasses.

    An id names one schema for ever, so what was read once is not asked for again. That an id is
    unknown is remembered for five seconds. Definitions above 64 KiB, recursive ones and those that
    refer to other documents are refused in both directions. A Protobuf definition is an object
    with one key, `proto`: its text. Use it as an async context.

    All methods may raise `RegistryUnavailableError` when the registry is away and
    `UnauthorisedError` when it refuses the credentials, `ClosedError` after the context ended.

    Args:
        cache_size: Number of schemas to keep in memory, 512 by default, but at most 8 MiB of them.
    """

    def __init__(self, *, cache_size: int = CACHE_SIZE) -> None:
        self._schemas: BoundedCache[int, StoredSchema] = BoundedCache(
            cache_size, max_weight=MAX_DECODED_BYTES
        )
        self._checks: BoundedCache[int, Check] = BoundedCache(
            cache_size, max_weight=MAX_PARSED_BYTES
        )
        self._unknown: BoundedCache[int, float] = BoundedCache(cache_size)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True

    async def register_schema(
        self, subject: str, schema: dict[str, Any], schema_type: str = "JSON"
    ) -> int:
        """
        Register a schema as the newest version of a subject; returns its id.

        The same schema again gives the same id and no new version.

        Raises:
            IncompatibleSchemaError: The level of the subject forbids it.
            SchemaError: It is too large, recursive, refers to another document or is no schema.
        """
        self._require_open()
        kind = schema_type_of(schema_type)
        return await self._register(check_subject(subject), canonical(schema, kind), kind)

    async def get_schema(self, schema_id: int) -> dict[str, Any]:
        """
        Return the definition of an id; it is shared, do not change it.

        Raises:
            SchemaError: There is no such id, or its schema is one that is refused.
        """
        return (await self.stored_schema(schema_id)).schema

    async def stored_schema(self, schema_id: int) -> StoredSchema:
        """
        Return schema and language of an id.

        Raises:
            SchemaError: As `get_schema`.
        """
        self._require_open()
        if (found := self._schemas.get(schema_id)) is not None:
            return found
        until = self._unknown.get(schema_id)
        if until is not None and time.monotonic() < until:
            raise UnknownIdError(f"the registry has no schema {schema_id}")
        try:
            found = await self._fetch(schema_id)
        except UnknownIdError:
            self._unknown.put(schema_id, time.monotonic() + _UNKNOWN_FOR_S)
            raise
        return self._keep(found)

    def forget_unknown(self, schema_id: int) -> None:
        """Ask the registry again at the next use, although it did not know the id a moment ago."""
        self._unknown.drop(schema_id)

    async def validate_message(self, message: bytes, schema_id: int) -> bool:
        """
        Return whether the bytes, without their frame, keep the schema.

        Raises:
            SchemaError: There is no such id, its schema is refused, or is of Protobuf, which is
                passed through and not checked.
        """
        check = self._checks.get(schema_id)
        if check is None:
            stored = await self.stored_schema(schema_id)
            check = check_of(stored)
            self._checks.put(schema_id, check, weight=weight_of(stored.schema))
        self._require_open()
        return check(message)

    async def lookup(
        self, subject: str, schema: dict[str, Any], schema_type: str = "JSON"
    ) -> SchemaVersion | None:
        """
        Return the version of a subject that has this schema; None when it has none.

        Raises:
            SchemaError: The schema is one that is refused.
        """
        self._require_open()
        kind = schema_type_of(schema_type)
        return await self._lookup(check_subject(subject), canonical(schema, kind), kind)

    async def check_compatibility(
        self, subject: str, schema: dict[str, Any], schema_type: str = "JSON"
    ) -> Compatibility:
        """
        Tell whether a schema could be registered now; a new subject takes any.

        Raises:
            SchemaError: The schema is one that is refused.
        """
        self._require_open()
        kind = schema_type_of(schema_type)
        return await self._check(check_subject(subject), canonical(schema, kind), kind)

    @abstractmethod
    async def subjects(self) -> list[str]:
        """Return the names of all subjects, sorted."""

    @abstractmethod
    async def versions(self, subject: str) -> list[int]:
        """Return the numbers of a subject's versions, rising; empty when there is no subject."""

    @abstractmethod
    async def version(self, subject: str, number: int | None = None) -> SchemaVersion:
        """
        Return one version of a subject.

        Args:
            subject: The subject.
            number: Number of the version; None is the newest.

        Raises:
            SchemaError: There is no such subject or version.
        """

    @abstractmethod
    async def compatibility_level(self, subject: str | None = None) -> CompatibilityLevel:
        """Return the level of a subject, which is the global one unless set; None is global."""

    @abstractmethod
    async def set_compatibility_level(
        self, level: CompatibilityLevel, subject: str | None = None
    ) -> None:
        """
        Set the level of a subject, or the global one.

        Raises:
            SchemaError: The registry refuses the level.
        """

    @abstractmethod
    async def _register(self, subject: str, text: str, kind: SchemaType) -> int: ...

    @abstractmethod
    async def _fetch(self, schema_id: int) -> StoredSchema: ...

    @abstractmethod
    async def _lookup(self, subject: str, text: str, kind: SchemaType) -> SchemaVersion | None: ...

    @abstractmethod
    async def _check(self, subject: str, text: str, kind: SchemaType) -> Compatibility: ...

    def _keep(self, stored: StoredSchema) -> StoredSchema:
        self._schemas.put(stored.schema_id, stored, weight=weight_of(stored.schema))
        self._unknown.drop(stored.schema_id)
        return stored

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the schema registry was closed")
