"""The field types of session events: texts that are cut, versions and ids that are exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from spile.topics._wire import Wire

EVENT_VERSION: Final = "1.0"
"""The version of the session events."""

_V4: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z"
_UUID_VERSION: Final = 4


def cut(limit: int) -> Callable[[str], str]:
    """Return what cuts a text to a number of characters."""
    return lambda text: text[:limit]


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _check_v4(value: str) -> str:
    try:
        found = UUID(value)
    except ValueError:
        raise ValueError("expected a UUID of version 4") from None
    if found.version != _UUID_VERSION:
        raise ValueError("expected a UUID of version 4")
    return str(found)


def _check_version(value: str) -> str:
    if value != EVENT_VERSION:
        raise ValueError(f"unsupported event version, only {EVENT_VERSION} is read")
    return value


UuidV4 = Annotated[
    str,
    BeforeValidator(_as_text),
    AfterValidator(_check_v4),
    WithJsonSchema({"type": "string", "format": "uuid"}),
    Wire(Annotated[str, msgspec.Meta(pattern=_V4)]),
]
"""The text of a UUID of version 4, in its canonical form."""

EventVersion = Annotated[
    str,
    AfterValidator(_check_version),
    WithJsonSchema({"type": "string", "const": EVENT_VERSION}),
    Wire(Literal["1.0"]),
]
"""`1.0`, and nothing else."""

Text100 = Annotated[
    str,
    AfterValidator(cut(100)),
    WithJsonSchema({"type": "string", "maxLength": 100}),
    Wire(Annotated[str, msgspec.Meta(max_length=100)]),
]
"""A text that is cut at 100 characters."""

Text500 = Annotated[
    str,
    AfterValidator(cut(500)),
    WithJsonSchema({"type": "string", "maxLength": 500}),
    Wire(Annotated[str, msgspec.Meta(max_length=500)]),
]
"""A text that is cut at 500 characters."""

ComponentName = Annotated[
    str,
    Field(pattern="^[a-zA-Z0-9_-]+$"),
    Wire(Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]+\Z")]),
]
"""The name of a component: letters, digits, `_` and `-`."""

ProcessId = Annotated[int, Field(ge=1, le=4_194_304)]
"""A process id. Source: `PID_MAX_LIMIT` of Linux, 2^22."""
