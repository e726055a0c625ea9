from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ProtocolNote(Protocol):
    """Something noted."""

    metadata: dict[str, Any]  # expect: SPI009

    @property
    def run_context(self) -> Mapping[str, object]: ...  # expect: SPI009

    def note(self, text: str, context: dict | None = None) -> None: ...  # expect: SPI009
