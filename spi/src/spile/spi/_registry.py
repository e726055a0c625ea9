"""The schema registry."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ProtocolSchemaRegistry(Protocol):
    """Keeps schemas under subjects and ids; an id names one schema for ever."""

    async def register_schema(
        self, subject: str, schema: dict[str, Any], schema_type: str = "JSON"
    ) -> int:
        """
        Register a schema; the same schema again gives the same id.

        Args:
            subject: Usually the topic name with `-value`.
            schema: The definition.
            schema_type: JSON, AVRO or PROTOBUF.

        Returns:
            The id.

        Raises:
            IncompatibleSchemaError: It breaks the rule of the subject.
            RetriableError: The registry is away; nothing was registered.
            UnauthorisedError: The registry refused the credentials.
        """
        ...

    async def get_schema(self, schema_id: int) -> dict[str, Any]:
        """
        Return the schema of an id.

        Raises:
            SchemaError: There is no such id.
            RetriableError: The registry is away.
        """
        ...

    async def validate_message(self, message: bytes, schema_id: int) -> bool:
        """
        Return whether the bytes keep the schema.

        Raises:
            SchemaError: There is no such id.
            RetriableError: The registry is away.
        """
        ...
