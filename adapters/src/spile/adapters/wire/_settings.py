"""Which form a publisher writes."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from spile.adapters.registry import SchemaRegistry
from spile.adapters.wire._forms import AvroForm, JsonSchemaForm, MessagePackForm, WireForm
from spile.spi import ConfigurationError


class WireFormat(StrEnum):
    """The encodings of a record's value."""

    JSON = "json"
    MESSAGE_PACK = "msgpack"
    AVRO = "avro"
    JSON_SCHEMA = "json-schema"

    @property
    def needs_registry(self) -> bool:
        """Whether it is framed with the id of a schema."""
        return self in {WireFormat.AVRO, WireFormat.JSON_SCHEMA}


def wire_form(
    wanted: WireFormat, open_registry: Callable[[], SchemaRegistry | None]
) -> WireForm | None:
    """
    Return the form to write; None for plain JSON, which needs none.

    Args:
        wanted: The encoding.
        open_registry: Called when the encoding needs a registry, which is closed with the form.

    Raises:
        ConfigurationError: It needs a registry and there is none.
    """
    if wanted is WireFormat.MESSAGE_PACK:
        return MessagePackForm()
    if not wanted.needs_registry:
        return None
    registry = open_registry()
    if registry is None:
        raise ConfigurationError(
            f"SPILE_ENCODING: {wanted.value} needs a schema registry, set SPILE_REGISTRY_URL",
            setting="SPILE_ENCODING",
        )
    return AvroForm(registry) if wanted is WireFormat.AVRO else JsonSchemaForm(registry)
