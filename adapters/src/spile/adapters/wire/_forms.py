"""The forms that a publisher can write beside JSON."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from typing import Any, Protocol

from typing_extensions import override

from spile.adapters.registry import SchemaFraming, SchemaRegistry, frame, subject_for
from spile.adapters.wire import _content_types as content_types
from spile.spi import MessageTooLargeError, RegistryUnavailableError, SpileError
from spile.topics import MAX_RECORD_BYTES, Route
from spile.topics.encodings import (
    AvroSchema,
    envelope_schema,
    json_to_avro,
    json_to_message_pack,
)
from spile.topics.schemas import event_schema

_Kind = tuple[str, str]
"""A topic and an event type."""


class WireForm(Protocol):
    """How the value of a record is encoded."""

    @property
    def content_type(self) -> bytes:
        """Value of the header `content_type`."""
        ...

    async def prepare(self, route: Route) -> None:
        """
        Do once what `write` needs of the network.

        Raises:
            SchemaError: The schema of this event type cannot be registered.
            RetriableError: The registry is away.
            UnauthorisedError: The registry refused the credentials.
        """
        ...

    def write(self, route: Route, envelope: bytes) -> bytes:
        """
        Encode an envelope.

        Args:
            route: Where it goes; prepared.
            envelope: Its JSON.

        Raises:
            InvalidEventError: It holds what the form cannot.
            MessageTooLargeError: It is too large for the form.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


class MessagePackForm:
    """MessagePack: the same values as JSON, fewer bytes; integers of 64 bits at most."""

    content_type = content_types.MESSAGE_PACK

    async def prepare(self, route: Route) -> None:
        """Nothing is needed."""

    def write(self, route: Route, envelope: bytes) -> bytes:  # noqa: ARG002 - by contract
        """Encode an envelope."""
        return json_to_message_pack(envelope)

    async def close(self) -> None:
        """Nothing is held."""


class _FramedForm(ABC):
    content_type = content_types.FRAMED

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._framing = SchemaFraming(registry)
        self._ids: dict[_Kind, int] = {}
        self._running: dict[_Kind, asyncio.Future[SpileError | None]] = {}

    async def prepare(self, route: Route) -> None:
        """
        Register the schema of this event type, once.

        Calls for one event type and topic at the same time share one attempt and its error. When
        the call that makes it is cancelled, another takes its place.

        Raises:
            SchemaError: The model has no schema of this form, or the registry refuses it.
            RetriableError: The registry is away.
            UnauthorisedError: The registry refused the credentials.
        """
        kind = route.topic, route.event_type
        while kind not in self._ids:
            running = self._running.get(kind)
            if running is None:
                await self._lead(kind, route)
            # Of those that wait, one that is cancelled must not take the others along.
            elif (error := await asyncio.shield(running)) is not None:
                raise copy.copy(error) from error

    async def _lead(self, kind: _Kind, route: Route) -> None:
        error: SpileError | None = None
        running = self._running[kind] = asyncio.get_running_loop().create_future()
        try:
            await self._attempt(route)
        except SpileError as exc:
            error = copy.copy(exc)  # callers add notes to theirs
            raise
        finally:
            del self._running[kind]
            running.set_result(error)

    @abstractmethod
    async def _attempt(self, route: Route) -> None:
        """Register the schema of this event type."""

    async def _register(
        self, route: Route, record_name: str, schema: dict[str, Any], kind: str
    ) -> None:
        subject = subject_for(route.topic, record_name)
        made = await self._framing.prepare_writing(subject, schema, kind)
        self._ids[route.topic, route.event_type] = made

    def _frame(self, route: Route, body: bytes) -> bytes:
        schema_id = self._ids.get((route.topic, route.event_type))
        if schema_id is None:
            raise RegistryUnavailableError(
                f"the schema of {route.event_type} on {route.topic} was not prepared for writing"
            )
        return frame(schema_id, body)

    async def close(self) -> None:
        """Close the registry."""
        await self._registry.__aexit__(None, None, None)


class AvroForm(_FramedForm):
    """
    Avro with a schema of the registry: the whole envelope, its payload typed.

    Args:
        registry: Gets the schemas, each at the first event of its type; closed with the form.
    """

    def __init__(self, registry: SchemaRegistry) -> None:
        super().__init__(registry)
        self._schemas: dict[_Kind, AvroSchema] = {}

    @override
    async def _attempt(self, route: Route) -> None:
        schema = envelope_schema(route.event_type, route.contract.model)
        parsed = AvroSchema.parse(schema)
        self._schemas[route.topic, route.event_type] = parsed
        await self._register(route, parsed.name, schema, "AVRO")

    def write(self, route: Route, envelope: bytes) -> bytes:
        """
        Encode an envelope.

        Raises:
            InvalidEventError: It is not of the schema.
            MessageTooLargeError: As JSON, which readers make of it, it is larger than a record.
        """
        if len(envelope) > MAX_RECORD_BYTES:
            raise MessageTooLargeError(
                f"envelope of {route.event_type} for {route.topic} has {len(envelope):,} bytes as "
                f"JSON; the limit is {MAX_RECORD_BYTES:,}",
                size_bytes=len(envelope),
                limit_bytes=MAX_RECORD_BYTES,
                event_type=route.event_type,
            )
        framed = self._frame(route, b"")
        schema = self._schemas[route.topic, route.event_type]
        return framed + json_to_avro(schema, envelope)


class JsonSchemaForm(_FramedForm):
    """
    JSON behind the id of its JSON Schema.

    Args:
        registry: Gets the schemas, each at the first event of its type; closed with the form.
    """

    @override
    async def _attempt(self, route: Route) -> None:
        schema = event_schema(route.event_type, route.contract.model)
        await self._register(route, route.event_type, schema, "JSON")

    def write(self, route: Route, envelope: bytes) -> bytes:
        """Encode an envelope."""
        return self._frame(route, envelope)
