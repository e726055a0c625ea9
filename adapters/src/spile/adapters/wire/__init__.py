"""How the value of a record is encoded: JSON, MessagePack, or framed with the id of its schema."""

from spile.adapters.wire._forms import (
    AvroForm,
    JsonSchemaForm,
    MessagePackForm,
    WireForm,
)
from spile.adapters.wire._opening import Opener
from spile.adapters.wire._settings import WireFormat, wire_form

__all__ = [
    "AvroForm",
    "JsonSchemaForm",
    "MessagePackForm",
    "Opener",
    "WireForm",
    "WireFormat",
    "wire_form",
]
