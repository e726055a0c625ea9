from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from uuid import UUID


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    zone: "ProtocolZone"  # expect: SPI013

    def copy(self) -> ProtocolClock: ...  # expect: SPI013

    def within(self, zones: dict[str, "ProtocolZone"]) -> None: ...  # expect: SPI013

    def name(self) -> UUID: ...  # expect: SPI013


@runtime_checkable
class ProtocolZone(Protocol):
    """A time zone."""

    def of(self, clock: ProtocolClock) -> str: ...
