from __future__ import annotations

from typing import Protocol, runtime_checkable

from ._clock import ProtocolClock


@runtime_checkable
class ProtocolTimer(ProtocolClock, Protocol):
    """Only inherits."""


@runtime_checkable
class ProtocolAlarm(ProtocolClock, Protocol):
    """Only inherits, too."""


@runtime_checkable
class ProtocolText(Protocol):
    """One member."""

    value: str


@runtime_checkable
class ProtocolLabel(Protocol):
    """The same one member, which means nothing."""

    value: str


@runtime_checkable
class ProtocolBlockingClock(Protocol):
    """Same names, other signatures."""

    async def now(self) -> float: ...

    def zone(self) -> str: ...
