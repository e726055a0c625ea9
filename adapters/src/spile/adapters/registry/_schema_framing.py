"""What writing and reading framed events needs, with all waiting done beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from spile.adapters.registry._cache import BoundedCache
from spile.adapters.registry._framing import FRAME_BYTES, unframe
from spile.adapters.registry._registry import CACHE_SIZE, SchemaRegistry, UnknownIdError
from spile.adapters.registry._values import StoredSchema
from spile.spi import (
    RegistryUnavailableError,
    RetriableError,
    SchemaError,
    SpileError,
    UndecodableError,
)

_AT_ONCE: Final = 8
_GRACE_S: Final = 0.25


def subject_for(topic: str, record_name: str) -> str:
    """
    Return the subject of one event type's schemas on one topic.

    A topic holds several event types, so the topic alone would not do.

    Source: Confluent, `TopicRecordNameStrategy`.
    """
    return f"{topic}-{record_name}"


class SchemaFraming:
    """
    Keeps the ids for writing, and the schemas for reading, that a registry gave.

    Encoding and decoding are plain calls in the middle of a batch. So what needs the network is
    prepared before: `prepare_writing` once for each kind of event, `prepare_reading` for each
    batch.

    Args:
        registry: Where schemas are; whoever made it closes it.
        cache_size: Number of ids, and of schemas, to keep, 512 by default; more when one batch
            needs more.
    """

    def __init__(self, registry: SchemaRegistry, *, cache_size: int = CACHE_SIZE) -> None:
        self._registry = registry
        self._ids: BoundedCache[tuple[str, str, bytes], int] = BoundedCache(cache_size)
        self._schemas: BoundedCache[int, StoredSchema] = BoundedCache(cache_size)
        self._refused: BoundedCache[int, str] = BoundedCache(cache_size)

    async def prepare_writing(
        self, subject: str, schema: dict[str, Any], schema_type: str = "AVRO"
    ) -> int:
        """
        Return the id to frame events with; registers the schema at the first call.

        Raises:
            IncompatibleSchemaError: The level of the subject forbids the schema.
            SchemaError: The schema is one that registries here refuse.
            RetriableError: The registry is away.
            UnauthorisedError: The registry refused the credentials.
        """
        key = (subject, schema_type, _digest(schema))
        if (known := self._ids.get(key)) is not None:
            return known
        made = await self._registry.register_schema(subject, schema, schema_type)
        self._ids.put(key, made)
        return made

    async def prepare_reading(self, values: Iterable[bytes | None]) -> None:
        """
        Fetch the schemas of a batch that are not here yet.

        Afterwards `schema_of` answers for each of them. Values without a readable frame are left
        to `unframe` at their turn. An id that the registry does not know is asked for once more
        after 0.25 s: a replica may be behind the one that gave it.

        Args:
            values: The framed values of a batch.

        Raises:
            RetriableError: The registry is away, or refuses the credentials: nothing is known
                about the values, so none of them may be given up.
        """
        wanted = _ids_in(values)
        self._schemas.grow(len(wanted))
        self._refused.grow(len(wanted))
        missing = [schema_id for schema_id in wanted if self._schemas.get(schema_id) is None]
        unknown = await self._fetch_all(missing)
        fresh = [schema_id for schema_id in unknown if self._refused.get(schema_id) is None]
        if fresh:
            await asyncio.sleep(_GRACE_S)
            for schema_id in fresh:
                self._registry.forget_unknown(schema_id)
            await self._fetch_all(fresh)
        for schema_id in unknown:
            if self._schemas.get(schema_id) is None:
                self._refused.put(schema_id, f"the registry has no schema {schema_id}")

    def schema_of(self, schema_id: int) -> StoredSchema:
        """
        Return the schema of an id that was prepared for reading.

        Raises:
            UndecodableError: The registry has no such schema, or one that is refused: no later
                attempt reads these bytes.
            RetriableError: The id was not prepared, or forgotten since.
        """
        if (found := self._schemas.get(schema_id)) is not None:
            return found
        if (reason := self._refused.get(schema_id)) is not None:
            raise UndecodableError(reason)
        raise RegistryUnavailableError(f"schema {schema_id} was not prepared for reading")

    async def _fetch_all(self, ids: list[int]) -> list[int]:
        """Fetch schemas, a few at once; returns the ids that the registry does not know."""
        unknown: list[int] = []
        gate = asyncio.Semaphore(_AT_ONCE)

        async def fetch(schema_id: int) -> None:
            async with gate:
                try:
                    self._schemas.put(schema_id, await self._registry.stored_schema(schema_id))
                except UnknownIdError:
                    unknown.append(schema_id)
                except SchemaError as exc:
                    self._refused.put(schema_id, f"schema {schema_id}: {exc}")

        try:
            async with asyncio.TaskGroup() as tasks:
                for schema_id in ids:
                    tasks.create_task(fetch(schema_id))
        except* SpileError as group:
            first = _first(group)
            if isinstance(first, RetriableError):
                raise first from None
            # Wrong credentials are an operator's to put right; the events are not to blame.
            raise RegistryUnavailableError(str(first)) from first
        return unknown


def _digest(schema: dict[str, Any]) -> bytes:
    try:
        text = msgspec.json.encode(schema)
    except (TypeError, ValueError, RecursionError) as exc:
        raise SchemaError(f"the schema is no JSON: {exc}") from None
    return hashlib.blake2b(text, digest_size=16).digest()


def _ids_in(values: Iterable[bytes | None]) -> list[int]:
    found: list[int] = []
    for head in {value[:FRAME_BYTES] for value in values if value is not None}:
        with contextlib.suppress(UndecodableError):
            found.append(unframe(head).schema_id)
    return found


def _first(group: BaseExceptionGroup[SpileError]) -> SpileError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
