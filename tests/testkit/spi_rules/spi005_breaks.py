from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolWire(Protocol):
    """Carries bytes."""

    def publish(self, data: bytes) -> None: ...  # expect: SPI005

    def send_and_wait(self, data: bytes) -> None: ...  # expect: SPI005

    def get_schema(self, schema_id: int) -> str: ...  # expect: SPI005

    def close(self) -> None: ...  # expect: SPI005
