from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

Listener: TypeAlias = "Callable[[ProtocolClock], None]"
ClockT = TypeVar("ClockT", bound="ProtocolClock")


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    zone: ProtocolZone
    kind: Literal["wall", "monotonic"]
    precision: Annotated[float, "seconds"]

    def copy(self) -> ProtocolClock: ...


@runtime_checkable
class ProtocolZone(Protocol):
    """A time zone."""

    def of(self, clock: ProtocolClock) -> str: ...
