"""Type aliases that the contracts share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from spile.spi._messages import ProtocolEventMessage

ContextValue: TypeAlias = str | int | float | bool | list[str] | dict[str, str] | None
"""What a metadata or context mapping may hold."""

MessageKey: TypeAlias = bytes | None
"""Key of a record; records with the same key keep their order."""

Priority: TypeAlias = Literal["low", "normal", "high", "critical"]
"""Routing priority that a header may carry; Kafka itself does not look at it."""

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
"""Level of a log event that is emitted over the bus."""

ProtocolDateTime: TypeAlias = datetime
"""A timestamp; always aware, always UTC."""

MessageHandler: TypeAlias = "Callable[[ProtocolEventMessage], Awaitable[None]]"
"""Handles one message; at least once, so it must be idempotent."""

Unsubscribe: TypeAlias = Callable[[], Awaitable[None]]
"""Ends a subscription: stops intake, lets the message in hand finish, commits."""


@runtime_checkable
class ProtocolSemVer(Protocol):
    """A semantic version (semver 2.0.0); `str()` gives `major.minor.patch`."""

    @property
    def major(self) -> int:
        """Raised by a breaking change."""
        ...

    @property
    def minor(self) -> int:
        """Raised by a compatible addition."""
        ...

    @property
    def patch(self) -> int:
        """Raised by a change that no reader can see."""
        ...

    def __str__(self) -> str: ...
