"""What writing and reading framed events needs, with all waiting done beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from spile.adapters.registry._cache import MAX_DECODED_BYTES, BoundedCache, weight_of
from spile.adapters.registry._framing import FRAME_BYTES, unframe
from spile.adapters.registry._refusals import Refusals
from spile.adapters.registry._registry import CACHE_SIZE, SchemaRegistry, UnknownIdError
from spile.adapters.registry._values import StoredSchema
from spile.spi import (
    RegistryUnavailableError,
    RetriableError,
    SchemaError,
    SpileError,
    UndecodableError,
)

_AT_ONCE: Final = 16  # fewer than the 20 connections that httpx keeps
_GRACE_S: Final = 0.25
_LONGEST_S: Final = 10.0


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
    batch. Batches are read one after another.

    Args:
        registry: Where schemas are; whoever made it closes it.
        cache_size: Number of ids, and of schemas, to keep, 512 by default, but at most 8 MiB of
            schemas. While a batch needs more it has more; the next one gives that back.
        longest_s: Seconds after which `prepare_reading` asks for nothing more, 10 by default.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        *,
        cache_size: int = CACHE_SIZE,
        longest_s: float = _LONGEST_S,
    ) -> None:
        self._registry = registry
        self._ids: BoundedCache[tuple[str, str, bytes], int] = BoundedCache(cache_size)
        self._schemas: BoundedCache[int, StoredSchema] = BoundedCache(
            cache_size, max_weight=MAX_DECODED_BYTES
        )
        self._refusals = Refusals()
        self._longest_s = longest_s

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
        to `unframe` at their turn.

        A producer may send any ids. One that the registry does not know is asked for once more
        after 0.25 s, because a replica may be behind the one that gave it, when a batch has at most
        eight such. Then it is unknown for 5 s, and for 60 s in a batch with more than eight.
        16 requests run at once. After 10 s no more are begun: nothing is known about the ids that
        are left, so their records are neither given up nor read, and the call raises. What was
        found out until then is kept, and tried again the same batch asks for the rest alone.
        So a call ends after 10 s and the longest request, and each brings its batch nearer.

        Args:
            values: The framed values of a batch.

        Raises:
            RetriableError: The registry is away, refuses the credentials, or is too slow for all
                the ids of the batch: nothing is known about the values, so none of them may be
                given up.
        """
        until = time.monotonic() + self._longest_s
        wanted = frozenset(_ids_in(values))
        self._schemas.pin(wanted)
        self._refusals.begin(wanted)
        missing = [schema_id for schema_id in wanted if self._schemas.get(schema_id) is None]
        asked = self._refusals.to_ask(missing)
        unknown, left = await self._fetch_all(asked, until)
        if not left and (fresh := self._refusals.fresh(unknown)):
            await asyncio.sleep(_GRACE_S)
            for schema_id in fresh:
                self._registry.forget_unknown(schema_id)
            again, left = await self._fetch_all(fresh, until)
            unknown = [*(set(unknown) - set(fresh)), *again]
        if left:
            self._refusals.note_flood(unknown)
            # Or a slow registry would make what is known too old before the batch is through.
            self._refusals.prolong(wanted)
            raise RegistryUnavailableError(
                f"the registry told {len(asked) - len(left)} of {len(asked)} schemas within "
                f"{self._longest_s:g} s; the rest is asked for at the next attempt"
            )
        self._refusals.note_unknown(unknown)

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
        if (reason := self._refusals.reason(schema_id)) is not None:
            raise UndecodableError(reason)
        raise RegistryUnavailableError(f"schema {schema_id} was not prepared for reading")

    async def _fetch_all(self, ids: Collection[int], until: float) -> tuple[list[int], list[int]]:
        """Return the ids that the registry does not know, and those not asked for in time."""
        unknown: list[int] = []
        refusals: list[SpileError] = []
        rest = iter(ids)

        async def fetch_some() -> None:
            while not refusals and time.monotonic() < until:
                if (schema_id := next(rest, None)) is None:
                    return
                try:
                    if not await self._fetch(schema_id):
                        unknown.append(schema_id)
                except SpileError as exc:
                    refusals.append(exc)

        # No task group: before Python 3.13 one that fails leaves a count of cancellations behind,
        # and before 3.11.3 every later time-out of the task is then taken for one.
        await asyncio.gather(*(fetch_some() for _ in range(min(_AT_ONCE, len(ids)))))
        if refusals:
            self._refusals.note_flood(unknown)
            first = refusals[0]
            if isinstance(first, RetriableError):
                raise first
            # Wrong credentials are an operator's to put right; the events are not to blame.
            raise RegistryUnavailableError(str(first)) from first
        return unknown, list(rest)

    async def _fetch(self, schema_id: int) -> bool:
        """Fetch a schema; returns whether the registry knows the id."""
        try:
            stored = await self._registry.stored_schema(schema_id)
        except UnknownIdError:
            return False
        except SchemaError as exc:
            self._refusals.note_refused(schema_id, f"schema {schema_id}: {exc}")
            return True
        self._schemas.put(schema_id, stored, weight=weight_of(stored.schema))
        self._refusals.forget(schema_id)
        return True


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
