"""Values of options that several commands take, and text that a terminal may be shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from spile.topics import upper_snake

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SIZES = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_TWO_MINUTES = 120


class Moment(click.ParamType[datetime]):
    """A moment: ISO 8601, UTC unless it says, or an age such as 15m."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read ISO 8601 or an age such as 15m."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        if text[:-1].isdigit() and text[-1:] in _UNITS:
            return datetime.now(UTC) - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither ISO 8601 nor an age such as 15m, 2h or 7d", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def event_type(text: str) -> str:
    """Read a name as its family spells it, or as the store has it."""
    return text if text.isupper() else upper_snake(text)


def age_text(age: timedelta) -> str:
    """Return a time span as people say it: `7 days`, `1 day 12 hours`, `90 seconds`."""
    seconds = int(age.total_seconds())
    if seconds < _TWO_MINUTES:
        return counted(seconds, "second")
    parts: list[str] = []
    for name, size in _SIZES.items():
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(counted(number, name))
    return " ".join(parts)


def counted(count: int, name: str, names: str | None = None) -> str:
    """
    Return how many of something: `1 record`, `2 records`.

    Args:
        count: How many.
        name: Of one.
        names: Of several, when no s makes it.
    """
    return f"{count} {name if count == 1 else names or f'{name}s'}"


def plain(text: str) -> str:
    """Return text that cannot write to the terminal what it likes."""
    return "".join(c if c.isprintable() else "?" for c in text)
