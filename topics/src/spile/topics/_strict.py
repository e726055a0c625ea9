"""What all event models are: strict, frozen, without fields that nobody declared."""

from __future__ import annotations

import builtins
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from spile.topics._wire import Wire

MAX_INTEGER: Final = 2**63 - 1
"""Largest integer that every encoding holds. Source: Avro `long`."""

Milliseconds = Annotated[float, Field(ge=0)]
"""A duration, or another measure that is not negative."""

Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
"""A whole number from 0, of 64 bits at most."""

Number = Annotated[float, Field()]
"""Any finite number."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole, 0 to 1."""

Name = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""

Sha256 = Annotated[
    str,
    Field(pattern="^[0-9a-f]{64}$"),
    Wire(Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]),
]
"""A SHA-256 in lower-case hex."""


def now() -> datetime:
    """Return the present, aware and in UTC."""
    return datetime.now(UTC)


class Strict(BaseModel, frozen=True):
    """
    A value that takes no wrong type, no unknown field, no NaN, and is never changed.

    Errors name fields and quote no values.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    def dict(self, **options: Any) -> builtins.dict[str, Any]:
        """
        Return the wire form as JSON values: what a schema is held against, or metadata may hold.

        Unlike pydantic's own, which is deprecated, ids and times are texts. Source: seeds 000, 003.

        Args:
            options: Those of `model_dump`, but for the mode.
        """
        return self.model_dump(mode="json", **options)
