"""
Schema registries: behind the Confluent-compatible API, or in a folder; and the frame of their ids.

    async with HttpSchemaRegistry("https://registry.internal") as registry:
        framing = SchemaFraming(registry)
"""

from spile.adapters.registry._cache import (
    MAX_PARSED_BYTES,
    BoundedCache,
    weight_of,
)
from spile.adapters.registry._credentials import (
    Basic,
    Bearer,
    Secret,
)
from spile.adapters.registry._definitions import (
    MAX_SCHEMA_BYTES,
)
from spile.adapters.registry._files import (
    FileSchemaRegistry,
)
from spile.adapters.registry._framing import (
    Framed,
    frame,
    unframe,
)
from spile.adapters.registry._http import (
    HttpSchemaRegistry,
)
from spile.adapters.registry._registry import (
    SchemaRegistry,
    UnknownIdError,
)
from spile.adapters.registry._schema_framing import (
    SchemaFraming,
    subject_for,
)
from spile.adapters.registry._settings import (
    RegistrySettings,
)
from spile.adapters.registry._transport import (
    MAX_ANSWER_BYTES,
)
from spile.adapters.registry._values import (
    Compatibility,
    CompatibilityLevel,
    SchemaType,
    SchemaVersion,
    StoredSchema,
)

__all__ = [
    "MAX_ANSWER_BYTES",
    "MAX_PARSED_BYTES",
    "MAX_SCHEMA_BYTES",
    "Basic",
    "Bearer",
    "BoundedCache",
    "Compatibility",
    "CompatibilityLevel",
    "FileSchemaRegistry",
    "Framed",
    "HttpSchemaRegistry",
    "RegistrySettings",
    "SchemaFraming",
    "SchemaRegistry",
    "SchemaType",
    "SchemaVersion",
    "Secret",
    "StoredSchema",
    "UnknownIdError",
    "frame",
    "subject_for",
    "unframe",
    "weight_of",
]
