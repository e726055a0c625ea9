"""The mark that gives a validated field type its equal on the fast path."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import BeforeValidator


class Wire:
    """
    Annotation: what the field's pydantic type is called in msgspec.

    Whoever writes it states that msgspec accepts nothing that the pydantic validators refuse; the
    tests of the package check it for the types that the package brings.
    """

    __slots__ = ("type",)

    def __init__(self, type_: Any) -> None:
        self.type = type_


def _read_uuid(value: object) -> object:
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            raise ValueError("expected a UUID: correlation_uuid(text) maps a foreign id") from None
    return value


def read_instant(value: object) -> datetime:
    """
    Read a point in time and return it in UTC.

    Args:
        value: An aware datetime, or ISO 8601 text with a time and an offset.

    Raises:
        ValueError: It is neither, or has no offset.
    """
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            raise ValueError("expected ISO 8601 with date, time and offset") from None
    if not isinstance(value, datetime):
        raise ValueError("expected a datetime or ISO 8601 text")  # noqa: TRY004 - pydantic wants ValueError
    if value.tzinfo is None:
        raise ValueError("expected an offset from UTC, such as Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time whose year in UTC is 1 to 9999") from None


Id = Annotated[UUID, BeforeValidator(_read_uuid), Wire(UUID)]
"""A UUID; its text is read too."""

Instant = Annotated[
    datetime,
    BeforeValidator(read_instant),
    Wire(Annotated[datetime, msgspec.Meta(tz=True)]),
]
"""A point in time, aware and in UTC; ISO 8601 text with an offset is read too."""
